// Package engine lets the v2 store work on an etcd member in the same process,
// without a connection: reads and the order of changes come from the member's
// own multi-version store, transactions go through its Raft log. It acts as
// root; who may do what is decided before.
package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/layout"
	"github.com/coracle-os/coracle/agents/kv/v2/store"
	"github.com/coracle-os/coracle/agents/kv/v2/tree"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"google.golang.org/grpc/metadata"
)

// Engine is a member; it implements store.Engine.
type Engine struct {
	server *etcdserver.EtcdServer

	mu       sync.Mutex
	token    metadata.MD // root's, while users are enabled
	revision uint64      // of the users for which it was made
	made     time.Time
}

// New returns the engine of a member that has started.
func New(s *etcdserver.EtcdServer) *Engine { return &Engine{server: s} }

// Txn implements store.Engine.
func (e *Engine) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	var resp *pb.TxnResponse
	err := e.AsRoot(ctx, func(ctx context.Context) (err error) {
		resp, err = e.server.Txn(ctx, r)
		return err
	})
	return resp, err
}

const (
	// rootTries bounds how often something is done again because users changed
	// while it was on its way.
	rootTries = 10
	// tokenLife is well below the five minutes after which etcd forgets one.
	tokenLife = time.Minute
)

// AsRoot calls f with a context that may do everything, also while users are
// enabled; again if users changed meanwhile, so f must make its request anew.
func (e *Engine) AsRoot(ctx context.Context, f func(context.Context) error) error {
	for try := 1; ; try++ {
		err := f(e.root(ctx))
		if try == rootTries || !errors.Is(err, auth.ErrAuthOldRevision) && !errors.Is(err, auth.ErrInvalidAuthToken) {
			return err
		}
		e.mu.Lock()
		e.token = nil
		e.mu.Unlock()
	}
}

// root lets ctx carry a token of root. One token serves many requests: the
// member keeps each in memory until it expires.
func (e *Engine) root(ctx context.Context) context.Context {
	users := e.server.AuthStore()
	if !users.IsAuthEnabled() {
		return ctx
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if revision := users.Revision(); e.token == nil || e.revision != revision || time.Since(e.made) > tokenLife {
		e.token, _ = metadata.FromIncomingContext(users.WithRoot(context.Background()))
		e.revision, e.made = revision, time.Now()
	}
	return metadata.NewIncomingContext(ctx, e.token)
}

// Agree implements store.Engine.
func (e *Engine) Agree(ctx context.Context) error { return e.server.LinearizableReadNotify(ctx) }

// Revision implements store.Engine.
func (e *Engine) Revision() int64 { return e.server.KV().Rev() }

// Leads implements store.Engine.
func (e *Engine) Leads() bool { return e.server.Leader() == e.server.MemberID() }

// everything is the range of all keys.
var everything = []byte{}

// Used implements store.Engine.
func (e *Engine) Used() bool {
	r, err := e.server.KV().Range(context.Background(), []byte(layout.Prefix), []byte(layout.PrefixEnd), mvcc.RangeOptions{Limit: 1})
	return err == nil && len(r.KVs) > 0
}

// Load implements store.Engine.
func (e *Engine) Load(ctx context.Context, revision int64, f func(tree.Change)) error {
	r, err := e.server.KV().Range(ctx, []byte{0}, everything, mvcc.RangeOptions{Rev: revision})
	if errors.Is(err, mvcc.ErrCompacted) {
		return store.ErrCompacted
	}
	if err != nil {
		return err
	}
	for _, kv := range r.KVs {
		f(change(kv, false))
	}
	return nil
}

// Follow implements store.Engine.
func (e *Engine) Follow(ctx context.Context, after int64, f func(int64, []tree.Change)) error {
	stream := e.server.KV().NewWatchStream()
	defer stream.Close()
	if _, err := stream.Watch(ctx, 0, []byte{0}, everything, after+1); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case resp := <-stream.Chan():
			if resp.CompactRevision != 0 {
				return store.ErrCompacted
			}
			revisions(resp.Events, f)
		}
	}
}

// revisions calls f with the events of each revision.
func revisions(events []*mvccpb.Event, f func(int64, []tree.Change)) {
	var changes []tree.Change
	for i, ev := range events {
		changes = append(changes, change(ev.Kv, ev.Type == mvccpb.Event_DELETE))
		if i+1 == len(events) || events[i+1].Kv.ModRevision != ev.Kv.ModRevision {
			f(ev.Kv.ModRevision, changes)
			changes = nil
		}
	}
}

func change(kv *mvccpb.KeyValue, deleted bool) tree.Change {
	return tree.Change{Key: string(kv.Key), Value: string(kv.Value), Deleted: deleted,
		Create: kv.CreateRevision, Mod: kv.ModRevision}
}
