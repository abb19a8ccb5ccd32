package systemctl

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/install"
)

// show prints the properties of units, or of PID 1.
func (t *tool) show() error {
	names, err := t.shown(t.args)
	if err != nil {
		return err
	}
	if len(t.args) > 0 && len(names) == 0 {
		return nil
	}
	r, err := t.collect(control.Request{Verb: control.Show, Units: names})
	if err != nil {
		return err
	}
	for i, u := range r.Units {
		if i > 0 {
			fmt.Fprintln(t.Out)
		}
		if u.Name != "" {
			t.addFileState(u)
		}
		t.printProperties(u)
	}
	return nil
}

// addFileState adds the properties that only the files tell.
func (t *tool) addFileState(u control.Unit) {
	wanted := func(p string) bool { return len(t.o.properties) == 0 || slices.Contains(t.o.properties, p) }
	if !wanted("UnitFileState") && !wanted("UnitFilePreset") || u.Load == "not-found" {
		return
	}
	i, err := t.installer()
	if err != nil {
		return
	}
	if s, err := i.State(u.Name); err == nil {
		u.Properties["UnitFileState"] = string(s)
		u.Properties["UnitFilePreset"] = presetWord(install.Preset(install.Presets(i.Loader.FS), u.Name))
	}
}

func (t *tool) printProperties(u control.Unit) {
	p, keys := u.Properties, t.o.properties
	if len(keys) == 0 {
		for k := range p {
			keys = append(keys, k)
		}
	}
	for _, k := range inOrder(u.Name, keys) {
		v, ok := p[k]
		switch {
		case !ok && t.o.properties != nil && !knownEmpty(k):
			continue
		case v == "" && t.o.properties == nil && !t.o.all:
			continue
		case t.o.value:
			fmt.Fprintln(t.Out, v)
			continue
		}
		for _, line := range strings.Split(v, "\n") {
			fmt.Fprintf(t.Out, "%s=%s\n", k, line)
		}
	}
}

// knownEmpty tells of properties that every unit has even if PID 1 leaves them
// out.
func knownEmpty(k string) bool {
	return slices.Contains([]string{"UnitFileState", "UnitFilePreset", "ControlGroup", "Job", "InvocationID", "SourcePath"}, k)
}

// isActive prints the units' states; one that is active is enough.
func (t *tool) isActive() error {
	return t.check(exitStatusDead, "active", "reloading")
}

// isFailed prints the units' states; one that has failed is enough.
func (t *tool) isFailed() error {
	if len(t.args) == 0 {
		r, err := t.collect(control.Request{Verb: control.IsSystemRunning})
		if err != nil {
			return err
		}
		t.say(t.Out, "%s", r.State)
		if r.State == "degraded" {
			return nil
		}
		return errExit(exitFailure)
	}
	return t.check(exitFailure, "failed")
}

func (t *tool) check(code int, good ...string) error {
	names, err := t.shown(t.args)
	if err != nil {
		return err
	}
	found := false
	if len(names) > 0 {
		r, err := t.collect(control.Request{Verb: control.Show, Units: names})
		if err != nil {
			return err
		}
		for _, u := range r.Units {
			t.say(t.Out, "%s", u.Active)
			found = found || slices.Contains(good, u.Active)
		}
	}
	if !found {
		return errExit(code)
	}
	return nil
}

// isSystemRunning prints the state of the machine; with --wait once it is up.
func (t *tool) isSystemRunning() error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := t.collect(control.Request{Verb: control.IsSystemRunning})
		if err != nil {
			t.say(t.Out, "offline")
			return errExit(exitFailure)
		}
		if t.o.wait && (r.State == "starting" || r.State == "initializing") {
			select {
			case <-tick.C:
				continue
			case <-t.ctx.Done():
				return t.ctx.Err()
			}
		}
		t.say(t.Out, "%s", r.State)
		if r.State != "running" {
			return errExit(exitFailure)
		}
		return nil
	}
}
