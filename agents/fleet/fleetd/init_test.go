package fleetd

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/control"
)

// standIn is a PID 1 as far as the agent sees it: units start and stop at once,
// and it outlives every fleetd.
type standIn struct {
	root string

	mu       sync.Mutex
	units    map[string]control.Unit
	log      []string // of what was asked
	watchers map[chan control.Unit]bool
}

func startInit(t *testing.T, root string) *standIn {
	s := &standIn{root: root, units: map[string]control.Unit{}, watchers: map[chan control.Unit]bool{}}
	l, err := control.Listen(filepath.Join(root, "control"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := control.Server{Handler: s, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// Handle implements control.Handler.
func (s *standIn) Handle(ctx context.Context, _ control.Peer, r control.Request, send func(control.Response) error) error {
	switch r.Verb {
	case control.Watch:
		return s.watch(ctx, send)
	case control.Show:
		for _, name := range r.Units {
			if err := send(control.Response{Units: []control.Unit{s.show(name)}}); err != nil {
				return err
			}
		}
	case control.Start, control.Stop, control.Kill:
		for _, name := range r.Units {
			s.change(string(r.Verb), name)
			if err := send(control.Response{Results: []control.Result{{Unit: name, Job: "queued"}}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// show is a unit, loaded if it has a file.
func (s *standIn) show(name string) control.Unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unit(name)
}

func (s *standIn) unit(name string) control.Unit {
	u, ok := s.units[name]
	if !ok {
		u = control.Unit{Name: name, Active: "inactive", Sub: "dead"}
	}
	u.Load = "not-found"
	if _, err := os.Lstat(filepath.Join(s.root, "run/systemd/system", name)); err == nil {
		u.Load = "loaded"
	}
	return u
}

func (s *standIn) change(verb, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, verb+" "+name)
	u := s.unit(name)
	u.Active, u.Sub, u.Since = "inactive", "dead", time.Now()
	if verb == string(control.Start) && u.Load == "loaded" {
		u.Active, u.Sub = "active", "running"
	}
	s.units[name] = u
	for w := range s.watchers {
		w <- u
	}
}

func (s *standIn) watch(ctx context.Context, send func(control.Response) error) error {
	changes := make(chan control.Unit, 1000)
	s.mu.Lock()
	s.watchers[changes] = true
	var all []control.Unit
	for name := range s.units {
		all = append(all, s.unit(name))
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, changes)
		s.mu.Unlock()
	}()
	if err := send(control.Response{Units: all, Synced: true}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-changes:
			if err := send(control.Response{Units: []control.Unit{u}}); err != nil {
				return err
			}
		}
	}
}

// asked is what was asked of it, since the last time; what was asked again
// before the answer was seen counts once.
func (s *standIn) asked() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := strings.Join(slices.Compact(s.log), ", ")
	s.log = nil
	return log
}
