package config

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// maxShown is the size in bytes of the largest text whose difference is shown.
const maxShown = 1 << 20

// show prints what a plan would change and tells whether it would anything.
// Steps that run every time are shown with the changes that they are for.
func (t *tool) show(ctx context.Context, p plan.Plan) (different bool) {
	done := 0
	var always []plan.Step
	for _, step := range p.Steps {
		c := t.executor.Compare(ctx, step)
		switch c.State {
		case apply.Done:
			done++
		case apply.Runs:
			always = append(always, step)
		default:
			different = true
			showStep(t.stdio.Out, step, c)
		}
	}
	for _, step := range always {
		if _, command := step.Action.(plan.UnitCommand); command || different {
			fmt.Fprintf(t.stdio.Out, "runs     %s\n", step)
		}
	}
	switch {
	case different:
		fmt.Fprintf(t.stdio.Out, "%d steps are done already\n", done)
	default:
		fmt.Fprintln(t.stdio.Out, "nothing would change")
	}
	return different
}

func showStep(w io.Writer, step plan.Step, c apply.Comparison) {
	text := step.String()
	if c.Detail != "" {
		text += ": " + c.Detail
	}
	fmt.Fprintf(w, "%-8s %s\n", c.State, text)
	if c.Path == "" {
		return
	}
	if !isText(c.Before) || !isText(c.After) {
		fmt.Fprintf(w, "         %s: %d -> %d bytes, not shown\n", c.Path, len(c.Before), len(c.After))
		return
	}
	shown := string(diff.Diff(c.Path, c.Before, c.Path+" (new)", c.After))
	_, shown, _ = strings.Cut(shown, "\n") // the line "diff A B"
	fmt.Fprint(w, shown)
}

func isText(data []byte) bool {
	return len(data) <= maxShown && utf8.Valid(data) && !bytes.ContainsRune(data, 0)
}
