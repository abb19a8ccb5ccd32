package supervisor

import (
	"time"

	"github.com/coracle-os/coracle/rootfs/console"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/jobs"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// Targets of the two transactions of a boot. The second is planned after the
// first has ended, because provisioning writes and starts units: planned
// together, a unit that is ordered after provisioning and started by it would
// wait for itself.
const (
	firstTarget  = "user-config.target"
	secondTarget = "default.target"
)

// firstLimit bounds the wait for the first transaction; provisioning that
// hangs does not keep the machine down.
const firstLimit = 5 * time.Minute

// The phases of a boot, which a new copy of PID 1 goes on with.
const (
	phaseFirst  = "first"
	phaseSecond = "second"
)

// Boot starts the machine's units: those up to provisioning, then all. It may
// be called from anywhere, once.
func (s *Supervisor) Boot() {
	s.Post(func() {
		s.phase = phaseFirst
		j, err := s.enqueue(transaction.Request{Type: transaction.Start, Unit: firstTarget})
		if err != nil {
			s.bootSecond(err.Error())
			return
		}
		s.awaitFirst(j)
	})
}

// awaitFirst goes on with the second transaction when the job of the first has
// ended or takes too long.
func (s *Supervisor) awaitFirst(j *jobs.Job) {
	if j == nil {
		s.bootSecond("")
		return
	}
	j.Notify(func(r jobs.Result) {
		s.later(func() {
			if r == jobs.Done {
				s.bootSecond("")
			} else {
				s.bootSecond("its start ended with " + string(r))
			}
		})
	})
	s.after(firstLimit, func() { s.bootSecond("it is not there after " + firstLimit.String()) })
}

// bootSecond starts everything else, once; why says what was wrong with the
// first transaction.
func (s *Supervisor) bootSecond(why string) {
	if s.phase != phaseFirst {
		return
	}
	s.phase = phaseSecond
	if why != "" {
		s.log(3, "", "%s: %s; going on without it.", firstTarget, why)
		s.cfg.Console.Status(console.Failed, firstTarget+": "+why+"; going on without it.")
	}
	if s.stopping {
		return
	}
	if err := s.reload(); err != nil {
		s.log(3, "", "Failed to read the units again: %v", err)
	}
	j, err := s.enqueue(transaction.Request{Type: transaction.Start, Unit: secondTarget})
	if err != nil {
		s.log(2, "", "Failed to start %s: %v", secondTarget, err)
		s.cfg.Console.Status(console.Failed, "Failed to start "+secondTarget+": "+err.Error())
		s.rescue()
		return
	}
	if j == nil {
		s.bootDone(jobs.Done)
		return
	}
	j.Notify(s.bootDone)
}

// rescue brings up a login when the default target cannot be started at all.
func (s *Supervisor) rescue() {
	for _, name := range []string{"multi-user.target", "sshd.service", "serial-getty@ttyS0.service"} {
		s.request(transaction.Start, name, "rescue")
	}
	s.bootDone(jobs.Failed)
}

// bootDone ends the boot: the console now belongs to those who log in. A boot
// that a shutdown cancels leaves the console to that.
func (s *Supervisor) bootDone(jobs.Result) {
	if s.stopping {
		return
	}
	s.phase = ""
	s.finished, s.finishedAt = true, time.Now()
	took := s.finishedAt.Sub(s.started)
	s.log(6, "", "Startup finished in %s (userspace) after %s (kernel and stage 1).", took.Round(time.Millisecond), s.cfg.Uptime.Round(time.Millisecond))
	s.cfg.Console.Quiet(true)
	if s.cfg.Booted != nil {
		go s.cfg.Booted()
	}
}

// stopLimit bounds the orderly part of a shutdown: after it, what is left is
// killed, whatever its unit says.
const stopLimit = 5 * time.Minute

// shutdown takes the machine down in order. force 1 leaves out the stopping of
// units; force 2 ends at once. It runs in the loop.
func (s *Supervisor) shutdown(to Outcome, force int) error {
	if force > 0 {
		s.outcome, s.force = to, force
		return nil
	}
	if s.stopping {
		s.target = to // the later wish counts
		return nil
	}
	s.stopping, s.target = true, to
	s.cfg.Console.Quiet(false)
	s.log(5, "", "System is going down: %s.", to)
	end := func() { s.outcome = s.target }
	s.after(stopLimit, func() {
		s.log(3, "", "Units did not stop within %s; killing what is left.", stopLimit)
		end()
	})
	j, err := s.enqueue(transaction.Request{Type: transaction.Start, Unit: string(to) + ".target", Mode: transaction.ReplaceIrreversibly})
	if err != nil {
		s.log(3, "", "Failed to start %s.target (%v); stopping the units one by one.", to, err)
		s.stopEach(end)
		return nil
	}
	if j == nil {
		end()
		return nil
	}
	j.Notify(func(jobs.Result) { s.later(end) })
	return nil
}

// stopEach stops every service without a plan.
func (s *Supervisor) stopEach(end func()) {
	left := 0
	for name, l := range s.units {
		if l.u.Kind != unit.KindService || down(l.active()) {
			continue
		}
		j := s.queue.Add(transaction.Job{Unit: name, Type: transaction.Stop, Irreversible: true})
		left++
		j.Notify(func(jobs.Result) {
			if left--; left == 0 {
				s.later(end)
			}
		})
	}
	s.dirty = true
	if left == 0 {
		end()
	}
}

// Shutdown takes the machine down in order; a second call while it goes on
// changes how it is to end.
func (s *Supervisor) Shutdown(to Outcome) {
	s.Post(func() { _ = s.shutdown(to, 0) })
}

// Force ends the machine without stopping units first.
func (s *Supervisor) Force(to Outcome) {
	s.Post(func() { _ = s.shutdown(to, 1) })
}

// ForceLevel says how the machine is to be ended: 0 in order, 1 killing what
// is left at once, 2 without even writing back. It holds after Run.
func (s *Supervisor) ForceLevel() int { return s.force }

// Start queues the start of a unit and reports through done how its job ended.
func (s *Supervisor) Start(name string, done func(jobs.Result)) {
	s.Post(func() {
		j, err := s.enqueue(transaction.Request{Type: transaction.Start, Unit: name})
		switch {
		case err != nil:
			s.log(4, name, "Failed to start: %v", err)
			done(jobs.Failed)
		case j == nil:
			done(jobs.Done)
		default:
			j.Notify(done)
		}
	})
}

// Reload reads all unit files again, for a SIGHUP.
func (s *Supervisor) Reload() {
	s.Post(func() {
		if err := s.reload(); err != nil {
			s.log(3, "", "Failed to read the units again: %v", err)
		}
	})
}

// Reexecute lets PID 1 be executed anew, for a SIGTERM.
func (s *Supervisor) Reexecute() {
	s.Post(func() {
		if err := s.reexecute(); err != nil {
			s.log(4, "", "%v", err)
		}
	})
}

var _ control.Handler = (*Supervisor)(nil)
