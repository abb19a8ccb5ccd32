// Package engine lets the v2 store work on an etcd member in the same process,
// without a connection: reads and the order of changes come from the member's
// own multi-version store, transactions go through its Raft log. It acts as
// root; who may do what is decided before.
package engine

import (
	"context"
	"errors"

	"github.com/coracle-os/coracle/agents/kv/v2/layout"
	"github.com/coracle-os/coracle/agents/kv/v2/store"
	"github.com/coracle-os/coracle/agents/kv/v2/tree"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

// Engine is a member; it implements store.Engine.
type Engine struct{ server *etcdserver.EtcdServer }

// New returns the engine of a member that has started.
func New(s *etcdserver.EtcdServer) *Engine { return &Engine{server: s} }

// Txn implements store.Engine.
func (e *Engine) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	return e.server.Txn(e.server.AuthStore().WithRoot(ctx), r)
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
