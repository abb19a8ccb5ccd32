package registry

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry/follow"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
)

// Scheduled is a placement as its machine sees it.
type Scheduled struct {
	fleet.Placement
	Revision int64 // of the placement's last change, for RemoveToken
}

// Schedule is all that a machine is to run.
type Schedule struct {
	Revision int64       // of the KV
	Units    []Scheduled // by unit
}

// WatchSchedule calls f with a machine's schedule and again with each change of
// it, until ctx ends. What is not understood is skipped and named once in the
// log. lost, if not nil, hears when the KV is not followed; the next f ends that.
func (r *Registry) WatchSchedule(ctx context.Context, machine string, log *slog.Logger, f func(Schedule), lost func(error)) {
	w := schedule{prefix: r.Keys.Schedule(machine), keys: r.Keys, log: log, units: map[string]Scheduled{}, garbage: map[string]bool{}}
	followed := false
	follow.Follow(ctx, r.Client, w.prefix, follow.Sink{
		Load: func(all []*mvccpb.KeyValue, revision int64) {
			followed = true
			clear(w.units)
			for _, kv := range all {
				w.put(kv)
			}
			f(w.all(revision))
		},
		Apply: func(events []*clientv3.Event, revision int64) {
			if followed && len(events) == 0 {
				return // others ask this client's watches how far they are
			}
			followed = true
			for _, e := range events {
				if e.Type == mvccpb.DELETE {
					delete(w.units, strings.TrimPrefix(string(e.Kv.Key), w.prefix))
				} else {
					w.put(e.Kv)
				}
			}
			f(w.all(revision))
		},
		Lost: func(err error) {
			followed = false
			if lost != nil {
				lost(err)
			}
		},
	})
}

// ReadSchedule reads a machine's schedule once.
func (r *Registry) ReadSchedule(ctx context.Context, machine string, log *slog.Logger) (Schedule, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	w := schedule{prefix: r.Keys.Schedule(machine), keys: r.Keys, log: log, units: map[string]Scheduled{}, garbage: map[string]bool{}}
	all, revision, err := follow.List(ctx, r.Client, w.prefix)
	if err != nil {
		return Schedule{}, follow.Wrap("read the schedule", err)
	}
	for _, kv := range all {
		w.put(kv)
	}
	return w.all(revision), nil
}

type schedule struct {
	prefix  string
	keys    layout.Keys
	log     *slog.Logger
	units   map[string]Scheduled
	garbage map[string]bool
}

func (w *schedule) put(kv *mvccpb.KeyValue) {
	key := string(kv.Key)
	kind, name := w.keys.Parse(key)
	p, err := layout.DecodePlacement(name, kv.Value)
	if kind != layout.Placement || err != nil {
		if !w.garbage[key] {
			w.garbage[key] = true
			w.log.Warn("A key of this machine's schedule is not understood and ignored", "key", key, "error", err)
		}
		delete(w.units, name.Second)
		return
	}
	w.units[p.Unit] = Scheduled{p, kv.ModRevision}
}

func (w *schedule) all(revision int64) Schedule {
	s := Schedule{Revision: revision, Units: make([]Scheduled, 0, len(w.units))}
	for _, u := range w.units {
		s.Units = append(s.Units, u)
	}
	slices.SortFunc(s.Units, func(a, b Scheduled) int { return strings.Compare(a.Unit, b.Unit) })
	return s
}

// Contents reads the serialised units with these hashes; those that are not
// there or not right are not in the map.
func (r *Registry) Contents(ctx context.Context, hashes []string) (map[string]string, error) {
	raw := map[string]string{}
	for chunk := range slices.Chunk(hashes, maxOps) {
		ops := make([]clientv3.Op, len(chunk))
		for i, h := range chunk {
			ops[i] = clientv3.OpGet(r.Keys.Content(h))
		}
		answer, err := r.txn(ctx, "read units", clientv3.OpTxn(nil, ops, nil))
		if err != nil {
			return nil, err
		}
		for i, h := range chunk {
			if text, ok := decodeContent(h, answer.Responses[i].GetResponseRange().Kvs); ok {
				raw[h] = text
			}
		}
	}
	return raw, nil
}

// PublishStates writes states of one machine's units with its lease, those that
// changed, in batches. A state without a placement is not written: the unit was
// taken away, and nobody would remove the state. ErrLeaseEnded if lease has.
func (r *Registry) PublishStates(ctx context.Context, lease clientv3.LeaseID, states []fleet.UnitState) error {
	var ops []clientv3.Op
	for _, s := range states {
		ops = append(ops, when([]clientv3.Op{
			clientv3.OpPut(r.Keys.State(s.Machine, s.Unit), layout.EncodeState(s), clientv3.WithLease(lease)),
		}, exists(r.Keys.Placement(s.Machine, s.Unit))))
	}
	_, err := r.batches(ctx, "publish states of units", ops)
	return err
}

// RemoveStates removes states of units that a machine does not have any more.
func (r *Registry) RemoveStates(ctx context.Context, machine string, units []string) error {
	var ops []clientv3.Op
	for _, u := range units {
		ops = append(ops, clientv3.OpDelete(r.Keys.State(machine, u)))
	}
	_, err := r.batches(ctx, "remove states of units", ops)
	return err
}

// RemoveToken gives a unit up that this machine has stopped and unloaded: the
// placement and the state in one transaction. removed is false if the placement
// is another one by now (or none): look at the schedule again.
func (r *Registry) RemoveToken(ctx context.Context, p Scheduled) (removed bool, err error) {
	key := r.Keys.Placement(p.Machine, p.Unit)
	answer, err := r.txn(ctx, fmt.Sprintf("give up unit %q", p.Unit), when([]clientv3.Op{
		clientv3.OpDelete(key), clientv3.OpDelete(r.Keys.State(p.Machine, p.Unit)),
	}, clientv3.Compare(clientv3.ModRevision(key), "=", p.Revision)))
	if err != nil {
		return false, err
	}
	return answer.Succeeded, nil
}

// Leave removes everything of a machine that stops taking part, having stopped
// all its units: placements and states in batches, then the machine itself with
// its lease.
func (r *Registry) Leave(ctx context.Context, machine string, lease clientv3.LeaseID) error {
	_, err := r.batches(ctx, fmt.Sprintf("leave with machine %q", machine), []clientv3.Op{
		clientv3.OpDelete(r.Keys.Schedule(machine), clientv3.WithPrefix()),
		clientv3.OpDelete(r.Keys.State(machine, ""), clientv3.WithPrefix()),
		clientv3.OpDelete(r.Keys.Machine(machine)),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	_, err = r.Client.Revoke(ctx, lease)
	return wrap("revoke the machine's lease", err)
}
