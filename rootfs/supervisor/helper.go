package supervisor

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/execcontext"
	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/service"
	"github.com/coracle-os/coracle/rootfs/spawn"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// helpers runs commands of a unit that is no service, one after the other: the
// ExecStartPre= and its relatives of a socket. The zero value runs nothing.
type helpers struct {
	pid   int
	call  int // counts runs, so that a late end is recognised
	limit *time.Timer
}

// run runs the commands and then calls done, in the loop, with the result
// ("success", "exit-code", "signal", "timeout" or "resources"). Without commands
// it calls done at once.
func (h *helpers) run(s *Supervisor, l *live, c *unit.ExecContext, list []unit.Command, limit time.Duration, done func(string)) {
	h.stop()
	if len(list) == 0 {
		done(string(service.Success))
		return
	}
	call := h.call
	next := func(result string) {
		if h.call != call {
			return
		}
		h.stop()
		if result != string(service.Success) && !list[0].IgnoreFailure {
			done(result)
			return
		}
		h.run(s, l, c, list[1:], limit, done)
	}
	pid, err := s.spawnHelper(l, c, list[0], func(e reap.Exit) { next(helperResult(s, l, e, list[0].IgnoreFailure)) })
	if err != nil {
		s.log(4, l.u.Name, "%s: Failed to run %s: %v", l.u.Name, list[0].Path, err)
		next(string(service.Resources))
		return
	}
	h.pid = pid
	if limit > 0 && limit != timespan.Infinity {
		h.limit = s.after(limit, func() {
			s.log(4, l.u.Name, "%s: %s takes longer than TimeoutSec=. Killing it.", l.u.Name, list[0].Path)
			_ = unix.Kill(pid, unix.SIGKILL)
			next(string(service.Timeout))
		})
	}
}

// stop forgets the command that runs.
func (h *helpers) stop() {
	h.call++
	h.pid = 0
	if h.limit != nil {
		h.limit.Stop()
		h.limit = nil
	}
}

func helperResult(s *Supervisor, l *live, e reap.Exit, ignore bool) string {
	switch {
	case e.Signal == 0 && e.Status == 0:
		return string(service.Success)
	case !ignore && e.Signal == 0:
		s.log(5, l.u.Name, "%s: Control process exited, code=exited, status=%d/%s", l.u.Name, e.Status, service.StatusName(e.Status))
	case !ignore:
		s.log(5, l.u.Name, "%s: Control process exited, code=killed, status=%d/%s", l.u.Name, int(e.Signal), unix.SignalName(e.Signal))
	}
	if e.Signal != 0 {
		return string(service.Signal)
	}
	return string(service.ExitCode)
}

// spawnHelper starts one command in the unit's control group, which goes with
// the command; exited is called in the loop.
func (s *Supervisor) spawnHelper(l *live, c *unit.ExecContext, command unit.Command, exited func(reap.Exit)) (int, error) {
	group, err := s.cfg.Cgroups.Create(s.cgroupPath(l.u))
	if err != nil {
		return 0, err
	}
	if err := group.Apply(l.u.Cgroup, s.cfg.Memory, s.cfg.Tasks); err != nil {
		s.log(4, l.u.Name, "Some limits are not in force: %v", err)
	}
	prepared, err := s.cfg.Exec.Prepare(execcontext.Request{Unit: l.u.Name, Command: command, Context: c, Socket: -1})
	if err == nil {
		defer prepared.Close()
		var dir int
		if dir, err = group.OpenDir(); err == nil {
			defer unix.Close(dir)
			prepared.Spec.Cgroup = dir
		}
	}
	pid := 0
	if err == nil {
		pid, err = s.cfg.Reaper.Start(func() (int, error) {
			pid, ran, err := s.cfg.Starter.Start(prepared.Spec)
			if ran != nil {
				ran.Close()
			}
			return pid, err
		}, func(e reap.Exit) {
			s.later(func() {
				_, _ = group.Signal(unix.SIGKILL)
				_ = group.RemoveEmpty()
				s.guard(l, func() { exited(e) })
			})
		})
	}
	if e := (*spawn.Error)(nil); errors.As(err, &e) {
		s.log(4, l.u.Name, "%s: %v", l.u.Name, e)
		s.later(func() { s.guard(l, func() { exited(reap.Exit{Status: e.Status}) }) })
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("start %q: %w", command.Path, err)
	}
	return pid, nil
}
