// Package agent is one machine of the scheduler: it keeps the machine's lease
// and object in the key-value store, follows the machine's schedule, drives
// PID 1 to what is scheduled, and publishes what becomes of it.
//
// # When units are stopped
//
// A unit is stopped because its token was released or is gone, because it is to
// be loaded only, because its content changes, because the machine is cut off,
// or because the agent leaves on SIGTERM. Nothing else stops one: neither a
// store that is slow, lost, or changes its leader, nor an agent that was killed
// and starts again: that one finds its lease in its memory, or in the store by
// boot id and address, and keeps it alive.
//
// # How long a unit can run twice
//
// Not at all while the agent runs, unless Fence=no: package fence has the
// argument and its assumptions. If the agent could not run until after its
// lease had ended (hung, or PID 1 could not start it), then until it runs again,
// a tenth of the TTL for asking the store, and what a killed unit takes to die.
//
// # How it is built
//
// Four loops share one state under one lock and never wait for each other: the
// guard (fencing; it talks to PID 1 only), the worker (PID 1), the keeper (lease
// and registration) and the publisher (states and tokens given back). Package
// reconcile decides what the worker does.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/agent/fence"
	"github.com/coracle-os/coracle/agents/fleet/agent/memory"
	"github.com/coracle-os/coracle/agents/fleet/agent/store"
	"github.com/coracle-os/coracle/agents/fleet/agent/units"
)

// Config is what an Agent works with.
type Config struct {
	Machine func() fleet.Machine // what the machine says of itself now; ID and BootID do not change
	TTL     time.Duration        // of the lease, whole seconds
	Store   store.Store
	Init    units.Init
	Memory  *memory.Memory
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil is none
	// Clock is the time since boot, which runs on while the machine sleeps;
	// nil is the kernel's.
	Clock func() time.Duration
	// StopLimit is how long units may take to stop when the agent leaves;
	// then they are killed. 0 is a minute.
	StopLimit time.Duration
}

// Agent is one machine's agent. Make it with New, then call Run once.
type Agent struct {
	cfg     Config
	params  fence.Params
	metrics metrics

	work    chan struct{} // wakes the worker
	watch   chan struct{} // the guard
	publish chan struct{} // the publisher
	renew   chan struct{} // the keeper

	abandoned chan struct{} // closed to end at once and leave all as it is; for SIGHUP and tests
	saving    sync.Mutex    // one writes units to the memory at a time

	mu      sync.Mutex
	entries map[string]*entry
	states  map[string]units.State // all that PID 1 has told

	watching  bool  // states is complete
	scheduled bool  // the tokens were read from the store
	revision  int64 // as of which
	leaving   bool
	reload    bool // a daemon-reload is due

	evidence fence.Evidence
	graceEnd time.Duration // until then the guard waits for the store's word
	grace    bool
	action   fence.Action
	why      string

	lease      int64
	object     int64 // revision of the machine's object; 0 is not registered
	problem    error // why it is not registered, or not renewed
	remembered memory.Machine

	contents  map[string]string // by hash, of units that are to be loaded
	wanted    map[string]bool   // hashes to be fetched
	published map[string]fleet.UnitState
	paces     map[string]*pace
	forget    map[string]store.Token
}

// entry is one unit that this machine has something to do with.
type entry struct {
	token   *store.Token
	file    string // hash; "" is none
	noFence bool
	load    string // PID 1's word for the file
	began   string
	failed  int           // how often in a row a step went wrong
	retry   time.Duration // not before
}

// New returns an agent that does nothing yet.
func New(cfg Config) *Agent {
	if cfg.Clock == nil {
		cfg.Clock = bootClock
	}
	if cfg.StopLimit == 0 {
		cfg.StopLimit = time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	signal := func() chan struct{} { return make(chan struct{}, 1) }
	a := &Agent{cfg: cfg, params: fence.For(cfg.TTL), work: signal(), watch: signal(), publish: signal(), renew: signal(), abandoned: make(chan struct{}),
		entries: map[string]*entry{}, states: map[string]units.State{}, contents: map[string]string{}, wanted: map[string]bool{},
		paces: map[string]*pace{}, forget: map[string]store.Token{}, action: fence.Kill, problem: errors.New("not registered yet")}
	a.metrics = newMetrics(cfg.Metrics, a)
	return a
}

func bootClock() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("the kernel has no boot clock: " + err.Error()) // since Linux 2.6.39 it has
	}
	return time.Duration(ts.Nano())
}

// poke wakes a loop.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Registered is nil while the machine takes part in the cluster, and says
// otherwise why not.
func (a *Agent) Registered() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.object == 0 || a.action != fence.Keep {
		return a.problem
	}
	return nil
}

// Abandon ends Run at once and leaves units, tokens and lease as they are, for
// an agent that begins again in their place. It may be called once.
func (a *Agent) Abandon() { close(a.abandoned) }

// Update has the machine's object written again if it has changed.
func (a *Agent) Update() { poke(a.renew) }

// Run takes part in the cluster until ctx ends; then it stops and unloads all
// units and takes the machine off the cluster. A killed process leaves all as
// it is.
func (a *Agent) Run(ctx context.Context) error {
	if err := a.remember(); err != nil {
		return err
	}
	loops, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var wg sync.WaitGroup
	for _, loop := range []func(context.Context){a.watchInit, a.guard, a.worker, a.keeper, a.sentinel, a.asker, a.follower, a.publisher} {
		wg.Go(func() { loop(loops) })
	}
	select {
	case <-a.abandoned:
		end()
		wg.Wait()
		return nil
	case <-ctx.Done():
	}
	a.stopAll()
	end()
	wg.Wait()
	return a.leave()
}

// remember reads what an agent before this one has left.
func (a *Agent) remember() error {
	files, err := a.cfg.Init.Files()
	if err != nil {
		return err
	}
	machine, began, err := a.cfg.Memory.Read()
	if err != nil {
		return err
	}
	if boot := a.cfg.Machine().BootID; machine.Boot != boot {
		// Nothing runs any more that was started then.
		forgotten := map[string]*memory.Unit{}
		for unit := range began {
			forgotten[unit] = nil
		}
		if err := a.cfg.Memory.SetUnits(forgotten); err != nil {
			return err
		}
		machine.Sent, machine.Boot, began = 0, boot, nil
	}
	a.remembered = machine
	a.evidence = fence.Evidence{Sent: machine.Sent}
	for unit, text := range files {
		a.entry(unit).setFile(unit, text)
	}
	for unit, u := range began {
		a.entry(unit).began = u.Began
	}
	a.giveGrace(a.cfg.Clock())
	return nil
}

// entry finds or makes the entry of a unit.
func (a *Agent) entry(unit string) *entry {
	e := a.entries[unit]
	if e == nil {
		e = &entry{}
		a.entries[unit] = e
	}
	return e
}

// save writes down what is to survive a crash of the agent. Without it the
// agent goes on: a restart takes longer then.
func (a *Agent) save(change func(m *memory.Machine)) {
	a.mu.Lock()
	change(&a.remembered)
	m := a.remembered
	a.mu.Unlock()
	if err := a.cfg.Memory.SetMachine(m); err != nil {
		a.cfg.Log.Warn("The agent cannot write its memory; a restart of it will take longer", "error", err)
	}
}

// stopAll stops and unloads every unit of the cluster.
func (a *Agent) stopAll() {
	a.mu.Lock()
	a.leaving = true
	a.mu.Unlock()
	poke(a.work)
	begin := a.cfg.Clock()
	for {
		left := a.left()
		now := a.cfg.Clock()
		if len(left) == 0 || now > begin+a.cfg.StopLimit+10*time.Second {
			return
		}
		if now > begin+a.cfg.StopLimit {
			ctx, cancel := context.WithTimeout(context.Background(), initLimit)
			_ = a.cfg.Init.Kill(ctx, left)
			cancel()
		}
		poke(a.work)
		time.Sleep(100 * time.Millisecond)
	}
}

// left lists the units that are not unloaded.
func (a *Agent) left() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []string
	for unit, e := range a.entries {
		if e.file != "" || e.began != "" && !a.states[unit].Down() {
			list = append(list, unit)
		}
	}
	return list
}

// leave takes the machine off the cluster. That the store does not hear of it
// is no error: the lease ends by itself.
func (a *Agent) leave() error {
	if left := a.left(); len(left) > 0 {
		return fmt.Errorf("units would not stop, so the machine stays in the cluster until its lease ends: %q", left)
	}
	a.mu.Lock()
	lease := a.lease
	a.mu.Unlock()
	if lease == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := a.cfg.Store.Leave(ctx, lease); err != nil {
		a.cfg.Log.Warn("The cluster cannot be told that the machine leaves; it finds out when the lease ends", "seconds", a.cfg.TTL.Seconds(), "error", err)
		return nil
	}
	a.save(func(m *memory.Machine) { m.Lease, m.Sent = 0, 0 })
	return nil
}
