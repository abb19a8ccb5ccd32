package unitfile

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hello is examples/hello.service of fleet, whose README shows its hash.
const hello = `[Unit]
Description=Hello World

[Service]
ExecStart=/bin/bash -c "while true; do echo \"Hello, world\"; sleep 1; done"
`

func parse(t *testing.T, text string) File {
	t.Helper()
	f, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return f
}

func TestHash(t *testing.T) {
	// The hashes are fleet's: of its unit test, and as its API server gave them.
	if got := parse(t, "[Service]\nExecStart=/bin/sleep 100\n").Hash(); got != "1c6fb6f3684bafb0c173d8b8b957ceff031180c1" {
		t.Errorf("hash of the sleeper: %s", got)
	}
	if got := parse(t, hello).Hash(); !strings.HasPrefix(got, "e55c0ae") {
		t.Errorf("hash of hello.service: %s", got)
	}
	loose := strings.ReplaceAll(strings.ReplaceAll(hello, "=Hello", " =  Hello"), "[Service]", "# a comment\n[Service]\r\n; another\n\n")
	if got := parse(t, loose).Hash(); !strings.HasPrefix(got, "e55c0ae") {
		t.Errorf("hash of hello.service with comments and blanks: %s", got)
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []Option
	}{
		{"empty", "", []Option{}},
		{"no section", "\nThis=Ignored\n>>>>\n", []Option{}},
		{"order, duplicates and comments", "\nThis=Ignored\n[Unit]\n;no\nDescription = Foo\n\n[Service]\nExecStart=echo \"ping\";\n# no\nExecStop=a\nExecStop=b\n", []Option{
			{"Unit", "Description", "Foo"}, {"Service", "ExecStart", `echo "ping";`}, {"Service", "ExecStop", "a"}, {"Service", "ExecStop", "b"},
		}},
		{"anything with an equals sign", "[Service]\n<<<<=bar\nA=\n=x\n", []Option{{"Service", "<<<<", "bar"}, {"Service", "A", ""}, {"Service", "", "x"}}},
		{"continued", "[Service]\nA=echo \\\n  \"pi\\\n  ng\"\nB=\\\necho\nC=x\\\n#part\\\ny\n", []Option{
			{"Service", "A", "echo \\\n  \"pi\\\n  ng\""}, {"Service", "B", "\\\necho"}, {"Service", "C", "x\\\n#part\\\ny"},
		}},
		{"continued at the end", "[Service]\nA=b\\", []Option{{"Service", "A", "b\\\n"}}},
		{"continued with CR LF", "[Service]\r\nA=b\\\r\nc\r\n", []Option{{"Service", "A", "b\\\nc"}}},
		{"grouped", "[A]\nx=1\n[B]\ny=2\n[A]\nz=3\n", []Option{{"A", "x", "1"}, {"A", "z", "3"}, {"B", "y", "2"}}},
		{"unknown section", "[Bogus]\nx=1\n", []Option{{"Bogus", "x", "1"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, parse(t, test.text).Options()); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := parse(t, "[A]\nx = 1\n[B]\ny=2\n[A]\nz=3\n").String(); got != "[A]\nx=1\nz=3\n\n[B]\ny=2\n" {
		t.Errorf("String: %q", got)
	}
	if got := parse(t, hello).Description(); got != "Hello World" {
		t.Errorf("Description: %q", got)
	}
	if got := parse(t, "[Unit]\nA=b\n").Description(); got != "" {
		t.Errorf("Description: %q", got)
	}
}

func TestParseBad(t *testing.T) {
	long := func(n int) string { return "[Service]\nA=" + strings.Repeat("x", n-2) + "\n" }
	for text, want := range map[string]string{
		"[Service]\n<<<<\n":              "unexpected newline encountered while parsing option name",
		"[Unit]\nnonsense upon stilts\n": "unexpected newline encountered while parsing option name",
		long(2048):                       "line too long (max 2048 bytes)",
		strings.Repeat("[A]\nb=c\n", 500) + long(3000): "line too long (max 2048 bytes)",
		strings.Repeat(long(2000), 132):                ErrTooLarge.Error(),
		"[Service]\nA=\x00\n":                          ErrNUL.Error(),
		"[Service]\nA=\xff\n":                          ErrNotUTF8.Error(),
		"[Unit":                                        "unable to find end of section",
		"[Unit\nA=]\nB=c\n":                            `unable to find end of section: the line "[Unit" has no "]"`,
		"[Unit] x\nA=b\n":                              `found garbage after section name : "x"`,
		"[Unit]\nA=b\\ \nC=d\n":                        "option A in section [Unit] has blanks after the backslash that ends its line: remove them",
	} {
		if _, err := Parse([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("Parse(%.30q): %v, want %s", text, err, want)
		}
	}
	parse(t, long(2047))
	if _, err := Parse([]byte(long(2048))); !errors.Is(err, ErrLineTooLong) {
		t.Errorf("long line: %v", err)
	}
	if _, err := Parse([]byte(strings.Repeat("[A]\n[B]\n", 10) + strings.Repeat("[A]\nb=\n", MaxSize/8-10))); err != nil {
		t.Errorf("a file of the largest size: %v", err)
	}
	if _, err := Parse(make([]byte, 1<<20)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("1 MB: %v", err)
	}
}

func TestFromOptions(t *testing.T) {
	want := parse(t, hello)
	got, err := FromOptions(want.Options())
	if err != nil || got.Hash() != want.Hash() {
		t.Errorf("FromOptions: %v, %v", got, err)
	}
	for _, bad := range [][]Option{
		{{"Unit", "A", "b\nExecStart=/bin/evil"}},
		{{"Unit", "A", "b\n\n[Service]\nC=d"}},
		{{"Unit", "A\nB", "c"}},
		{{"Unit", "#A", "c"}},
		{{"Unit", "[A", "c"}},
		{{"Unit", "A=", "c"}},
		{{"Unit", "A", " c"}},
		{{"Uni]t", "A", "c"}},
		{{"Unit\n", "A", "c"}},
		{{"Unit", "A", "c\\"}, {"Unit", "B", "d"}},
		{{"Unit", "A", strings.Repeat("x", 3000)}},
		{{"Unit", "A", "\x00"}},
	} {
		if f, err := FromOptions(bad); err == nil {
			t.Errorf("FromOptions(%q) = %q", bad, f)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, seed := range []string{hello, "", "[A]\nb=c\\\n#d\n\n[B]\n[A]\nx=\\", "[A]\n=\\\n\\\n", "x[A]\ny = \"z\" \n", "[A]\r\nb=\r\n", "[]\n a\t=\vb"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := Parse(data)
		if err != nil {
			return
		}
		second, err := Parse([]byte(first.String()))
		if err != nil {
			t.Fatalf("%q cannot be read again: %v", first, err)
		}
		if diff := cmp.Diff(first.Options(), second.Options()); diff != "" {
			t.Fatal(diff)
		}
		third, err := FromOptions(first.Options())
		if err != nil || third.Hash() != first.Hash() {
			t.Fatalf("from options: %q, %v", third, err)
		}
		_, _, _ = first.Requirements("a@b.service")
	})
}
