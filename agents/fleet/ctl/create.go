package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/client"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// createFlags are those of submit, load and start.
type createFlags struct {
	waitFlags
	replace, sign bool
	rolling       int
	healthy       time.Duration
}

func (c *createFlags) define(f *flag.FlagSet) {
	c.waitFlags.define(f)
	f.BoolVar(&c.replace, "replace", false, "replace units of the cluster by the files that are here")
	f.IntVar(&c.rolling, "rolling", 0, "with --replace: how many copies of a unit may be replaced at a time")
	f.DurationVar(&c.healthy, "wait-healthy", 0, "with --rolling: how long a new copy must be active before the next one, such as 60s")
	f.BoolVar(&c.sign, "sign", false, "deprecated: units are not signed")
}

func (c *createFlags) check() error {
	switch {
	case c.sign:
		return usageError{errors.New("--sign is deprecated and does nothing: leave it out")}
	case c.rolling < 0:
		return usageError{fmt.Errorf("invalid value %d for --rolling: give how many copies at a time, 1 or more", c.rolling)}
	case c.rolling > 0 && !c.replace:
		return usageError{errors.New("--rolling is for --replace: give both")}
	case c.healthy != 0 && c.rolling == 0:
		return usageError{errors.New("--wait-healthy is for --rolling: give both")}
	case c.healthy < 0 || c.healthy != c.healthy.Truncate(time.Second):
		return usageError{fmt.Errorf("invalid value %s for --wait-healthy: give whole seconds, such as 60s", c.healthy)}
	}
	return nil
}

func submit(t *tool, f *flag.FlagSet) action { return create(t, f, "submit", fleet.Inactive) }
func load(t *tool, f *flag.FlagSet) action   { return create(t, f, "load", fleet.Loaded) }
func start(t *tool, f *flag.FlagSet) action  { return create(t, f, "start", fleet.Launched) }

func create(t *tool, f *flag.FlagSet, verb string, want fleet.JobState) action {
	var c createFlags
	c.define(f)
	return func(ctx context.Context, args []string) error {
		if err := c.check(); err != nil {
			return err
		}
		if len(args) == 0 {
			t.warn("No units given")
			return nil
		}
		if err := t.connect(ctx); err != nil {
			return err
		}
		changes, refused, err := t.prepare(ctx, args, &c, want)
		if err != nil {
			return fmt.Errorf("Error creating units: %w", err) //nolint:staticcheck // fleet's text
		}
		if err := t.write(ctx, changes, want); err != nil {
			return fmt.Errorf("Error creating units: %w", err) //nolint:staticcheck // fleet's text
		}
		if want == fleet.Launched {
			t.failedBefore(ctx, changes)
		}
		err = t.settle(ctx, changes, &c, verb, want)
		if err == nil && refused {
			return exitCode(1)
		}
		return err
	}
}

// failedBefore tells of units that were launched before and have failed: to
// launch what is launched changes nothing, which people find hard to see.
func (t *tool) failedBefore(ctx context.Context, changes []change) {
	var idle []string
	for _, c := range changes {
		if c.idle {
			idle = append(idle, c.unit.Name)
		}
	}
	if len(idle) == 0 {
		return
	}
	states, err := t.states(ctx, idle)
	if err != nil {
		return // it is a hint only
	}
	for _, name := range idle {
		for _, s := range states[name] {
			if s.SystemdActiveState == "failed" {
				t.warn("Unit %s was launched before and has failed on %s; fleetctl restart %s starts it again", s.Name, short(s.MachineID, false), name)
			}
		}
	}
}

// change is what is done with one unit.
type change struct {
	unit     schema.Unit // to be written; without options only its state
	global   bool
	create   bool   // it was not there
	replaced string // its hash before, if its content is replaced
	hash     string // of its content
	idle     bool   // nothing is to be done
}

// prepare decides what is done with each unit, before anything is. refused
// tells that a unit must not be replaced in its state.
func (t *tool) prepare(ctx context.Context, args []string, c *createFlags, want fleet.JobState) (changes []change, refused bool, err error) {
	var all []string
	for _, arg := range args {
		if name := unitfile.CompleteName(arg); !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	have, err := t.look(ctx, all)
	if err != nil {
		return nil, false, err
	}
	done := map[string]bool{}
	for _, arg := range args {
		name := unitfile.CompleteName(arg)
		if done[name] {
			continue
		}
		done[name] = true
		path := filepath.Join(filepath.Dir(arg), name)
		var one change
		if u, ok := have[name]; ok {
			var no bool
			one, no, err = t.prepareKnown(ctx, u, path, c, want)
			refused = refused || no
		} else {
			one, err = t.prepareNew(ctx, name, path)
		}
		if err != nil {
			return nil, false, err
		}
		one.unit.Name, one.unit.DesiredState = name, string(want)
		if want != fleet.Inactive && fleet.IsTemplate(name) && !replicated(one.unit, have[name]) {
			return nil, false, fmt.Errorf("cannot activate template %q: name an instance of it, such as %s, or give it Replicas= in [X-Fleet]", name, instance(name))
		}
		changes = append(changes, one)
	}
	return changes, refused, nil
}

// prepareNew finds the content of a unit that is not there: its own file, its
// template in the cluster, its template's file.
func (t *tool) prepareNew(ctx context.Context, name, path string) (change, error) {
	if err := unitfile.ValidateName(name); err != nil {
		return change{}, fmt.Errorf("%q: %w", name, err)
	}
	file, err := readUnit(path)
	template := fleet.TemplateOf(name)
	if errors.Is(err, fs.ErrNotExist) && template != "" {
		var u *schema.Unit
		if u, err = t.api.Unit(ctx, template); err == nil {
			file, err = contentOf(*u)
		} else if client.IsNotFound(err) {
			file, err = readUnit(filepath.Join(filepath.Dir(path), template))
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("unable to find Unit(%s) in Registry or on filesystem", name)
	}
	if err != nil {
		return change{}, err
	}
	return t.changeTo(name, file, change{create: true})
}

// prepareKnown decides about a unit that is there. no tells that it must not be
// replaced now.
func (t *tool) prepareKnown(ctx context.Context, u schema.Unit, path string, c *createFlags, want fleet.JobState) (one change, no bool, err error) {
	known := change{hash: hashOf(u), global: isGlobal(u), idle: u.DesiredState == string(want)}
	if u.DesiredState == string(fleet.Launched) && want == fleet.Loaded {
		known.idle = true // loading stops nothing
		if !c.replace {
			t.warn("Unit %s is launched already; fleetctl stop %s stops it", u.Name, u.Name)
		}
	}
	local, where, err := localUnit(u.Name, path)
	switch {
	case c.replace && errors.Is(err, fs.ErrNotExist):
		return change{}, false, fmt.Errorf("unable to find a file to replace Unit(%s) with; %s is not there", u.Name, path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return change{}, false, err
	case err != nil || local.Hash() == known.hash:
		return known, false, nil
	case !c.replace:
		t.warn("WARNING: Unit %s in registry differs from local %s. Add --replace to override.", u.Name, where)
		return known, false, nil
	case rank(u.DesiredState) > rank(string(want)):
		t.warn("Warning: can not replace Unit(%s) in state '%s', use the appropriate command", u.Name, u.DesiredState)
		return change{idle: true, hash: known.hash}, true, nil
	}
	one = change{replaced: known.hash}
	if c.rolling > 0 {
		one.unit.Rollout = &schema.Rollout{Parallel: c.rolling, WaitHealthySeconds: int(c.healthy / time.Second)}
	}
	one, err = t.changeTo(u.Name, local, one)
	return one, false, err
}

// changeTo completes a change with a content, which is checked.
func (t *tool) changeTo(name string, file unitfile.File, c change) (change, error) {
	r, warnings, err := file.Requirements(name)
	for _, w := range warnings {
		t.warn("Unit %s: %s", name, w)
	}
	if err == nil {
		err = file.Validate(name)
	}
	if err != nil {
		return change{}, fmt.Errorf("Unit(%s): %w", name, err)
	}
	for _, o := range file.Options() {
		c.unit.Options = append(c.unit.Options, schema.Option(o))
	}
	c.hash, c.global = file.Hash(), r.Global
	return c, nil
}

// replicated tells whether a template's content, the new one or else the one
// that is there, makes instances of itself.
func replicated(next, have schema.Unit) bool {
	if len(next.Options) == 0 {
		next = have
	}
	r, _, err := file(next).Requirements(next.Name)
	return err == nil && r.Replicas > 0
}

// instance is the first instance of a template.
func instance(template string) string {
	prefix, _, suffix, _ := fleet.SplitName(template)
	return prefix + "@1" + suffix
}

// rank orders the states as a unit passes them.
func rank(state string) int {
	return slices.Index([]string{string(fleet.Inactive), string(fleet.Loaded), string(fleet.Launched)}, state)
}

// localUnit reads a unit's file or, if there is none, its template's beside
// it; where says which in words.
func localUnit(name, path string) (file unitfile.File, where string, err error) {
	file, err = readUnit(path)
	if template := fleet.TemplateOf(name); template != "" && errors.Is(err, fs.ErrNotExist) {
		path = filepath.Join(filepath.Dir(path), template)
		file, err = readUnit(path)
		return file, "template unit file " + path, err
	}
	return file, "unit file " + path, err
}

// readUnit reads a unit file, of anything too large only as much as shows it.
func readUnit(path string) (unitfile.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return unitfile.File{}, fmt.Errorf("read a unit: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, unitfile.MaxSize+1))
	if err != nil {
		return unitfile.File{}, fmt.Errorf("read a unit: %w", err)
	}
	file, err := unitfile.Parse(data)
	if err != nil {
		return file, fmt.Errorf("read the unit %q: %w", path, err)
	}
	return file, nil
}

func contentOf(u schema.Unit) (unitfile.File, error) {
	options := make([]unitfile.Option, len(u.Options))
	for i, o := range u.Options {
		options[i] = unitfile.Option(o)
	}
	file, err := unitfile.FromOptions(options)
	if err != nil {
		return file, fmt.Errorf("read the unit %s of the cluster: %w", u.Name, err)
	}
	return file, nil
}
