package registry

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// Unit is a unit as it is stored.
type Unit struct {
	Name    string
	Raw     string // serialised content
	Desired fleet.JobState
	Rollout *fleet.Rollout
}

// Hash is the content's.
func (u Unit) Hash() string { return layout.HashOf(u.Raw) }

// Result is what a write did.
type Result struct {
	Created  bool  // there was no such unit
	Replaced bool  // it has another content now
	Changed  bool  // anything was written
	Revision int64 // of the KV, at or after the write: wait for it to read what was written
}

// Update changes one unit: change gets it as it is now (nil if there is none)
// and returns what it is to be (nil removes it); it must not touch what it gets.
// If somebody else changes the unit meanwhile, change is called again with what
// that made, so nobody's change is lost. An error of change ends it unchanged.
func (r *Registry) Update(ctx context.Context, name string, change func(old *Unit) (*Unit, error)) (Result, error) {
	op := fmt.Sprintf("change unit %q", name)
	if err := unitfile.ValidateName(name); err != nil {
		return Result{}, fmt.Errorf("%s: %w", op, err)
	}
	for {
		old, at, revision, err := r.unit(ctx, op, name)
		if err != nil {
			return Result{}, err
		}
		next, err := change(old)
		if err != nil {
			return Result{}, err
		}
		if same(old, next) {
			return Result{Revision: revision}, nil
		}
		answer, err := r.replace(ctx, op, name, next, at)
		if err != nil {
			return Result{}, err
		}
		if answer.Succeeded {
			return Result{
				Created: old == nil, Replaced: old != nil && next != nil && old.Raw != next.Raw,
				Changed: true, Revision: answer.Header.Revision,
			}, nil
		}
	}
}

// maxContent is the longest value of a content: etcd's default bound for a
// request, 1.5 MiB, with room for the rest of the transaction.
const maxContent = 3<<19 - 16<<10

// replace writes next (nil removes) if the job's last change was at a revision.
func (r *Registry) replace(ctx context.Context, op, name string, next *Unit, at int64) (*clientv3.TxnResponse, error) {
	unchanged := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(r.Keys.Job(name)), "=", at)}
	if next == nil {
		return r.txn(ctx, op, when([]clientv3.Op{clientv3.OpDelete(r.Keys.Job(name))}, unchanged...))
	}
	if next.Name != name || !next.Desired.Valid() {
		return nil, fmt.Errorf("%s: name %q or state %q is not right", op, next.Name, next.Desired)
	}
	content, err := layout.EncodeContent(next.Raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if len(content) > maxContent {
		return nil, fmt.Errorf("%s: %w: %d bytes, at most %d", op, ErrTooLarge, len(content), maxContent)
	}
	key := r.Keys.Content(next.Hash())
	job := layout.EncodeJob(fleet.Unit{Name: name, Hash: next.Hash(), Desired: next.Desired, Rollout: next.Rollout})
	return r.txn(ctx, op, when([]clientv3.Op{
		when([]clientv3.Op{clientv3.OpPut(key, content)}, absent(key)),
		clientv3.OpPut(r.Keys.Job(name), job),
	}, unchanged...))
}

// unit reads a unit, the revision of its last change (0 if there is none), and
// the KV's.
func (r *Registry) unit(ctx context.Context, op, name string) (u *Unit, at, revision int64, err error) {
	answer, err := r.get(ctx, op, r.Keys.Job(name))
	if err != nil {
		return nil, 0, 0, err
	}
	if len(answer.Kvs) == 0 {
		return nil, 0, answer.Header.Revision, nil
	}
	kv := answer.Kvs[0]
	j, err := layout.DecodeJob(name, kv.Value)
	if err != nil {
		return nil, kv.ModRevision, answer.Header.Revision, nil // garbage counts as not there, and may be replaced
	}
	content, err := r.get(ctx, op, r.Keys.Content(j.Hash), clientv3.WithRev(answer.Header.Revision))
	if err != nil {
		return nil, 0, 0, err
	}
	raw, ok := decodeContent(j.Hash, content.Kvs)
	if !ok {
		return nil, kv.ModRevision, answer.Header.Revision, nil
	}
	return &Unit{name, raw, j.Desired, j.Rollout}, kv.ModRevision, answer.Header.Revision, nil
}

func decodeContent(hash string, kvs []*mvccpb.KeyValue) (string, bool) {
	if len(kvs) == 0 {
		return "", false
	}
	raw, err := layout.DecodeContent(hash, kvs[0].Value)
	return raw, err == nil
}

func same(a, b *Unit) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Name == b.Name && a.Raw == b.Raw && a.Desired == b.Desired &&
		(a.Rollout == nil) == (b.Rollout == nil) && (a.Rollout == nil || *a.Rollout == *b.Rollout)
}

// PutUnit creates a unit, or gives it content and desired state; "" keeps what
// it has. A new unit with neither is ErrNotFound without content, and inactive
// without a state. With a rollout, placements follow a new content step by step;
// its Previous is the content as it was.
func (r *Registry) PutUnit(ctx context.Context, name, raw string, desired fleet.JobState, rollout *fleet.Rollout) (Result, error) {
	return r.Update(ctx, name, func(old *Unit) (*Unit, error) {
		next := Unit{Name: name, Raw: raw, Desired: desired}
		if old == nil {
			if raw == "" {
				return nil, ErrNotFound
			}
			if desired == "" {
				next.Desired = fleet.Inactive
			}
			return &next, nil
		}
		if raw == "" {
			next.Raw = old.Raw
		}
		if desired == "" {
			next.Desired = old.Desired
		}
		if next.Raw == old.Raw {
			next.Rollout = old.Rollout
		} else if rollout != nil {
			next.Rollout = new(*rollout)
			next.Rollout.Previous = old.Hash()
		}
		return &next, nil
	})
}

// SetDesired changes only what the unit is wanted to be; ErrNotFound if there is none.
func (r *Registry) SetDesired(ctx context.Context, name string, desired fleet.JobState) (Result, error) {
	return r.PutUnit(ctx, name, "", desired, nil)
}

// Rollback gives a unit the content back that its rollout replaced, step by
// step as the rollout says. ErrNotFound if there is no unit; ErrNothingBefore
// if it was not replaced.
func (r *Registry) Rollback(ctx context.Context, name string) (Result, error) {
	return r.Update(ctx, name, func(old *Unit) (*Unit, error) {
		if old == nil {
			return nil, ErrNotFound
		}
		if old.Rollout == nil || old.Rollout.Previous == "" {
			return nil, fmt.Errorf("unit %q was not replaced step by step, so there is nothing to go back to: %w", name, ErrNothingBefore)
		}
		answer, err := r.get(ctx, "read the content before", r.Keys.Content(old.Rollout.Previous))
		if err != nil {
			return nil, err
		}
		raw, ok := decodeContent(old.Rollout.Previous, answer.Kvs)
		if !ok {
			return nil, fmt.Errorf("the content that unit %q had before is gone: %w", name, ErrNothingBefore)
		}
		back := *old.Rollout
		back.Previous = old.Hash()
		return &Unit{name, raw, old.Desired, &back}, nil
	})
}

// Destroy removes a unit; ErrNotFound if there is none. Its content stays until
// the engine finds that nobody has it.
func (r *Registry) Destroy(ctx context.Context, name string) (Result, error) {
	op := fmt.Sprintf("destroy unit %q", name)
	answer, err := r.txn(ctx, op, when([]clientv3.Op{clientv3.OpDelete(r.Keys.Job(name))}, exists(r.Keys.Job(name))))
	if err != nil {
		return Result{}, err
	}
	if !answer.Succeeded {
		return Result{}, fmt.Errorf("%s: %w", op, ErrNotFound)
	}
	return Result{Changed: true, Revision: answer.Header.Revision}, nil
}
