package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/agent/fence"
	"github.com/coracle-os/coracle/agents/fleet/agent/reconcile"
)

// How long a unit waits after a step for it went wrong: doubled each time.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// worker brings PID 1 to what is scheduled.
func (a *Agent) worker(ctx context.Context) {
	for {
		steps, fetch, wait := a.plan()
		if len(fetch) > 0 {
			go a.fetch(ctx, fetch)
		}
		if len(steps) > 0 {
			if a.carryOut(ctx, steps) {
				continue // what was done may make the next step due
			}
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-a.work:
		case <-timer:
		}
	}
}

// plan tells what to do now, which contents are to be fetched for more, and
// when to look again because of units that failed; 0 is not.
func (a *Agent) plan() (steps []reconcile.Step, fetch []string, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.watching || !a.scheduled && !a.leaving {
		return nil, nil, 0
	}
	now := a.cfg.Clock()
	var wants []reconcile.Want
	var haves []reconcile.Have
	for unit, e := range a.entries {
		if e.retry > now {
			if d := e.retry - now; wait == 0 || d < wait {
				wait = d
			}
			continue
		}
		want, content, ok := a.want(unit, e)
		if content != "" && !a.wanted[content] {
			a.wanted[content] = true
			fetch = append(fetch, content)
		}
		if !ok {
			continue
		}
		if want != nil {
			wants = append(wants, *want)
		}
		if e.file == "" && e.began == "" && want == nil {
			delete(a.entries, unit)
			continue
		}
		haves = append(haves, reconcile.Have{Unit: unit, File: e.file, Active: a.states[unit].Active, Began: e.began})
	}
	steps = reconcile.Plan(wants, haves)
	if a.reload && !slices.ContainsFunc(steps, func(s reconcile.Step) bool { return s.Kind == reconcile.Reload }) {
		steps = append([]reconcile.Step{{Kind: reconcile.Reload, Reason: "the last one failed"}}, steps...)
	}
	return steps, fetch, wait
}

// want is what is wanted of a unit, nil if nothing is; the content that must be
// fetched for it; and whether there is anything to decide about it now.
func (a *Agent) want(unit string, e *entry) (want *reconcile.Want, content string, ok bool) {
	if e.token == nil || a.leaving {
		return nil, "", true
	}
	if a.grace && !e.noFence && e.token.State != fleet.Inactive {
		return nil, "", false // the store has the word
	}
	w := reconcile.Want{Unit: unit, Hash: e.token.Hash, State: e.token.State}
	if a.action != fence.Keep && !e.noFence {
		w.Down, w.Why = true, a.why
	}
	if w.State == fleet.Inactive || w.Hash == e.file {
		return &w, "", true
	}
	if _, there := a.contents[w.Hash]; there {
		return &w, "", true
	}
	if e.file == "" {
		return nil, w.Hash, false
	}
	w.Hash = e.file // until the new content is at hand the old one goes on
	return &w, e.token.Hash, true
}

// fetch gets contents from the store, trying until it has asked successfully.
func (a *Agent) fetch(ctx context.Context, hashes []string) {
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, a.callLimit())
		got, err := a.cfg.Store.Contents(call, hashes)
		cancel()
		if err == nil {
			a.fetched(hashes, got)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(a.cfg.TTL / 30):
		}
	}
}

func (a *Agent) fetched(hashes []string, got map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range hashes {
		delete(a.wanted, h)
		if text, ok := got[h]; ok {
			a.contents[h] = text
			continue
		}
		for unit, e := range a.entries {
			if e.token != nil && e.token.Hash == h && e.file != h {
				a.fail(unit, fmt.Errorf("its content %s is not in the key-value store", h))
			}
		}
	}
	poke(a.work)
}

// fail notes that a step for a unit went wrong.
func (a *Agent) fail(unit string, err error) {
	e := a.entry(unit)
	pause := min(firstRetry<<min(e.failed, 10), lastRetry)
	e.failed++
	e.retry = a.cfg.Clock() + pause
	a.cfg.Log.Warn("A unit is not as it should be; trying again", "unit", unit, "in", pause, "error", err)
	a.metrics.steps.WithLabelValues("all", "failed").Inc()
}

// carryOut does steps in order and tells whether files were changed. A failed
// one keeps back only what is to follow for its unit.
func (a *Agent) carryOut(ctx context.Context, steps []reconcile.Step) (files bool) {
	ctx, cancel := context.WithTimeout(ctx, initLimit)
	defer cancel()
	r := round{Agent: a, ctx: ctx, skip: map[string]bool{}}
	for i := 0; i < len(steps); {
		j := i
		for j < len(steps) && steps[j].Kind == steps[i].Kind {
			j++
		}
		r.group(steps[i].Kind, steps[i:j])
		i = j
	}
	a.saveUnits(r.changed)
	return r.files
}

// round is one pass of the worker.
type round struct {
	*Agent
	ctx     context.Context
	skip    map[string]bool // units of which nothing more is done in this pass
	loaded  []string
	changed []string // began has changed
	files   bool
}

// group does the steps of one kind together.
func (r *round) group(kind reconcile.Kind, steps []reconcile.Step) {
	var list []string
	hashes := map[string]string{}
	for _, s := range steps {
		if s.Unit != "" && r.skip[s.Unit] {
			continue
		}
		list = append(list, s.Unit)
		hashes[s.Unit] = s.Hash
		r.cfg.Log.Info("Task", "type", s.Kind, "unit", s.Unit, "reason", s.Reason)
	}
	if len(list) == 0 {
		return
	}
	switch kind {
	case reconcile.Unload:
		r.unload(r.reallyDown(list))
	case reconcile.Load:
		r.load(list, hashes)
	case reconcile.Reload:
		r.daemonReload()
	case reconcile.Stop:
		r.done(list, r.cfg.Init.Stop(r.ctx, list), func(_ string, e *entry) { e.began = "" })
	case reconcile.Start:
		r.start(list, hashes)
	case reconcile.Forget:
		r.giveBack(r.reallyDown(list))
	}
	r.metrics.steps.WithLabelValues(string(kind), "done").Add(float64(len(list)))
}

// done notes for each unit that a step for it worked or not.
func (r *round) done(list []string, failed map[string]error, worked func(unit string, e *entry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, unit := range list {
		if err := failed[unit]; err != nil {
			r.fail(unit, err)
			r.skip[unit] = true
			continue
		}
		e := r.entry(unit)
		before := e.began
		worked(unit, e)
		if e.began != before {
			r.changed = append(r.changed, unit)
		}
	}
}

// reallyDown asks PID 1 itself, because what it has told may be on its way: a
// unit that runs or is about to is stopped instead, and left out.
func (r *round) reallyDown(list []string) []string {
	states, err := r.cfg.Init.Show(r.ctx, list)
	if err != nil {
		r.done(list, all(list, err), nil)
		return nil
	}
	var down, up []string
	r.mu.Lock()
	for _, s := range states {
		r.states[s.Unit] = s
		if e := r.entry(s.Unit); s.Down() && !s.Job || e.file == "" && e.began == "" {
			down = append(down, s.Unit)
			continue
		}
		up = append(up, s.Unit)
		r.skip[s.Unit] = true
	}
	r.mu.Unlock()
	if len(up) > 0 {
		r.done(up, r.cfg.Init.Stop(r.ctx, up), func(_ string, e *entry) { e.began = "" })
		// It may be over before anybody looks: nothing more would be told.
		r.files = true
	}
	return down
}

func all(list []string, err error) map[string]error {
	m := map[string]error{}
	for _, unit := range list {
		m[unit] = err
	}
	return m
}

func (r *round) unload(list []string) {
	r.done(list, r.cfg.Init.Unload(r.ctx, list), func(_ string, e *entry) {
		e.file, e.began, e.load, e.noFence = "", "", "", false
		r.reload, r.files = true, true
	})
}

func (r *round) load(list []string, hashes map[string]string) {
	texts := map[string]string{}
	r.mu.Lock()
	for _, unit := range list {
		texts[unit] = r.contents[hashes[unit]]
	}
	r.mu.Unlock()
	r.done(list, r.cfg.Init.Load(texts), func(unit string, e *entry) {
		e.setFile(unit, texts[unit])
		r.loaded = append(r.loaded, unit)
		r.reload, r.files = true, true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	used := map[string]bool{}
	for _, e := range r.entries {
		if e.token != nil && e.token.Hash != e.file {
			used[e.token.Hash] = true
		}
	}
	for h := range r.contents {
		if !used[h] {
			delete(r.contents, h)
		}
	}
}

// daemonReload has PID 1 read the files, and asks what it thinks of new ones.
func (r *round) daemonReload() {
	if err := r.cfg.Init.Reload(r.ctx); err != nil {
		for _, unit := range r.loaded {
			r.skip[unit] = true
		}
		r.done(r.loaded, all(r.loaded, err), nil)
		return
	}
	r.mu.Lock()
	r.reload = false
	r.mu.Unlock()
	states, err := r.cfg.Init.Show(r.ctx, r.loaded)
	if err != nil {
		r.cfg.Log.Warn("PID 1 does not tell about units that were just loaded", "error", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range states {
		r.states[s.Unit] = s
		r.entry(s.Unit).load = s.Load
	}
	poke(r.publish)
}

// start starts units, unless the guard has said no meanwhile.
func (r *round) start(list []string, hashes map[string]string) {
	r.mu.Lock()
	now := r.cfg.Clock()
	list = slices.DeleteFunc(list, func(unit string) bool {
		return !r.entry(unit).noFence && fence.Decide(&r.evidence, r.params, now).Action != fence.Keep
	})
	r.mu.Unlock()
	r.done(list, r.cfg.Init.Start(r.ctx, list), func(unit string, e *entry) {
		e.began, e.failed = hashes[unit], 0
	})
}

// giveBack gives up what is down and unloaded.
func (r *round) giveBack(list []string) {
	r.done(list, nil, func(unit string, e *entry) {
		e.began = ""
		if e.token != nil && e.token.State == fleet.Inactive {
			r.forget[unit] = *e.token
		}
	})
	poke(r.publish)
}
