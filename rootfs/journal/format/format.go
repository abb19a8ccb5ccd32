// Package format prints journal records as journalctl(1) does: the short
// family, cat, verbose, json, json-pretty, json-sse, json-seq and export. What scripts
// parse is the same byte for byte as systemd's, except the order of fields,
// which systemd does not promise either.
package format

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
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
	Fields     []string       // only these in verbose, json, export and cat; nil = all
	Width      int            // columns at which lines of the short family are cut; 0 = never
	Previous   Moment         // of the record printed before, for short-delta
	Location   *time.Location // of the printed times; nil = UTC
}

// Moment is when a record was made, as the monotonic clock tells it.
type Moment struct {
	Boot                journal.ID
	Monotonic, Realtime uint64 // microseconds; 0 = there is no such record
}

// MomentOf returns when the record was made.
func MomentOf(r *journal.Record) Moment {
	return Moment{r.Boot, monotonic(r), uint64(Time(r).UnixMicro())}
}

// Modes lists the values of -o, in journalctl's order.
var Modes = []string{"short", "short-full", "short-iso", "short-iso-precise", "short-precise", "short-monotonic", "short-delta",
	"short-unix", "verbose", "export", "json", "json-pretty", "json-sse", "json-seq", "cat", "with-unit"}

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
	case "json", "json-pretty", "json-sse", "json-seq":
		b, err := jsonText(r, o)
		if err != nil {
			return err
		}
		text = b
	case "cat":
		text = cat(r, o)
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
		m := monotonic(r)
		return fmt.Sprintf("[%5d.%06d]", m/1e6, m%1e6)
	case "short-delta":
		return o.delta(r)
	case "verbose":
		return t.Format("Mon 2006-01-02 15:04:05.000000 MST")
	}
	return t.Format("Jan 02 15:04:05")
}

// monotonic is the time since boot at which the record was made.
func monotonic(r *journal.Record) uint64 {
	if source, err := strconv.ParseUint(r.Get("_SOURCE_MONOTONIC_TIMESTAMP"), 10, 62); err == nil && source > 0 {
		return source
	}
	return r.Monotonic
}

// delta is the time since boot and since the record before; a star marks one
// that the wall clock gave because the machine has restarted.
func (o Options) delta(r *journal.Record) string {
	now := MomentOf(r)
	since := strings.Repeat(" ", 16)
	if before := o.Previous; before.Monotonic > 0 {
		d, mark := now.Monotonic-min(before.Monotonic, now.Monotonic), " "
		if now.Boot != before.Boot {
			d, mark = now.Realtime-min(before.Realtime, now.Realtime), "*"
		}
		since = fmt.Sprintf(" <%5d.%06d%s>", d/1e6, d%1e6, mark)
	}
	return fmt.Sprintf("[%5d.%06d%s]", now.Monotonic/1e6, now.Monotonic%1e6, since)
}

// cat is the message alone, or the values of the fields asked for.
func cat(r *journal.Record, o Options) string {
	names := o.Fields
	if names == nil {
		names = []string{"MESSAGE"}
	}
	var b strings.Builder
	for _, name := range names {
		if v, ok := value(r, name); ok {
			b.WriteString(v + "\n")
		}
	}
	return b.String()
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
	if !o.All {
		message = withoutEscapes(message)
		if !journal.Printable(message, true) {
			return prefix + blob(message) + "\n"
		}
	}
	return prefix + o.lines(r, len([]rune(prefix)), strings.TrimRight(message, "\n")) + "\n"
}

// Bounds of a cut message, systemd's.
const (
	maxLines = 3
	maxChars = 300
)

// lines indents the lines of a message, and cuts them when a width is set.
func (o Options) lines(r *journal.Record, indent int, message string) string {
	on, off := o.color(r)
	lines := strings.Split(message, "\n")
	for i, line := range lines {
		line, _, _ = strings.Cut(line, "\x00") // as C programs do
		if o.Width > 0 && !o.All {
			last := i+1 == maxLines || len(message) > maxChars
			more := last && i+1 < len(lines)
			line = cut(line, o.Width-indent, last, more)
			if last {
				lines = lines[:i+1]
			}
		}
		lines[i] = on + line + off
		if i+1 >= len(lines) {
			break
		}
	}
	return strings.Join(lines, "\n"+strings.Repeat(" ", indent))
}

// cut shortens a line to width columns: the last one at its end, others near it.
func cut(line string, width int, last, more bool) string {
	runes := []rune(line)
	switch {
	case len(runes)+1 < width && !more:
		return line
	case width < 3:
		return "..."
	case len(runes)+3 < width:
		return line + "..."
	case len(runes) <= width && !more:
		return line
	}
	keep := width - 1
	if !last {
		keep = (keep*90 + 50) / 100
	}
	return string(runes[:keep]) + "…" + string(runes[len(runes)-(width-1-keep):])
}

// escapes are the sequences that colour a terminal's text or set its title.
var escapes = regexp.MustCompile(`\x1b(\[[0-9:;<=>?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\))`)

// withoutEscapes makes a line that changes nothing in the terminal: no escape
// sequences, and spaces for tabs.
func withoutEscapes(message string) string {
	if strings.IndexByte(message, 0x1b) >= 0 {
		message = escapes.ReplaceAllString(message, "")
	}
	return strings.ReplaceAll(message, "\t", "        ")
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
		if only == nil || f.Name == "_BOOT_ID" || slices.Contains(only, f.Name) {
			fields = append(fields, f)
		}
	}
	return fields
}

func verbose(r *journal.Record, o Options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s [%s]\n", o.stamp(r), r.Cursor())
	for _, f := range Fields(r, o.Fields)[3:] {
		if o.Fields != nil && !slices.Contains(o.Fields, f.Name) {
			continue
		}
		v := f.Value
		if !o.All && (!journal.Printable(v, true)) {
			v = blob(v)
		}
		lines := strings.Split(strings.TrimRight(v, "\n"), "\n")
		for i := range lines {
			lines[i], _, _ = strings.Cut(lines[i], "\x00")
		}
		fmt.Fprintf(&b, "    %s=%s\n", f.Name, strings.Join(lines, "\n"+strings.Repeat(" ", 4+len(f.Name)+1)))
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
	if o.Mode == "json-seq" { // RFC 7464
		return "\x1e" + b.String() + "\n", nil
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
