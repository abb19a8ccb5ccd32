package cmdline

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, in string
		want     Args
	}{
		{"empty", "", nil},
		{"only white space", " \n\t", nil},
		{"flag and values", "quiet panic=10  console=ttyS0,115200\n", Args{
			{Name: "quiet"}, {Name: "panic", Value: "10", HasValue: true},
			{Name: "console", Value: "ttyS0,115200", HasValue: true}}},
		{"quoted value", `dyndbg="file a.c +p" x`, Args{
			{Name: "dyndbg", Value: "file a.c +p", HasValue: true}, {Name: "x"}}},
		{"quoted word", `"a=b c" d`, Args{{Name: "a", Value: "b c", HasValue: true}, {Name: "d"}}},
		{"value with an equals sign", "cloud-config-url=http://x/?a=b", Args{
			{Name: "cloud-config-url", Value: "http://x/?a=b", HasValue: true}}},
		{"lone quote", `a="`, Args{{Name: "a", HasValue: true}}},
		{"quote that never ends", `a="b c`, Args{{Name: "a", Value: "b c", HasValue: true}}},
		{"empty value", "a=", Args{{Name: "a", HasValue: true}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, Parse(test.in)); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", test.in, diff)
			}
		})
	}
}

func TestBool(t *testing.T) {
	for line, want := range map[string]bool{
		"":                              false,
		"coracle.debug":                 true,
		"coracle.debug=1":               true,
		"coracle.debug=yes":             true,
		"coracle.debug=0":               false,
		"coracle.debug coracle.debug=0": false,
		"coracle.debugger":              false,
	} {
		if got := Parse(line).Bool("coracle.debug"); got != want {
			t.Errorf("%q: got %v, want %v", line, got, want)
		}
	}
}

func TestLookup(t *testing.T) {
	args := Parse("cloud_config_url=a cloud-config-url=b")
	if got, ok := args.Lookup("cloud-config-url"); got != "b" || !ok {
		t.Errorf("got %q, %v; want the last one, b", got, ok)
	}
	if _, ok := args.Lookup("other"); ok {
		t.Error("found an argument that is not there")
	}
}

func TestRootHash(t *testing.T) {
	a, b := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	tests := []struct {
		name, in, wantText string
		wantErr            error
	}{
		{name: "good", in: "x roothash=" + a},
		{name: "upper case", in: "roothash=" + strings.ToUpper(a)},
		{name: "twice the same", in: "roothash=" + a + " roothash=" + a},
		{name: "none", in: "quiet", wantErr: ErrNoRootHash},
		{name: "two", in: "roothash=" + a + " roothash=" + b, wantErr: ErrManyRootHashs},
		{name: "short", in: "roothash=abcd", wantText: "4 characters"},
		{name: "no value", in: "roothash", wantText: "0 characters"},
		{name: "not hexadecimal", in: "roothash=" + strings.Repeat("zz", 32), wantText: "invalid byte"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Parse(test.in).RootHash()
			switch {
			case test.wantErr != nil:
				if !errors.Is(err, test.wantErr) {
					t.Errorf("got error %v, want %v", err, test.wantErr)
				}
			case test.wantText != "":
				if err == nil || !strings.Contains(err.Error(), test.wantText) {
					t.Errorf("got error %v, want one with %q", err, test.wantText)
				}
			case err != nil:
				t.Errorf("got error %v", err)
			case got[0] != 0xa1:
				t.Errorf("got hash %x", got)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`a="b c" "d=e f" roothash=00`)
	f.Fuzz(func(t *testing.T, line string) {
		for _, arg := range Parse(line) {
			if !arg.HasValue && arg.Value != "" {
				t.Errorf("%q: value %q without =", line, arg.Value)
			}
		}
		Parse(line).RootHash()
	})
}
