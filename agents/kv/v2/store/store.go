// Package store keeps version 2's view of an etcd member's keyspace up to date
// and carries out the operations of version 2 on it. Reads and watches answer
// from this member's view, which is as new as the member's own store, also
// when there is no quorum. A write is one transaction of version 3; it is made
// again when the store has moved on meanwhile. That a write is refused is only
// said after the cluster has agreed that the view is new enough to say so.
//
// The view takes memory in proportion to the keyspace. It is made when somebody
// first uses version 2, or when the store has records of version 2: they may
// have to expire when this member leads, and then it must have seen when they
// were written, for its clock may be wrong.
package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/hub"
	"github.com/coracle-os/coracle/agents/kv/v2/plan"
	"github.com/coracle-os/coracle/agents/kv/v2/request"
	"github.com/coracle-os/coracle/agents/kv/v2/tree"
	"github.com/coracle-os/coracle/agents/kv/v2/wire"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// ErrCompacted is the result of asking for a revision that no longer is known.
var ErrCompacted = errors.New("revision compacted")

// Engine is the member that the store works on.
type Engine interface {
	// Txn makes a transaction and returns when this member has applied it.
	Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error)
	// Agree returns when this member has applied all that the cluster had
	// agreed on before.
	Agree(context.Context) error
	// Revision is the last revision that this member has applied.
	Revision() int64
	// Load calls f with each key as it was at a revision.
	Load(ctx context.Context, revision int64, f func(tree.Change)) error
	// Follow calls f with the changes of each revision after one, in order,
	// until ctx ends. It may return ErrCompacted.
	Follow(ctx context.Context, after int64, f func(revision int64, changes []tree.Change)) error
	// Leads says whether this member leads the cluster.
	Leads() bool
	// ClocksDiffer tells the owner that this member's clock is ahead of
	// another's by so much.
	ClocksDiffer(time.Duration)
	// Used says whether the keyspace has records of version 2.
	Used() bool
}

// Store is version 2's store. It is safe for concurrent use.
type Store struct {
	engine Engine
	now    func() time.Time
	hub    *hub.Hub
	stats  Stats

	ctx    context.Context
	cancel context.CancelFunc
	start  sync.Once
	begun  atomic.Bool
	tasks  sync.WaitGroup
	apart  bool // the owner knows that clocks differ; expire's

	mu      sync.RWMutex
	tree    *tree.Tree // nil until the view is there
	changed chan struct{}
	waiting map[string][]*waiter
}

// waiter waits for the event of a write that it is about to make.
type waiter struct {
	key    string
	events []*wire.Event
}

// New returns a store on an engine. Close ends it.
func New(e Engine, now func() time.Time) *Store {
	s := &Store{engine: e, now: now, hub: hub.New(0), changed: make(chan struct{}), waiting: map[string][]*waiter{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		s.expire()
	}()
	return s
}

// Close ends the store and all watches.
func (s *Store) Close() {
	s.cancel()
	s.tasks.Wait()
	s.hub.Restart(0)
}

// ready returns when the view is at least at a revision.
func (s *Store) ready(ctx context.Context, revision int64) error {
	s.start.Do(func() {
		s.begun.Store(true)
		s.tasks.Add(1)
		go func() {
			defer s.tasks.Done()
			s.follow()
		}()
	})
	for {
		s.mu.RLock()
		done, changed := s.tree != nil && s.tree.Index() >= revision, s.changed
		s.mu.RUnlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return errors.New("etcdserver: server stopped")
		}
	}
}

// Get reads what lies at a path, and returns the store's index.
func (s *Store) Get(ctx context.Context, r *request.Request) (*wire.Event, int64, error) {
	if r.Quorum {
		if err := s.engine.Agree(ctx); err != nil {
			return nil, 0, failed(err)
		}
	}
	if err := s.ready(ctx, s.engine.Revision()); err != nil {
		return nil, 0, failed(err)
	}
	s.mu.RLock()
	e, werr := s.tree.Get(r.Key, r.Recursive)
	index := s.tree.Index()
	s.mu.RUnlock()
	s.stats.count(wire.Get, werr == nil)
	if werr != nil {
		return nil, index, werr
	}
	return e, index, nil
}

// Watch begins a watch, and returns the store's index.
func (s *Store) Watch(ctx context.Context, r *request.Request) (*hub.Watcher, int64, error) {
	if err := s.ready(ctx, s.engine.Revision()); err != nil {
		return nil, 0, failed(err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	index := s.tree.Index()
	w, err := s.hub.Watch(r.Key, r.Recursive, r.Stream, r.WaitIndex, index)
	if err != nil {
		return nil, index, err
	}
	return w, index, nil
}

// orderedTries is how often an in-order key is tried in strict order.
const orderedTries = 8

// Write carries out an operation that changes something. The error is always a
// *wire.Error.
func (s *Store) Write(ctx context.Context, r *request.Request) (*wire.Event, error) {
	agreed := false
	revision := s.engine.Revision()
	for try := 0; ; try++ {
		if err := s.ready(ctx, revision); err != nil {
			return nil, failed(err)
		}
		s.mu.RLock()
		txn, werr := plan.Write(s.tree, r, try < orderedTries)
		s.mu.RUnlock()
		if werr != nil {
			if agreed {
				s.stats.refused(r.Op, werr)
				return nil, werr
			}
			if err := s.engine.Agree(ctx); err != nil {
				return nil, failed(err)
			}
			agreed, revision = true, s.engine.Revision()
			continue
		}
		e, seen, err := s.commit(ctx, txn)
		if err != nil || e != nil {
			return e, err
		}
		agreed, revision = true, seen
	}
}

// commit makes a transaction and returns its event; if the store had moved on,
// none, and the revision to look at.
func (s *Store) commit(ctx context.Context, txn *plan.Txn) (*wire.Event, int64, error) {
	w := s.expect(txn.Key)
	defer s.forget(w)
	resp, err := s.engine.Txn(ctx, txn.Request)
	if err != nil {
		return nil, 0, failed(err)
	}
	revision := resp.Header.Revision
	if !resp.Succeeded {
		return nil, revision, nil
	}
	if err := s.ready(ctx, revision); err != nil {
		return nil, 0, failed(err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range w.events {
		if e.Index() == revision {
			return e, revision, nil
		}
	}
	return nil, 0, failed(errors.New("etcdserver: the write is done, but its result was lost when this member was restored from a snapshot"))
}

func (s *Store) expect(key string) *waiter {
	w := &waiter{key: key}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[key] = append(s.waiting[key], w)
	return w
}

func (s *Store) forget(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.waiting[w.key]
	for i := range list {
		if list[i] == w {
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(s.waiting, w.key)
		return
	}
	s.waiting[w.key] = list
}

// failed is the answer when the cluster did not do what it should.
func failed(err error) error {
	var werr *wire.Error
	switch {
	case errors.As(err, &werr):
		return werr
	case errors.Is(err, context.DeadlineExceeded):
		return wire.NewError(wire.RaftInternal, "etcdserver: request timed out", 0)
	case err.Error() == tooLarge:
		return wire.NewError(wire.InvalidForm, tooLarge, 0)
	}
	return wire.NewError(wire.RaftInternal, err.Error(), 0)
}

// tooLarge is etcd's error about values beyond --max-request-bytes. Version 2
// had no such limit, and no code for it; a code that makes clients try again
// would be wrong.
const tooLarge = "etcdserver: request is too large"
