package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
)

// Leadership is an engine's right to write, as long as the leader's key has
// this create revision.
type Leadership struct{ Revision int64 }

// Candidacy is what a try to lead gave.
type Candidacy struct {
	Leadership *Leadership   // nil if another leads, or a newer engine has led
	Leader     layout.Engine // who leads, if another does
	Newest     int           // version of the newest engine that ever led
	Revision   int64         // of the KV
}

// Election reads who leads.
func (r *Registry) Election(ctx context.Context) (Candidacy, error) {
	c, _, err := r.election(ctx, "ask which engine leads", clientv3.NoLease)
	return c, err
}

// election reads who leads, and the revision of the newest version's key.
func (r *Registry) election(ctx context.Context, op string, own clientv3.LeaseID) (c Candidacy, at int64, err error) {
	read, err := r.txn(ctx, op, clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpGet(r.Keys.EngineVersion()), clientv3.OpGet(r.Keys.Leader())}, nil))
	if err != nil {
		return Candidacy{}, 0, err
	}
	c.Revision = read.Header.Revision
	if kvs := read.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		at = kvs[0].ModRevision
		c.Newest, _ = strconv.Atoi(string(kvs[0].Value)) // garbage is older than everything
	}
	kvs := read.Responses[1].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return c, at, nil
	}
	c.Leader, _ = layout.DecodeEngine(kvs[0].Value)
	if lease := clientv3.LeaseID(kvs[0].Lease); lease != clientv3.NoLease && lease == own {
		c.Leadership = &Leadership{kvs[0].CreateRevision} // an answer was lost: it is ours
	} else if c.Leader.MachineID == "" || lease == clientv3.NoLease {
		// It would never end. No engine writes that: somebody did by hand.
		_, err = r.txn(ctx, op, when([]clientv3.Op{clientv3.OpDelete(r.Keys.Leader())},
			clientv3.Compare(clientv3.ModRevision(r.Keys.Leader()), "=", kvs[0].ModRevision)))
		c.Leader = layout.Engine{}
	}
	return c, at, err
}

// Campaign tries to lead with a lease. An engine older than the newest that
// ever led never does; a newer one than all before writes that down, and the
// older one that leads resigns. ErrLeaseEnded if the lease has.
func (r *Registry) Campaign(ctx context.Context, e layout.Engine, lease clientv3.LeaseID) (Candidacy, error) {
	const op = "try to lead the engines"
	c, at, err := r.election(ctx, op, lease)
	if err != nil || c.Leadership != nil {
		return c, err
	}
	if c.Newest > e.Version || c.Leader.MachineID != "" && c.Leader.Version >= e.Version {
		return c, nil
	}
	unchanged := clientv3.Compare(clientv3.ModRevision(r.Keys.EngineVersion()), "=", at)
	var ops []clientv3.Op
	if c.Newest < e.Version {
		ops = append(ops, clientv3.OpPut(r.Keys.EngineVersion(), strconv.Itoa(e.Version)))
	}
	if c.Leader.MachineID == "" {
		ops = append(ops, when([]clientv3.Op{clientv3.OpPut(r.Keys.Leader(), layout.EncodeEngine(e), clientv3.WithLease(lease))}, absent(r.Keys.Leader())))
	}
	if len(ops) == 0 {
		return c, nil
	}
	answer, err := r.txn(ctx, op, when(ops, unchanged))
	if err != nil || !answer.Succeeded {
		return c, err
	}
	c.Revision = answer.Header.Revision
	if t := answer.Responses[len(ops)-1].GetResponseTxn(); t != nil && t.Succeeded {
		c.Leadership = &Leadership{answer.Header.Revision}
	}
	return c, nil
}

// Applied is what Apply did.
type Applied struct {
	Done     []fleet.Task
	Skipped  []fleet.Task // no longer possible: the machine or the placement has changed
	Revision int64        // of the KV, at or after the last write; 0 if there was none
}

// step is what is done together or not at all: tasks of one unit that follow
// a Remove, or a single task.
type step struct {
	tasks      []fleet.Task
	conditions []clientv3.Cmp
	ops        []clientv3.Op
}

// Apply does tasks in order, in chunks, as long as the leadership holds;
// ErrNotLeader ends it. A task whose ground has gone is skipped: a placement on
// a machine that left, a change of a placement that is no more, a removal for a
// machine that came back. Placing a unit whose placement elsewhere is removed by
// an earlier task happens in one transaction with that.
func (r *Registry) Apply(ctx context.Context, l Leadership, tasks []fleet.Task) (Applied, error) {
	var done Applied
	for chunk := range slices.Chunk(r.steps(tasks), maxOps) {
		for len(chunk) > 0 {
			n := fit(chunk)
			if err := r.applyChunk(ctx, l, chunk[:n], &done); err != nil {
				return done, err
			}
			chunk = chunk[n:]
		}
	}
	return done, nil
}

// fit is how many steps a transaction takes: etcd counts the steps and the
// conditions of the largest of them together.
func fit(steps []step) int {
	const bound = 128 // etcd's default --max-txn-ops
	most := 0
	for i, s := range steps {
		most = max(most, len(s.conditions), len(s.ops))
		if i > 0 && i+1+most > bound {
			return i
		}
	}
	return len(steps)
}

// applyChunk runs steps in one transaction, each if its conditions hold.
func (r *Registry) applyChunk(ctx context.Context, l Leadership, steps []step, done *Applied) error {
	const op = "write what the engine decided"
	ops := make([]clientv3.Op, len(steps))
	for i, s := range steps {
		ops[i] = when(s.ops, s.conditions...)
	}
	answer, err := r.txn(ctx, op, when(ops, r.leads(l)))
	if err != nil {
		return err
	}
	if !answer.Succeeded {
		return fmt.Errorf("%s: %w", op, ErrNotLeader)
	}
	done.Revision = answer.Header.Revision
	for i, s := range steps {
		if answer.Responses[i].GetResponseTxn().Succeeded {
			done.Done = append(done.Done, s.tasks...)
		} else {
			done.Skipped = append(done.Skipped, s.tasks...)
		}
	}
	return nil
}

func (r *Registry) leads(l Leadership) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(r.Keys.Leader()), "=", l.Revision)
}

// steps makes tasks into steps, in order of each unit's first task.
func (r *Registry) steps(tasks []fleet.Task) []step {
	steps := make([]step, 0, len(tasks))
	removing := map[string]int{} // unit to the step that removes a placement of it
	for _, t := range tasks {
		conditions, op := r.operation(t)
		at, together := removing[t.Placement.Unit]
		if !together || len(steps[at].tasks) >= maxOps/4 {
			at = len(steps)
			steps = append(steps, step{})
			if t.Kind == fleet.Remove {
				removing[t.Placement.Unit] = at
			}
		}
		s := &steps[at]
		s.tasks, s.ops, s.conditions = append(s.tasks, t), append(s.ops, op), append(s.conditions, conditions...)
	}
	return steps
}

// operation is a task's write, and what must hold for it.
func (r *Registry) operation(t fleet.Task) ([]clientv3.Cmp, clientv3.Op) {
	p := t.Placement
	key, machine := r.Keys.Placement(p.Machine, p.Unit), r.Keys.Machine(p.Machine)
	switch t.Kind {
	case fleet.Remove:
		return []clientv3.Cmp{absent(machine)}, clientv3.OpDelete(key)
	case fleet.Place:
		return []clientv3.Cmp{exists(machine), absent(key)}, clientv3.OpPut(key, layout.EncodePlacement(p))
	case fleet.Release:
		p.State = fleet.Inactive
	}
	return []clientv3.Cmp{exists(key)}, clientv3.OpPut(key, layout.EncodePlacement(p))
}

// Collect removes contents that nobody uses, if no unit has changed since the
// revision at which that was seen; if one has, nothing is removed and removed is
// false: look again.
func (r *Registry) Collect(ctx context.Context, l Leadership, hashes []string, seen int64) (removed bool, err error) {
	unchanged := clientv3.Compare(clientv3.ModRevision(r.Keys.Jobs()), "<", seen+1).WithPrefix()
	for chunk := range slices.Chunk(hashes, maxOps) {
		ops := make([]clientv3.Op, len(chunk))
		for i, h := range chunk {
			ops[i] = clientv3.OpDelete(r.Keys.Content(h))
		}
		answer, err := r.txn(ctx, "remove contents that no unit has", when(ops, unchanged, r.leads(l)))
		if err != nil || !answer.Succeeded {
			return false, err
		}
	}
	return true, nil
}

// Resign gives the leadership up by ending its lease.
func (r *Registry) Resign(ctx context.Context, lease clientv3.LeaseID) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	_, err := r.Client.Revoke(ctx, lease)
	if err = wrap("resign", err); errors.Is(err, ErrLeaseEnded) {
		return nil
	}
	return err
}
