package cloudconfig

import (
	"cmp"
	"fmt"
	"slices"
)

// Severity says how bad a message is.
type Severity string

// The severities, in falling order.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Info    Severity = "info"
)

// Entry is one message about a document.
type Entry struct {
	Line     int // from 1; 0 is the document as a whole
	Severity Severity
	Text     string
	// Formal marks messages that the original gives but that tell the owner of
	// this machine nothing: deprecated keys that work here.
	Formal bool
}

// String returns "line N: severity: text".
func (e Entry) String() string {
	return fmt.Sprintf("line %d: %s: %s", e.Line, e.Severity, e.Text)
}

// Report is a list of messages.
type Report []Entry

func (r *Report) add(line int, severity Severity, format string, args ...any) {
	*r = append(*r, Entry{Line: line, Severity: severity, Text: fmt.Sprintf(format, args...)})
}

func (r *Report) addFormal(line int, severity Severity, format string, args ...any) {
	*r = append(*r, Entry{Line: line, Severity: severity, Text: fmt.Sprintf(format, args...), Formal: true})
}

// Sorted returns the messages by line, each once.
func (r Report) Sorted() Report {
	sorted := slices.Clone(r)
	slices.SortStableFunc(sorted, func(a, b Entry) int { return cmp.Compare(a.Line, b.Line) })
	seen := map[string]bool{}
	return slices.DeleteFunc(sorted, func(e Entry) bool {
		text := e.String()
		defer func() { seen[text] = true }()
		return seen[text]
	})
}
