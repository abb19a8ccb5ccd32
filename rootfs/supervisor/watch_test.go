package supervisor

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/control"
)

// watch begins to watch and returns what is told, one response at a time: the
// reader takes the next one only when the test does.
func watch(t *testing.T, s *Supervisor, patterns ...string) <-chan control.Response {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, done := make(chan control.Response), make(chan error, 1)
	go func() {
		done <- s.Handle(ctx, control.Peer{}, control.Request{Verb: control.Watch, Units: patterns}, func(r control.Response) error {
			select {
			case out <- r:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("watch ended with %v", err)
		}
	})
	return out
}

func next(t *testing.T, c <-chan control.Response) control.Response {
	t.Helper()
	select {
	case r := <-c:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was told")
		panic("unreachable")
	}
}

// first reads the states until all have been told once.
func first(t *testing.T, c <-chan control.Response) map[string]control.Unit {
	t.Helper()
	got := map[string]control.Unit{}
	for {
		r := next(t, c)
		for _, u := range r.Units {
			got[u.Name] = u
		}
		if r.Synced {
			return got
		}
	}
}

// await reads changes until the unit is in the state, and returns how many
// there were of it.
func await(t *testing.T, c <-chan control.Response, name, load, active string) (changes int) {
	t.Helper()
	for {
		for _, u := range next(t, c).Units {
			if u.Name != name {
				continue
			}
			changes++
			if u.Load == load && u.Active == active {
				return changes
			}
		}
	}
}

const bare = "[Unit]\nDefaultDependencies=no\n"

func TestWatch(t *testing.T) {
	s, _ := start(t, map[string]string{"a.target": bare, "b.target": bare, "keep.target": bare})
	ask(t, s, control.Start, "keep.target")
	c := watch(t, s, "a.target", "k*.target")
	got := first(t, c)
	if len(got) != 1 || got["keep.target"].Active != "active" || got["keep.target"].Since.IsZero() {
		t.Errorf("at first: %+v", got)
	}
	ask(t, s, control.Start, "b.target") // nobody asked about it
	ask(t, s, control.Start, "a.target")
	await(t, c, "a.target", "loaded", "active")
	ask(t, s, control.Stop, "a.target")
	await(t, c, "a.target", "", "inactive") // forgotten: nobody needs it
	ask(t, s, control.Stop, "keep.target")
	await(t, c, "keep.target", "", "inactive")
}

// A reader that does not read holds up nobody, and then gets the last state
// and not all that was in between.
func TestWatchOfASlowReader(t *testing.T) {
	s, _ := start(t, map[string]string{"a.target": bare, "end.target": bare})
	c := watch(t, s)
	first(t, c)
	const times = 500
	for range times {
		ask(t, s, control.Start, "a.target")
		ask(t, s, control.Stop, "a.target")
	}
	ask(t, s, control.Start, "a.target")
	if n := await(t, c, "a.target", "loaded", "active"); n > 10 {
		t.Errorf("%d changes were kept for a reader that took none", n)
	}
}

func TestWatchIsBounded(t *testing.T) {
	s, _ := start(t, nil)
	for range maxOtherWatchers {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		synced := make(chan bool, 1)
		go s.Handle(ctx, control.Peer{UID: 500}, control.Request{Verb: control.Watch}, func(r control.Response) error {
			if r.Synced {
				synced <- true
			}
			return nil
		})
		<-synced
	}
	none := func(control.Response) error { return fmt.Errorf("told") }
	err := s.Handle(context.Background(), control.Peer{UID: 500}, control.Request{Verb: control.Watch}, none)
	if e := (*control.Error)(nil); !errors.As(err, &e) || e.Code != control.Busy {
		t.Errorf("one too many: %v", err)
	}
	first(t, watch(t, s)) // root may still
}

// After the last reader nothing is kept.
func TestWatchEnds(t *testing.T) {
	s, _ := start(t, map[string]string{"a.target": bare})
	gone := fmt.Errorf("gone")
	if err := s.Handle(context.Background(), control.Peer{}, control.Request{Verb: control.Watch}, func(control.Response) error { return gone }); !errors.Is(err, gone) {
		t.Fatal(err)
	}
	ask(t, s, control.Start, "a.target")
	if err := s.Call(context.Background(), func() {
		if len(s.watchers) != 0 || s.touched != nil || s.told != nil {
			t.Errorf("left: %d, %v, %v", len(s.watchers), s.touched, s.told)
		}
	}); err != nil {
		t.Error(err)
	}
}
