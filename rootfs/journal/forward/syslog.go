package forward

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/format"
)

// maxDatagram bounds a UDP message, in bytes: what receivers take by default.
// RFC 5426 wants 480 to 2048 at least; a longer message is cut.
const maxDatagram = 8 << 10

// encode appends a record in the form of the target, framed.
func (t Target) encode(b []byte, r *journal.Record) ([]byte, error) {
	if t.JSON {
		var line bytes.Buffer
		if err := format.Write(&line, r, format.Options{Mode: "json", All: true}); err != nil {
			return b, err
		}
		return append(b, line.Bytes()...), nil
	}
	message := Syslog(r)
	if t.Network == "udp" {
		return append(b, cutText(message, maxDatagram)...), nil
	}
	b = append(strconv.AppendInt(b, int64(len(message)), 10), ' ')
	return append(b, message...), nil
}

// cutText shortens text to at most n bytes, not within a character.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Syslog returns the record as a message of RFC 5424. The unit, the cursor and
// the boot are structured data, under the enterprise number that RFC 5612
// reserves, because Coracle has none. The text is UTF-8 without a byte order
// mark; bytes that are no UTF-8, and NUL, become U+FFFD.
func Syslog(r *journal.Record) string {
	facility := 1 // user
	if n, err := strconv.Atoi(r.Get("SYSLOG_FACILITY")); err == nil && n >= 0 && n < 24 {
		facility = n
	}
	text := strings.ReplaceAll(strings.ToValidUTF8(r.Get("MESSAGE"), "\uFFFD"), "\x00", "\uFFFD")
	var b strings.Builder
	fmt.Fprintf(&b, "<%d>1 %s %s %s %s %s [coracle@32473 cursor=%s boot=\"%s\"", facility*8+r.Priority(),
		format.Time(r).UTC().Format("2006-01-02T15:04:05.000000Z"),
		word(255, r.Get("_HOSTNAME")), word(48, r.Get("SYSLOG_IDENTIFIER"), r.Get("_COMM")),
		word(128, r.Get("_PID"), r.Get("SYSLOG_PID")), word(32, r.Get("MESSAGE_ID")), quote(r.Cursor()), r.Boot)
	for _, field := range []struct{ name, param string }{{"_SYSTEMD_UNIT", "unit"}, {"UNIT", "about"}, {"_TRANSPORT", "transport"}} {
		if v := r.Get(field.name); v != "" {
			fmt.Fprintf(&b, " %s=%s", field.param, quote(v))
		}
	}
	b.WriteString("]")
	if text != "" {
		b.WriteString(" " + text)
	}
	return b.String()
}

// word is a header field: printable ASCII without spaces, or "-".
func word(longest int, values ...string) string {
	for _, v := range values {
		if v == "" {
			continue
		}
		clean := []byte(v[:min(len(v), longest)])
		for i, c := range clean {
			if c <= ' ' || c > '~' {
				clean[i] = '_'
			}
		}
		return string(clean)
	}
	return "-"
}

// quote is the value of a parameter: UTF-8 with three characters escaped.
func quote(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(strings.ToValidUTF8(v, "\uFFFD")) + `"`
}
