package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/ctl/table"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// oneMachine connects and finds the machine that the only argument names.
func (t *tool) oneMachine(ctx context.Context, args []string) (schema.Machine, error) {
	if len(args) != 1 {
		return schema.Machine{}, usageError{errors.New("give one machine: its id, the beginning of it, or its address")}
	}
	if err := t.connect(ctx); err != nil {
		return schema.Machine{}, err
	}
	var err error
	if t.machines, err = t.api.Machines(ctx); err != nil {
		return schema.Machine{}, fmt.Errorf("Error retrieving list of active machines: %w", err) //nolint:staticcheck // fleet's text
	}
	m, err := lookup(t.machines, args[0])
	if errors.Is(err, errNoMachine) {
		return m, fmt.Errorf("no machine %q; fleetctl list-machines shows all", args[0])
	}
	return m, err
}

func drain(t *tool, f *flag.FlagSet) action {
	reason := f.String("reason", "fleetctl drain", "why, for people")
	reboot := f.Bool("until-reboot", false, "end it by itself when the machine has started again")
	var w waitFlags
	w.define(f)
	return func(ctx context.Context, args []string) error {
		m, err := t.oneMachine(ctx, args)
		if err != nil {
			return err
		}
		if err := t.api.Drain(ctx, m.ID, *reason, *reboot); err != nil {
			return fmt.Errorf("drain %s: %w", legend(m, false), err)
		}
		if w.noBlock {
			fmt.Fprintf(t.Out, "Triggered drain of %s\n", legend(m, false))
			return nil
		}
		return t.emptied(ctx, m, w.attempts)
	}
}

// emptied waits until a machine has no unit that can be elsewhere.
func (t *tool) emptied(ctx context.Context, m schema.Machine, attempts int) error {
	begun, last := time.Now(), ""
	err := t.until(ctx, func(ctx context.Context) (bool, error) {
		left, err := t.unitsOn(ctx, m.ID)
		if err != nil || len(left) == 0 {
			return true, err
		}
		if now := strings.Join(left, " "); now != last {
			t.warn("%s: still there: %s", legend(m, false), some(left))
			last = now
		}
		if attempts > 0 && time.Since(begun) >= time.Duration(attempts)*t.tick {
			return true, givenUp{fmt.Errorf("%s is drained, but these units have not left it yet: %s; fleetctl list-units shows their states",
				legend(m, false), some(left))}
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(t.Out, "Machine %s drained\n", legend(m, false))
	return nil
}

// unitsOn are the units that a machine still has, without global ones, which
// are wanted nowhere else.
func (t *tool) unitsOn(ctx context.Context, machine string) ([]string, error) {
	states, err := t.api.States(ctx, "", machine)
	if err != nil {
		return nil, fmt.Errorf("read the states of units: %w", err)
	}
	units, err := t.api.Units(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's units: %w", err)
	}
	left := map[string]bool{}
	for _, s := range states {
		left[s.Name] = true
	}
	for _, u := range units {
		switch {
		case isGlobal(u):
			delete(left, u.Name)
		case u.MachineID == machine:
			left[u.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(left)), nil
}

// some shows the first of many names.
func some(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, " ")
	}
	return strings.Join(names[:most], " ") + " ..."
}

func undrain(t *tool, _ *flag.FlagSet) action {
	return func(ctx context.Context, args []string) error {
		m, err := t.oneMachine(ctx, args)
		if err != nil {
			return err
		}
		if err := t.api.EndDrain(ctx, m.ID); err != nil {
			return fmt.Errorf("undrain %s: %w", legend(m, false), err)
		}
		fmt.Fprintf(t.Out, "Machine %s takes units again\n", legend(m, false))
		return nil
	}
}

// tasks prints a plan, and why some units have no place.
func (t *tool) tasks(ctx context.Context, p schema.Plan) error {
	columns := []table.Column[schema.Task]{
		{Name: "unit", Value: func(k schema.Task) string { return k.Unit }},
		{Name: "task", Value: func(k schema.Task) string { return k.Kind }},
		{Name: "machine", Value: func(k schema.Task) string { return legend(t.machine(ctx, k.MachineID), false) }},
		{Name: "reason", Value: func(k schema.Task) string { return k.Reason }},
	}
	all, err := table.Choose(columns, strings.Join(names(columns), ","))
	if err != nil {
		return err
	}
	if len(p.Tasks) > 0 {
		if err := all.Write(t.Out, true, p.Tasks); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Unplaced)) {
		t.warn("%s would be on no machine: %s", name, p.Unplaced[name])
	}
	return nil
}

func plan(t *tool, _ *flag.FlagSet) action {
	return func(ctx context.Context, args []string) error {
		if len(args) == 0 {
			t.warn("No units given")
			return nil
		}
		if err := t.connect(ctx); err != nil {
			return err
		}
		var units []schema.Unit
		for _, arg := range args {
			name := unitfile.CompleteName(arg)
			have, err := t.look(ctx, []string{name})
			if err != nil {
				return err
			}
			content, _, err := localUnit(name, filepath.Join(filepath.Dir(arg), name))
			if u, ok := have[name]; ok && err != nil {
				content, err = contentOf(u)
			}
			if err != nil {
				return fmt.Errorf("plan %s: %w", name, err)
			}
			one, err := t.changeTo(name, content, change{})
			if err != nil {
				return err
			}
			one.unit.Name, one.unit.DesiredState = name, string(fleet.Launched)
			units = append(units, one.unit)
		}
		p, err := t.api.Plan(ctx, units)
		if err != nil {
			return fmt.Errorf("plan: %w", err)
		}
		if len(p.Tasks) == 0 && len(p.Unplaced) == 0 {
			fmt.Fprintln(t.Out, "Nothing would change.")
		}
		if err := t.tasks(ctx, p); err != nil {
			return err
		}
		for _, u := range units {
			if p.Unplaced[u.Name] != "" {
				return exitCode(1)
			}
		}
		return nil
	}
}

func rebalance(t *tool, f *flag.FlagSet) action {
	sure := f.Bool("yes", false, "do it without asking")
	return func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("fleetctl rebalance: unexpected %q", args)}
		}
		if err := t.connect(ctx); err != nil {
			return err
		}
		p, err := t.api.Rebalance(ctx, true)
		if err != nil {
			return fmt.Errorf("rebalance: %w", err)
		}
		if len(p.Tasks) == 0 {
			fmt.Fprintln(t.Out, "Nothing to move.")
			return nil
		}
		if err := t.tasks(ctx, p); err != nil {
			return err
		}
		if !*sure && !yes(t.ask("Each of these units is stopped and starts elsewhere. Do it (yes/no)? ")) {
			t.warn("Nothing was moved; --yes does it without asking.")
			return exitCode(1)
		}
		if p, err = t.api.Rebalance(ctx, false); err != nil {
			return fmt.Errorf("rebalance: %w", err)
		}
		fmt.Fprintf(t.Out, "Triggered %d tasks\n", len(p.Tasks))
		return nil
	}
}

func rollback(t *tool, _ *flag.FlagSet) action {
	return func(ctx context.Context, args []string) error {
		return t.onUnits(ctx, args, func(units []schema.Unit) error {
			for _, name := range groups(unitNames(units)) { // once each: twice would bring the new content back
				if err := t.api.Rollback(ctx, name); err != nil {
					return fmt.Errorf("roll %s back: %w", name, err)
				}
				fmt.Fprintf(t.Out, "Triggered rollback of %s\n", name)
			}
			return nil
		})
	}
}
