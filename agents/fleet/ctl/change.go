package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// known gives the units that arguments name and that are in the cluster, in
// their order; missing are the names of the others.
func (t *tool) knownUnits(ctx context.Context, args []string) (units []schema.Unit, missing []string, err error) {
	var all []string
	for _, arg := range args {
		if name := unitfile.CompleteName(arg); !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	have, err := t.look(ctx, all)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range all {
		if u, ok := have[name]; ok {
			units = append(units, u)
		} else {
			missing = append(missing, name)
		}
	}
	return units, missing, nil
}

// onUnits is the beginning of every command that changes units that are there.
func (t *tool) onUnits(ctx context.Context, args []string, do func([]schema.Unit) error) error {
	if len(args) == 0 {
		t.warn("No units given")
		return nil
	}
	if err := t.connect(ctx); err != nil {
		return err
	}
	units, missing, err := t.knownUnits(ctx, args)
	if err != nil {
		return err
	}
	if len(units) == 0 {
		t.warn("Units not found in registry")
		return nil
	}
	for _, name := range missing {
		t.warn("Unit %s not found in registry", name)
	}
	return do(units)
}

// set asks for a state of units, those that are not in it.
func (t *tool) set(ctx context.Context, units []schema.Unit, want fleet.JobState) error {
	return each(ctx, units, func(ctx context.Context, u schema.Unit) error {
		if u.DesiredState == string(want) {
			return nil
		}
		if err := t.api.SetDesired(ctx, u.Name, want); err != nil && !notFound(err) {
			return fmt.Errorf("Unit(%s): %w", u.Name, err)
		}
		return nil
	}, nil)
}

// arrive waits for units to be in a state, or says that it was asked for. It
// gives the units that are not global.
func (t *tool) arrive(ctx context.Context, units []schema.Unit, w waitFlags, verb string, want fleet.JobState, quiet bool) error {
	wait := waiting{t: t, want: want, attempts: w.attempts, quiet: quiet}
	for _, u := range units {
		switch {
		case isGlobal(u):
			fmt.Fprintf(t.Out, "Triggered global unit %s %s\n", u.Name, verb)
		case w.noBlock:
			fmt.Fprintf(t.Out, "Triggered unit %s %s\n", u.Name, verb)
		default:
			wait.names = append(wait.names, u.Name)
		}
	}
	return wait.run(ctx)
}

func unitNames(units []schema.Unit) []string {
	var all []string
	for _, u := range units {
		all = append(all, u.Name)
	}
	return all
}

func stop(t *tool, f *flag.FlagSet) action {
	var w waitFlags
	w.define(f)
	return func(ctx context.Context, args []string) error {
		return t.onUnits(ctx, args, func(units []schema.Unit) error {
			for _, u := range units {
				if u.DesiredState == string(fleet.Inactive) {
					return fmt.Errorf("Unable to stop unit %s in state %s", u.Name, u.DesiredState) //nolint:staticcheck // fleet's text
				}
			}
			if err := t.set(ctx, units, fleet.Loaded); err != nil {
				return fmt.Errorf("stop units: %w", err)
			}
			if err := t.arrive(ctx, units, w, "stop", fleet.Loaded, false); err != nil {
				return err
			}
			if !w.noBlock {
				t.warn("Successfully stopped units %v.", unitNames(units))
			}
			return nil
		})
	}
}

func unload(t *tool, f *flag.FlagSet) action {
	var w waitFlags
	w.define(f)
	return func(ctx context.Context, args []string) error {
		return t.onUnits(ctx, args, func(units []schema.Unit) error {
			if err := t.set(ctx, units, fleet.Inactive); err != nil {
				return fmt.Errorf("unload units: %w", err)
			}
			return t.arrive(ctx, units, w, "unload", fleet.Inactive, false)
		})
	}
}

func destroy(t *tool, f *flag.FlagSet) action {
	var w waitFlags // taken for compatibility: a destroyed unit is gone at once
	w.define(f)
	return func(ctx context.Context, args []string) error {
		return t.onUnits(ctx, args, func(units []schema.Unit) error {
			return each(ctx, units, func(ctx context.Context, u schema.Unit) error {
				if err := t.api.Destroy(ctx, u.Name); err != nil && !notFound(err) {
					return fmt.Errorf("destroy unit %s: %w", u.Name, err)
				}
				return nil
			}, func(u schema.Unit) { fmt.Fprintf(t.Out, "Destroyed %s\n", u.Name) })
		})
	}
}

func restart(t *tool, f *flag.FlagSet) action {
	var w waitFlags
	f.IntVar(&w.attempts, "block-attempts", 0, "wait this many times half a second for each step, 0 is without end")
	port := f.Int("ssh-port", 22, "port of the machines' SSH, for global units")
	return func(ctx context.Context, args []string) error {
		return t.onUnits(ctx, args, func(units []schema.Unit) error {
			for _, u := range units {
				if u.DesiredState != string(fleet.Launched) {
					return fmt.Errorf("Unable to restart unit %s in state %s; fleetctl start %s starts it", u.Name, u.DesiredState, u.Name) //nolint:staticcheck // like stop's
				}
			}
			var global, plain []schema.Unit
			for _, u := range units {
				if isGlobal(u) {
					global = append(global, u)
				} else {
					plain = append(plain, u)
				}
			}
			if err := t.bounce(ctx, plain, w); err != nil {
				return err
			}
			return t.restartGlobal(ctx, global, *port)
		})
	}
}

// bounce stops units and starts them again. What it has stopped it asks to be
// started again also when the wait is given up.
func (t *tool) bounce(ctx context.Context, units []schema.Unit, w waitFlags) error {
	if len(units) == 0 {
		return nil
	}
	err := t.set(ctx, units, fleet.Loaded)
	if err == nil {
		err = t.arrive(ctx, units, w, "restart", fleet.Loaded, true)
	}
	for i := range units {
		units[i].DesiredState = string(fleet.Loaded)
	}
	again := context.WithoutCancel(ctx)
	if err := errors.Join(err, t.set(again, units, fleet.Launched)); err != nil {
		return fmt.Errorf("restart %s: %w", strings.Join(unitNames(units), " "), err)
	}
	return t.arrive(ctx, units, w, "restart", fleet.Launched, false)
}

// restartGlobal restarts the copies on the machines themselves, one after the
// other: they are always wanted there.
func (t *tool) restartGlobal(ctx context.Context, units []schema.Unit, port int) error {
	for _, u := range units {
		states, err := t.api.States(ctx, u.Name, "")
		if err != nil {
			return fmt.Errorf("find the machines of %s: %w", u.Name, err)
		}
		for _, s := range states {
			m := t.machine(ctx, s.MachineID)
			code, err := t.onMachine(ctx, m, port, "sudo systemctl restart "+quote(u.Name))
			if err != nil {
				return fmt.Errorf("restart %s on %s: %w", u.Name, legend(m, false), err)
			}
			if code != 0 {
				return exitCode(code)
			}
		}
		fmt.Fprintf(t.Out, "Restarted global unit %s on %d machines\n", u.Name, len(states))
	}
	return nil
}

func cat(t *tool, _ *flag.FlagSet) action {
	return func(ctx context.Context, args []string) error {
		if len(args) != 1 {
			return errOne
		}
		if err := t.connect(ctx); err != nil {
			return err
		}
		name := unitfile.CompleteName(args[0])
		u, err := t.api.Unit(ctx, name)
		if notFound(err) {
			return fmt.Errorf("Unit %s not found", name) //nolint:staticcheck // fleet's text
		}
		if err != nil {
			return fmt.Errorf("read the unit %s: %w", name, err)
		}
		content, err := contentOf(*u)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(t.Out, content.String())
		return err
	}
}

var errOne = errors.New("One unit file must be provided.") //nolint:staticcheck // fleet's text

func verify(*tool, *flag.FlagSet) action {
	return func(context.Context, []string) error {
		return usageError{errors.New("verify is deprecated: units are not signed, there is nothing to verify")}
	}
}
