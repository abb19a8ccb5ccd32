package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strconv"
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
		{"too many fields", strings.Repeat("A=\n", MaxFields+1), [][]Field{slices.Repeat([]Field{{"A", ""}}, MaxFields)}, "more than 1024 fields"},
		{"too large", "A=1\nB=" + strings.Repeat("x", MaxRecord) + "\nC=2\n\nD=3\n", [][]Field{{{"A", "1"}, {"B", strings.Repeat("x", MaxRecord-1)}, {"C", ""}}, {{"D", "3"}}}, "field \"C\" has 1 bytes"},
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

// TestSyslogAgainstSystemd wants what systemd-journald 252 stored for lines
// that were sent to its /run/systemd/journal/dev-log (testdata holds its
// records, from journalctl -o json).
func TestSyslogAgainstSystemd(t *testing.T) {
	text, err := os.ReadFile("testdata/syslog252.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	for decoder.More() {
		var want map[string]string
		if err := decoder.Decode(&want); err != nil {
			t.Fatal(err)
		}
		got := ParseSyslog(want["line"])
		fields := map[string]string{"line": want["line"], "PRIORITY": strconv.Itoa(got.Priority), "MESSAGE": got.Message, "SYSLOG_IDENTIFIER": got.Identifier,
			"SYSLOG_PID": got.PID, "SYSLOG_TIMESTAMP": got.Timestamp, "SYSLOG_RAW": got.Raw}
		if got.Facility != 0 {
			fields["SYSLOG_FACILITY"] = strconv.Itoa(got.Facility)
		}
		for name, value := range fields {
			if _, ok := want[name]; value == "" && !ok {
				delete(fields, name)
			}
		}
		for name, value := range want { // journald keeps empty ones, which say nothing
			if value == "" {
				fields[name] += ""
			}
		}
		if diff := cmp.Diff(want, fields); diff != "" {
			t.Errorf("%q (-systemd +ours):\n%s", want["line"], diff)
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
