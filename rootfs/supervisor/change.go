package supervisor

import (
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/jobs"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// change is one step of a unit from one active state to another.
type change struct {
	from, to     transaction.State
	restarting   bool // it is down, and starts again by itself
	reloadFailed bool
}

// changed is called by drivers after each step: it moves the unit's job on
// and lets other units know.
func (s *Supervisor) changed(l *live, c change) {
	s.stamp(l, c)
	s.touch(l.u.Name)
	expected := s.advance(l, c)
	if c.to == transaction.Active || down(c.to) {
		s.triggered(l, c.to)
	}
	if c.from == c.to {
		s.dirty = true
		return
	}
	if down(c.to) {
		s.wentDown(l, c, expected)
		if !c.restarting {
			l.details = nil
		}
	}
	s.dirty, s.collect = true, true
}

// stamp keeps the times of the unit's last steps.
func (s *Supervisor) stamp(l *live, c change) {
	now := time.Now()
	l.changed = now
	if c.from == c.to {
		return
	}
	if down(c.from) && !down(c.to) {
		l.inactiveExit = now
	}
	if !down(c.from) && down(c.to) {
		l.inactiveEnter = now
	}
	if !up(c.from) && up(c.to) {
		l.activeEnter = now
	}
	if up(c.from) && !up(c.to) {
		l.activeExit = now
	}
}

// advance moves the unit's running job on, and reports whether the step was
// what a job asked for.
func (s *Supervisor) advance(l *live, c change) bool {
	j := s.queue.Of(l.u.Name)
	if j == nil {
		return false
	}
	switch j.Type {
	case transaction.Start, transaction.VerifyActive:
		return s.advanceStart(j, c)
	case transaction.Stop, transaction.Restart:
		return s.advanceStop(j, c)
	case transaction.Reload, transaction.ReloadOrStart:
		if !j.Running {
			return false
		}
		switch {
		case c.to == transaction.Active && c.reloadFailed:
			s.finish(j, jobs.Failed)
		case c.to == transaction.Active:
			s.finish(j, jobs.Done)
		case down(c.to):
			s.finish(j, jobs.Failed)
			return false
		}
		return true
	}
	return false
}

func (s *Supervisor) advanceStart(j *jobs.Job, c change) bool {
	switch {
	case up(c.to):
		s.finish(j, jobs.Done)
	case !j.Running:
		return false
	case c.to == transaction.Failed:
		s.finish(j, jobs.Failed)
		return false
	case c.to == transaction.Inactive:
		s.finish(j, jobs.Done)
		return false
	case c.to == transaction.Deactivating:
		return false
	}
	return true
}

func (s *Supervisor) advanceStop(j *jobs.Job, c change) bool {
	switch {
	case down(c.to):
		if j.Running {
			s.stopped(j, s.finish)
		} else {
			s.dirty = true
		}
	case j.Running && c.to != transaction.Deactivating:
		return false
	}
	return true
}

// wentDown does what a unit's end does to others.
func (s *Supervisor) wentDown(l *live, c change, expected bool) {
	name := l.u.Name
	if !c.restarting && !l.settled {
		l.settled = true
		if c.to == transaction.Failed {
			s.startAll(l, unit.OnFailure)
			s.act(l, "FailureAction", l.u.FailureAction)
		} else if !down(c.from) {
			s.startAll(l, unit.OnSuccess)
			s.act(l, "SuccessAction", l.u.SuccessAction)
		}
	}
	if !expected {
		stopped := append(s.graph.By(name, unit.BindsTo, unit.StopPropagatedFrom), s.graph.Of(name, unit.PropagatesStopTo)...)
		for _, other := range stopped {
			if a := s.stateOf(other); a == transaction.Active || a == transaction.Activating || a == transaction.Reloading {
				s.request(transaction.Stop, other, "stops with "+name)
			}
		}
	}
	if !c.restarting {
		for _, other := range s.graph.By(name, unit.Upholds) {
			s.uphold(other, name)
		}
	}
	s.needless(l)
}

// uphold starts a unit again soon that another one, which is up, has in
// Upholds=.
func (s *Supervisor) uphold(by, name string) {
	if !up(s.stateOf(by)) || s.queue.Of(name) != nil {
		return
	}
	s.after(time.Second, func() {
		if up(s.stateOf(by)) && down(s.stateOf(name)) {
			s.request(transaction.Start, name, "upheld by "+by)
		}
	})
}

func (s *Supervisor) startAll(l *live, kind unit.Dep) {
	for _, other := range s.graph.Of(l.u.Name, kind) {
		s.log(6, l.u.Name, "Triggering %s= dependencies.", kind)
		mode := transaction.Replace // and for OnSuccess= "fail", the default of OnSuccessJobMode=
		if kind == unit.OnFailure {
			mode = transaction.Mode(l.u.OnFailureJobMode)
		} else if l.u.OnSuccessJobMode != "" {
			mode = transaction.Mode(l.u.OnSuccessJobMode)
		}
		s.requestMode(transaction.Start, mode, other, string(kind)+" of "+l.u.Name)
	}
}

// act ends the machine as FailureAction= and its relatives ask for.
func (s *Supervisor) act(l *live, setting, action string) {
	how, force, _ := strings.Cut(action, "-")
	to := map[string]Outcome{"reboot": Reboot, "poweroff": PowerOff, "halt": Halt, "exit": PowerOff}[how]
	if to == "" || s.stopping {
		return
	}
	s.log(1, l.u.Name, "%s=%s: the machine goes down because of %s.", setting, action, l.u.Name)
	level := map[string]int{"force": 1, "immediate": 2}[force]
	s.later(func() { _ = s.shutdown(to, level) }) // later, so that this step is complete
}

// request queues a job that nobody waits for.
func (s *Supervisor) request(t transaction.Type, name, why string) {
	s.requestMode(t, transaction.Replace, name, why)
}

func (s *Supervisor) requestMode(t transaction.Type, mode transaction.Mode, name, why string) {
	if _, err := s.enqueue(transaction.Request{Type: t, Unit: name, Mode: mode}); err != nil {
		s.log(4, name, "Failed to enqueue %s job (%s): %v", t, why, err)
	}
}

// needless stops units with StopWhenUnneeded= that this unit needed and that
// nobody needs now.
func (s *Supervisor) needless(l *live) {
	names := s.graph.Of(l.u.Name, unit.Requires, unit.Wants, unit.BindsTo, unit.Requisite, unit.Upholds)
	for _, name := range append(names, l.u.Name) {
		o := s.units[name]
		if o == nil || !o.u.StopWhenUnneeded || !up(o.active()) || s.queue.Of(name) != nil || s.needed(name) {
			continue
		}
		// Later, so that the step which is being handled is complete.
		s.later(func() {
			if o := s.units[name]; o != nil && up(o.active()) && s.queue.Of(name) == nil && !s.needed(name) {
				s.log(6, name, "Unit not needed anymore. Stopping.")
				s.request(transaction.Stop, name, "not needed")
			}
		})
	}
}

// needed reports whether a unit that is up, or about to be, wants this one.
func (s *Supervisor) needed(name string) bool {
	for _, other := range s.graph.By(name, unit.Requires, unit.Wants, unit.BindsTo, unit.Requisite, unit.Upholds) {
		if !down(s.stateOf(other)) {
			return true
		}
		if j := s.queue.Of(other); j != nil && j.Type != transaction.Stop {
			return true
		}
	}
	return false
}

// trigger is the driver of a unit that starts another one.
type trigger interface {
	// triggerChanged is called when the other unit has come up or gone down.
	triggerChanged(other *live, to transaction.State)
}

// triggered tells the units that start this one (sockets, timers) about its
// state.
func (s *Supervisor) triggered(l *live, to transaction.State) {
	for _, name := range s.graph.By(l.u.Name, unit.Triggers) {
		if o := s.units[name]; o != nil {
			if d, ok := o.d.(trigger); ok {
				s.guard(o, func() { d.triggerChanged(l, to) })
			}
		}
	}
}
