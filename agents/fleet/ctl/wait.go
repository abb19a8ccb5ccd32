package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/term"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/client"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
)

// waitFlags say how long to wait for what was asked for.
type waitFlags struct {
	noBlock  bool
	attempts int
}

func (w *waitFlags) define(f *flag.FlagSet) {
	f.BoolVar(&w.noBlock, "no-block", false, "do not wait until it is done")
	f.IntVar(&w.attempts, "block-attempts", 0, "wait this many times half a second, 0 is without end")
}

func notFound(err error) bool { return client.IsNotFound(err) }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// sleep waits, unless the call is ended.
func (t *tool) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// until looks again and again until done says so: soon at first, then every
// tick. A scheduler that does not answer is asked again for t.patience.
func (t *tool) until(ctx context.Context, look func(context.Context) (done bool, err error)) error {
	pause, lost := t.tick/32, time.Time{}
	for {
		done, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !passing(err):
			return err
		case err != nil && lost.IsZero():
			lost = time.Now()
			t.warn("The scheduler does not answer, asking again: %v", err)
		case err != nil && time.Since(lost) > t.patience:
			return fmt.Errorf("the scheduler has not answered for %s; what was asked for may still be done, see fleetctl list-unit-files: %w", t.patience, err)
		case err == nil && done:
			return nil
		case err == nil:
			lost = time.Time{}
		}
		if err := t.sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, t.tick)
	}
}

// passing tells whether asking again can help.
func passing(err error) bool {
	var answer *client.Error
	var code exitCode
	var given givenUp
	return !errors.As(err, &code) && !errors.As(err, &given) && (!errors.As(err, &answer) || answer.Code >= 500)
}

// givenUp is the end of waiting by a bound.
type givenUp struct{ error }

// waiting is for units to be in a state.
type waiting struct {
	t        *tool
	names    []string
	want     fleet.JobState
	attempts int
	contents map[string]string // hashes that units must have, for those whose content was replaced
	quiet    bool              // no line for a unit that is done

	told   map[string]string // why a unit waits, as people know already
	looks  int
	quietN map[string]int // looks in which a launched unit was inactive
	failed bool
}

// run prints a line for each unit that has come to the state.
func (w *waiting) run(ctx context.Context) error {
	if len(w.names) == 0 {
		return nil
	}
	w.told, w.quietN = map[string]string{}, map[string]int{}
	begun := time.Now()
	err := w.t.until(ctx, func(ctx context.Context) (bool, error) {
		if err := w.pass(ctx); err != nil || len(w.names) == 0 {
			return true, err
		}
		if w.attempts > 0 && time.Since(begun) >= time.Duration(w.attempts)*w.t.tick {
			return true, w.timeout()
		}
		return false, nil
	})
	if err == nil && w.failed {
		return exitCode(1)
	}
	return err
}

func (w *waiting) timeout() error {
	var errs []error
	for _, name := range w.names {
		err := fmt.Errorf("timed out waiting for unit %s to report state %s", name, w.want)
		if why := w.told[name]; why != "" {
			err = fmt.Errorf("%w: %s", err, why)
		}
		errs = append(errs, err)
	}
	return givenUp{errors.Join(errs...)}
}

// pass looks once at the units that are waited for.
func (w *waiting) pass(ctx context.Context) error {
	units, err := w.t.look(ctx, w.names)
	if err != nil {
		return err
	}
	var states map[string][]schema.UnitState
	if w.want == fleet.Launched || len(w.contents) > 0 {
		if states, err = w.t.states(ctx, w.names); err != nil {
			return err
		}
	}
	w.looks++
	w.names = slices.DeleteFunc(w.names, func(name string) bool {
		u, ok := units[name]
		if !ok {
			w.t.warn("Unit %s is not in the cluster any more", name)
			w.failed = w.failed || w.want != fleet.Inactive
			return true
		}
		if w.looks > 2 && u.Reason != "" && w.told[name] != u.Reason {
			w.told[name] = u.Reason
			w.t.warn("Unit %s waits: %s", name, u.Reason)
		}
		if !w.there(u, states[name]) {
			return false
		}
		if !w.quiet {
			w.say(ctx, u)
		}
		return true
	})
	return nil
}

// there tells whether a unit is as it was asked for. A unit that has failed is
// not waited for any longer.
func (w *waiting) there(u schema.Unit, states []schema.UnitState) bool {
	if u.CurrentState != string(w.want) {
		return false
	}
	if hash := w.contents[u.Name]; hash != "" && !slices.ContainsFunc(states, func(s schema.UnitState) bool { return s.Hash == hash }) {
		return false
	}
	if w.want != fleet.Launched {
		return u.Replicas == nil || w.want == fleet.Loaded || u.Replicas.Placed == 0
	}
	if u.Replicas != nil {
		return u.Replicas.Active >= u.Replicas.Wanted || w.anyFailed(u.Name, states)
	}
	if w.anyFailed(u.Name, states) {
		return true
	}
	for _, s := range states {
		switch s.SystemdActiveState {
		case "active", "reloading":
			return true
		case "inactive": // not yet started, or already at its end
			w.quietN[u.Name]++
			return w.quietN[u.Name] > 8
		}
	}
	return false
}

func (w *waiting) anyFailed(name string, states []schema.UnitState) bool {
	hash := w.contents[name]
	for _, s := range states {
		if s.SystemdActiveState == "failed" && (hash == "" || s.Hash == hash) {
			w.failed = true
			w.t.warn("Unit %s failed on %s (%s); fleetctl status %s and fleetctl journal %s say why", name, short(s.MachineID, false), s.SystemdSubState, name, name)
			return true
		}
	}
	return false
}

// say prints the line of a unit that has arrived.
func (w *waiting) say(ctx context.Context, u schema.Unit) {
	line := fmt.Sprintf("Unit %s %s", u.Name, u.CurrentState)
	switch {
	case u.Replicas != nil && u.Replicas.Placed > 0:
		if n := distinct(u.Replicas.Machines); n == 1 {
			line += " on one machine"
		} else {
			line += fmt.Sprintf(" on %d machines", n)
		}
	case u.MachineID != "":
		line += " on " + legend(w.t.machine(ctx, u.MachineID), false)
	}
	fmt.Fprintln(w.t.Out, line)
}

func distinct(ids []string) int {
	seen := map[string]bool{}
	for _, id := range ids {
		seen[id] = true
	}
	return len(seen)
}

// states are what machines say of units, and of the copies of templates.
func (t *tool) states(ctx context.Context, names []string) (map[string][]schema.UnitState, error) {
	found := map[string][]schema.UnitState{}
	if len(names) > many || slices.ContainsFunc(names, fleet.IsTemplate) {
		all, err := t.api.States(ctx, "", "")
		if err != nil {
			return nil, fmt.Errorf("read the units' states: %w", err)
		}
		for _, s := range all {
			found[s.Name] = append(found[s.Name], s)
			if template := fleet.TemplateOf(s.Name); template != "" {
				found[template] = append(found[template], s)
			}
		}
		return found, nil
	}
	for _, name := range names {
		all, err := t.api.States(ctx, name, "")
		if err != nil {
			return nil, fmt.Errorf("read the states of %s: %w", name, err)
		}
		found[name] = all
	}
	return found, nil
}
