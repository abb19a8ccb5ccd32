// Package engine is where the scheduler decides: of the engines in a cluster,
// one on each machine that allows it, one leads by an etcd lease. It follows the
// registry's mirror, asks package decide what to do after each change, and writes
// that in transactions that hold only while it leads. The others watch two keys.
//
// What an engine that lost its leadership still writes is refused by the KV, so
// two never decide at once, whatever their clocks and pauses are. An engine that
// is older than one that ever led stands aside. Log lines are fleet's.
//
// Other than fleet there is no pass every two seconds: a quiet cluster costs the
// KV nothing but one lease.
package engine

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/decide"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/follow"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
)

// Version is this engine's: raise it when what it writes would be undone or
// misunderstood by older ones.
const Version = 1

// Options are an engine's. Registry and MachineID must be given.
type Options struct {
	Registry  *registry.Registry
	MachineID string
	Version   int                                 // 0 is Version
	TTL       time.Duration                       // of the leader's lease, in full seconds; 0 is 10 s
	Collect   time.Duration                       // unused contents are removed when they were so for this long; 0 is 10 min
	Decide    func(*fleet.Snapshot) decide.Result // nil is decide.Decide
	Log       *slog.Logger                        // nil is slog.Default()
	Now       func() time.Time                    // nil is time.Now
	Metrics   *Metrics                            // nil counts nowhere
}

type engine struct {
	Options
	leader string // machine that was last seen to lead
}

// Run takes part until ctx ends, and gives the leadership up at once then. It
// tries for ever: no KV is a state, not an end.
func Run(ctx context.Context, o Options) {
	e := engine{Options: o}
	e.defaults()
	pause := firstPause
	for ctx.Err() == nil {
		start := time.Now()
		err := e.term(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) > lastPause {
			pause = firstPause
		}
		if err != nil {
			e.Log.Warn("The engine cannot take part; trying again", "error", err, "pause", pause)
		}
		sleep(ctx, pause)
		pause = min(2*pause, lastPause)
	}
}

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
	giveUpTime = 2 * time.Second // for revoking the lease when told to stop
)

func (e *engine) defaults() {
	if e.Version == 0 {
		e.Version = Version
	}
	if e.TTL <= 0 {
		e.TTL = 10 * time.Second
	}
	if e.Collect <= 0 {
		e.Collect = 10 * time.Minute
	}
	if e.Decide == nil {
		e.Decide = decide.Decide
	}
	if e.Log == nil {
		e.Log = slog.Default()
	}
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.Metrics == nil {
		e.Metrics = NewMetrics(nil)
	}
}

// term waits until nobody leads, tries to, and leads if that works.
func (e *engine) term(ctx context.Context) error {
	if err := e.wait(ctx); err != nil {
		return err
	}
	granting, cancel := context.WithTimeout(ctx, e.Registry.Timeout)
	defer cancel()
	grant, err := e.Registry.Client.Grant(granting, int64(max(1, e.TTL.Round(time.Second)/time.Second)))
	if err != nil {
		return follow.Wrap("get a lease for the engine", err)
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveUpTime)
		defer cancel()
		if err := e.Registry.Resign(ending, grant.ID); err != nil {
			e.Log.Warn("The engine's lease ends by itself", "error", err)
		}
	}()
	c, err := e.Registry.Campaign(ctx, layout.Engine{MachineID: e.MachineID, Version: e.Version}, grant.ID)
	if err != nil || c.Leadership == nil {
		return err
	}
	return e.rule(ctx, *c.Leadership, grant.ID)
}

// rule leads as long as the lease lives.
func (e *engine) rule(ctx context.Context, l registry.Leadership, lease clientv3.LeaseID) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	alive, err := e.Registry.Client.KeepAlive(ctx, lease)
	if err != nil {
		return follow.Wrap("keep the engine's lease", err)
	}
	go func() {
		defer cancel()
		for range alive {
		}
	}()
	e.Log.Info("Engine leadership acquired")
	e.see(e.MachineID)
	e.Metrics.leads(e.Now())
	defer e.Metrics.follows()
	err = e.lead(ctx, l)
	e.Log.Info("Engine leadership lost")
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// wait returns when nobody leads that this engine lets lead.
func (e *engine) wait(ctx context.Context) error {
	for {
		c, err := e.Registry.Election(ctx)
		if err != nil {
			return err
		}
		switch {
		case c.Newest > e.Version:
			e.Log.Warn("A newer engine has led this cluster; this one stands aside until it is updated", "version", e.Version, "newest", c.Newest)
		case c.Leader.MachineID == "":
			// Many see the end of a leader at once: not all of them shall ask for a lease.
			return sleep(ctx, rand.N(50*time.Millisecond))
		case c.Leader.Version < e.Version && c.Newest < e.Version:
			return nil
		}
		if c.Leader.MachineID != "" {
			e.see(c.Leader.MachineID)
		}
		if err := e.change(ctx, c.Revision); err != nil {
			return err
		}
	}
}

// change waits until the leader or the newest version changes.
func (e *engine) change(ctx context.Context, since int64) error {
	ctx, cancel := context.WithCancel(follow.Context(ctx))
	defer cancel()
	leader := e.Registry.Client.Watch(ctx, e.Registry.Keys.Leader(), clientv3.WithRev(since+1))
	version := e.Registry.Client.Watch(ctx, e.Registry.Keys.EngineVersion(), clientv3.WithRev(since+1))
	for {
		var answer clientv3.WatchResponse
		var open bool
		select {
		case answer, open = <-leader:
		case answer, open = <-version:
		}
		if !open {
			return errors.Join(errors.New("the watch of the leading engine ended"), ctx.Err())
		}
		if err := answer.Err(); err != nil && answer.CompactRevision == 0 {
			return follow.Wrap("watch the leading engine", err)
		}
		if len(answer.Events) > 0 || answer.CompactRevision != 0 {
			return nil
		}
	}
}

// see logs who leads when that has changed.
func (e *engine) see(leader string) {
	switch e.leader {
	case leader:
		return
	case "":
		e.Log.Info("Engine leader is " + leader)
	default:
		e.Log.Info("Engine leadership changed from " + e.leader + " to " + leader)
	}
	e.leader = leader
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
