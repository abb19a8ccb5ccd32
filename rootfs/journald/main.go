// Package journald is systemd-journald: the one process that receives what
// units, programs and the kernel log, adds who said it, and stores it.
//
// It serves systemd's interfaces: stdout streams on /run/systemd/journal/stdout,
// the native protocol on /run/systemd/journal/socket, syslog (RFC 3164) on
// /dev/log, and /dev/kmsg. Senders are known by the credentials that the kernel
// attaches (SCM_CREDENTIALS, SO_PEERCRED), never by what they say.
//
// It is a process of its own so that a full or slow disk holds up nobody: one
// thread of control receives with epoll (a stream costs a map entry, not a
// goroutine), another one writes. When the disk stalls, records wait in bounded
// memory, then are counted and dropped with a record that says how many.
//
// Restart: it hands its sockets and streams to PID 1 (FDSTORE=1) and gets them
// back, so that killing it breaks no service's stdout. SIGUSR1 moves a volatile
// journal to the state partition, SIGUSR2 begins new segments, SIGRTMIN+1 syncs.
//
// Forwarding to a receiver elsewhere (ForwardToRemote= in journald.conf, or
// coracle.log= on the kernel's command line) reads the stored journal, see
// package forward.
//
// Left out on purpose: audit, forwarding to syslog and kmsg, namespaces, Varlink
// and per-user journals. Configuration is the part of journald.conf(5) that
// Config names.
package journald

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/program"
	"golang.org/x/sys/unix"
)

// memoryLimit and gcPercent make the garbage collector keep the process small.
const (
	memoryLimit = 24 << 20 // bytes
	gcPercent   = 25
)

// Signals of systemd-journald(8).
const (
	signalFlush  = syscall.SIGUSR1
	signalRotate = syscall.SIGUSR2
	signalSync   = syscall.Signal(34 + 1) // SIGRTMIN+1
)

var _ program.Main = Main

// Main runs the daemon until SIGTERM or the end of ctx.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(gcPercent)
	if len(args) > 1 {
		fmt.Fprintf(stdio.Err, "systemd-journald: unexpected argument %q; it takes none\n", args[1])
		return 1
	}
	if err := run(ctx); err != nil {
		fmt.Fprintf(stdio.Err, "systemd-journald: %v\n", err)
		console("/dev/console", fmt.Sprintf("systemd-journald: %v\n", err))
		return 1
	}
	return 0
}

func run(ctx context.Context) error {
	boot, err := readID("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	machine, err := readID("/etc/machine-id")
	if err != nil {
		machine = boot // a machine without identity still logs
	}
	config, problems := LoadConfig("/")
	if text, err := os.ReadFile("/proc/cmdline"); err == nil {
		problems = append(problems, config.parseCommandLine(string(text))...)
	}
	s, err := newServer(Paths{Run: "/run", Log: "/var/log/journal", Lib: "/var/lib/systemd/journal-forward", Proc: "/proc", Dev: "/dev"}, config, machine, boot)
	if err != nil {
		return err
	}
	for _, problem := range problems {
		s.say(journal.Warning, problem)
	}
	// More than the default of ten datagrams may wait, or programs block while
	// the machine starts. The kernel reads it when a socket is made.
	os.WriteFile("/proc/sys/net/unix/max_dgram_qlen", []byte("512"), 0)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	commands := make(chan os.Signal, 4)
	signal.Notify(commands, signalFlush, signalRotate, signalSync)
	defer signal.Stop(commands)
	return s.serve(ctx, commands)
}

func readID(path string) (journal.ID, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return journal.ID{}, fmt.Errorf("start journal: %w", err)
	}
	id, err := journal.ParseID(string(text))
	if err != nil {
		return journal.ID{}, fmt.Errorf("start journal: %s: %w", path, err)
	}
	return id, nil
}

// clock returns CLOCK_REALTIME and CLOCK_MONOTONIC in microseconds.
func clock() (real, mono uint64) {
	var r, m unix.Timespec
	unix.ClockGettime(unix.CLOCK_REALTIME, &r)
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &m)
	return uint64(r.Nano()) / 1000, uint64(m.Nano()) / 1000
}

// console writes without waiting for a terminal that does not take it.
func console(path, text string) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	unix.Write(fd, []byte(text))
}
