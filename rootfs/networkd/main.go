// Package networkd is the network daemon, systemd-networkd by name: it gives
// the interfaces what their .network, .netdev and .link files say, makes bonds,
// VLANs, bridges and tunnels, keeps leases of DHCPv4 and DHCPv6, hears routers
// of IPv6, writes the resolver's configuration and the network state, takes a
// host name from DHCP if the machine has none, and keeps the clock right. Where
// interfaces have name servers for domains of their own it answers questions
// about names on 127.0.0.53 and hands them to the right ones.
//
// It is one loop: whatever happens (news of the kernel, a lease, a signal)
// leads to the same comparison of what should be with what is. Nothing waits
// for a server: READY=1 is sent when the interfaces are up, and a network
// without a DHCP server is asked again for as long as the machine runs.
//
// A file with a mistake costs the line with the mistake; one whose addresses are
// all unusable has DHCP asked instead, so that the machine can be reached.
//
// Left out on purpose: serving DHCP and router advertisements, prefix delegation,
// LLDP, D-Bus. A netdev that is there is not made anew when its file changes.
package networkd

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/coracle-os/coracle/rootfs/hotplug"
	"github.com/coracle-os/coracle/rootfs/machine"
	"github.com/coracle-os/coracle/rootfs/network/cmdline"
	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/network/dhcp"
	"github.com/coracle-os/coracle/rootfs/network/link"
	"github.com/coracle-os/coracle/rootfs/network/resolv"
	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/network/timesync"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/condition"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Paths are the files of the daemon.
type Paths struct {
	Root      fs.FS  // where .network files are looked for
	State     string // the network state
	Links     string // directory of what the daemon remembers of an interface
	Resolv    string // the resolver's configuration with the network's servers
	Stub      string // the one that the machine uses, /etc/resolv.conf
	Local     string // what a name server on this machine says of itself
	Hostname  string // its presence means that the owner named the machine
	Clock     string // its time of change is the time of the last run
	OSRelease string // its time of change is the time of the build
	Synced    string // made when the clock is right
	Control   string // the socket for wishes
	// CommandLine is the kernel's; Generated the directory for files made of it.
	CommandLine, Generated string
	MachineID              string // the machine's identity
}

// System are the paths of a real machine.
func System() Paths {
	return Paths{
		Root:      os.DirFS("/"),
		State:     state.Path,
		Links:     "/run/systemd/netif/links",
		Resolv:    resolv.Path,
		Stub:      resolv.StubPath,
		Local:     resolv.LocalPath,
		Hostname:  "/etc/hostname",
		Clock:     "/var/lib/systemd/timesync/clock",
		OSRelease: "/usr/lib/os-release",
		Synced:    "/run/systemd/timesync/synchronized",
		Control:   Socket,

		CommandLine: "/proc/cmdline",
		Generated:   "/run/systemd/network",
		MachineID:   "/etc/machine-id",
	}
}

// Main is the program systemd-networkd.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	log := slog.New(&handler{out: stdio.Err})
	if len(args) > 1 {
		fmt.Fprintf(stdio.Err, "%s: takes no arguments; it is started as systemd-networkd.service\n", args[0])
		return 2
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, unix.SIGHUP)
	defer signal.Stop(reload)
	go func() { // it ends with the process
		if err := hotplug.Follow(ctx); err != nil && ctx.Err() == nil {
			log.Warn(err.Error())
		}
	}()
	if err := run(ctx, System(), timesync.System{}, reload, log); err != nil {
		log.Error(err.Error())
		return 1
	}
	return 0
}

// run works until ctx ends.
func run(ctx context.Context, paths Paths, clock timesync.Clock, reload <-chan os.Signal, log *slog.Logger) error {
	kernel, err := link.Open()
	if err != nil {
		return err
	}
	defer kernel.Close()
	d := newDaemon(paths, kernel, log)
	news, err := kernel.Watch(ctx.Done(), func(err error) {
		if ctx.Err() == nil {
			log.Debug("rtnetlink: " + err.Error())
		}
	})
	if err != nil {
		return err
	}
	d.generate()
	d.load()
	if err := d.listen(ctx); err != nil {
		log.Error(err.Error()) // networkctl cannot ask; all else works
	}
	// The clock is right enough for certificates before anything is asked.
	floor := timesync.Floor(paths.Clock, paths.OSRelease)
	raise(clock, floor, log)

	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() { d.synchronize(ctx, clock, floor) })
	defer d.stopAll()

	if err := d.refresh(ctx); err != nil {
		return err
	}
	daemon.SdNotify(false, daemon.SdNotifyReady)
	d.loop(ctx, news, reload)
	daemon.SdNotify(false, daemon.SdNotifyStopping)
	if err := timesync.Remember(paths.Clock, clock.Now()); err != nil {
		log.Warn(err.Error())
	}
	return nil
}

// raise sets a clock that is earlier than it can be.
func raise(clock timesync.Clock, floor time.Time, log *slog.Logger) {
	if !clock.Now().Before(floor) {
		return
	}
	if err := clock.Step(floor); err != nil {
		log.Warn("set the clock to the last known time: " + err.Error())
		return
	}
	log.Info(fmt.Sprintf("the clock was before %v, the last known time, and has been set to it", floor.UTC().Format(time.RFC3339)))
}

// synchronize runs the time client.
func (d *networkDaemon) synchronize(ctx context.Context, clock timesync.Clock, floor time.Time) {
	syncer := timesync.Syncer{
		Clock: clock, Ask: timesync.Ask, ClockFile: d.paths.Clock, Floor: floor, Log: d.log,
		Poll: timesync.Poll{Min: d.time.PollMin, Max: d.time.PollMax},
		Synced: func(string) {
			if err := os.MkdirAll(filepath.Dir(d.paths.Synced), 0o755); err == nil {
				os.WriteFile(d.paths.Synced, nil, 0o644)
			}
		},
	}
	syncer.Run(ctx, d.timeServers)
}

// loop reacts until ctx ends. News in quick succession are taken together.
func (d *networkDaemon) loop(ctx context.Context, news <-chan struct{}, reload <-chan os.Signal) {
	const settle = 20 * time.Millisecond
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-news:
			if !open {
				return
			}
			sleep(ctx, settle)
		case event := <-d.events:
			if event.wish != nil {
				event.wish.answer <- d.grant(event.wish.words)
			} else {
				d.news(event)
			}
		case <-reload:
			daemon.SdNotify(false, daemon.SdNotifyReloading)
			d.log.Info("reading the configuration again")
			d.load()
			daemon.SdNotify(false, daemon.SdNotifyReady)
		case <-retry.C:
		}
		wait := time.Hour
		if err := d.refresh(ctx); err != nil {
			d.log.Error(err.Error())
			wait = time.Second
		} else if d.failing() || d.waiting() {
			wait = 10 * time.Second
		}
		if next := d.expiry(); next > 0 {
			wait = min(wait, max(next, 100*time.Millisecond))
		}
		retry.Reset(wait)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// load reads the configuration and tells what is wrong with it.
func (d *networkDaemon) load() {
	files, warnings := config.Load(d.paths.Root, d.holds)
	conf, more := config.LoadTime(d.paths.Root)
	for _, warning := range append(warnings, more...) {
		d.log.Warn(warning.String())
	}
	d.files, d.time = files, conf
	clear(d.tunnels)
	d.said = map[string]bool{}
}

// generate writes what the kernel's command line says about the network.
func (d *networkDaemon) generate() {
	line, err := os.ReadFile(d.paths.CommandLine)
	if err != nil {
		d.log.Debug(err.Error())
		return
	}
	files, notes := cmdline.Parse(string(line))
	for _, note := range notes {
		d.log.Warn(note)
	}
	for _, file := range files {
		if err := resolv.Write(filepath.Join(d.paths.Generated, file.Name), file.Content); err != nil {
			d.log.Error(err.Error())
		}
	}
}

// holds decides the conditions of [Match].
func (d *networkDaemon) holds(list []unit.Condition) bool {
	return len(list) == 0 || condition.Test(list, machine.Machine{Env: os.Environ()}).OK
}

// expiry is when the next thing that a router said is over.
func (d *networkDaemon) expiry() (soonest time.Duration) {
	now := dhcp.Uptime()
	for _, m := range d.managed {
		if next := m.router.Expire(now); next != 0 && (soonest == 0 || next-now < soonest) {
			soonest = next - now
		}
	}
	return soonest
}
