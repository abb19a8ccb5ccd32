package journal

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseNative(t *testing.T) {
	for _, test := range []struct {
		name, data string
		want       [][]Field
		err        string
	}{
		{"text", "MESSAGE=a=b\nPRIORITY=3\n", [][]Field{{{"MESSAGE", "a=b"}, {"PRIORITY", "3"}}}, ""},
		{"no newline at the end", "MESSAGE=a", [][]Field{{{"MESSAGE", "a"}}}, ""},
		{"binary", "MESSAGE\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\nX=1\n", [][]Field{{{"MESSAGE", "a\nb"}, {"X", "1"}}}, ""},
		{"two records", "A=1\n\n\nB=2\n", [][]Field{{{"A", "1"}}, {{"B", "2"}}}, ""},
		{"comment, trusted and bad names", "#c\n_PID=1\n__X=1\nlower=1\n1A=1\n=x\nOK=1\n", [][]Field{{{"OK", "1"}}}, ""},
		{"empty", "", nil, ""},
		{"no size", "MESSAGE\n\x01", nil, `field "MESSAGE" has no size`},
		{"size too large", "A=1\nMESSAGE\n\x05\x00\x00\x00\x00\x00\x00\x00ab\n", [][]Field{{{"A", "1"}}}, `says 5 bytes`},
		{"no newline after binary", "MESSAGE\n\x01\x00\x00\x00\x00\x00\x00\x00ab\n", nil, `no newline`},
		{"too many fields", strings.Repeat("A=\n", MaxFields+1), nil, "more than 1024 fields"},
	} {
		got, err := ParseNative(test.data, false)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: err = %v, want %q in it", test.name, err, test.err)
		}
	}
}

func TestParseSyslog(t *testing.T) {
	for line, want := range map[string]Syslog{
		"<38>Nov 21 01:02:03 sshd[7]: Accepted": {6, 4, "sshd", "7", "Accepted", "Nov 21 01:02:03"},
		"<13>Nov  1 01:02:03 tag: a: b":         {5, 1, "tag", "", "a: b", "Nov  1 01:02:03"},
		"<13>tag: x":                            {5, 1, "tag", "", "x", ""},
		"just text":                             {6, 1, "", "", "just text", ""},
		"<0>x":                                  {0, 0, "", "", "x", ""},
		"<999999>x":                             {6, 1, "", "", "<999999>x", ""},
		"<>x":                                   {6, 1, "", "", "<>x", ""},
		"":                                      {6, 1, "", "", "", ""},
		"<13>tag[]: x":                          {5, 1, "tag", "", "x", ""},
	} {
		if diff := cmp.Diff(want, ParseSyslog(line)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}

func TestParseKmsg(t *testing.T) {
	for data, want := range map[string]Kmsg{
		"6,339,5140900,-;NET: Registered\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n": {Priority: 6, Seq: 339, Monotonic: 5140900, Message: "NET: Registered", Identifier: "kernel",
			Fields: []Field{{"_KERNEL_SUBSYSTEM", "acpi"}, {"_KERNEL_DEVICE", "+acpi:PNP0A03:00"}}},
		"30,1,2,-,caller=T1;init[1]: hello\\x0aworld\n": {Priority: 6, Facility: 3, Seq: 1, Monotonic: 2, Message: "hello\nworld", Identifier: "init", PID: "1"},
	} {
		got, err := ParseKmsg(data)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", data, err, diff)
		}
	}
	for _, data := range []string{"", "x", "6,1;x", "a,b,c,-;x"} {
		if _, err := ParseKmsg(data); err == nil {
			t.Errorf("ParseKmsg(%q) gave no error", data)
		}
	}
}

func TestStreamHeader(t *testing.T) {
	h := StreamHeader{Identifier: "web", Unit: "web.service", Priority: 30, LevelPrefix: true, ToConsole: true}
	got, rest, err := ParseStreamHeader(h.String() + "line\n")
	if got != h || rest != "line\n" || err != nil {
		t.Errorf("ParseStreamHeader = %+v, %q, %v", got, rest, err)
	}
	for cut := range len(h.String()) {
		if _, _, err := ParseStreamHeader(h.String()[:cut]); !errors.Is(err, ErrShortHeader) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	for _, bad := range []string{"a\nb\nx\n0\n0\n0\n0\n", "a\nb\n-1\n0\n0\n0\n0\n", "a\nb\n3\n2\n0\n0\n0\n", strings.Repeat("x", MaxHeader+1)} {
		if _, _, err := ParseStreamHeader(bad); err == nil || errors.Is(err, ErrShortHeader) {
			t.Errorf("ParseStreamHeader(%.20q): %v", bad, err)
		}
	}
}

func TestCursor(t *testing.T) {
	r := Record{Seq: 0x20, Realtime: 5, Monotonic: 6, Boot: ID{1}, File: ID{2}}
	seq, boot, err := ParseCursor(r.Cursor())
	if seq != r.Seq || boot != r.Boot || err != nil {
		t.Errorf("ParseCursor(%q) = %d, %s, %v", r.Cursor(), seq, boot, err)
	}
	for _, bad := range []string{"", "i=x", "i=1;b=zz"} {
		if _, _, err := ParseCursor(bad); err == nil {
			t.Errorf("ParseCursor(%q) gave no error", bad)
		}
	}
}

func FuzzNative(f *testing.F) {
	f.Add("MESSAGE=a\nX\n\x01\x00\x00\x00\x00\x00\x00\x00b\n\nY=2\n")
	f.Fuzz(func(t *testing.T, data string) {
		records, err := ParseNative(data, true)
		var b []byte
		for _, fields := range records {
			for _, field := range fields {
				b = AppendField(b, field.Name, field.Value)
			}
			b = append(b, '\n')
		}
		again, againErr := ParseNative(string(b), true)
		if againErr != nil || !cmp.Equal(records, again) {
			t.Errorf("%q (%v) gave %q, and then %q (%v)", data, err, records, again, againErr)
		}
	})
}

func FuzzLines(f *testing.F) {
	f.Add("<13>Nov 21 01:02:03 a[1]: b")
	f.Add("6,1,2,-;x\\x0a\n DEVICE=b1:2\n")
	f.Fuzz(func(t *testing.T, data string) {
		ParseSyslog(data)
		ParseKmsg(data)
		ParseStreamHeader(data)
	})
}
