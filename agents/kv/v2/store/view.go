package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/hub"
	"github.com/coracle-os/coracle/agents/kv/v2/plan"
	"github.com/coracle-os/coracle/agents/kv/v2/tree"
)

// follow keeps the view up to date until the store is closed.
func (s *Store) follow() {
	for s.ctx.Err() == nil {
		base := max(1, s.engine.Revision()-hub.Capacity)
		t, err := s.load(base)
		if errors.Is(err, ErrCompacted) {
			base = s.engine.Revision()
			t, err = s.load(base)
		}
		if err == nil {
			err = s.replay(t, base)
		}
		if err != nil && !errors.Is(err, ErrCompacted) {
			s.pause()
		}
	}
}

// retry is how long the view waits before it begins anew after an error.
const retry = 100 * time.Millisecond

func (s *Store) pause() {
	select {
	case <-time.After(retry):
	case <-s.ctx.Done():
	}
}

func (s *Store) load(base int64) (*tree.Tree, error) {
	t := tree.New(base, s.now)
	return t, s.engine.Load(s.ctx, base, t.Load)
}

// replay brings a tree up to date, which makes it the view, and follows.
func (s *Store) replay(t *tree.Tree, base int64) error {
	cleared := base
	if base == 1 { // nothing was ever written
		cleared = 0
	}
	s.hub.Restart(cleared)
	target := s.engine.Revision()
	live := false
	publish := func() {
		if !live && t.Index() >= target {
			live = true
			t.Live()
			s.tree = t
		}
		if live {
			close(s.changed)
			s.changed = make(chan struct{})
		}
	}
	s.mu.Lock()
	publish()
	s.mu.Unlock()
	return s.engine.Follow(s.ctx, base, func(revision int64, changes []tree.Change) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range t.Apply(revision, changes) {
			for _, w := range s.waiting[e.Node.Key] {
				w.events = append(w.events, e)
			}
			if live {
				s.stats.count(e.Action, true)
			}
			s.hub.Add(e)
		}
		publish()
	})
}

const (
	// tick is how often the leader looks for what has expired.
	tick = 500 * time.Millisecond
	// together is how many expiries are proposed at a time when many are due.
	together = 64
	// batch is how many expiries are looked at in a tick.
	batch = 10000
	// collect is every how many ticks records are removed that nobody needs.
	// It is not at once, since each time takes an index.
	collect = 8
	// order is up to how many expiries happen strictly in the order of time.
	order = 16
)

// expire removes what has expired, and records that lie beside nothing, while
// this member leads.
func (s *Store) expire() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		if !s.begun.Load() && !s.engine.Used() {
			continue
		}
		ctx, cancel := context.WithTimeout(s.ctx, 10*tick)
		ready := s.ready(ctx, s.engine.Revision()) == nil
		if ready {
			s.checkClock()
		}
		if ready && s.engine.Leads() {
			s.expireDue(ctx)
			if n%collect == 0 {
				s.collectStale(ctx)
			}
		}
		cancel()
	}
}

// apart is how far two members' clocks differ before it is told.
const apart = time.Minute

// checkClock tells, once, that clocks differ.
func (s *Store) checkClock() {
	s.mu.RLock()
	skew := s.tree.Skew()
	s.mu.RUnlock()
	if differ := skew.Abs() > apart; differ != s.apart {
		if s.apart = differ; differ {
			s.engine.ClocksDiffer(skew)
		}
	}
}

func (s *Store) expireDue(ctx context.Context) {
	s.mu.RLock()
	var txns []*plan.Txn
	for _, p := range s.tree.Expired(s.now(), batch) {
		txns = append(txns, plan.Expire(s.tree, p))
	}
	s.mu.RUnlock()
	width := together
	if len(txns) <= order {
		width = 1
	}
	var wg sync.WaitGroup
	next := make(chan *plan.Txn)
	for range min(width, len(txns)) {
		wg.Go(func() {
			for txn := range next {
				// What fails now is due at the next tick too.
				_, _ = s.engine.Txn(ctx, txn.Request)
			}
		})
	}
	for _, txn := range txns {
		next <- txn
	}
	close(next)
	wg.Wait()
}

func (s *Store) collectStale(ctx context.Context) {
	s.mu.RLock()
	txn := plan.Collect(s.tree)
	s.mu.RUnlock()
	if txn != nil {
		// What fails now is there at the next time too.
		_, _ = s.engine.Txn(ctx, txn.Request)
	}
}
