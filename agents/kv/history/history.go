// Package history tells programs that follow the store by watches when its
// history is another one: it was made anew, or restored from a snapshot. etcd's
// client then goes on with a watch at the revision where it was, which the new
// history does not have yet, and the watch is silent for hours.
package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrOther says that what was read before is of another history.
var ErrOther = errors.New("the store was restored or made anew")

// Changed returns ErrOther when the store's history is not the one that since
// was answered from, or ctx's error. It asks every period, any member.
func Changed(ctx context.Context, kv *clientv3.Client, since *etcdserverpb.ResponseHeader, period time.Duration) error {
	cluster, revision := since.ClusterId, since.Revision
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		asking, done := context.WithTimeout(ctx, period)
		got, err := kv.Get(asking, "/", clientv3.WithCountOnly())
		done()
		if err != nil {
			continue // it is away, and may come back as it was
		}
		if got.Header.ClusterId != cluster || got.Header.Revision < revision {
			return fmt.Errorf("%w: revision %d of cluster %x after %d of %x", ErrOther, got.Header.Revision, got.Header.ClusterId, revision, cluster)
		}
		revision = got.Header.Revision
	}
}
