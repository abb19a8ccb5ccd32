// Package reap is the one owner of waiting for child processes in PID 1.
//
// PID 1 inherits every orphan of the machine, so it must call wait4(-1); the
// Wait of os/exec and os.Process would then race with it and lose exit
// statuses. Here a child is started and registered under the same lock that
// the sweep holds, so no child can be collected before its owner is known, and
// the owner is looked up at the moment of collection, so a process id that the
// kernel gives out again is never mistaken for the old one. Orphans, children
// that nobody registered, are collected silently.
//
// A test of this package bans os/exec and every other wait call from the
// packages that PID 1 runs on its own paths. Left out on purpose: stopped and
// continued children, resource usage, pidfds.
package reap

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit says how a process ended. Exactly one of the two cases holds: Signal is
// zero and Status is the exit code (0 to 255), or Signal is the signal that
// ended it and Core says whether it dumped core.
type Exit struct {
	PID    int
	Status int
	Signal syscall.Signal
	Core   bool
}

// Reaper collects children. Make one per process, with New.
type Reaper struct {
	mu     sync.Mutex
	owners map[int]func(Exit)
	before func()
	paused bool
}

// New returns a Reaper. before, when not nil, runs after a child has ended and
// before it is collected, while its /proc entry can still be read: it must
// neither block nor call the Reaper.
func New(before func()) *Reaper {
	return &Reaper{owners: map[int]func(Exit){}, before: before}
}

// Start calls fork, which starts a process and returns its id, and registers
// done to be called with the process's exit. No sweep can come in between.
// done runs in the sweeping goroutine with the lock held: it must hand the
// exit on and return, and must not call the Reaper.
func (r *Reaper) Start(fork func() (pid int, err error), done func(Exit)) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return 0, err
	}
	r.owners[pid] = done
	return pid, nil
}

// Watch registers done for a process that something else started and whose
// parent PID 1 is or will become, such as the daemon that a forking service
// left behind. It replaces an earlier registration of the same process. It
// reports false when no such process is left.
func (r *Reaper) Watch(pid int, done func(Exit)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if unix.Kill(pid, 0) == unix.ESRCH {
		return false
	}
	r.owners[pid] = done
	return true
}

// Forget makes the process an orphan to the Reaper: it will be collected
// silently.
func (r *Reaper) Forget(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.owners, pid)
}

// Expects reports whether the end of a registered process is still to come; it
// is false from when the process was collected.
func (r *Reaper) Expects(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owners[pid] != nil
}

// Registered returns how many processes have an owner.
func (r *Reaper) Registered() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.owners)
}

// Pause leaves children that end to whoever is process 1 next: none is collected
// until Pause(false). Children can be started all the same.
func (r *Reaper) Pause(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = on
}

// Sweep collects every child that has ended and returns how many there were.
func (r *Reaper) Sweep() int {
	for n := 0; ; n++ {
		if !r.one() {
			return n
		}
	}
}

// one collects at most one child and reports whether it did.
func (r *Reaper) one() bool {
	if r.before != nil && r.pending() {
		r.before()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused {
		return false
	}
	var ws syscall.WaitStatus
	pid, err := wait4(&ws)
	if err != nil || pid <= 0 {
		return false
	}
	done := r.owners[pid]
	delete(r.owners, pid)
	if done != nil {
		done(exitOf(pid, ws))
	}
	return true
}

// pending reports whether a child has ended, and leaves it uncollected.
func (r *Reaper) pending() bool {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && info.Signo != 0
		}
	}
}

func wait4(ws *syscall.WaitStatus) (int, error) {
	for {
		pid, err := syscall.Wait4(-1, ws, syscall.WNOHANG, nil)
		if !errors.Is(err, syscall.EINTR) {
			return pid, err
		}
	}
}

func exitOf(pid int, ws syscall.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{PID: pid, Signal: ws.Signal(), Core: ws.CoreDump()}
	}
	return Exit{PID: pid, Status: ws.ExitStatus()}
}

// Run sweeps at once and then each time the kernel reports an ended child,
// until ctx is done.
func (r *Reaper) Run(ctx context.Context) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGCHLD)
	defer signal.Stop(c)
	for {
		r.Sweep()
		select {
		case <-c:
		case <-ctx.Done():
			return
		}
	}
}
