// Package supervisor is the heart of PID 1: it owns every unit, carries out
// the plans of rootfs/transaction and keeps each unit's state.
//
// One goroutine, in Run, owns all of it; everything that happens (exits,
// notifications, timers, requests over the control socket) is posted to it as a
// function. Nothing it calls waits for the disk of a user or for another
// process. A panic while one unit is handled is contained to that unit: it is
// logged, the unit is marked failed, the loop goes on.
//
// It follows systemd 252 in what a unit's change of state does to others
// (BindsTo=, OnFailure=, StopWhenUnneeded=, start limits, unloading). Left out
// on purpose: D-Bus, user instances, generators, and swap units, whose start
// ends with "unsupported".
package supervisor

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/coracle-os/coracle/rootfs/cgroup"
	"github.com/coracle-os/coracle/rootfs/console"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/execcontext"
	"github.com/coracle-os/coracle/rootfs/jobs"
	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/socket"
	"github.com/coracle-os/coracle/rootfs/spawn"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/condition"
	"github.com/coracle-os/coracle/rootfs/unit/graph"
	"github.com/coracle-os/coracle/rootfs/unit/load"
)

// Record is one message for the journal.
type Record struct {
	Priority int    // 0 (emergency) to 7 (debug)
	Unit     string // the unit that it is about, or ""
	Message  string
	Fields   [][2]string
}

// Config is what a Supervisor works with.
type Config struct {
	Units   *load.Set        // only the loop uses it
	System  condition.System // what conditions ask about
	Reaper  *reap.Reaper
	Cgroups cgroup.Tree
	Watcher *cgroup.Watcher
	Sockets *socket.Watcher
	Exec    execcontext.System
	Starter spawn.Starter
	Console *console.Console
	Log     func(Record)
	Proc    string        // where procfs is mounted
	Memory  uint64        // bytes of the machine, for relative limits
	Tasks   uint64        // processes that the machine can hold
	Uptime  time.Duration // of the kernel when New was called
	// Properties returns what "show" prints of a unit's settings.
	Properties func(*unit.Unit, *graph.Graph) map[string]string
	// Booted is called once the boot is over; it may be nil.
	Booted func()
	// Idle is called some seconds after the last job has ended or the units
	// were read, in a goroutine of its own; it may be nil.
	Idle func()
	// Quiesce stops what brings events, before PID 1 is executed anew: requests,
	// notifications, the reaper. Resume begins it again if that fails. They are
	// called outside of the loop; nil means that it cannot be done.
	Quiesce, Resume func()
}

// Supervisor is the service manager. Make it with New, then call Run.
type Supervisor struct {
	cfg    Config
	events events

	units map[string]*live // by canonical name
	graph *graph.Graph
	queue *jobs.Queue
	pids  map[int]*live // processes that matter, for notifications

	watchers map[*watcher]bool
	touched  map[string]bool         // units that watchers may have to hear of
	told     map[string]control.Unit // what watchers know

	never    int  // processes that could not be started so far
	dirty    bool // jobs may have become runnable
	collect  bool // units may have become unused
	worked   bool // since idle was set
	idle     *time.Timer
	holding  int // requests that have loaded units which they have yet to use
	started  time.Time
	finished bool // the boot is over
	stopping bool // the machine goes down
	target   Outcome
	force    int

	finishedAt time.Time
	outcome    Outcome
	ended      chan struct{}

	phase       string      // of the boot; see Boot
	reexec      atomic.Bool // to be executed anew soon
	environment []string    // of systemctl set-environment: every command gets it

	results  map[int]control.Result // of jobs whose asker waits for the new copy of PID 1
	keepOpen []int                  // descriptors that the state being saved names
}

// Outcome is how the machine is to end.
type Outcome string

// The outcomes.
const (
	PowerOff Outcome = "poweroff"
	Reboot   Outcome = "reboot"
	Halt     Outcome = "halt"
	// Reexecute is not the end: PID 1 is to hand its state to a new copy of
	// itself; see Save.
	Reexecute Outcome = "reexecute"
)

// live is one loaded unit and what it is doing.
type live struct {
	u *unit.Unit
	d driver

	inactiveExit, activeEnter, activeExit, inactiveEnter time.Time
	changed                                              time.Time
	conditionAt, assertAt                                time.Time
	condition, assert                                    bool

	changedAt  time.Time   // when the latest of its files was changed, when it was read
	starts     []time.Time // that the start limit remembers
	limitHit   bool
	invocation string
	details    []string // variables that say what has started it: TRIGGER_UNIT and others
	settled    bool     // OnFailure= and OnSuccess= were acted upon
	jobTimer   *time.Timer
	jobLimit   time.Time // when jobTimer elapses
}

// driver is what a kind of unit does. Its methods run in the loop.
type driver interface {
	// start begins to bring the unit up; the driver reports the way through
	// Supervisor.changed.
	start() error
	stop()
	reload() error
	canReload() bool
	// refuse makes the unit fail without having run, for the start limit.
	refuse()
	reset()
	// configure takes in the unit's new text.
	configure(u *unit.Unit)
	state() (active transaction.State, sub string)
	// result is the Result property.
	result() string
	kill(whom string, sig int) int
	properties(set func(name, value string))
	// save returns what a new copy of PID 1 has to know, as a value for JSON,
	// and restore takes that in; what it starts in doing so must not change the
	// state of units before all are restored, so it goes through later.
	save() any
	restore(state []byte) error
}

// New returns a Supervisor that has loaded nothing yet.
func New(cfg Config) *Supervisor {
	g := graph.New(nil)
	s := &Supervisor{cfg: cfg, events: newEvents(), units: map[string]*live{}, results: map[int]control.Result{},
		watchers: map[*watcher]bool{}, graph: g, queue: jobs.New(g), pids: map[int]*live{}, started: time.Now(), ended: make(chan struct{})}
	s.queue.Dependent = s.dependent
	return s
}

// Post hands f to the loop, to be run there. It waits while the loop is far
// behind, and does nothing once the loop has ended. It must not be called from
// the loop.
func (s *Supervisor) Post(f func()) { s.events.post(f, s.ended) }

// later hands f to the loop, for after the step that is being handled. It never
// waits, so the loop itself and the reaper, which holds its lock, may call it.
func (s *Supervisor) later(f func()) { s.events.push(f) }

// Call runs f in the loop and returns when it is done, or with an error when
// the loop has ended or ctx is done before.
func (s *Supervisor) Call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	if !s.events.post(func() { defer close(done); f() }, s.ended, ctx.Done()) && ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-s.ended:
		return fmt.Errorf("ask PID 1: the machine is going down")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run owns the units until the machine is to end, or PID 1 to be executed
// anew, and says which. After Reexecute it may be called again.
func (s *Supervisor) Run() Outcome {
	for s.outcome == "" {
		s.guard(nil, s.events.next())
		s.settle()
	}
	if s.outcome != Reexecute {
		close(s.ended)
	}
	return s.outcome
}

// settle does what events have made due: run jobs, unload units.
func (s *Supervisor) settle() {
	for s.dirty {
		s.dirty = false
		s.guard(nil, s.dispatch)
	}
	if s.collect && s.queue.Len() == 0 && s.holding == 0 {
		s.collect = false
		s.guard(nil, s.unload)
	}
	s.guard(nil, s.tell)
	if s.worked && s.queue.Len() == 0 {
		s.worked = false
		s.rest()
	}
}

// idleAfter is how long there has to be no job for Config.Idle to be called.
const idleAfter = 3 * time.Second

// rest calls Config.Idle unless more is done soon.
func (s *Supervisor) rest() {
	switch {
	case s.cfg.Idle == nil:
	case s.idle == nil:
		s.idle = time.AfterFunc(idleAfter, s.cfg.Idle)
	default:
		s.idle.Reset(idleAfter)
	}
}

// guard runs f and contains a panic to the unit it was about.
func (s *Supervisor) guard(l *live, f func()) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		name := ""
		if l != nil {
			name = l.u.Name
		}
		s.log(2, name, "Internal fault, contained: %v\n%s", p, debug.Stack())
		if l != nil {
			s.abandon(l)
		}
	}()
	f()
}

// abandon marks a unit failed whose handling panicked.
func (s *Supervisor) abandon(l *live) {
	defer func() {
		if p := recover(); p != nil {
			s.log(2, l.u.Name, "Internal fault while marking the unit failed: %v", p)
		}
	}()
	l.d = &broken{driver: l.d}
	s.touch(l.u.Name)
	if j := s.queue.Of(l.u.Name); j != nil {
		s.finish(j, jobs.Failed)
	}
	s.dirty = true
}

// broken stands for a unit whose handling panicked, until it is reset.
type broken struct{ driver }

func (b *broken) state() (transaction.State, string) { return transaction.Failed, "failed" }
func (b *broken) result() string                     { return "resources" }
func (b *broken) stop()                              {}
func (b *broken) save() any                          { return nil }
func (b *broken) restore([]byte) error               { return nil }
func (b *broken) refuse()                            {}
func (b *broken) start() error {
	return fmt.Errorf("an internal fault hit this unit; see the journal, then reset-failed")
}

// after posts f to the loop after d. Stop the timer to cancel it; a call that
// is already on its way is the caller's to ignore.
func (s *Supervisor) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { s.Post(f) })
}

// log writes to the journal.
func (s *Supervisor) log(priority int, unit, format string, args ...any) {
	s.cfg.Log(Record{Priority: priority, Unit: unit, Message: fmt.Sprintf(format, args...)})
}

// stateOf returns the active state of a unit by canonical name.
func (s *Supervisor) stateOf(name string) transaction.State {
	if l := s.units[name]; l != nil {
		return l.active()
	}
	return transaction.Inactive
}

func (l *live) active() transaction.State {
	a, _ := l.d.state()
	return a
}

func down(st transaction.State) bool {
	return st == transaction.Inactive || st == transaction.Failed
}

func up(st transaction.State) bool { return st == transaction.Active || st == transaction.Reloading }
