package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/fleet/agent/units"
)

// fakeInit is a PID 1 in this process: a loaded unit starts and stops at once,
// unless it is stubborn, and then it must be killed.
type fakeInit struct {
	mu       sync.Mutex
	files    map[string]string
	known    map[string]bool // what it has read
	states   map[string]units.State
	stubborn map[string]bool
	failing  map[string]bool // cannot be started
	log      []string
	watchers map[chan []units.State]bool
}

func newFakeInit() *fakeInit {
	return &fakeInit{files: map[string]string{}, known: map[string]bool{}, states: map[string]units.State{}, stubborn: map[string]bool{},
		failing: map[string]bool{}, watchers: map[chan []units.State]bool{}}
}

func (f *fakeInit) Files() (map[string]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.files), nil
}

func (f *fakeInit) Load(contents map[string]string) map[string]error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for unit, text := range contents {
		f.log = append(f.log, "load "+unit)
		f.files[unit] = text
	}
	return nil
}

func (f *fakeInit) Unload(_ context.Context, list []string) map[string]error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, unit := range list {
		if !f.states[unit].Down() {
			return map[string]error{unit: errors.New("it runs")}
		}
		f.log = append(f.log, "unload "+unit)
		delete(f.files, unit)
	}
	return nil
}

func (f *fakeInit) Reload(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, "reload")
	clear(f.known)
	for unit := range f.files {
		f.known[unit] = true
	}
	return nil
}

func (f *fakeInit) Start(_ context.Context, list []string) map[string]error {
	failed := map[string]error{}
	for _, unit := range list {
		f.mu.Lock()
		f.log = append(f.log, "start "+unit)
		bad := !f.known[unit] || f.failing[unit]
		f.mu.Unlock()
		if bad {
			failed[unit] = fmt.Errorf("Unit %s cannot be started", unit)
			continue
		}
		f.set(unit, "active", "running")
	}
	return failed
}

func (f *fakeInit) Stop(_ context.Context, list []string) map[string]error {
	for _, unit := range list {
		f.mu.Lock()
		f.log = append(f.log, "stop "+unit)
		stubborn, down := f.stubborn[unit], f.states[unit].Down()
		f.mu.Unlock()
		switch {
		case down:
		case stubborn:
			f.set(unit, "deactivating", "stop-sigterm")
		default:
			f.set(unit, "inactive", "dead")
		}
	}
	return nil
}

func (f *fakeInit) Kill(_ context.Context, list []string) error {
	for _, unit := range list {
		f.mu.Lock()
		f.log = append(f.log, "kill "+unit)
		f.mu.Unlock()
		f.set(unit, "failed", "failed")
	}
	return nil
}

// set puts a unit into a state and tells everybody.
func (f *fakeInit) set(unit, active, sub string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := units.State{Unit: unit, Load: "loaded", Active: active, Sub: sub, Since: time.Now()}
	f.states[unit] = s
	for w := range f.watchers {
		w <- []units.State{s}
	}
}

func (f *fakeInit) active(unit string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.states[unit].Active
}

func (f *fakeInit) did() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.log...)
}

func (f *fakeInit) Show(_ context.Context, list []string) ([]units.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []units.State
	for _, unit := range list {
		s, ok := f.states[unit]
		if !ok {
			s = units.State{Unit: unit, Load: "not-found", Active: "inactive", Sub: "dead"}
			if f.known[unit] {
				s.Load = "loaded"
			}
		}
		out = append(out, s)
	}
	return out, nil
}

func (f *fakeInit) Watch(ctx context.Context, each func([]units.State, bool)) error {
	c := make(chan []units.State, 1000)
	f.mu.Lock()
	var all []units.State
	for _, s := range f.states {
		all = append(all, s)
	}
	f.watchers[c] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.watchers, c)
		f.mu.Unlock()
	}()
	each(all, true)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-c:
			each(s, true)
		}
	}
}
