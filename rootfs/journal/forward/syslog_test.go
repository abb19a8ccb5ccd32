package forward

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/google/go-cmp/cmp"
	syslog "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/rfc5424"
)

func parse(b []byte) (syslog.Message, error) { return rfc5424.NewParser().Parse(b) }

// line returns the first line of a message.
func line(m syslog.Message) string {
	text := ""
	if p := m.(*rfc5424.SyslogMessage).Message; p != nil {
		text, _, _ = strings.Cut(*p, "\n")
	}
	return text
}

// TestSyslog reads our messages with a parser that is not ours.
func TestSyslog(t *testing.T) {
	r := journal.Record{Realtime: 1795000000123456, Boot: journal.ID{2}, Fields: []journal.Field{
		{Name: "_HOSTNAME", Value: "bo at"}, {Name: "SYSLOG_IDENTIFIER", Value: "grüße " + strings.Repeat("x", 60)}, {Name: "_PID", Value: "7"}, {Name: "PRIORITY", Value: "3"},
		{Name: "SYSLOG_FACILITY", Value: "3"}, {Name: "MESSAGE_ID", Value: strings.Repeat("a", 32)}, {Name: "_SYSTEMD_UNIT", Value: `a"]\b.service`}, {Name: "MESSAGE", Value: "one\ntwo \x00 \xff grüße"}}}
	parsed, err := parse([]byte(Syslog(&r)))
	if err != nil {
		t.Fatal(err)
	}
	m := parsed.(*rfc5424.SyslogMessage)
	data := (*m.StructuredData)["coracle@32473"]
	got := []any{*m.Facility, *m.Severity, m.Timestamp.UnixMicro(), *m.Hostname, *m.Appname, *m.ProcID, *m.MsgID, data["cursor"], data["unit"], *m.Message}
	want := []any{uint8(3), uint8(3), int64(1795000000123456), "bo_at", "gr__" + "__e_" + strings.Repeat("x", 40), "7", strings.Repeat("a", 32), r.Cursor(), `a"]\b.service`,
		"one\ntwo \uFFFD \uFFFD grüße"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := parse([]byte(Syslog(&journal.Record{}))); err != nil {
		t.Errorf("an empty record: %v", err)
	}
}

// FuzzSyslog: whatever a program logs, the receiver can parse it.
func FuzzSyslog(f *testing.F) {
	f.Add("host", "name", "unit", "message", "3")
	f.Add("", "\x00", `"]\`, "\xff\n", "99")
	f.Fuzz(func(t *testing.T, host, name, unit, text, facility string) {
		r := journal.Record{Realtime: 1795000000123456, Fields: []journal.Field{{Name: "_HOSTNAME", Value: host}, {Name: "SYSLOG_IDENTIFIER", Value: name},
			{Name: "_SYSTEMD_UNIT", Value: unit}, {Name: "MESSAGE", Value: text}, {Name: "SYSLOG_FACILITY", Value: facility}}}
		message := Syslog(&r)
		if _, err := parse([]byte(message)); err != nil {
			t.Errorf("%q: %v", message, err)
		}
		if cut := cutText(message, 100); len(cut) > 100 || !utf8.ValidString(cut) {
			t.Errorf("cut: %q", cut)
		}
	})
}
