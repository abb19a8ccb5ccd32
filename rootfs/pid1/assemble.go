package pid1

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/cgroup"
	"github.com/coracle-os/coracle/rootfs/early"
	"github.com/coracle-os/coracle/rootfs/execcontext"
	"github.com/coracle-os/coracle/rootfs/machine"
	"github.com/coracle-os/coracle/rootfs/powerbutton"
	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/socket"
	"github.com/coracle-os/coracle/rootfs/spawn"
	"github.com/coracle-os/coracle/rootfs/supervisor"
	"github.com/coracle-os/coracle/rootfs/tmpfiles"
	"github.com/coracle-os/coracle/rootfs/unit/load"
	"github.com/coracle-os/coracle/rootfs/unit/property"
)

// assemble makes the service manager.
func (p *process) assemble() (*supervisor.Supervisor, error) {
	m := machine.Machine{First: p.first, Env: p.env}
	set, err := load.NewSet(load.New(m, m.Host))
	if err != nil {
		return nil, err
	}
	groups, err := tree()
	if err != nil {
		return nil, err
	}
	watcher, err := cgroup.NewWatcher()
	if err != nil {
		return nil, err
	}
	sockets, err := socket.NewWatcher()
	if err != nil {
		return nil, err
	}
	if p.notify == nil {
		if p.notify, err = supervisor.ListenNotify(notifyPath); err != nil {
			return nil, err
		}
	}
	var s *supervisor.Supervisor
	p.reaper = reap.New(func() { p.notify.Drain(s) })
	s = supervisor.New(supervisor.Config{
		Units: set, System: m, Reaper: p.reaper, Cgroups: groups, Watcher: watcher, Sockets: sockets,
		Exec: execcontext.System{JournalSocket: journalStream, Console: consoleDevice, NotifySocket: notifyPath,
			Inherited: p.env, Defaults: []string{"LANG=C.UTF-8"}},
		Starter: spawn.Starter{Self: "/proc/self/exe", SoftFiles: 1024}, Console: p.console, Log: p.journal.send, Proc: "/proc",
		Memory: m.MemoryBytes(), Tasks: m.TaskLimit(), Uptime: uptime(), Properties: property.Of, Booted: p.booted, Idle: func() { p.warn(trim()) },
		Quiesce: p.quiesce, Resume: p.resume,
	})
	return s, nil
}

// uptime returns how long the kernel runs.
func uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// booted is called once everything has been started.
func (p *process) booted() {
	_ = os.WriteFile("/run/coracle/booted", []byte(strconv.FormatInt(uptime().Milliseconds(), 10)+"\n"), 0o644)
}

// directories makes what tmpfiles.d asks for.
func (p *process) directories() {
	h := machine.Machine{Env: p.env}.Host()
	env := tmpfiles.Env{BootID: h.BootID, MachineID: h.MachineID, Host: h.Hostname, Kernel: h.Kernel}
	for _, err := range tmpfiles.Boot("/", env) {
		p.warn(err)
	}
}

// serve runs all that brings events to the service manager.
func (p *process) serve(ctx context.Context, s *supervisor.Supervisor) {
	go p.reaper.Run(ctx)
	p.keep("notifications", func() error { return p.notify.Run(s) })
	p.keep("control groups", func() error { return s.WatchGroups() })
	p.keep("sockets", func() error { return s.WatchSockets() })
	p.keep("the clock", func() error { return s.WatchClock() })
	p.keep("mounts", func() error { return s.WatchMounts() })
	p.keep("control", func() error { return p.serveControl(ctx, s) })
	go p.signals(s)
	if !p.container {
		go p.saveClock(ctx)
		go p.takeTurns(ctx, s)
		go p.watchTrial(ctx, s)
		go p.lasts(ctx)
		go p.watchPowerButtons(ctx, s)
	}
}

// keep runs a source of events for ever: one that fails is logged and begun
// again.
func (p *process) keep(what string, run func() error) {
	go func() {
		for {
			err := protect(run)
			p.say(3, "PID 1 stopped hearing about %s: %v; trying again.", what, err)
			time.Sleep(time.Second)
		}
	}()
}

func protect(run func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal fault: %v", r)
		}
	}()
	return run()
}

// signals acts on what people and the kernel tell PID 1, as systemd(1) does.
func (p *process) signals(s *supervisor.Supervisor) {
	c := make(chan os.Signal, 16)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPWR, unix.SIGWINCH, unix.SIGABRT)
	for n := rtmin; n <= rtmin+30; n++ {
		signal.Notify(c, unix.Signal(n))
	}
	var pressed []time.Time
	for sig := range c {
		switch n := int(sig.(unix.Signal)); {
		case sig == unix.SIGINT:
			pressed = append(pressed, time.Now())
			if len(pressed) >= 7 && time.Since(pressed[len(pressed)-7]) < 2*time.Second {
				p.say(1, "Ctrl-Alt-Del was pressed more than 7 times within 2 s, rebooting at once.")
				s.Force(supervisor.Reboot)
			}
			s.Shutdown(supervisor.Reboot)
		case sig == unix.SIGTERM && p.container, sig == unix.SIGPWR:
			s.Shutdown(supervisor.PowerOff)
		case sig == unix.SIGTERM:
			s.Reexecute()
		case sig == unix.SIGHUP:
			s.Reload()
		case n == rtmin+3:
			s.Shutdown(supervisor.Halt)
		case n == rtmin+4:
			s.Shutdown(supervisor.PowerOff)
		case n == rtmin+5:
			s.Shutdown(supervisor.Reboot)
		case n == rtmin+13:
			s.Force(supervisor.Halt)
		case n == rtmin+14:
			s.Force(supervisor.PowerOff)
		case n == rtmin+15:
			s.Force(supervisor.Reboot)
		}
	}
}

// rtmin is the C library's SIGRTMIN.
const rtmin = 34

// watchPowerButtons powers off when a power button is pressed. Their drivers are
// loaded while units start already, so it looks for them for a while.
func (p *process) watchPowerButtons(ctx context.Context, s *supervisor.Supervisor) {
	const (
		interval = time.Second
		attempts = 120
	)
	for range attempts {
		devices, err := powerbutton.Devices("/sys", "/dev")
		p.warn(err)
		for _, d := range devices {
			go p.watchPowerButton(ctx, d, s)
		}
		if len(devices) > 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

func (p *process) watchPowerButton(ctx context.Context, device string, s *supervisor.Supervisor) {
	f, err := os.Open(device)
	if err != nil {
		p.warn(err)
		return
	}
	defer f.Close()
	p.warn(powerbutton.Watch(ctx, f, func() {
		p.say(5, "Power button pressed.")
		s.Shutdown(supervisor.PowerOff)
	}))
}

// saveClock notes the time every few minutes, for a machine whose power is
// cut.
func (p *process) saveClock(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Minute):
			_ = early.SaveClock("/", time.Now())
			p.warn(trim())
		}
	}
}
