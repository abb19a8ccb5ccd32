package engine

import (
	"fmt"
	"runtime/debug"
	"slices"
	"sort"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/decide"
)

// mostBroken is for how many units one pass looks: each search decides as often
// as the number of units has bits.
const mostBroken = 4

// think decides, and contains what goes wrong in there: a unit on which it
// panics is left as it is until its content changes, and the rest is decided on.
func (r *reign) think(s *fleet.Snapshot) (decide.Result, error) {
	for range mostBroken {
		rest := r.bearable(s)
		result, err := r.try(rest)
		if err == nil {
			result.Tasks = slices.DeleteFunc(result.Tasks, func(t fleet.Task) bool { return r.left(t.Placement.Unit) })
			return result, nil
		}
		u := r.culprit(rest)
		if u == nil {
			return decide.Result{}, err
		}
		r.Log.Error("The engine cannot decide on a unit and leaves it as it is until its content changes. This is a defect: please report it", "unit", u.Name, "hash", u.Hash, "error", err)
		r.Metrics.failures.WithLabelValues("decide").Inc()
		r.broken[u.Name] = u.Hash
	}
	return decide.Result{}, fmt.Errorf("more than %d units in one pass cannot be decided on", mostBroken)
}

// try decides; the error is a panic with its stack.
func (r *reign) try(s *fleet.Snapshot) (result decide.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return r.Decide(s), nil
}

// bearable is the snapshot without the units that broke it before.
func (r *reign) bearable(s *fleet.Snapshot) *fleet.Snapshot {
	for name, hash := range r.broken {
		if u := s.Unit(name); u == nil || u.Hash != hash {
			delete(r.broken, name)
		}
	}
	if len(r.broken) == 0 {
		return s
	}
	rest := *s
	rest.Units = slices.DeleteFunc(slices.Clone(s.Units), func(u fleet.Unit) bool { return r.broken[u.Name] != "" })
	return &rest
}

// left tells if a unit, or the template it is a copy of, is left as it is.
func (r *reign) left(unit string) bool {
	return r.broken[unit] != "" || r.broken[fleet.TemplateOf(unit)] != ""
}

// culprit is the first unit with which, and with those before it, deciding
// panics; nil if it does without any.
func (r *reign) culprit(s *fleet.Snapshot) *fleet.Unit {
	first := *s
	n := sort.Search(len(s.Units), func(n int) bool {
		first.Units = s.Units[:n]
		_, err := r.try(&first)
		return err != nil
	})
	if n == 0 {
		return nil
	}
	return &s.Units[n-1]
}
