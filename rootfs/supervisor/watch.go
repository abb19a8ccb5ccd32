package supervisor

import (
	"context"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/transaction"
)

// How many may watch at once: of everybody but root, and in all. The rest of
// the control socket's connections stay free for requests.
const (
	maxOtherWatchers = 8
	maxWatchers      = 16
)

// watchChunk is how many units go into one response.
const watchChunk = 256

// watcher is one peer that hears of every change of state. The loop leaves the
// newest state of each unit in pending and never waits: a reader that lags
// misses steps in between, not the last one, and holds at most one entry for
// each unit. The server hangs up on one that takes nothing for long.
type watcher struct {
	patterns []string
	other    bool // not root

	wake chan struct{} // holds one token when pending is not empty

	mu      sync.Mutex
	pending map[string]control.Unit
}

// handleWatch answers watch: the units as they are, then every change.
func (s *Supervisor) handleWatch(ctx context.Context, peer control.Peer, patterns []string, send func(control.Response) error) error {
	w := &watcher{patterns: patterns, other: peer.UID != 0, wake: make(chan struct{}, 1), pending: map[string]control.Unit{}}
	var err error
	if cerr := s.Call(ctx, func() { err = s.addWatcher(w) }); cerr != nil {
		err = cerr
	}
	// Even when Call gave up, the loop may have added it.
	defer s.Post(func() { s.dropWatcher(w) })
	if err != nil {
		return err
	}
	for synced := false; ; synced = true {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
			return control.Errorf(control.ShuttingDown, "The machine is going down.")
		}
		for units := range slices.Chunk(w.take(), watchChunk) {
			if err := send(control.Response{Units: units}); err != nil {
				return err
			}
		}
		if synced {
			continue
		}
		if err := send(control.Response{Synced: true}); err != nil {
			return err
		}
	}
}

// addWatcher lets w know all units and from now on every change. It runs in
// the loop.
func (s *Supervisor) addWatcher(w *watcher) error {
	others := 0
	for o := range s.watchers {
		if o.other {
			others++
		}
	}
	if len(s.watchers) >= maxWatchers || w.other && others >= maxOtherWatchers {
		return control.Errorf(control.Busy, "Too many programs watch units already; end one of them.")
	}
	if len(s.watchers) == 0 {
		s.touched, s.told = map[string]bool{}, map[string]control.Unit{}
		for name, l := range s.units {
			s.told[name] = s.seen(l)
		}
	}
	s.watchers[w] = true
	for _, u := range s.told {
		w.put(u)
	}
	w.signal()
	return nil
}

// dropWatcher ends what addWatcher began.
func (s *Supervisor) dropWatcher(w *watcher) {
	delete(s.watchers, w)
	if len(s.watchers) == 0 {
		s.touched, s.told = nil, nil
	}
}

// touch notes that watchers may have to hear of a unit.
func (s *Supervisor) touch(name string) {
	if s.touched != nil {
		s.touched[name] = true
	}
}

// tell gives watchers what has changed since it was called last.
func (s *Supervisor) tell() {
	if len(s.touched) == 0 {
		return
	}
	for name := range s.touched {
		before, known := s.told[name]
		u := control.Unit{Name: name, Active: string(transaction.Inactive), Sub: "dead"}
		if l := s.units[name]; l != nil {
			u = s.seen(l)
			s.told[name] = u
		} else {
			delete(s.told, name)
		}
		if known && sameState(before, u) || !known && u.Load == "" {
			continue
		}
		for w := range s.watchers {
			w.put(u)
			w.signal()
		}
	}
	clear(s.touched)
}

// seen is what watchers are told of a unit.
func (s *Supervisor) seen(l *live) control.Unit {
	a, sub := l.d.state()
	u := control.Unit{Name: l.u.Name, Load: string(l.u.LoadState), Active: string(a), Sub: sub}
	switch a {
	case transaction.Active, transaction.Reloading:
		u.Since = l.activeEnter
	case transaction.Activating:
		u.Since = l.inactiveExit
	case transaction.Deactivating:
		u.Since = l.activeExit
	default:
		u.Since = l.inactiveEnter
	}
	return u
}

func sameState(a, b control.Unit) bool {
	return a.Load == b.Load && a.Active == b.Active && a.Sub == b.Sub && a.Since.Equal(b.Since)
}

// put leaves a unit's state for the reader, in place of an older one.
func (w *watcher) put(u control.Unit) {
	if !w.wants(u.Name) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[u.Name] = u
}

// signal wakes the reader.
func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) wants(name string) bool {
	if len(w.patterns) == 0 {
		return true
	}
	return slices.ContainsFunc(w.patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return err == nil && ok
	})
}

// take empties pending, sorted by name.
func (w *watcher) take() []control.Unit {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]control.Unit, 0, len(w.pending))
	for _, u := range w.pending {
		out = append(out, u)
	}
	clear(w.pending)
	slices.SortFunc(out, func(a, b control.Unit) int { return strings.Compare(a.Name, b.Name) })
	return out
}
