// Package registry is the scheduler's data in etcd: every write that the API,
// the agents and the engine make, as transactions that say what must be true
// for them, and an agent's view of its own schedule. Package mirror reads the
// whole; package layout has the keys and values.
//
// Who may write what: the API makes units, metadata and drains; the engine makes
// and changes placements, and removes those of machines that are gone; an agent
// writes its machine and its states, and removes a placement that was released
// when it has stopped the unit.
package registry

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet/registry/follow"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
)

// What errors may have in their chain.
var (
	ErrUnavailable = follow.ErrUnavailable                          // the KV cannot be reached: 503 at the API
	ErrNotFound    = errors.New("unit does not exist")              // there is no such unit
	ErrTooLarge    = errors.New("the unit is too large for the KV") // above the KV's limit for one request
	ErrTaken       = errors.New("the machine's id is taken")        // another machine registered with it
	ErrLeaseEnded  = errors.New("the lease has ended")              // the machine's or the engine's
	ErrNotLeader   = errors.New("another engine leads")             // nothing was written
	// ErrNothingBefore is a rollback of a unit that has no content before this one.
	ErrNothingBefore = errors.New("there is no content to go back to")
)

// Registry writes under one prefix of a KV. The zero Keys and Timeout do not
// work: make it with New.
type Registry struct {
	Client  *clientv3.Client
	Keys    layout.Keys
	Timeout time.Duration // of one exchange with the KV
}

// New is for a prefix ("" is fleet's) and a bound for one exchange (0 is 5 s).
func New(client *clientv3.Client, prefix string, timeout time.Duration) *Registry {
	if timeout <= 0 {
		timeout = 5 * time.Second
	}
	return &Registry{client, layout.NewKeys(prefix), timeout}
}

// txn runs a transaction within the timeout.
func (r *Registry) txn(ctx context.Context, op string, t clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	answer, err := r.Client.Do(ctx, t)
	if err != nil {
		return nil, wrap(op, err)
	}
	return answer.Txn(), nil
}

func (r *Registry) get(ctx context.Context, op, key string, o ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	answer, err := r.Client.Get(ctx, key, o...)
	return answer, wrap(op, err)
}

// wrap adds what the KV meant to an error of it.
func wrap(op string, err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		err = errors.Join(ErrLeaseEnded, err)
	case errors.Is(err, rpctypes.ErrRequestTooLarge):
		err = errors.Join(ErrTooLarge, err)
	}
	return follow.Wrap(op, err)
}

// exists and absent are conditions on a key.
func exists(key string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(key), ">", 0) }
func absent(key string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(key), "=", 0) }

// when is a transaction inside another: do then if all conditions hold.
func when(then []clientv3.Op, conditions ...clientv3.Cmp) clientv3.Op {
	return clientv3.OpTxn(conditions, then, nil)
}
