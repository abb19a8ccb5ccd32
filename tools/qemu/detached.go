package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Detached is a machine that outlives the program that started it. All that is
// known of it is its folder, and QEMU's process from a file in that.
type Detached struct {
	PID int    // 0: it does not run
	Dir string // Config.Dir, as it was then
}

// longestSocket is what a path of a Unix socket may have on Linux, in bytes.
const longestSocket = 107

// StartDetached starts a machine that ends by its own power-off, by
// PowerButton or by Kill, and not with ctx or this process.
func StartDetached(ctx context.Context, c Config) (Detached, error) {
	var err error
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return Detached{}, fmt.Errorf("start qemu: %w", err)
	}
	if n := len(c.consoleSocket()); n > longestSocket {
		return Detached{}, fmt.Errorf("start qemu: the folder %q is too deep for the sockets in it (%d bytes of at most %d); use another folder",
			c.Dir, n, longestSocket)
	}
	args, err := c.ready(ctx)
	if err != nil {
		return Detached{}, err
	}
	// QEMU's first process ends when the machine runs, or with its complaint.
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", append(args, "-daemonize", "-pidfile", c.pidFile())...).CombinedOutput()
	if err != nil {
		return Detached{}, fmt.Errorf("start qemu: %w: %s", err, bytes.TrimSpace(out))
	}
	return Attach(c.Dir), nil
}

func (c Config) pidFile() string { return filepath.Join(c.Dir, "qemu.pid") }

// Attach finds the machine that was started with a folder by StartDetached, by
// this program or another. QEMU holds a lock on the file with its process as
// long as it runs, so that no other process can be taken for it.
func Attach(dir string) Detached {
	d := Detached{Dir: dir}
	if absolute, err := filepath.Abs(dir); err == nil {
		d.Dir = absolute
	}
	f, err := os.Open(Config{Dir: d.Dir}.pidFile())
	if err != nil {
		return d
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err == nil && lock.Type != unix.F_UNLCK {
		d.PID = int(lock.Pid)
	}
	return d
}

// Running says whether the machine has not ended.
func (d Detached) Running() bool { return d.PID > 0 && Attach(d.Dir).PID == d.PID }

// PowerButton presses the machine's power button.
func (d Detached) PowerButton() error { return qmp(Config{Dir: d.Dir}.qmpSocket(), "system_powerdown") }

// Kill ends the machine at once, as a power cut would.
func (d Detached) Kill() error {
	if !d.Running() {
		return nil
	}
	if err := syscall.Kill(d.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end the machine in %q: %w", d.Dir, err)
	}
	return nil
}

// Wait waits for the machine to end.
func (d Detached) Wait(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for d.Running() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the machine in %q to end: %w", d.Dir, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
