package agent

import (
	"context"
	"slices"
	"time"

	"github.com/coracle-os/coracle/agents/fleet/agent/fence"
	"github.com/coracle-os/coracle/agents/fleet/agent/memory"
	"github.com/coracle-os/coracle/agents/fleet/agent/units"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// initLimit bounds one request to PID 1, which answers at once.
const initLimit = 10 * time.Second

// setFile notes what the file of a unit says.
func (e *entry) setFile(unit, text string) {
	e.file, e.noFence = units.Hash(text), false
	if f, err := unitfile.Parse([]byte(text)); err == nil {
		if r, _, err := f.Requirements(unit); err == nil {
			e.noFence = r.NoFence
		}
	}
}

// giveGrace lets the store have its word first, after a time in which the agent
// did not run.
func (a *Agent) giveGrace(now time.Duration) { a.graceEnd = now + a.cfg.TTL/10 }

// guard fences: it waits for nothing but PID 1.
func (a *Agent) guard(ctx context.Context) {
	tick := a.cfg.TTL / 60 // 0.5 s of 30
	last := a.cfg.Clock()
	for ctx.Err() == nil {
		now := a.cfg.Clock()
		if now-last > a.cfg.TTL/10+tick {
			a.cfg.Log.Warn("The agent did not run for a while; asking the key-value store what holds", "seconds", (now - last).Seconds())
			a.mu.Lock()
			a.giveGrace(now)
			a.mu.Unlock()
		}
		last = now
		action, fenced := a.decide(now)
		if len(fenced) > 0 {
			a.fence(ctx, action, fenced)
		}
		select {
		case <-ctx.Done():
		case <-a.watch:
		case <-time.After(tick):
		}
	}
}

// decide updates what the worker goes by, and lists the units to be fenced now.
func (a *Agent) decide(now time.Duration) (fence.Action, []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := fence.Decide(&a.evidence, a.params, now)
	before, wasGrace := a.action, a.grace
	a.action, a.why = d.Action, d.Reason
	a.grace = d.Action != fence.Keep && now < a.graceEnd
	if before != a.action || wasGrace != a.grace {
		poke(a.work)
		poke(a.publish)
		switch {
		case a.grace:
		case a.action == fence.Keep:
			a.cfg.Log.Info("Units may run here", "reason", a.why)
		default:
			a.cfg.Log.Warn("Units must not run here now", "action", a.action, "reason", a.why)
		}
	}
	if a.action == fence.Keep || a.grace {
		return a.action, nil
	}
	var fenced []string
	for unit, e := range a.entries {
		if e.noFence || e.file == "" && e.began == "" {
			continue
		}
		if s, known := a.states[unit]; known && s.Down() || a.watching && !known {
			continue
		}
		fenced = append(fenced, unit)
	}
	slices.Sort(fenced)
	return a.action, fenced
}

// fence stops units, and kills them when it is time.
func (a *Agent) fence(ctx context.Context, action fence.Action, list []string) {
	ctx, cancel := context.WithTimeout(ctx, a.params.Margin)
	defer cancel()
	failed := a.cfg.Init.Stop(ctx, list)
	for unit, err := range failed {
		a.cfg.Log.Error("A unit that must not run here cannot be stopped", "unit", unit, "error", err)
	}
	a.mu.Lock()
	var changed []string
	for _, unit := range list {
		// It starts again when the machine is back.
		if e := a.entries[unit]; e != nil && failed[unit] == nil && e.began != "" {
			e.began, changed = "", append(changed, unit)
			a.metrics.fenced.Inc()
		}
	}
	a.mu.Unlock()
	if action == fence.Kill {
		if err := a.cfg.Init.Kill(ctx, list); err != nil {
			a.cfg.Log.Error("Units that must not run here cannot be killed", "error", err)
		}
	}
	if len(changed) > 0 {
		go a.saveUnits(changed) // a disk that hangs must not hold up the guard
	}
}

// saveUnits writes down which content of the units was started, as it is when
// it is their turn.
func (a *Agent) saveUnits(list []string) {
	if len(list) == 0 {
		return
	}
	a.saving.Lock()
	defer a.saving.Unlock()
	changed := map[string]*memory.Unit{}
	a.mu.Lock()
	for _, unit := range list {
		changed[unit] = nil
		if e := a.entries[unit]; e != nil && e.began != "" {
			changed[unit] = &memory.Unit{Began: e.began}
		}
	}
	a.mu.Unlock()
	if err := a.cfg.Memory.SetUnits(changed); err != nil {
		a.cfg.Log.Warn("The agent cannot write its memory; a restart of it may start units again", "units", list, "error", err)
	}
}

// asker asks the members of the store while renewals are missing.
func (a *Agent) asker(ctx context.Context) {
	pause := a.params.Hold / 8
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		now := a.cfg.Clock()
		a.mu.Lock()
		due, members := now-a.evidence.Sent > a.cfg.TTL/4, a.remembered.Members
		a.mu.Unlock()
		if !due {
			continue
		}
		v := fence.Judge(a.cfg.Store.Ask(ctx, members, a.params.Hold/8))
		if ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		basis := a.evidence.Basis()
		a.evidence.Asked(now, v, a.params)
		moved := a.evidence.Basis()
		a.mu.Unlock()
		if moved > basis {
			a.save(func(m *memory.Machine) { m.Sent = moved })
		}
		poke(a.watch)
	}
}
