package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/agent/store"
)

// How states are published: soon, together, and less often for a unit that
// changes all the time (one that crashes and is restarted), so that it costs
// the store little.
const (
	gather    = 100 * time.Millisecond // changes that come together are one write
	firstPace = time.Second            // between two writes for one unit
	lastPace  = 30 * time.Second
)

// pace is how often a unit's state is written.
type pace struct {
	last time.Duration // when it was
	wait time.Duration // until the next
}

// next tells when a change may be written.
func (p *pace) next() time.Duration { return p.last + p.wait }

// written notes a write: one soon after the last doubles the wait.
func (p *pace) written(now time.Duration) {
	switch quiet := now - p.last; {
	case p.last == 0:
		p.wait = 0 // the first two follow at once: loaded, then active
	case quiet > 2*p.wait+10*time.Second:
		p.wait = 0
	default:
		p.wait = min(max(firstPace, 2*p.wait), lastPace)
	}
	p.last = now
}

// publisher writes states to the store and gives tokens back.
func (a *Agent) publisher(ctx context.Context) {
	for {
		wait, err := a.publishOnce(ctx)
		if err != nil {
			a.cfg.Log.Debug("States are not published; trying again", "error", err)
			wait = a.cfg.TTL / 15
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-timer:
		case <-a.publish:
			select {
			case <-ctx.Done():
				return
			case <-time.After(gather):
			}
		}
	}
}

// publishOnce writes what is due and tells when more will be; 0 is never.
func (a *Agent) publishOnce(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.TTL/3)
	defer cancel()
	a.mu.Lock()
	forget := slices.Collect(maps.Values(a.forget))
	lease, known := a.lease, a.published != nil
	a.mu.Unlock()
	if err := a.giveBack(ctx, forget); err != nil {
		return 0, err
	}
	if lease == 0 {
		return 0, nil
	}
	if !known {
		there, err := a.cfg.Store.States(ctx)
		if err != nil {
			return 0, err
		}
		a.mu.Lock()
		a.published = there
		a.mu.Unlock()
	}
	changes, wait := a.due()
	if len(changes) == 0 {
		return wait, nil
	}
	err := a.cfg.Store.Publish(ctx, lease, changes)
	if errors.Is(err, store.ErrLeaseGone) {
		poke(a.renew)
	}
	if err != nil {
		return 0, err
	}
	a.metrics.published.Add(float64(len(changes)))
	a.notePublished(lease, changes)
	return wait, nil
}

// giveBack removes tokens of units that are down from the store.
func (a *Agent) giveBack(ctx context.Context, tokens []store.Token) error {
	if len(tokens) == 0 {
		return nil
	}
	if err := a.cfg.Store.Forget(ctx, tokens); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range tokens {
		// The watch tells whether the token is really gone.
		if a.forget[t.Unit].Revision == t.Revision {
			delete(a.forget, t.Unit)
			delete(a.published, t.Unit)
			delete(a.paces, t.Unit)
		}
	}
	return nil
}

// due compares states with what was published.
func (a *Agent) due() (changes map[string]*fleet.UnitState, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Clock()
	changes = map[string]*fleet.UnitState{}
	for unit, e := range a.entries {
		s, ok := a.state(unit, e)
		before, there := a.published[unit]
		if !ok || there && sameState(before, s) {
			continue
		}
		p := a.paces[unit]
		if p == nil {
			p = &pace{}
			a.paces[unit] = p
		}
		if at := p.next(); at > now {
			if wait == 0 || at-now < wait {
				wait = at - now
			}
			continue
		}
		p.written(now)
		changes[unit] = &s
	}
	for unit := range a.published {
		if e := a.entries[unit]; e == nil || e.token == nil {
			changes[unit] = nil
		}
	}
	return changes, wait
}

// state is what the cluster is to know of a unit; false is nothing yet.
func (a *Agent) state(unit string, e *entry) (fleet.UnitState, bool) {
	if e.token == nil || e.file == "" || e.load == "" {
		return fleet.UnitState{}, false
	}
	s := fleet.UnitState{Unit: unit, Machine: a.cfg.Store.ID, Hash: e.file, Load: e.load, Active: "inactive", Sub: "dead"}
	if p, known := a.states[unit]; known && p.Active != "" {
		s.Active, s.Sub, s.Since = p.Active, p.Sub, p.Since
	}
	return s, true
}

func sameState(a, b fleet.UnitState) bool {
	return a.Hash == b.Hash && a.Load == b.Load && a.Active == b.Active && a.Sub == b.Sub && a.Since.Equal(b.Since)
}

func (a *Agent) notePublished(lease int64, changes map[string]*fleet.UnitState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lease != lease || a.published == nil {
		return // another registration begins with reading them
	}
	for unit, s := range changes {
		if s == nil {
			delete(a.published, unit)
			delete(a.paces, unit)
			continue
		}
		a.published[unit] = *s
	}
}
