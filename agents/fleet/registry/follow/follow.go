// Package follow reads everything under a prefix of etcd and then every change
// of it, without a gap: pages at one revision, then a watch from the next. It is
// for the scheduler's mirror and for agents. etcd's own clientv3/mirror does the
// first half, but neither starts again after a compaction nor asks for a member
// that has a leader.
package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrUnavailable is in the chain of every error that says: the KV could not be
// reached, has no leader, or did not answer in time.
var ErrUnavailable = errors.New("the KV cannot be reached")

// Wrap says what was tried, and adds ErrUnavailable where it belongs.
func Wrap(op string, err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) {
		return err
	}
	if unavailable(err) {
		return fmt.Errorf("%s: %w: %w", op, ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

func unavailable(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, clientv3.ErrNoAvailableEndpoints) {
		return true
	}
	code := codes.Unknown
	var etcd rpctypes.EtcdError
	if s, ok := status.FromError(err); ok {
		code = s.Code()
	} else if errors.As(err, &etcd) {
		code = etcd.Code()
	}
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// Sink takes what is read. Its functions are called one at a time.
type Sink struct {
	// Load gets everything as of a revision: at first, and again if changes
	// were missed.
	Load func(all []*mvccpb.KeyValue, revision int64)
	// Apply gets what changed since, up to a revision; events may be empty.
	Apply func(events []*clientv3.Event, revision int64)
	// Lost, if not nil, hears why the KV is not followed at the moment. The
	// next Load or Apply ends that.
	Lost func(error)
}

const (
	page       = 2000             // keys in one answer
	readTime   = 30 * time.Second // for one page
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// Context is the one that Follow watches with: progress of its watch is asked
// for with the same (clientv3 keeps a stream per kind of context).
func Context(ctx context.Context) context.Context { return clientv3.WithRequireLeader(ctx) }

// Follow feeds the sink until ctx ends. It tries for ever.
func Follow(ctx context.Context, client *clientv3.Client, prefix string, sink Sink) {
	ctx = Context(ctx)
	f := follower{client, prefix, sink, 0}
	pause := firstPause
	for ctx.Err() == nil {
		before := f.revision
		err := f.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, rpctypes.ErrCompacted) {
			f.revision = 0
			continue
		}
		if sink.Lost != nil {
			sink.Lost(Wrap("follow the KV", err))
		}
		if f.revision != before {
			pause = firstPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, lastPause)
	}
}

type follower struct {
	client   *clientv3.Client
	prefix   string
	sink     Sink
	revision int64 // up to which the sink knows; 0 is nothing
}

// once lists if need be, and watches until that ends.
func (f *follower) once(ctx context.Context) error {
	if f.revision == 0 {
		all, revision, err := List(ctx, f.client, f.prefix)
		if err != nil {
			return err
		}
		f.sink.Load(all, revision)
		f.revision = revision
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := f.client.Watch(ctx, f.prefix, clientv3.WithPrefix(), clientv3.WithRev(f.revision+1), clientv3.WithCreatedNotify())
	for answer := range watch {
		if err := answer.Err(); err != nil {
			return err
		}
		revision := f.revision
		if n := len(answer.Events); n > 0 {
			// The header may be ahead of what a watcher that lags has got.
			revision = answer.Events[n-1].Kv.ModRevision
		} else if answer.IsProgressNotify() {
			revision = answer.Header.Revision
			if revision < f.revision {
				return rpctypes.ErrCompacted // another history: restored from a backup
			}
		}
		f.sink.Apply(answer.Events, revision)
		f.revision = revision
	}
	return errors.New("the watch ended")
}

// List reads everything under prefix as of one revision.
func List(ctx context.Context, client *clientv3.Client, prefix string) (all []*mvccpb.KeyValue, revision int64, err error) {
	end := clientv3.GetPrefixRangeEnd(prefix)
	for from := prefix; ; {
		ctx, cancel := context.WithTimeout(ctx, readTime)
		answer, err := client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(revision))
		cancel()
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = answer.Header.Revision
		}
		all = append(all, answer.Kvs...)
		if !answer.More {
			return all, revision, nil
		}
		from = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
	}
}
