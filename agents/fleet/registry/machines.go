package registry

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
)

// maxOps is how many operations a transaction may have: etcd's own bound is 128
// for the operations and those of transactions inside them together.
const maxOps = 100

// Register says that a machine takes part, as long as the lease lives; again
// with the same lease it changes what is said of the machine. An object without
// lease is no machine's, but what somebody wrote by hand: it is replaced. If the id is there
// with another lease, that is ErrTaken: another machine has the same id, or this
// one's earlier lease has yet to end or to be revoked. ErrLeaseEnded if lease has.
func (r *Registry) Register(ctx context.Context, m fleet.Machine, lease clientv3.LeaseID) (revision int64, err error) {
	op := fmt.Sprintf("register machine %q", m.ID)
	key := r.Keys.Machine(m.ID)
	put := clientv3.OpPut(key, layout.EncodeMachine(m), clientv3.WithLease(lease))
	answer, err := r.txn(ctx, op, clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(key), "=", clientv3.NoLease)}, []clientv3.Op{put}, // also if there is no key
		[]clientv3.Op{clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(key), "=", lease)}, []clientv3.Op{put},
			[]clientv3.Op{clientv3.OpGet(key)})}))
	if err != nil {
		return 0, err
	}
	if answer.Succeeded {
		return answer.Header.Revision, nil
	}
	second := answer.Responses[0].GetResponseTxn()
	if second.Succeeded {
		return answer.Header.Revision, nil
	}
	other, _ := layout.DecodeMachine(m.ID, second.Responses[0].GetResponseRange().Kvs[0].Value)
	return 0, fmt.Errorf("%s: %w by a machine with the address %q and boot id %q", op, ErrTaken, other.PublicIP, other.BootID)
}

// Patch is one change of a machine's metadata.
type Patch struct {
	Machine string // id; need not be known
	Key     string
	Value   string // "" removes the key, also if the machine's own configuration has it
}

// PatchMetadata makes the changes in order, all or none (but more than 100
// different keys go in more than one transaction).
func (r *Registry) PatchMetadata(ctx context.Context, patches []Patch) (revision int64, err error) {
	last := map[string]int{}
	for i, p := range patches {
		if p.Machine == "" || p.Key == "" {
			return 0, errors.New("change metadata: machine metadata path invalid")
		}
		last[r.Keys.Metadata(p.Machine, p.Key)] = i
	}
	var ops []clientv3.Op
	for i, p := range patches {
		// A transaction may write a key once: the last change of it counts.
		if key := r.Keys.Metadata(p.Machine, p.Key); last[key] == i {
			ops = append(ops, clientv3.OpPut(key, p.Value))
		}
	}
	return r.batches(ctx, "change metadata", ops)
}

// batches runs operations, as many at a time as a transaction may have.
func (r *Registry) batches(ctx context.Context, op string, ops []clientv3.Op) (revision int64, err error) {
	for len(ops) > 0 {
		n := min(len(ops), maxOps)
		answer, err := r.txn(ctx, op, clientv3.OpTxn(nil, ops[:n], nil))
		if err != nil {
			return 0, err
		}
		revision, ops = answer.Header.Revision, ops[n:]
	}
	return revision, nil
}

// SetDrain says that no unit may be on a machine, which need not be known.
func (r *Registry) SetDrain(ctx context.Context, id string, d layout.Drained) (revision int64, err error) {
	return r.batches(ctx, fmt.Sprintf("drain machine %q", id), []clientv3.Op{clientv3.OpPut(r.Keys.Drain(id), layout.EncodeDrain(d))})
}

// EndDrain ends it; it is no error if there is none.
func (r *Registry) EndDrain(ctx context.Context, id string) (revision int64, err error) {
	return r.batches(ctx, fmt.Sprintf("undrain machine %q", id), []clientv3.Op{clientv3.OpDelete(r.Keys.Drain(id))})
}
