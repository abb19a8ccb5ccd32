// Package history ends what follows the store by watches when the store's
// history may be another one: it was made anew, or restored from a snapshot.
// etcd's client then goes on with a watch at the revision where it was, which
// the new history does not have yet, and the watch is silent for hours. Nothing
// in etcd's answers tells histories apart for sure (a cluster made anew of the
// same configuration has the same id), but all members must have been away.
package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// ErrOther says that what was read before may be of another history.
var ErrOther = errors.New("the store was away, and may have been restored or made anew")

// lookEvery is the time between looks at the revision, for a member between
// that only passes questions on.
const lookEvery = 10 * time.Second

// While gives a context for watches that go on from what since was the answer
// to. It ends, with ErrOther as its cause, when all must be read anew.
func While(ctx context.Context, kv *clientv3.Client, since *etcdserverpb.ResponseHeader) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancelCause(ctx)
	go func() { stop(away(ctx, kv)) }()
	go func() { stop(behind(ctx, kv, since)) }()
	return ctx, func() { stop(nil) }
}

// away waits until no member is connected.
func away(ctx context.Context, kv *clientv3.Client) error {
	conn := kv.ActiveConnection()
	if conn.GetState() == connectivity.Ready && !conn.WaitForStateChange(ctx, connectivity.Ready) {
		return ctx.Err()
	}
	return ErrOther
}

// behind waits until the revision is less than it was.
func behind(ctx context.Context, kv *clientv3.Client, since *etcdserverpb.ResponseHeader) error {
	cluster, revision := since.ClusterId, since.Revision
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		asking, done := context.WithTimeout(ctx, lookEvery)
		got, err := kv.Get(asking, "/", clientv3.WithCountOnly())
		done()
		if err != nil {
			continue
		}
		if got.Header.ClusterId != cluster || got.Header.Revision < revision {
			return fmt.Errorf("%w: revision %d of cluster %x after %d of %x", ErrOther, got.Header.Revision, got.Header.ClusterId, revision, cluster)
		}
		revision = got.Header.Revision
	}
}
