// Package health is the gate that a new release must pass: the program
// coracle-health, which runs once in every boot.
//
// When the running system's boot entry counts tries (automatic boot assessment),
// it carries out the base set of checks and those of health.d. All good: the
// entry is renamed good, the version floor rises. Not good by its deadline, or
// the gate itself failing: the machine reboots at once, and the boot loader
// falls back when the tries are spent. On a machine whose entry does not count it
// does nothing, apart from noticing that a release has failed: the failed root
// hash is quarantined, with the reason and what is left of its boot.
//
// What was wrong before the update is not held against a release (package
// baseline). A file of health.d that cannot be read fails the release, unless
// it was the same before: a check that its owner wrote must not vanish in
// silence. "coracle-health check" carries everything out once, for people.
//
// Bounds: each check has its deadline, the unit has one for all of them, and PID
// 1 reboots a machine on trial of which it has heard nothing for an hour. The
// machine is not rebooted when it is out of tries and no other system is there.
package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/agents/esp"
	"github.com/coracle-os/coracle/agents/health/baseline"
	"github.com/coracle-os/coracle/agents/health/check"
	"github.com/coracle-os/coracle/agents/health/evidence"
	"github.com/coracle-os/coracle/agents/update/store"
	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/initrd/bootstate"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
)

// gate is one run of the program.
type gate struct {
	info    bootinfo.Info
	counted string // the loader's word
	mute    bool   // this loader never says anything
	store   *store.Store
	log     io.Writer
	every   time.Duration // between attempts
	settle  time.Duration // between the first and the second look

	directory func(func(entries.Dir) error) error // opens the boot entries
	tasks     func() []task
	evidence  func(rootHash string) (evidence.Evidence, error)
	judged    func(string) error              // tells the result to the programs of this boot
	forget    func() error                    // the baseline
	loader    func() (done string, err error) // updates the boot loader; nil: there is none
	reboot    func(ctx context.Context, reason string)
	now       func() time.Time
}

// Main is coracle-health.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	info, err := bootinfo.Read(bootinfo.Path)
	if err != nil {
		fmt.Fprintf(stdio.Err, "coracle-health: %v; nothing to judge\n", err)
		return 0
	}
	if len(args) > 1 {
		if len(args) > 2 || args[1] != "check" {
			fmt.Fprintf(stdio.Err, "Usage: coracle-health [check]\n")
			return 2
		}
		return checkOnce(ctx, info, stdio)
	}
	if err := onMachine(info, stdio).run(ctx); err != nil {
		fmt.Fprintf(stdio.Err, "<2>coracle-health: %v\n", err)
		return 1
	}
	return 0
}

// run judges this boot. An error leaves a release on trial unjudged.
func (g *gate) run(ctx context.Context) error {
	t, err := g.look()
	if err != nil {
		if g.counted == "" {
			g.say("%v; the boot loader does not count tries, so nothing is to be judged", err)
			return g.judged("not on trial")
		}
		return err
	}
	if !t.on {
		g.updateLoader()
		return g.judged("not on trial")
	}
	g.say("version %s is on trial", t.version)
	err = await(ctx, g.tasks(), g.every)
	if err == nil {
		// A service that crashes and is started again looks good now and then.
		select {
		case <-time.After(g.settle):
		case <-ctx.Done():
			return ctx.Err()
		}
		err = await(ctx, g.tasks(), g.every)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return g.unhealthy(ctx, t, err)
	}
	return g.good(t)
}

// look reads the boot entries, and takes notice of a release that failed.
func (g *gate) look() (t trial, err error) {
	err = g.directory(func(d entries.Dir) error {
		l, err := entries.List(d)
		if err != nil {
			return err
		}
		var notice string
		if t, notice = judge(l, g.info.RootHash, g.counted); notice != "" && !g.mute {
			g.say("%s", notice)
		}
		if err := g.notice(l); err != nil {
			g.say("%v", err)
		}
		return nil
	})
	return t, err
}

// notice quarantines the releases that the machine fell back from.
func (g *gate) notice(l entries.Listing) error {
	history, err := g.store.History(0)
	if err != nil {
		return err
	}
	failed := failedReleases(l, history, g.info.RootHash)
	if len(failed) == 0 {
		return nil
	}
	now, clear := g.now().UTC(), func() error { return nil }
	for _, a := range failed {
		found, err := g.evidence(a.RootHash)
		if err != nil {
			g.say("%v", err)
		}
		clear = found.Clear
		text := found.String()
		reason := failureReason(history, a)
		g.say("version %s failed and is quarantined: %s", a.Version, reason)
		err = g.store.Quarantine(store.Quarantined{RootHash: a.RootHash, Version: a.Version, Reason: reason, Time: now, Evidence: text})
		if err == nil { // last: without it, all of this is done again
			err = g.store.Add(store.Record{Time: now, Kind: store.KindFallback, Version: a.Version, RootHash: a.RootHash, Channel: a.Channel, Reason: reason, Evidence: text})
		}
		if err != nil {
			return err
		}
	}
	return clear()
}

// good marks the release good. The entry comes first: it is what counts.
func (g *gate) good(t trial) error {
	err := g.directory(func(d entries.Dir) error {
		l, err := entries.List(d)
		if err != nil {
			return err
		}
		steps, err := entries.PlanGood(l, g.info.RootHash)
		if err != nil {
			return err
		}
		return entries.Apply(d, steps, nil)
	})
	if err != nil {
		return fmt.Errorf("version %s is healthy, but cannot be marked good: %w", t.version, err)
	}
	g.say("version %s is healthy and marked good", t.version)
	// From here on nothing may end in a reboot.
	err = g.store.Add(store.Record{Time: g.now().UTC(), Kind: store.KindGood, Version: t.version, RootHash: g.info.RootHash})
	for _, e := range []error{err, g.raiseFloor(t.version), g.forget(), g.judged("good")} {
		if e != nil {
			g.say("%v", e)
		}
	}
	g.updateLoader()
	return nil
}

// updateLoader takes over the boot loader of a release that is good. It is tried
// again at the next boot if it fails.
func (g *gate) updateLoader() {
	if g.loader == nil {
		return
	}
	done, err := g.loader()
	if done != "" {
		g.say("boot loader: %s", done)
	}
	if err != nil {
		g.say("boot loader: %v", err)
	}
}

// raiseFloor sets the version floor; downward for a downgrade, which was signed.
func (g *gate) raiseFloor(version string) error {
	hash, err := g.store.Value("downgrade")
	if err == nil && hash == g.info.RootHash {
		return errors.Join(g.store.SetFloor(version), g.store.SetValue("downgrade", ""))
	}
	return errors.Join(err, g.store.RaiseFloor(version))
}

// unhealthy records the reason and reboots.
func (g *gate) unhealthy(ctx context.Context, t trial, cause error) error {
	reason := "health check failed: " + cause.Error()
	err := bounded(20*time.Second, "record the reason", func() error {
		return g.store.Add(store.Record{Time: g.now().UTC(), Kind: store.KindFailed, Version: t.version, RootHash: g.info.RootHash, Reason: reason})
	})
	if err != nil {
		g.say("%v", err)
	}
	if err := g.judged("bad"); err != nil {
		g.say("%v", err)
	}
	if t.hopeless {
		g.say("version %s: %s; not rebooting, because no other system is there to fall back to", t.version, reason)
		return nil
	}
	g.say("version %s: %s; rebooting", t.version, reason)
	g.reboot(ctx, fmt.Sprintf("coracle-health: version %s: %s; rebooting", t.version, reason))
	return nil
}

func (g *gate) say(format string, args ...any) {
	fmt.Fprintf(g.log, "coracle-health: "+format+"\n", args...)
}

// onMachine is the gate of the machine that this program runs on.
func onMachine(info bootinfo.Info, stdio program.Stdio) *gate {
	g := &gate{info: info, counted: loaderCount(countVariable), mute: !bootstate.UEFI("/sys"), store: store.New(store.Path), log: stdio.Err,
		every: attemptEvery, settle: 10 * time.Second, now: time.Now, reboot: reboot,
		forget: func() error { return baseline.Remove("/") },
	}
	g.directory = func(f func(entries.Dir) error) error { return withEntries(info.RootDevice, f) }
	if info.Live != "" { // the boot entries that there may be are of another system
		g.directory = func(f func(entries.Dir) error) error { return f(entries.OSDir(noEntries)) }
	}
	if info.Live == "" && info.RootDevice != "" {
		g.loader = func() (string, error) { return updateLoader(info.RootDevice, g.store) }
	}
	g.tasks = func() []task { return machineTasks(info, g.say) }
	g.evidence = func(rootHash string) (evidence.Evidence, error) {
		id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
		return evidence.Collect("/", string(id), rootHash)
	}
	g.judged = func(result string) error {
		if err := os.WriteFile(baseline.Judged, []byte(result+"\n"), 0o644); err != nil {
			return fmt.Errorf("tell the result: %w", err)
		}
		return nil
	}
	return g
}

// machineTasks is everything that this machine must get to.
func machineTasks(info bootinfo.Info, say func(string, ...any)) []task {
	base, err := baseline.Load("/", info.RootHash)
	if err != nil {
		say("%v", err)
	}
	checks, broken := baseline.LoadChecks("/")
	edge := check.Edge{Units: baseline.Units}
	return append(baseTasks(info, baseline.Units), fileTasks(checks, broken, base, edge, say)...)
}

// noEntries is a directory that has none: a live system's boot entries.
var noEntries = filepath.Dir(bootinfo.Path)

// withEntries opens the boot entries. The disk may be busy at boot, and another
// program may have the partition open, which is no obstacle.
func withEntries(rootDevice string, f func(entries.Dir) error) (err error) {
	opened := false
	for range 5 {
		err = esp.Entries(rootDevice, func(d entries.Dir) error {
			opened = true
			return f(d)
		})
		if err == nil || opened {
			return err
		}
		time.Sleep(2 * time.Second)
	}
	return err
}

// reboot takes the machine down without waiting for services, and does not rely
// on anybody to do so.
func reboot(ctx context.Context, reason string) {
	if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		_, _ = io.WriteString(f, "<2>"+strings.ReplaceAll(reason, "\n", " ")+"\n")
		f.Close()
	}
	ask, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	_, err := control.Client{}.Collect(ask, control.Request{Verb: control.Reboot, Flags: control.Flags{Force: 1}})
	if err == nil {
		select {
		case <-ctx.Done(): // PID 1 is at it
			return
		case <-time.After(time.Minute):
		}
	}
	_ = bounded(20*time.Second, "sync", func() error { unix.Sync(); return nil })
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// checkOnce tries everything one time and prints what came out.
func checkOnce(ctx context.Context, info bootinfo.Info, stdio program.Stdio) int {
	code := 0
	for _, t := range machineTasks(info, func(format string, args ...any) { fmt.Fprintf(stdio.Out, format+"\n", args...) }) {
		ctx, cancel := context.WithTimeout(ctx, t.deadline)
		err := t.once(ctx)
		cancel()
		if err != nil {
			code = 1
			fmt.Fprintf(stdio.Out, "bad   %s: %v\n", t.name, err)
			continue
		}
		fmt.Fprintf(stdio.Out, "good  %s\n", t.name)
	}
	return code
}
