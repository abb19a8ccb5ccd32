package supervisor

import (
	"cmp"

	"github.com/coracle-os/coracle/rootfs/console"
	"github.com/coracle-os/coracle/rootfs/jobs"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// announce says that a job has begun.
func (s *Supervisor) announce(l *live, j *jobs.Job, verb string) {
	if l.u.Kind != unit.KindService && l.u.Kind != unit.KindMount {
		return
	}
	s.log(6, l.u.Name, "%s %s...", verb, l.u.Description)
}

// announceStart says that a service begins to start, when that can take a
// while.
func (s *Supervisor) announceStart(l *live) {
	text := "Starting " + l.u.Description + "..."
	if t := l.u.Service.Type; t == unit.Simple || t == unit.Idle {
		if len(l.u.Service.ExecStartPre) == 0 {
			return
		}
	}
	s.cfg.Console.Status(console.Starting, text)
	s.log(6, l.u.Name, "%s", text)
}

// report says how a job ended, on the console and in the journal.
func (s *Supervisor) report(l *live, j *jobs.Job, r jobs.Result) {
	if l.u.LoadState != unit.Loaded || l.u.Kind == unit.KindSlice {
		return
	}
	switch j.Type {
	case transaction.Start, transaction.ReloadOrStart:
		s.reportStart(l, r)
	case transaction.Stop, transaction.Restart:
		if r == jobs.Done {
			text := word(l.u, "Stopped", "Stopped target", "Closed") + " " + l.u.Description + "."
			s.cfg.Console.Status(console.OK, text)
			s.log(6, l.u.Name, "%s", text)
		}
	case transaction.Reload:
		if r == jobs.Done {
			s.log(6, l.u.Name, "Reloaded %s.", l.u.Description)
		}
	}
}

func (s *Supervisor) reportStart(l *live, r jobs.Result) {
	switch r {
	case jobs.Done:
		if !l.condition {
			return
		}
		text := word(l.u, "Started", "Reached target", "Listening on") + " " + l.u.Description + "."
		if l.u.Service != nil && l.u.Service.Type == unit.Oneshot {
			text = "Finished " + l.u.Description + "."
		}
		s.cfg.Console.Status(console.OK, text)
		s.log(6, l.u.Name, "%s", text)
	case jobs.Canceled, jobs.Skipped:
	case jobs.Dependency:
		s.cfg.Console.Status(console.Depend, "Dependency failed for "+l.u.Description+".")
		s.log(4, l.u.Name, "Dependency failed for %s.", l.u.Description)
		s.log(5, l.u.Name, "%s: Job %s/start failed with result 'dependency'.", l.u.Name, l.u.Name)
	case jobs.Assert:
		s.cfg.Console.Status(console.Failed, "Assertion failed for "+l.u.Description+".")
		s.log(4, l.u.Name, "Assertion failed for %s.", l.u.Description)
	case jobs.Timeout:
		s.cfg.Console.Status(console.Timeout, "Timed out starting "+l.u.Description+".")
		s.log(3, l.u.Name, "Timed out starting %s.", l.u.Description)
	default:
		s.cfg.Console.Status(console.Failed, "Failed to start "+l.u.Description+".")
		if r == jobs.Failed {
			s.cfg.Console.Status(console.Starting, "See 'systemctl status "+l.u.Name+"' for details.")
		}
		verb := map[unit.Kind]string{unit.KindSocket: "listen on", unit.KindMount: "mount"}[l.u.Kind]
		s.log(3, l.u.Name, "Failed to %s %s.", cmp.Or(verb, "start"), l.u.Description)
	}
}

func word(u *unit.Unit, service, target, socket string) string {
	switch u.Kind {
	case unit.KindTarget:
		return target
	case unit.KindSocket:
		return socket
	default:
		return service
	}
}
