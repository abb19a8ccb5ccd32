// Command docker-init is process 1 of containers that are started with `docker
// run --init`: it starts the container's program, passes signals on to it,
// reaps what other processes leave behind, and ends as the program ends.
//
// Docker's own distribution has tini for this, which is C and would be the one
// program of the image from neither Go nor a Debian package. The command line is
// that of docker: `docker-init -- PROGRAM [ARGUMENT...]`; tini's options are left
// out on purpose, as docker passes none.
//
// One goroutine waits for all children with wait4, and os/exec, which would
// wait too, is not used. Exit codes: the program's, 128+N when signal N ended
// it, 127 when it is not found and 126 when it cannot be run.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() { os.Exit(run(os.Args, os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	args = args[1:]
	if len(args) > 0 && args[0] == "--version" {
		fmt.Fprintln(stdout, "tini version 0.19.0-coracle") // the words that dockerd looks for
		return 0
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(stderr, "Usage: docker-init -- PROGRAM [ARGUMENT...]")
		return 1
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals) // all of them
	pid, err := start(args)
	if err != nil {
		fmt.Fprintf(stderr, "docker-init: start %q: %v\n", args[0], err)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
			return 127
		}
		return 126
	}
	for sig := range signals {
		switch sig {
		case unix.SIGCHLD:
			if code, ended := reap(pid); ended {
				return code
			}
		case unix.SIGURG: // the Go runtime's own
		default:
			unix.Kill(pid, sig.(syscall.Signal))
		}
	}
	return 1
}

// start runs the program in a process group of its own, in the foreground of
// the terminal when there is one.
func start(args []string) (pid int, err error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	attr := &syscall.SysProcAttr{Setpgid: true}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		attr.Foreground, attr.Ctty = true, 0
	}
	return syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: attr})
}

// reap takes the state of every child that has ended, and says whether the
// program was among them.
func reap(program int) (code int, ended bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid <= 0:
			return code, ended
		case pid == program:
			ended, code = true, status.ExitStatus()
			if status.Signaled() {
				code = 128 + int(status.Signal())
			}
		}
	}
}
