// Package pid1 is the program init: what process 1 does from the moment that
// stage 1 becomes it until the machine ends. It puts together the parts that
// have packages of their own; the order is here.
//
// It can be executed anew while everything runs (systemctl daemon-reexec): the
// state goes to the next copy in a memfd, see reexec.go.
//
// It never exits: a fault of its own main loop is logged and the loop begun
// again, a fault about one unit stays with that unit. It also runs as process 1
// of a PID name space, where $container says so; then it leaves alone what
// belongs to the machine (clock, hostname, modules, devices, kernel
// parameters).
package pid1

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/rootfs/cgroup"
	"github.com/coracle-os/coracle/rootfs/console"
	"github.com/coracle-os/coracle/rootfs/early"
	"github.com/coracle-os/coracle/rootfs/machine"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/shutdown"
	"github.com/coracle-os/coracle/rootfs/supervisor"
)

// Places that PID 1 shares with others.
const (
	consoleDevice = "/dev/console"
	notifyPath    = "/run/systemd/notify"
	journalNative = "/run/systemd/journal/socket"
	journalStream = "/run/systemd/journal/stdout"
	oemPath       = "/usr/share/oem"
)

// Main runs init. Called with another process id than 1 it only says so.
func Main(_ context.Context, args []string, stdio program.Stdio) int {
	if os.Getpid() != 1 {
		fmt.Fprintf(stdio.Err, "%s: this program is process 1; to end the machine call \"systemctl poweroff\" or \"systemctl reboot\"\n", args[0])
		return 1
	}
	tune()
	p := &process{env: os.Environ(), begun: time.Now()}
	earlier := p.inherit()
	p.container = p.getenv("container") != ""
	if earlier != nil {
		p.goOn(earlier)
	}
	for {
		p.life()
		// Only reached when the end of the machine failed.
		time.Sleep(time.Second)
	}
}

// tune keeps the memory of PID 1 small: it allocates little, and seldom.
func tune() {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(48 << 20)
	unix.Umask(0o022)
	// Services inherit it, as systemd's do.
	signal.Ignore(unix.SIGPIPE)
	// What the program before this one left open is not for services.
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, d := range fds {
		if fd, err := strconv.Atoi(d.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	_ = syscall.Setrlimit(unix.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 65536, Max: 524288})
}

// process is PID 1.
type process struct {
	env       []string
	container bool
	begun     time.Time
	prepared  bool
	first     bool

	boot    bootinfo.Info
	console *console.Console
	journal *journal
	reaper  *reap.Reaper
	notify  *supervisor.Notifications
	sup     *supervisor.Supervisor
	alive   alive
	door    door
}

func (p *process) getenv(name string) string {
	for _, e := range p.env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// life runs the machine once, from set-up to its end. A panic in it is logged
// and life begins again with what is there.
func (p *process) life() {
	defer func() {
		if r := recover(); r != nil {
			p.say(2, "Internal fault in PID 1: %v\n%s", r, debug.Stack())
		}
	}()
	if !p.prepared {
		p.prepare()
		p.prepared = true
	}
	s, err := p.assemble()
	if err != nil {
		p.say(0, "PID 1 cannot start the service manager: %v", err)
		p.emergency()
		return
	}
	p.sup = s
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.serve(ctx, s)
	s.Boot()
	p.rule(s)
}

// rule lets the service manager run until the machine has ended.
func (p *process) rule(s *supervisor.Supervisor) {
	outcome := s.Run()
	for outcome == supervisor.Reexecute {
		p.say(3, "PID 1 could not be executed anew: %v", p.reexecute(s)) // it returns only then
		s.Awake()
		outcome = s.Run()
	}
	p.forgetStarts() // the machine ends because it was told to
	p.end(outcome, s.ForceLevel())
}

// say logs a message of PID 1 itself, and shows it on the console when it is
// important.
func (p *process) say(priority int, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.journal != nil {
		p.journal.send(supervisor.Record{Priority: priority, Message: text})
	}
	if priority <= 4 && p.console != nil {
		p.console.Print(text)
	}
}

// warn logs what went wrong, one line for each error.
func (p *process) warn(err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		p.say(4, "%s", strings.TrimSuffix(line, "\n"))
	}
}

// prepare makes the machine ready for the first unit.
func (p *process) prepare() {
	mounts := early.MountAll(early.Mounts())
	p.console = console.Open(consoleDevice)
	p.journal = newJournal(journalNative)
	p.warn(mounts)
	p.warn(early.DeviceLinks("/dev"))
	p.warn(early.Directories("/"))
	p.boot, _ = bootinfo.Read(bootinfo.Path)
	for _, n := range p.boot.Notices {
		p.say(4, "%s", n)
	}
	if !p.container {
		p.prepareMachine()
	}
	if _, err := early.Hostname("/"); err != nil {
		p.warn(err)
	}
	p.warn(early.Loopback())
	p.identify()
	p.directories()
}

// prepareMachine does what a container must not.
func (p *process) prepareMachine() {
	p.keepAlive()
	// The three-finger salute reaches PID 1 as SIGINT.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
	p.warn(early.Share())
	if set, err := early.Clock("/", time.Now()); err != nil || !set.IsZero() {
		p.warn(err)
		p.say(5, "The clock was behind; set to %s.", set.UTC().Format(time.RFC3339))
	}
	p.warn(early.Sysctl("/", "/proc"))
	p.warn(early.Seed("/", "/dev/urandom"))
	go func() { p.warn(early.SaveSeed("/")) }()
	if p.boot.Live == "" { // the disks that a live system sees are not its own
		p.warn(early.OEM("/sys", "/dev", p.boot.RootDevice, oemPath))
	}
	p.warn(early.Gettys("/", early.Consoles(os.DirFS("/sys"))))
}

func (p *process) identify() {
	m := machine.Machine{Env: p.env}
	virtual := m.Virtualization() != "none"
	_, first, err := early.MachineID("/", "/sys", virtual)
	p.warn(err)
	p.first = first
	if first {
		_ = os.WriteFile("/run/systemd/first-boot", nil, 0o644)
	}
}

// end takes the machine down after its units. It returns only when the kernel
// refuses.
func (p *process) end(how supervisor.Outcome, force int) {
	say := func(format string, args ...any) {
		p.console.Print(fmt.Sprintf(format, args...))
	}
	if force < 2 {
		shutdown.Others(say, func() { p.reaper.Sweep() })
		if !p.container {
			_ = early.SaveClock("/", time.Now())
			within(2*time.Second, func() { _ = early.SaveSeed("/") })
		}
		shutdown.Sync(say)
		if !p.container {
			shutdown.Unmount(say)
			shutdown.Sync(say)
		}
	}
	say("%s.", map[supervisor.Outcome]string{supervisor.PowerOff: "Powering off", supervisor.Reboot: "Rebooting", supervisor.Halt: "System halted"}[how])
	p.console.Close(2 * time.Second)
	if err := shutdown.End(string(how)); err != nil {
		p.console = console.Open(consoleDevice)
		p.say(0, "%v", err)
	}
	if p.container {
		os.Exit(0)
	}
	select {} // the kernel ends it
}

// within runs f, and stops waiting for it after the limit.
func within(limit time.Duration, f func()) {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// emergency is what is left when not even the service manager starts: the
// reason stays on the console for a while, then the machine reboots, so that
// the boot loader can count the attempt.
func (p *process) emergency() {
	p.console.Print("Rebooting in 10 seconds.")
	time.Sleep(10 * time.Second)
	p.reaper = reap.New(nil)
	p.end(supervisor.Reboot, 0)
}

// tree opens the control groups and moves PID 1 out of the root group, which
// must be empty to have limits.
func tree() (cgroup.Tree, error) {
	t, err := cgroup.Open("/sys/fs/cgroup")
	if err != nil {
		return t, err
	}
	g, err := t.Create("/init.scope")
	if err != nil {
		return t, err
	}
	if err := g.Add(os.Getpid()); err != nil {
		return t, err
	}
	// Without controllers units run all the same.
	_ = t.Enable("")
	return t, nil
}
