package supervisor

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/cgroup"
	"github.com/coracle-os/coracle/rootfs/reap"
)

// Adopt implements service.Host.
func (d *serviceDriver) Adopt(pid int) {
	d.s.pids[pid] = d.l
	d.mainPID, d.mainStart, d.mainEnd = pid, time.Now(), time.Time{}
	if !d.s.cfg.Reaper.Watch(pid, d.exited) {
		d.exited(reap.Exit{PID: pid})
	}
}

// ReadPIDFile implements service.Host.
func (d *serviceDriver) ReadPIDFile() int {
	b, err := os.ReadFile(d.cfg.PIDFile)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 || unix.Kill(pid, 0) == unix.ESRCH {
		return 0
	}
	if cgroup.Of(d.s.cfg.Proc, pid) != d.group.Path() {
		d.Log("New main PID %d does not belong to service. Ignoring.", pid)
		return 0
	}
	return pid
}

// GuessMain implements service.Host: the process of the group whose parent is
// PID 1, when there is exactly one.
func (d *serviceDriver) GuessMain() int {
	found := 0
	for _, pid := range d.group.Procs() {
		if pid == d.m.ControlPID() || parent(d.s.cfg.Proc, pid) != os.Getpid() {
			continue
		}
		if found != 0 {
			return 0
		}
		found = pid
	}
	return found
}

func parent(proc string, pid int) int {
	b, err := os.ReadFile(proc + "/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	text := string(b)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// pidFileInterval is how often a PID file that is awaited is looked for.
const pidFileInterval = 50 * time.Millisecond

// WatchPIDFile implements service.Host. The file is polled: its directory may
// not exist yet, and the wait is short.
func (d *serviceDriver) WatchPIDFile(on bool) {
	if on && !d.watching {
		d.watching = true
		d.s.after(pidFileInterval, d.pollPIDFile)
	}
	if !on {
		d.watching = false
	}
}

func (d *serviceDriver) pollPIDFile() {
	if !d.watching {
		return
	}
	d.s.guard(d.l, d.m.PIDFileChanged)
	if d.watching {
		d.s.after(pidFileInterval, d.pollPIDFile)
	}
}
