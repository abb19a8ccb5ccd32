package ctl

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
)

// atOnce is how many requests fleetctl has under way.
const atOnce = 4

// many is from how many units on the whole list is cheaper than one by one.
const many = 16

// look reads units by name; those that are not there are missing.
func (t *tool) look(ctx context.Context, names []string) (map[string]schema.Unit, error) {
	found := map[string]schema.Unit{}
	if len(names) > many {
		all, err := t.api.Units(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the cluster's units: %w", err)
		}
		for _, u := range all {
			found[u.Name] = u
		}
		return found, nil
	}
	var mu sync.Mutex
	err := each(ctx, names, func(ctx context.Context, name string) error {
		u, err := t.api.Unit(ctx, name)
		switch {
		case notFound(err):
			return nil
		case err != nil:
			return fmt.Errorf("read the unit %s: %w", name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		found[name] = *u
		return nil
	}, nil)
	return found, err
}

// each does something for each item, some at once, and calls done in order for
// those that were done; the first error ends it.
func each[T any](ctx context.Context, items []T, do func(context.Context, T) error, done func(T)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	var mu sync.Mutex
	finished, next := make([]bool, len(items)), 0
	for i, item := range items {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := do(ctx, item); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			finished[i] = true
			for next < len(items) && finished[next] {
				if done != nil {
					done(items[next])
				}
				next++
			}
			return nil
		})
	}
	return group.Wait()
}

// write carries changes out. Contents go first: a unit that another one needs
// is known before that is wanted anywhere.
func (t *tool) write(ctx context.Context, changes []change, want fleet.JobState) error {
	var contents, states []change
	for _, c := range changes {
		switch {
		case c.create:
			first := c
			first.unit.DesiredState = string(fleet.Inactive)
			contents = append(contents, first)
			if want != fleet.Inactive {
				c.unit.Options = nil
				states = append(states, c)
			}
		case c.replaced != "":
			contents = append(contents, c)
		case !c.idle:
			states = append(states, c)
		}
	}
	put := func(ctx context.Context, c change) error {
		if _, err := t.api.PutUnit(ctx, c.unit); err != nil {
			return fmt.Errorf("Unit(%s): %w", c.unit.Name, err)
		}
		return nil
	}
	if err := each(ctx, contents, put, func(c change) {
		if c.create {
			fmt.Fprintf(t.Out, "Unit %s %s\n", c.unit.Name, fleet.Inactive)
		}
	}); err != nil {
		return err
	}
	return each(ctx, states, put, nil)
}

// settle waits for what was changed, or says that it was asked for.
func (t *tool) settle(ctx context.Context, changes []change, c *createFlags, verb string, want fleet.JobState) error {
	var wait, rolling []change
	for _, one := range changes {
		switch {
		case one.idle || want == fleet.Inactive && one.create:
		case one.global:
			fmt.Fprintf(t.Out, "Triggered global unit %s %s\n", one.unit.Name, verb)
		case c.noBlock:
			fmt.Fprintf(t.Out, "Triggered unit %s %s\n", one.unit.Name, verb)
		case one.replaced != "" && c.rolling > 0:
			rolling = append(rolling, one)
		default:
			wait = append(wait, one)
		}
	}
	w := waiting{t: t, want: want, attempts: c.attempts, contents: map[string]string{}}
	for _, one := range wait {
		w.names = append(w.names, one.unit.Name)
		if one.replaced != "" {
			w.contents[one.unit.Name] = one.hash
		}
	}
	if err := w.run(ctx); err != nil {
		return err
	}
	if len(rolling) > 0 {
		return t.roll(ctx, rolling, c)
	}
	return nil
}
