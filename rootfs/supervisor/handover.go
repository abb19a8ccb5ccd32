package supervisor

import (
	"encoding/json"
	"time"

	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/service"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// serviceState is what a new copy of PID 1 has to know of a service.
type serviceState struct {
	Machine          service.Snapshot
	Populated, Spent bool
	OOMKills         int64
	Deadlines        map[service.Timer]moment
	Watching, Again  bool
	Socket           int
	From             string // the socket unit whose connection it serves
	Kept             []storedFD
	MainPID          int
	MainStart        moment
	MainEnd          moment
	TmpOf            string
}

type storedFD struct {
	FD   int
	Name string
}

func (d *serviceDriver) save() any {
	s := d.s
	st := serviceState{Machine: d.m.Save(), Populated: d.populated, Spent: d.spent, OOMKills: d.oomKills,
		Deadlines: map[service.Timer]moment{}, Watching: d.watching, Again: d.again, Socket: d.socket,
		MainPID: d.mainPID, MainStart: s.moment(d.mainStart), MainEnd: s.moment(d.mainEnd), TmpOf: d.tmpOf}
	for which, t := range d.timers {
		st.Deadlines[which] = s.moment(t.at)
	}
	if d.socket >= 0 {
		s.keepOpen = append(s.keepOpen, d.socket)
	}
	if d.from != nil {
		st.From = d.from.l.u.Name
	}
	for _, k := range d.kept {
		st.Kept = append(st.Kept, storedFD{k.fd, k.name})
		s.keepOpen = append(s.keepOpen, k.fd)
	}
	return st
}

func (d *serviceDriver) restore(b []byte) error {
	var st serviceState
	if err := json.Unmarshal(b, &st); err != nil {
		return err
	}
	s := d.s
	d.m.Restore(st.Machine)
	d.populated, d.spent, d.oomKills, d.again, d.socket = st.Populated, st.Spent, st.OOMKills, st.Again, st.Socket
	d.tmpOf = st.TmpOf
	d.mainPID, d.mainStart, d.mainEnd = st.MainPID, s.time(st.MainStart), s.time(st.MainEnd)
	for _, k := range st.Kept {
		d.kept = append(d.kept, keptFD{k.FD, k.Name})
		d.watchFD(k.FD)
	}
	for which, at := range st.Deadlines {
		d.armAt(which, s.time(at))
	}
	if d.populated {
		if err := s.cfg.Watcher.Add(d.group); err != nil {
			d.Log("%v", err)
		}
		s.later(func() { s.guard(d.l, d.groupEmpty) }) // which looks if it is
	}
	for _, pid := range []int{d.m.MainPID(), d.m.ControlPID()} {
		if pid > 0 && pid < noProcess {
			d.expect(pid)
		}
	}
	s.later(func() { s.guard(d.l, func() { d.resume(st) }) })
	return nil
}

// expect asks for the exit of a process that the copy before this one started;
// it may have ended meanwhile, and waits to be collected then.
func (d *serviceDriver) expect(pid int) {
	d.s.pids[pid] = d.l
	if !d.s.cfg.Reaper.Watch(pid, d.exited) {
		d.exited(reap.Exit{PID: pid})
	}
}

// resume goes on with what was under way, once all units are restored.
func (d *serviceDriver) resume(st serviceState) {
	if o := d.s.find(st.From); o != nil {
		d.from, _ = o.d.(*socketDriver)
	}
	if st.Watching {
		d.WatchPIDFile(true)
	}
	if d.m.State() == service.Start && d.cfg.Type == unit.Exec {
		go d.awaitProgram(d.m.MainPID())
	}
}

// awaitProgram tells the machine when the shim of a Type=exec service has become
// the program; the pipe that says so ended with the copy of PID 1 that made it.
func (d *serviceDriver) awaitProgram(pid int) {
	const interval, limit = 10 * time.Millisecond, time.Minute
	for begun := time.Now(); time.Since(begun) < limit; time.Sleep(interval) {
		if runs(d.s.cfg.Proc, pid) {
			d.s.Post(func() { d.s.guard(d.l, func() { d.m.Ran(pid) }) })
			return
		}
		if parent(d.s.cfg.Proc, pid) == 0 {
			return // it ended; its exit is on its way
		}
	}
}
