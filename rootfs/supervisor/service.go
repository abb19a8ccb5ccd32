package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/cgroup"
	"github.com/coracle-os/coracle/rootfs/execcontext"
	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/service"
	"github.com/coracle-os/coracle/rootfs/spawn"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// serviceDriver connects the state machine of one service to the kernel: it is
// the machine's Host.
type serviceDriver struct {
	s *Supervisor
	l *live
	m *service.Machine

	cfg       *unit.Service
	group     cgroup.Group
	populated bool // the control group exists and was populated when last seen
	spent     bool // the control group must be made anew before it is used again
	oomKills  int64
	timers    map[service.Timer]*armed
	watching  bool // a poll for the PID file is on
	again     bool // the next start is by itself
	socket    int  // connection of an instance with Accept=yes, or -1
	from      *socketDriver
	kept      []keptFD
	mainPID   int // the latest
	mainStart time.Time
	mainEnd   time.Time
	runs      commandRuns
	tmpOf     string // the unit whose private /tmp this one has
}

// armed is one armed timer; a stopped one that fires late is recognised by
// its identity.
type armed struct {
	t  *time.Timer
	at time.Time
}

func (s *Supervisor) newService(l *live) *serviceDriver {
	d := &serviceDriver{s: s, l: l, cfg: l.u.Service, timers: map[service.Timer]*armed{}, socket: -1, runs: commandRuns{}}
	d.m = service.New(l.u.Name, d.cfg, d)
	d.group = s.cfg.Cgroups.Group(s.cgroupPath(l.u))
	return d
}

func (d *serviceDriver) state() (transaction.State, string) {
	st := d.m.State()
	return transaction.State(st.Active()), string(st)
}

func (d *serviceDriver) result() string { return string(d.m.Result()) }

func (d *serviceDriver) start() error {
	clear(d.runs)
	again := d.again || d.m.State() == service.AutoRestart
	d.again = false
	return d.m.Start(again)
}

func (d *serviceDriver) stop()           { d.m.Stop() }
func (d *serviceDriver) reload() error   { return d.m.Reload() }
func (d *serviceDriver) canReload() bool { return len(d.cfg.ExecReload) > 0 }
func (d *serviceDriver) reset()          { d.m.Reset() }

// refuse ends a start that the start limit forbids; one that the service asked
// for by itself counts as a restart all the same.
func (d *serviceDriver) refuse() {
	d.m.RefuseStart(d.again, service.StartLimitHit)
	d.again = false
}

func (d *serviceDriver) configure(u *unit.Unit) {
	if u.Service == nil {
		return
	}
	d.cfg = u.Service
	d.m.Reconfigure(u.Service)
	if !d.populated {
		return
	}
	if err := d.group.Reapply(d.l.u.Cgroup, d.s.cfg.Memory, d.s.cfg.Tasks); err != nil {
		d.Log("Some limits are not in force: %v", err)
	}
}

func (d *serviceDriver) kill(whom string, sig int) int {
	n := 0
	if whom == "main" || whom == "all" {
		if pid := d.m.MainPID(); pid > 0 && d.Kill(pid, sig) {
			n++
		}
	}
	if whom == "control" || whom == "all" {
		if pid := d.m.ControlPID(); pid > 0 && d.Kill(pid, sig) {
			n++
		}
	}
	if whom == "all" {
		n += d.KillGroup(sig, d.m.MainPID(), d.m.ControlPID())
	}
	return n
}

// Spawn implements service.Host.
func (d *serviceDriver) Spawn(p service.Process) (int, error) {
	s := d.s
	if err := d.prepareGroup(); err != nil {
		return 0, err
	}
	req := d.request(p)
	prepared, err := s.cfg.Exec.Prepare(req)
	if err != nil {
		return d.unspawned(p, err)
	}
	defer prepared.Close()
	dir, err := d.group.OpenDir()
	if err != nil {
		return 0, err
	}
	defer unix.Close(dir)
	prepared.Spec.Cgroup = dir
	var ran *os.File
	pid, err := s.cfg.Reaper.Start(func() (pid int, err error) {
		pid, ran, err = s.cfg.Starter.Start(prepared.Spec)
		return pid, err
	}, d.exited)
	if err != nil {
		return d.unspawned(p, err)
	}
	s.pids[pid] = d.l
	d.runs.began(p.Phase, pid)
	if p.Main {
		d.mainPID, d.mainStart, d.mainEnd = pid, time.Now(), time.Time{}
		d.reportRun(pid, ran)
	} else if ran != nil {
		ran.Close()
	}
	return pid, nil
}

// unspawned turns a set-up that failed into the exit of a process that never
// was: its number is one that the kernel cannot give out.
func (d *serviceDriver) unspawned(p service.Process, err error) (int, error) {
	var e *spawn.Error
	if !errors.As(err, &e) {
		return 0, err
	}
	d.Log("%v", e)
	d.s.never++
	pid := noProcess + d.s.never
	d.runs.began(p.Phase, pid)
	if p.Main {
		d.mainPID, d.mainStart = pid, time.Now()
	}
	d.s.later(func() {
		d.s.guard(d.l, func() { d.ended(reap.Exit{PID: pid, Status: e.Status}) })
	})
	return pid, nil
}

// noProcess and what is above it is no process id (PID_MAX_LIMIT is 1<<22).
const noProcess = 1 << 22

// reportRun tells the machine when the main program of a Type=exec service
// runs.
func (d *serviceDriver) reportRun(pid int, ran *os.File) {
	tell := func() { d.s.Post(func() { d.s.guard(d.l, func() { d.m.Ran(pid) }) }) }
	if d.cfg.Type != unit.Exec {
		if ran != nil {
			ran.Close()
		}
		return
	}
	go func() {
		if ran != nil {
			_, _ = io.Copy(io.Discard, ran)
			ran.Close()
			if !runs(d.s.cfg.Proc, pid) {
				return // it failed; its exit is on its way
			}
		}
		tell()
	}()
}

// runs reports whether a process is there and is not the shim any more.
func runs(proc string, pid int) bool {
	b, err := os.ReadFile(proc + "/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && len(b) > 0 && !strings.HasPrefix(string(b), spawn.ShimName+"\x00")
}

func (d *serviceDriver) request(p service.Process) execcontext.Request {
	env := slices.Concat(d.s.environment, []string{"INVOCATION_ID=" + d.l.invocation}, p.Env)
	if w := d.m.WatchdogEvery(); w > 0 {
		env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(w.Microseconds(), 10))
	}
	env = append(env, d.l.details...)
	if d.socket >= 0 {
		env = append(env, remote(d.socket)...)
	}
	if p.Main || p.Phase == service.ExecCondition || p.Phase == service.ExecStartPre {
		env = append(env, d.monitored()...)
	}
	r := execcontext.Request{Unit: d.l.u.Name, Command: p.Command, Context: &d.cfg.ExecContext, Extra: env,
		Notify: d.cfg.NotifyAccess != unit.NotifyNone && d.cfg.NotifyAccess != "", Socket: d.socket}
	if d.cfg.Sandbox.PrivateTmp {
		for _, o := range d.joined() {
			if !down(o.l.active()) && o.tmpOf != "" {
				r.TmpOf = o.tmpOf
			}
		}
		d.tmpOf = cmp.Or(r.TmpOf, d.l.u.Name)
	}
	r.WholeRoot = d.cfg.RootDirectoryStartOnly && p.Phase != service.ExecStart
	r.AsRoot = d.cfg.PermissionsStartOnly && p.Phase != service.ExecStart
	if p.Phase == service.ExecStart {
		r.Passed, r.Names = d.s.sockets(d.l)
		d.purgeFDs()
		for _, k := range slices.Backward(d.kept) { // the latest first, as systemd has them
			r.Passed, r.Names = append(r.Passed, k.fd), append(r.Names, k.name)
		}
	}
	return r
}

// monitored tells a service that is the OnFailure= or OnSuccess= of one other
// what became of that.
func (d *serviceDriver) monitored() []string {
	names := d.s.graph.By(d.l.u.Name, unit.OnFailure, unit.OnSuccess)
	if len(names) != 1 {
		return nil
	}
	l := d.s.units[names[0]]
	if l == nil {
		return nil
	}
	of, ok := l.d.(*serviceDriver)
	if !ok || !down(l.active()) {
		return nil
	}
	var env []string
	for _, e := range of.m.Outcome() {
		env = append(env, "MONITOR_"+e)
	}
	return append(env, "MONITOR_INVOCATION_ID="+l.invocation, "MONITOR_UNIT="+l.u.Name)
}

// prepareGroup makes the unit's control group and sets its limits.
func (d *serviceDriver) prepareGroup() error {
	if d.spent && !d.group.Populated() {
		d.s.cfg.Watcher.Drop(d.group)
		if err := d.group.Remove(); err != nil {
			return err
		}
		d.spent, d.populated = false, false
	}
	if d.populated && d.group.Exists() {
		return nil
	}
	g, err := d.s.cfg.Cgroups.Create(d.group.Path())
	if err != nil {
		return err
	}
	if err := g.Apply(d.l.u.Cgroup, d.s.cfg.Memory, d.s.cfg.Tasks); err != nil {
		d.Log("Some limits are not in force: %v", err)
	}
	d.oomKills = g.Stats().OOMKills
	if err := d.s.cfg.Watcher.Add(g); err != nil {
		return err
	}
	d.populated = true
	return nil
}

// exited is called by the reaper, with its lock held.
func (d *serviceDriver) exited(e reap.Exit) {
	d.s.later(func() {
		delete(d.s.pids, e.PID)
		d.s.guard(d.l, func() { d.ended(e) })
	})
}

func (d *serviceDriver) ended(e reap.Exit) {
	if e.PID == d.m.MainPID() {
		d.mainEnd = time.Now()
	}
	d.runs.ended(e)
	d.checkMemory()
	d.m.Exited(e)
}

// checkMemory looks whether the kernel killed something of the unit for want
// of memory.
func (d *serviceDriver) checkMemory() {
	if n := d.group.Stats().OOMKills; n > d.oomKills {
		d.oomKills = n
		d.Log("A process of this unit has been killed by the OOM killer.")
		d.m.OutOfMemory()
	}
}

// groupEmpty is called when the unit's control group holds no process.
func (d *serviceDriver) groupEmpty() {
	if d.group.Populated() {
		return // something came in meanwhile
	}
	d.checkMemory()
	d.m.GroupEmpty()
	d.prune()
}

// prune removes the control group of a service that is down.
func (d *serviceDriver) prune() {
	if !d.populated || !down(d.l.active()) && d.m.State() != service.AutoRestart || d.group.Populated() {
		return
	}
	d.s.cfg.Watcher.Drop(d.group)
	if d.group.Remove() == nil {
		d.populated = false
		d.s.collect = true
	}
}

// Kill implements service.Host.
func (d *serviceDriver) Kill(pid, sig int) bool {
	if d.s.pids[pid] == d.l && !d.s.cfg.Reaper.Expects(pid) {
		return true // it was collected: its end is about to be told, and its number may be another's
	}
	return pid < noProcess && unix.Kill(pid, unix.Signal(sig)) == nil
}

// KillGroup implements service.Host.
func (d *serviceDriver) KillGroup(sig int, except ...int) int {
	if !d.populated {
		return 0
	}
	n, killed := d.group.Signal(unix.Signal(sig), except...)
	d.spent = d.spent || killed
	return n
}

// Populated implements service.Host.
func (d *serviceDriver) Populated() bool { return d.populated && d.group.Populated() }

// Arm implements service.Host.
func (d *serviceDriver) Arm(which service.Timer, after time.Duration) {
	if old := d.timers[which]; old != nil {
		old.t.Stop()
		delete(d.timers, which)
	}
	if after <= 0 {
		return
	}
	if which == service.StateTimer && d.m.State() == service.AutoRestart {
		after = coalesce(after)
	}
	d.armAt(which, time.Now().Add(after))
}

func (d *serviceDriver) armAt(which service.Timer, at time.Time) {
	t := &armed{at: at}
	t.t = d.s.after(max(time.Until(at), 0), func() {
		if d.timers[which] != t {
			return
		}
		delete(d.timers, which)
		d.s.guard(d.l, func() { d.elapsed(which) })
	})
	d.timers[which] = t
}

func (d *serviceDriver) elapsed(which service.Timer) {
	if which == service.StateTimer && d.m.State() == service.AutoRestart {
		d.restart()
		return
	}
	d.m.Elapsed(which)
}

// Changed implements service.Host.
func (d *serviceDriver) Changed(from, to service.State) {
	d.s.changed(d.l, change{from: transaction.State(from.Active()), to: transaction.State(to.Active()),
		restarting: d.m.WillRestart(), reloadFailed: from == service.Reload && d.m.ReloadResult() != service.Success})
}

// Ended implements service.Host.
func (d *serviceDriver) Ended(restarting bool) {
	preserve := d.cfg.RuntimeDirectoryPreserve
	if preserve != "yes" && !(preserve == "restart" && (restarting || d.Restarting())) {
		if err := d.s.cfg.Exec.RemoveRuntimeDirectories(&d.cfg.ExecContext); err != nil {
			d.Log("Failed to remove the runtime directory: %v", err)
		}
	}
	if !restarting {
		d.leaveTmp()
	}
	if err := d.s.cfg.Exec.RemoveCredentials(&d.cfg.ExecContext, d.l.u.Name); err != nil {
		d.Log("Failed to remove the credentials: %v", err)
	}
	if d.cfg.PIDFile != "" {
		_ = os.Remove(d.cfg.PIDFile)
	}
	d.hangUp()
	if !restarting && !d.Restarting() {
		d.dropFDs()
	}
	d.s.later(func() { d.s.guard(d.l, d.prune) })
}

// Restarting implements service.Host.
func (d *serviceDriver) Restarting() bool {
	j := d.s.queue.Of(d.l.u.Name)
	return j != nil && j.Type == transaction.Restart
}

// hangUp closes the connection that an instance with Accept=yes serves.
func (d *serviceDriver) hangUp() {
	if d.socket < 0 {
		return
	}
	unix.Close(d.socket)
	d.socket = -1
	if d.from != nil {
		d.from.open--
		d.from = nil
	}
}

// Log implements service.Host.
func (d *serviceDriver) Log(format string, args ...any) {
	d.s.log(5, d.l.u.Name, "%s: %s", d.l.u.Name, fmt.Sprintf(format, args...))
}

func (d *serviceDriver) properties(set func(name, value string)) {
	m := d.m
	set("MainPID", strconv.Itoa(shown(m.MainPID())))
	set("ControlPID", strconv.Itoa(shown(m.ControlPID())))
	set("Result", string(m.Result()))
	set("ReloadResult", string(m.ReloadResult()))
	set("NRestarts", strconv.Itoa(m.Restarts()))
	set("StatusText", m.StatusText())
	set("StatusErrno", strconv.Itoa(m.Errno()))
	set("NFileDescriptorStore", strconv.Itoa(len(d.kept)))
	code, status := 0, 0
	if e, ok := m.MainExit(); ok {
		code, status = 1, e.Status
		if e.Signal != 0 {
			code, status = 2, int(e.Signal)
			if e.Core {
				code = 3
			}
		}
	}
	set("ExecMainCode", strconv.Itoa(code))
	set("ExecMainStatus", strconv.Itoa(status))
	set("ExecMainPID", strconv.Itoa(shown(d.mainPID)))
	set("ExecMainStartTimestamp", stampText(d.mainStart))
	set("ExecMainExitTimestamp", stampText(d.mainEnd))
	if !d.populated {
		return
	}
	set("ControlGroup", d.group.Path())
	st := d.group.Stats()
	counter := func(name string, n int64) {
		if n >= 0 {
			set(name, strconv.FormatInt(n, 10))
		} else {
			set(name, "[not set]")
		}
	}
	counter("MemoryCurrent", st.MemoryBytes)
	counter("MemoryPeak", st.MemoryPeak)
	counter("TasksCurrent", st.Tasks)
	counter("CPUUsageNSec", int64(st.CPU))
}

func shown(pid int) int {
	if pid >= noProcess {
		return 0
	}
	return pid
}
