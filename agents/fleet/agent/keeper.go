package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/agent/memory"
	"github.com/coracle-os/coracle/agents/fleet/agent/store"
)

// keeper registers the machine and renews its lease.
func (a *Agent) keeper(ctx context.Context) {
	var said string
	var written fleet.Machine
	membersAt, refreshAt := time.Duration(0), time.Duration(0)
	for ctx.Err() == nil {
		var err error
		pause := a.cfg.TTL / 5
		if a.registered() {
			err = a.renewLease(ctx)
		} else {
			written, err = a.register(ctx)
		}
		now := a.cfg.Clock()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			pause = a.cfg.TTL / 30
			if errors.Is(err, store.ErrLeaseGone) {
				pause = 0 // the engine waits for a moment
			}
			a.setProblem(err)
			if err.Error() != said {
				said = err.Error()
				a.cfg.Log.Warn("The machine does not take part in the cluster as it should; trying again", "error", err)
			}
		case said != "":
			said = ""
			a.cfg.Log.Info("The key-value store has renewed the machine's lease")
		}
		if err == nil && now >= membersAt {
			membersAt = now + time.Minute
			a.readMembers(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-a.renew:
			refreshAt = 0
		case <-time.After(pause):
		}
		if now >= refreshAt && a.registered() {
			refreshAt = now + time.Minute
			written = a.refresh(ctx, written)
		}
	}
}

// sentinel has the keeper look at once when the registration vanishes: the
// store can end a lease that was renewed (see package fence), and what is
// registered again soon loses nothing.
func (a *Agent) sentinel(ctx context.Context) {
	for ctx.Err() == nil {
		a.mu.Lock()
		revision := a.object
		a.mu.Unlock()
		if revision != 0 && a.cfg.Store.Gone(ctx, revision) == nil {
			poke(a.renew)
		}
		select {
		case <-ctx.Done():
		case <-time.After(a.cfg.TTL / 60):
		}
	}
}

func (a *Agent) registered() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.object != 0
}

func (a *Agent) setProblem(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.problem = err
	a.metrics.renewals.WithLabelValues("failed").Inc()
}

// callLimit bounds one exchange with the store.
func (a *Agent) callLimit() time.Duration { return a.cfg.TTL / 6 }

// renewLease renews the lease once.
func (a *Agent) renewLease(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.callLimit())
	defer cancel()
	sent := a.cfg.Clock()
	err := a.cfg.Store.Renew(ctx, a.lease)
	if errors.Is(err, store.ErrLeaseGone) {
		a.unregister()
		return fmt.Errorf("%w; its TTL is %s", err, a.cfg.TTL)
	}
	if err == nil {
		a.renewed(sent)
	}
	return err
}

// renewed notes a renewal that was sent at a time.
func (a *Agent) renewed(sent time.Duration) {
	a.mu.Lock()
	a.evidence.Renewed(sent)
	a.metrics.renewals.WithLabelValues("done").Inc()
	a.mu.Unlock()
	poke(a.watch)
	a.save(func(m *memory.Machine) { m.Sent = sent })
}

// unregister notes that the lease has ended.
func (a *Agent) unregister() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lease, a.object, a.published = 0, 0, nil
}

func (a *Agent) readMembers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.callLimit())
	defer cancel()
	members, err := a.cfg.Store.Members(ctx)
	a.mu.Lock()
	same := reflect.DeepEqual(members, a.remembered.Members)
	a.mu.Unlock()
	if err == nil && !same {
		a.save(func(m *memory.Machine) { m.Members = members })
	}
}

// refresh writes the machine's object again if the machine has changed.
func (a *Agent) refresh(ctx context.Context, written fleet.Machine) fleet.Machine {
	m := a.cfg.Machine()
	if reflect.DeepEqual(m, written) {
		return written
	}
	ctx, cancel := context.WithTimeout(ctx, a.callLimit())
	defer cancel()
	a.mu.Lock()
	lease, expect := a.lease, a.object
	a.mu.Unlock()
	revision, err := a.cfg.Store.Register(ctx, m, lease, expect)
	if err != nil {
		a.cfg.Log.Warn("The machine's new address or metadata cannot be told to the cluster", "error", err)
		if errors.Is(err, store.ErrTaken) {
			a.unregister() // somebody wrote over it: find out who
		}
		return written
	}
	a.mu.Lock()
	a.object = revision
	a.mu.Unlock()
	return m
}

// register takes the machine into the cluster, with the lease that it had if
// that lives.
func (a *Agent) register(ctx context.Context) (fleet.Machine, error) {
	call, cancel := context.WithTimeout(ctx, a.callLimit())
	defer cancel()
	m := a.cfg.Machine()
	there, err := a.cfg.Store.Object(call)
	if err != nil {
		return m, err
	}
	same := there.Machine.PublicIP == m.PublicIP
	switch ours := there.Lease != 0 && there.Lease == a.remembered.Lease; {
	case there.Revision == 0:
		return m, a.registerAnew(ctx, m, 0, 0)
	case there.Machine.BootID == m.BootID && (ours || same):
		return m, a.adopt(call, m, there)
	case ours && same:
		// The machine has started again before its lease ended: its tokens
		// are still its own.
		return m, a.registerAnew(ctx, m, there.Revision, there.Lease)
	}
	return m, fmt.Errorf("%w: %s, at %q, and its lease lives. If this machine was just set up anew, wait %s; if not, give each machine its own /etc/machine-id",
		store.ErrTaken, m.ID, there.Machine.PublicIP, a.cfg.TTL)
}

// adopt goes on with the registration that an agent before this one made.
func (a *Agent) adopt(ctx context.Context, m fleet.Machine, there store.Object) error {
	sent := a.cfg.Clock()
	if err := a.cfg.Store.Renew(ctx, there.Lease); err != nil {
		return err
	}
	revision := there.Revision
	if !reflect.DeepEqual(m, there.Machine) {
		var err error
		if revision, err = a.cfg.Store.Register(ctx, m, there.Lease, there.Revision); err != nil {
			return err
		}
	}
	a.cfg.Log.Info("The machine is in the cluster as before", "machine", m.ID, "lease", there.Lease)
	a.registeredWith(there.Lease, revision, sent)
	return nil
}

// registerAnew makes a lease and registers with it, in place of the object with
// the revision, whose lease is ended then. Before, the store's word on tokens
// is asked for, and what has none is stopped.
func (a *Agent) registerAnew(ctx context.Context, m fleet.Machine, expect, old int64) error {
	if err := a.stopForeign(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.callLimit())
	defer cancel()
	sent := a.cfg.Clock()
	lease, err := a.cfg.Store.Grant(ctx, a.cfg.TTL)
	if err != nil {
		return err
	}
	revision, err := a.cfg.Store.Register(ctx, m, lease, expect)
	if err != nil {
		_ = a.cfg.Store.Revoke(ctx, lease) // it ends by itself too
		return err
	}
	a.cfg.Log.Info("The machine is in the cluster", "machine", m.ID, "lease", lease)
	a.registeredWith(lease, revision, sent)
	if old != 0 {
		_ = a.cfg.Store.Revoke(ctx, old)
	}
	// Tokens may have gone between the first look and the registration.
	return a.readSchedule(ctx)
}

func (a *Agent) registeredWith(lease, revision int64, sent time.Duration) {
	a.mu.Lock()
	a.lease, a.object, a.published, a.problem = lease, revision, nil, nil
	a.mu.Unlock()
	a.renewed(sent)
	a.save(func(m *memory.Machine) { m.Lease = lease })
	poke(a.publish)
	poke(a.work)
}

// stopForeign waits until no unit runs here whose token is not in the store.
// Such a unit may run elsewhere already, so it gets a second and is killed.
func (a *Agent) stopForeign(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, a.callLimit())
	defer cancel()
	if err := a.readSchedule(call); err != nil {
		return err
	}
	poke(a.work)
	begin := a.cfg.Clock()
	for {
		list, known := a.foreign()
		if known && len(list) == 0 {
			return nil
		}
		if now := a.cfg.Clock(); now > begin+a.cfg.TTL {
			return fmt.Errorf("units that are not scheduled here any more do not stop: %q", list)
		} else if now > begin+time.Second && len(list) > 0 {
			_ = a.cfg.Init.Kill(ctx, list)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// foreign lists the cluster's units that run here without a token. known is
// false as long as PID 1 has not told.
func (a *Agent) foreign() (list []string, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for unit, e := range a.entries {
		if e.token == nil && (e.file != "" || e.began != "") && !a.states[unit].Down() {
			list = append(list, unit)
		}
	}
	return list, a.watching
}
