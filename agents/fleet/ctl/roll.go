package ctl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
)

// rolling waits for a rolling replacement. The engine carries it out, also
// when nobody waits.
type rolling struct {
	t       *tool
	names   []string
	hashes  map[string]string    // the new content of each unit
	healthy time.Duration        // that a new copy must be active
	active  map[string]time.Time // since when a new copy, by words for people, was seen active
}

// roll prints a line for each copy that is replaced and ends at the first that
// does not become healthy: the engine then changes no more.
func (t *tool) roll(ctx context.Context, changes []change, c *createFlags) error {
	r := rolling{t: t, hashes: map[string]string{}, healthy: c.healthy, active: map[string]time.Time{}}
	for _, one := range changes {
		r.names = append(r.names, one.unit.Name)
		r.hashes[one.unit.Name] = one.hash
	}
	begun := time.Now()
	return t.until(ctx, func(ctx context.Context) (bool, error) {
		left, err := r.pass(ctx)
		if err == nil && left > 0 && c.attempts > 0 && time.Since(begun) >= time.Duration(c.attempts)*t.tick {
			err = givenUp{fmt.Errorf("%d of %d units are not replaced yet; it goes on by itself, see fleetctl list-unit-files", left, len(r.names))}
		}
		return left == 0, err
	})
}

// pass looks once and tells how many units are not replaced yet.
func (r *rolling) pass(ctx context.Context) (left int, err error) {
	units, err := r.t.look(ctx, r.names)
	if err != nil {
		return 0, err
	}
	states, err := r.t.states(ctx, r.names)
	if err != nil {
		return 0, err
	}
	for _, name := range r.names {
		u, ok := units[name]
		if !ok {
			return 0, givenUp{fmt.Errorf("Unit %s is not in the cluster any more", name)} //nolint:staticcheck // begins a line
		}
		if hash := hashOf(u); hash != r.hashes[name] {
			return 0, givenUp{fmt.Errorf("Unit %s was given other content (%s) meanwhile", name, shortHash(hash, false))} //nolint:staticcheck // begins a line
		}
		healthy, broken := r.copies(ctx, name, states[name])
		switch {
		case broken != "":
			return 0, r.stopped(broken)
		case strings.Contains(u.Reason, stoppedWords):
			return 0, r.stopped(u.Reason)
		case healthy < wanted(u):
			left++
		}
	}
	return left, nil
}

// stoppedWords are in the engine's reason when it has ended a rollout.
const stoppedWords = " stopped: "

// copies counts the new copies of a unit that have been active for long
// enough; broken says which one failed.
func (r *rolling) copies(ctx context.Context, name string, states []schema.UnitState) (healthy int, broken string) {
	for _, s := range states {
		if s.Hash != r.hashes[name] {
			continue
		}
		where := s.Name + " on " + legend(r.t.machine(ctx, s.MachineID), false)
		switch s.SystemdActiveState {
		case "active", "reloading":
			if r.active[where].IsZero() {
				r.active[where] = time.Now()
				fmt.Fprintf(r.t.Out, "Replaced %s\n", where)
			}
			if time.Since(r.active[where]) >= r.healthy {
				healthy++
			}
		case "failed":
			broken = fmt.Sprintf("%s is failed (%s)", where, s.SystemdSubState)
			delete(r.active, where)
		default:
			delete(r.active, where)
		}
	}
	return healthy, broken
}

// stopped says what is the case after a failure and how to go back.
func (r *rolling) stopped(why string) error {
	all := strings.Join(groups(r.names), " ")
	r.t.warn("Rollout stopped: %s", why)
	if done := slices.Sorted(maps.Keys(r.active)); len(done) > 0 {
		r.t.warn("Replaced and active: %s", some(done))
	}
	r.t.warn("The others run as before. To go back: fleetctl rollback %s. To try again: correct the file and replace once more.", all)
	return exitCode(1)
}

// groups are the units that are rolled out together, by one name each: units
// of one template are.
func groups(names []string) []string {
	var all []string
	seen := map[string]bool{}
	for _, name := range names {
		group := name
		if template := fleet.TemplateOf(name); template != "" {
			group = template
		}
		if !seen[group] {
			seen[group] = true
			all = append(all, name)
		}
	}
	return all
}

func wanted(u schema.Unit) int {
	if u.Replicas == nil {
		return 1
	}
	return u.Replicas.Wanted
}
