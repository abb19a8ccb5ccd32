package agent

import (
	"context"
	"time"

	"github.com/coracle-os/coracle/agents/fleet/agent/store"
	"github.com/coracle-os/coracle/agents/fleet/agent/units"
)

// follower keeps the tokens as they are in the store.
func (a *Agent) follower(ctx context.Context) {
	a.cfg.Store.Follow(ctx, a.setTokens, func(changes []store.Change) {
		a.mu.Lock()
		defer a.mu.Unlock()
		known := a.revision // what was read since may be newer
		for _, c := range changes {
			if c.Revision <= known {
				continue
			}
			a.revision = c.Revision
			if c.Token != nil || a.entries[c.Unit] != nil {
				a.entry(c.Unit).token = c.Token
			}
			a.tokenChanged(c.Unit)
		}
		poke(a.work)
	})
}

// readSchedule reads the tokens as they are now: a watch may lag.
func (a *Agent) readSchedule(ctx context.Context) error {
	tokens, revision, err := a.cfg.Store.Schedule(ctx)
	if err != nil {
		return err
	}
	a.setTokens(tokens, revision)
	return nil
}

// setTokens takes all tokens as of a revision.
func (a *Agent) setTokens(tokens []store.Token, revision int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.scheduled && revision < a.revision {
		return
	}
	a.scheduled, a.revision = true, revision
	for _, e := range a.entries {
		e.token = nil
	}
	for _, t := range tokens {
		a.entry(t.Unit).token = &t
	}
	for unit := range a.entries {
		a.tokenChanged(unit)
	}
	poke(a.work)
}

// tokenChanged lets a unit that failed be tried again at once.
func (a *Agent) tokenChanged(unit string) {
	e := a.entries[unit]
	if e == nil {
		return
	}
	e.failed, e.retry = 0, 0
	if e.token == nil {
		delete(a.forget, unit)
		poke(a.publish)
	}
}

// watchInit keeps the states as PID 1 has them.
func (a *Agent) watchInit(ctx context.Context) {
	for ctx.Err() == nil {
		first := map[string]units.State{}
		synced := false
		err := a.cfg.Init.Watch(ctx, func(states []units.State, done bool) {
			if synced {
				a.told(states)
				return
			}
			for _, s := range states {
				first[s.Unit] = s
			}
			if synced = done; done {
				a.toldAll(first)
			}
		})
		if ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		a.watching = false
		a.mu.Unlock()
		a.cfg.Log.Warn("PID 1 does not tell about its units; asking again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// toldAll takes the states of all units that PID 1 has in memory.
func (a *Agent) toldAll(all map[string]units.State) {
	a.mu.Lock()
	a.states, a.watching = all, true
	a.mu.Unlock()
	poke(a.work)
	poke(a.watch)
	poke(a.publish)
}

// told takes changes.
func (a *Agent) told(states []units.State) {
	ours := false
	a.mu.Lock()
	for _, s := range states {
		a.states[s.Unit] = s
		e := a.entries[s.Unit]
		if s.Load == "" && e == nil {
			delete(a.states, s.Unit)
		}
		if e != nil && s.Load != "" {
			e.load = s.Load
		}
		ours = ours || e != nil
	}
	a.mu.Unlock()
	if ours {
		poke(a.work)
		poke(a.watch)
		poke(a.publish)
	}
}
