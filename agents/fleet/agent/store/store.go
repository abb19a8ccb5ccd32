// Package store is what one machine's agent reads and writes in the key-value
// store: its own object, schedule and states, and the contents of its units.
// The layout is package registry's; the mirror of the whole cluster that the
// engine has is too much for a thousand agents, so each follows its own
// schedule only.
package store

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/follow"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
)

// ErrLeaseGone says that the lease has ended.
var ErrLeaseGone = errors.New("the lease has ended")

// ErrTaken says that the machine's object is there already, or is not the one
// that was expected.
var ErrTaken = errors.New("a machine with this id is registered")

// Store is the part of the cluster that belongs to one machine.
type Store struct {
	*registry.Registry
	ID string // of the machine
}

// Token is a placement with the revision of its last change.
type Token struct {
	fleet.Placement
	Revision int64
}

// Object is the machine's registration.
type Object struct {
	Machine  fleet.Machine
	Lease    int64
	Revision int64 // of its last change; 0 is none
}

// Grant makes a lease.
func (s Store) Grant(ctx context.Context, ttl time.Duration) (lease int64, err error) {
	r, err := s.Client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return 0, follow.Wrap("make a lease", err)
	}
	return int64(r.ID), nil
}

// Renew keeps a lease alive once. The error is ErrLeaseGone if it has ended. A
// member that hangs holds a call for ever, and the client gives each call to
// another member: so a second and a third are made while the first is waited
// for, and the first answer counts.
func (s Store) Renew(ctx context.Context, lease int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pause := time.Second
	if end, ok := ctx.Deadline(); ok {
		pause = time.Until(end) / (calls + 1)
	}
	answers := make(chan error, calls)
	var err error
	for made, answered := 0, 0; answered < calls; {
		next := time.NewTimer(pause)
		if made < calls {
			made++
			go func() { answers <- s.renew(ctx, lease) }()
		}
		select {
		case err = <-answers:
			if answered++; err == nil || errors.Is(err, ErrLeaseGone) {
				next.Stop()
				return err
			}
		case <-next.C:
		}
		next.Stop()
	}
	return err
}

// calls is how many are made to renew a lease once.
const calls = 3

func (s Store) renew(ctx context.Context, lease int64) error {
	r, err := s.Client.KeepAliveOnce(ctx, clientv3.LeaseID(lease))
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound), err == nil && r.TTL <= 0:
		return ErrLeaseGone
	}
	return follow.Wrap("renew the lease", err)
}

// Revoke ends a lease; that it had ended is no error.
func (s Store) Revoke(ctx context.Context, lease int64) error {
	_, err := s.Client.Revoke(ctx, clientv3.LeaseID(lease))
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return follow.Wrap("end the lease", err)
}

// Object reads the machine's registration. An object that cannot be understood
// has only lease and revision.
func (s Store) Object(ctx context.Context) (Object, error) {
	r, err := s.Client.Get(ctx, s.Keys.Machine(s.ID))
	if err != nil {
		return Object{}, follow.Wrap("read the machine's registration", err)
	}
	if len(r.Kvs) == 0 {
		return Object{}, nil
	}
	kv := r.Kvs[0]
	m, _ := layout.DecodeMachine(s.ID, kv.Value)
	return Object{Machine: m, Lease: kv.Lease, Revision: kv.ModRevision}, nil
}

// Register writes the machine's object with a lease, in place of the one whose
// revision is expected; 0 expects none. The error is ErrTaken if another one is
// there, and ErrLeaseGone if the lease has ended. It returns the new revision.
func (s Store) Register(ctx context.Context, m fleet.Machine, lease, expect int64) (int64, error) {
	key := s.Keys.Machine(s.ID)
	r, err := s.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", expect)).
		Then(clientv3.OpPut(key, layout.EncodeMachine(m), clientv3.WithLease(clientv3.LeaseID(lease)))).Commit()
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return 0, ErrLeaseGone
	case err != nil:
		return 0, follow.Wrap("register the machine", err)
	case !r.Succeeded:
		return 0, ErrTaken
	}
	return r.Header.Revision, nil
}

// Gone returns when the registration that was written at revision is not there
// any more, or with an error when that cannot be seen.
func (s Store) Gone(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithCancel(follow.Context(ctx))
	defer cancel()
	for answer := range s.Client.Watch(ctx, s.Keys.Machine(s.ID), clientv3.WithRev(revision+1)) {
		if err := answer.Err(); err != nil {
			return follow.Wrap("watch the machine's registration", err)
		}
		for _, e := range answer.Events {
			if e.Type == mvccpb.DELETE {
				return nil
			}
		}
	}
	return errors.Join(errors.New("watch the machine's registration: the watch ended"), ctx.Err())
}

// Schedule reads the machine's tokens and the revision of which they are.
func (s Store) Schedule(ctx context.Context) ([]Token, int64, error) {
	all, revision, err := follow.List(ctx, s.Client, s.Keys.Schedule(s.ID))
	if err != nil {
		return nil, 0, follow.Wrap("read the machine's schedule", err)
	}
	return s.tokens(all), revision, nil
}

func (s Store) tokens(all []*mvccpb.KeyValue) []Token {
	var list []Token
	for _, kv := range all {
		if t, ok := s.Token(kv); ok {
			list = append(list, t)
		}
	}
	return list
}

// Token reads one key of the schedule; false is none that can be understood.
func (s Store) Token(kv *mvccpb.KeyValue) (Token, bool) {
	kind, name := s.Keys.Parse(string(kv.Key))
	if kind != layout.Placement || name.First != s.ID {
		return Token{}, false
	}
	p, err := layout.DecodePlacement(name, kv.Value)
	return Token{Placement: p, Revision: kv.ModRevision}, err == nil
}

// Change is what became of one unit's token at a revision.
type Change struct {
	Unit     string
	Token    *Token // nil if it is gone
	Revision int64
}

// Follow tells the whole schedule and then its changes until ctx ends: load
// gets all tokens as of a revision; change gets changes, those of one revision
// always together.
func (s Store) Follow(ctx context.Context, load func([]Token, int64), change func([]Change)) {
	follow.Follow(ctx, s.Client, s.Keys.Schedule(s.ID), follow.Sink{
		Load: func(all []*mvccpb.KeyValue, revision int64) { load(s.tokens(all), revision) },
		Apply: func(events []*clientv3.Event, _ int64) {
			var list []Change
			for _, e := range events {
				kind, name := s.Keys.Parse(string(e.Kv.Key))
				if kind != layout.Placement {
					continue
				}
				c := Change{Unit: name.Second, Revision: e.Kv.ModRevision}
				if t, ok := s.Token(e.Kv); ok && e.Type != mvccpb.DELETE {
					c.Token = &t
				}
				list = append(list, c)
			}
			change(list)
		},
	})
}

// Contents reads unit contents by hash. Those that are not there, or are not
// what their hash says, are left out.
func (s Store) Contents(ctx context.Context, hashes []string) (map[string]string, error) {
	return s.Registry.Contents(ctx, hashes)
}

// States reads what the machine has published.
func (s Store) States(ctx context.Context) (map[string]fleet.UnitState, error) {
	prefix := s.Keys.State(s.ID, "")
	all, _, err := follow.List(ctx, s.Client, prefix)
	if err != nil {
		return nil, follow.Wrap("read the machine's published states", err)
	}
	out := map[string]fleet.UnitState{}
	for _, kv := range all {
		if kind, name := s.Keys.Parse(string(kv.Key)); kind == layout.State {
			// What is garbage is written over.
			state, _ := layout.DecodeState(name, kv.Value)
			out[name.Second] = state
		}
	}
	return out, nil
}

// Publish writes states with the machine's lease, nil removes one. The error is
// ErrLeaseGone if the lease has ended.
func (s Store) Publish(ctx context.Context, lease int64, states map[string]*fleet.UnitState) error {
	var put []fleet.UnitState
	var gone []string
	for unit, state := range states {
		if state == nil {
			gone = append(gone, unit)
		} else {
			put = append(put, *state)
		}
	}
	if err := s.Registry.RemoveStates(ctx, s.ID, gone); err != nil {
		return err
	}
	err := s.Registry.PublishStates(ctx, clientv3.LeaseID(lease), put)
	if errors.Is(err, registry.ErrLeaseEnded) {
		return ErrLeaseGone
	}
	return err
}

// Forget gives tokens of units back that are down, each with its state in one
// transaction. A token that was changed since is kept: the engine gives the
// unit another chance here.
func (s Store) Forget(ctx context.Context, tokens []Token) error {
	for _, t := range tokens {
		if _, err := s.Registry.RemoveToken(ctx, registry.Scheduled(t)); err != nil {
			return err
		}
	}
	return nil
}

// Leave removes the machine's tokens, states and object in one transaction and
// ends the lease. Its units must be down.
func (s Store) Leave(ctx context.Context, lease int64) error {
	object := s.Keys.Machine(s.ID)
	// Without the lease it is another machine's object and schedule.
	_, err := s.Client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(object), "=", clientv3.LeaseID(lease))).
		Then(clientv3.OpDelete(s.Keys.Schedule(s.ID), clientv3.WithPrefix()),
			clientv3.OpDelete(s.Keys.State(s.ID, ""), clientv3.WithPrefix()), clientv3.OpDelete(object)).Commit()
	if err != nil {
		return follow.Wrap("take the machine off the cluster", err)
	}
	return s.Revoke(ctx, lease)
}
