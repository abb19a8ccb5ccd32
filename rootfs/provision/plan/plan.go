package plan

import (
	"fmt"
	"strconv"
)

// Plan is what a document asks for: steps in the order in which they are
// applied, and messages about what it asks for that can not be done.
type Plan struct {
	Steps    []Step
	Problems Report
}

// From returns the plan with name as the source of every step that has none.
func (p Plan) From(name string) Plan {
	steps := make([]Step, len(p.Steps))
	for i, step := range p.Steps {
		if step.Origin.Source == "" {
			step.Origin.Source = name
		}
		steps[i] = step
	}
	p.Steps = steps
	return p
}

// Step is one action with its reason and where it comes from.
type Step struct {
	Action Action
	Reason string
	Origin Origin
}

// String returns the step as one line for a dry run. It holds no secret.
func (s Step) String() string {
	if origin := s.Origin.String(); origin != "" {
		return fmt.Sprintf("%s (%s, %s)", s.Action, s.Reason, origin)
	}
	return fmt.Sprintf("%s (%s)", s.Action, s.Reason)
}

// Position is a place in a document. Line and Column count from 1; 0 is not
// known, and line 0 is the document as a whole.
type Position struct{ Line, Column int }

// String returns "line 3" or "line 3, column 5", "" for the whole document.
func (p Position) String() string {
	switch {
	case p.Line == 0:
		return ""
	case p.Column == 0:
		return "line " + strconv.Itoa(p.Line)
	}
	return fmt.Sprintf("line %d, column %d", p.Line, p.Column)
}

// Origin is the document, by the name of its source, and the place in it that a
// step comes from. A step that every run takes has line 0.
type Origin struct {
	Source string
	Position
}

// String returns the parts that are known: "user-data, line 3".
func (o Origin) String() string {
	position := o.Position.String()
	if o.Source == "" || position == "" {
		return o.Source + position
	}
	return o.Source + ", " + position
}
