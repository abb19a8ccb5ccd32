// Package format prints journal records as journalctl(1) does: the short
// family, cat, verbose, json, json-pretty, json-sse and export. What scripts
// parse is the same byte for byte as systemd's, except the order of fields,
// which systemd does not promise either.
package format

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
)

// Options choose the output.
type Options struct {
	Mode       string         // one of Modes, "" = short
	All        bool           // print unprintable and very long values as they are
	NoHostname bool           // leave the host out of the short family
	Color      bool           // by priority, for a terminal
	Fields     []string       // only these in verbose, json and export; nil = all
	Location   *time.Location // of the printed times; nil = UTC
}

// Modes lists the values of -o.
var Modes = []string{"short", "short-full", "short-iso", "short-iso-precise", "short-precise", "short-monotonic",
	"short-unix", "verbose", "export", "json", "json-pretty", "json-sse", "cat", "with-unit"}

// longest is the size from which JSON gives null instead of the value.
const longest = 4096

// Write prints one record, with its newline.
func Write(w io.Writer, r *journal.Record, o Options) error {
	var text string
	switch o.Mode {
	case "verbose":
		text = verbose(r, o)
	case "export":
		text = export(r, o)
	case "json", "json-pretty", "json-sse":
		b, err := jsonText(r, o)
		if err != nil {
			return err
		}
		text = b
	case "cat":
		text = r.Get("MESSAGE") + "\n"
	default:
		text = short(r, o)
	}
	_, err := io.WriteString(w, text)
	return err
}

// Time returns when the record was made: by its sender if it says, otherwise
// when it was received.
func Time(r *journal.Record) time.Time {
	usec := r.Realtime
	if source, err := strconv.ParseUint(r.Get("_SOURCE_REALTIME_TIMESTAMP"), 10, 62); err == nil && source > 0 {
		usec = source
	}
	return time.UnixMicro(int64(usec))
}

func (o Options) stamp(r *journal.Record) string {
	t := Time(r).UTC()
	if o.Location != nil {
		t = t.In(o.Location)
	}
	switch o.Mode {
	case "short-full", "with-unit":
		return t.Format("Mon 2006-01-02 15:04:05 MST")
	case "short-iso":
		return t.Format("2006-01-02T15:04:05-0700")
	case "short-iso-precise":
		return t.Format("2006-01-02T15:04:05.000000-0700")
	case "short-precise":
		return t.Format("Jan 02 15:04:05.000000")
	case "short-unix":
		return fmt.Sprintf("%10d.%06d", t.Unix(), t.Nanosecond()/1000)
	case "short-monotonic":
		return fmt.Sprintf("[%5d.%06d]", r.Monotonic/1e6, r.Monotonic%1e6)
	case "verbose":
		return t.Format("Mon 2006-01-02 15:04:05.000000 MST")
	}
	return t.Format("Jan 02 15:04:05")
}

// short is "Nov 21 01:02:03 host ident[pid]: message".
func short(r *journal.Record, o Options) string {
	message, ok := value(r, "MESSAGE")
	if !ok {
		return ""
	}
	prefix := o.stamp(r)
	if host := r.Get("_HOSTNAME"); host != "" && !o.NoHostname {
		prefix += " " + host
	}
	name := r.Get("SYSLOG_IDENTIFIER")
	if o.Mode == "with-unit" {
		name = first(r.Get("_SYSTEMD_UNIT"), name)
	}
	name = first(name, r.Get("_COMM"))
	prefix += " " + first(name, "unknown")
	if pid := first(r.Get("_PID"), r.Get("SYSLOG_PID")); pid != "" {
		prefix += "[" + pid + "]"
	}
	prefix += ": "
	if !journal.Printable(message, true) && !o.All {
		return prefix + blob(message) + "\n"
	}
	on, off := o.color(r)
	message = strings.TrimRight(message, "\n")
	indent := "\n" + strings.Repeat(" ", len([]rune(prefix)))
	return prefix + on + strings.ReplaceAll(message, "\n", off+indent+on) + off + "\n"
}

func (o Options) color(r *journal.Record) (on, off string) {
	if !o.Color {
		return "", ""
	}
	switch p := r.Priority(); {
	case p <= journal.Err:
		return "\x1b[0;1;31m", "\x1b[0m"
	case p == journal.Warning:
		return "\x1b[0;1;38;5;185m", "\x1b[0m"
	case p == journal.Notice:
		return "\x1b[0;1;39m", "\x1b[0m"
	case p == journal.Debug:
		return "\x1b[0;38;5;245m", "\x1b[0m"
	}
	return "", ""
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func value(r *journal.Record, name string) (string, bool) {
	for _, f := range r.Fields {
		if f.Name == name {
			return f.Value, true
		}
	}
	return "", false
}

// blob is how systemd shows a value that is no text.
func blob(v string) string {
	switch n := len(v); {
	case n < 1024:
		return fmt.Sprintf("[%dB blob data]", n)
	case n < 1<<20:
		return fmt.Sprintf("[%.1fK blob data]", float64(n*10/1024)/10)
	default:
		return fmt.Sprintf("[%.1fM blob data]", float64(n*10/(1<<20))/10)
	}
}

// Fields returns all fields of a record as the structured formats give them:
// the address fields first.
func Fields(r *journal.Record, only []string) []journal.Field {
	fields := []journal.Field{
		{Name: "__CURSOR", Value: r.Cursor()},
		{Name: "__REALTIME_TIMESTAMP", Value: strconv.FormatUint(r.Realtime, 10)},
		{Name: "__MONOTONIC_TIMESTAMP", Value: strconv.FormatUint(r.Monotonic, 10)},
	}
	rest := append([]journal.Field{{Name: "_BOOT_ID", Value: r.Boot.String()}, {Name: "_MACHINE_ID", Value: r.Machine.String()}}, r.Fields...)
	for _, f := range rest {
		if only == nil || contains(only, f.Name) {
			fields = append(fields, f)
		}
	}
	return fields
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

func verbose(r *journal.Record, o Options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s [%s]\n", o.stamp(r), r.Cursor())
	for _, f := range Fields(r, o.Fields)[3:] {
		v := f.Value
		if !o.All && (!journal.Printable(v, true)) {
			v = blob(v)
		}
		lines := strings.ReplaceAll(v, "\n", "\n"+strings.Repeat(" ", 4+len(f.Name)+1))
		fmt.Fprintf(&b, "    %s=%s\n", f.Name, lines)
	}
	return b.String()
}

func export(r *journal.Record, o Options) string {
	var b []byte
	for _, f := range Fields(r, o.Fields) {
		b = journal.AppendField(b, f.Name, f.Value)
	}
	return string(append(b, '\n'))
}

// jsonText prints an object. A value that is no UTF-8 text is an array of
// numbers, a field that repeats is an array of values, a very long one null.
func jsonText(r *journal.Record, o Options) (string, error) {
	var names []string
	values := map[string][]any{}
	for _, f := range Fields(r, o.Fields) {
		if _, seen := values[f.Name]; !seen {
			names = append(names, f.Name)
		}
		values[f.Name] = append(values[f.Name], jsonValue(f.Value, o.All))
	}
	var b strings.Builder
	separator, end := ",", "}"
	b.WriteString("{")
	if o.Mode == "json-pretty" {
		separator, end = ",\n\t", "\n}"
		b.WriteString("\n\t")
	}
	for i, name := range names {
		if i > 0 {
			b.WriteString(separator)
		}
		var v any = values[name]
		if len(values[name]) == 1 {
			v = values[name][0]
		}
		text, err := encode(v)
		if err != nil {
			return "", fmt.Errorf("print record as JSON: %w", err)
		}
		colon := ":"
		if o.Mode == "json-pretty" {
			colon = " : "
		}
		b.WriteString(`"` + name + `"` + colon + text)
	}
	b.WriteString(end)
	if o.Mode == "json-sse" {
		return "data: " + b.String() + "\n\n", nil
	}
	return b.String() + "\n", nil
}

// encode is JSON without the escapes for HTML.
func encode(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

func jsonValue(v string, all bool) any {
	if len(v) >= longest && !all {
		return nil
	}
	if journal.Printable(v, true) {
		return v
	}
	numbers := make([]int, len(v))
	for i := range len(v) {
		numbers[i] = int(v[i])
	}
	return numbers
}
