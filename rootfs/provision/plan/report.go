package plan

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

// Problem is one message about a document.
type Problem struct {
	Position
	Severity Severity
	Text     string
	// Hint is what the owner may have meant, or what becomes of it; "" is none.
	Hint string
	// Formal marks messages that the original program of a format gives but that
	// tell the owner of this machine nothing: deprecated keys that work here.
	Formal bool
}

// String returns "line N: severity: text", as coreos-cloudinit's validator did.
func (p Problem) String() string {
	return fmt.Sprintf("line %d: %s: %s", p.Line, p.Severity, p.Text)
}

// WithHint returns String with the hint.
func (p Problem) WithHint() string {
	if p.Hint == "" {
		return p.String()
	}
	return p.String() + "; " + p.Hint
}

// Report is a list of messages.
type Report []Problem

// Add appends a message.
func (r *Report) Add(at Position, severity Severity, format string, args ...any) {
	*r = append(*r, Problem{Position: at, Severity: severity, Text: fmt.Sprintf(format, args...)})
}

// AddFormal appends a formal message.
func (r *Report) AddFormal(at Position, severity Severity, format string, args ...any) {
	*r = append(*r, Problem{Position: at, Severity: severity, Text: fmt.Sprintf(format, args...), Formal: true})
}

// Hint sets the hint of the last message.
func (r Report) Hint(format string, args ...any) {
	r[len(r)-1].Hint = fmt.Sprintf(format, args...)
}

// Sorted returns the messages by line, each once.
func (r Report) Sorted() Report {
	sorted := slices.Clone(r)
	slices.SortStableFunc(sorted, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	seen := map[string]bool{}
	return slices.DeleteFunc(sorted, func(p Problem) bool {
		text := p.String()
		defer func() { seen[text] = true }()
		return seen[text]
	})
}
