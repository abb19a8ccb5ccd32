package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/initrd/cmdline"
	"github.com/coracle-os/coracle/initrd/dmverity"
	"github.com/coracle-os/coracle/initrd/grow"
	"github.com/coracle-os/coracle/initrd/live"
	"github.com/coracle-os/coracle/initrd/modules"
	"github.com/coracle-os/coracle/initrd/overlay"
	"github.com/coracle-os/coracle/initrd/partition"
	"github.com/coracle-os/coracle/initrd/reset"
	"github.com/coracle-os/coracle/initrd/state"
	"github.com/coracle-os/coracle/initrd/switchroot"
	"github.com/coracle-os/coracle/initrd/uevent"
	"golang.org/x/sys/unix"
)

// step is one step of the plan.
type step struct {
	name   string
	reason string
	do     func(context.Context, *boot) error
}

// plan is stage 1 in its order.
func plan() []step {
	return []step{
		{"kernel file systems", "devices, kernel interfaces and a place for boot.json", mountKernel},
		{"command line", "it names the release by its root hash", readCommandLine},
		{"watchdog", "a hang from here on resets the machine", armWatchdogs},
		{"modules", "device-mapper and the file systems are modules; drivers follow the hardware", loadModules},
		{"partitions", "the root hash gives the UUIDs of the root and its hash tree, or the files of a live system", findRoot},
		{"state key", "an encrypted state partition opens for a release of its signer", openState},
		{"attempts", "a release that does not last is left for another one", countStart},
		{"initrd", "one that is damaged is left for another release", checkInitrd},
		{"verity", "nothing is read from the root that does not verify", openVerity},
		{"watchdog driver", "a machine whose watchdog is not built in has one too", armLateWatchdogs},
		{"root", "the verified root, read-only", mountRoot},
		{"grow", "the state partition takes what the disk has", growState},
		{"state", "/var keeps what the machine must remember", mountState},
		{"etc", "the owner's changes lie over the root's /etc", mountEtc},
		{"switch root", "the root's own init takes over", switchRoot},
	}
}

// boot is what the steps pass on.
type boot struct {
	console  *console
	start    time.Duration
	rootHash [32]byte
	loader   *modules.Loader
	modules  func() error // waits for the modules that were named
	events   *uevent.Conn
	found    partition.Found
	dogs     watchdogs
	counted  bool // this start, by package attempts
	lock     stateLock
	// wantState is where the state of a live system is to be.
	wantState live.State
	info      bootinfo.Info
}

func (b *boot) done(name string, begin time.Duration) {
	end := sinceKernelStart()
	b.info.Steps = append(b.info.Steps, bootinfo.Step{
		Name: name, EndMillis: end.Milliseconds(), Millis: (end - begin).Milliseconds()})
}

func (b *boot) notice(text string) {
	text = strings.ReplaceAll(text, "\n", "; ") // joined errors
	b.console.Notice(text)
	b.info.Notices = append(b.info.Notices, text)
}

// sysModules are needed in every boot whatever the hardware is; ext4, for the
// state, finds its checksum by name, and the processor may have no faster one.
var sysModules = []string{"dm-verity", "erofs", "overlay", "ext4", "crc32c_generic"}

func mountKernel(_ context.Context, b *boot) error {
	for _, m := range []struct {
		fs, target, options string
		flags               uintptr
	}{
		{"proc", "/proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"sysfs", "/sys", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"devtmpfs", "/dev", "mode=0755", unix.MS_NOSUID},
		{"tmpfs", "/run", "mode=0755,size=20%", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
		if err := unix.Mount(m.fs, m.target, m.fs, m.flags, m.options); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	b.console.openKmsg()
	return nil
}

func readCommandLine(_ context.Context, b *boot) error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	args := cmdline.Parse(string(line))
	b.console.debug = args.Bool("coracle.debug")
	if b.rootHash, err = args.RootHash(); err != nil {
		return err
	}
	b.readEncryption(args)
	b.info.RootHash = fmt.Sprintf("%x", b.rootHash)
	b.info.KernelMillis = b.start.Milliseconds()
	return b.readLive(args)
}

// armWatchdogs arms every watchdog there is that is not armed yet.
func armWatchdogs(_ context.Context, b *boot) error {
	found, err := filepath.Glob("/dev/watchdog[0-9]*")
	if err != nil {
		return err
	}
	for _, device := range found {
		if b.dogs.has(device) {
			continue
		}
		dog, err := startWatchdog(device)
		if err != nil {
			b.notice(err.Error())
			continue
		}
		b.dogs = append(b.dogs, dog)
		b.info.Watchdogs = append(b.info.Watchdogs,
			bootinfo.Watchdog{Device: device, TimeoutSeconds: int(dog.timeout / time.Second)})
	}
	return nil
}

// armLateWatchdogs arms the watchdogs whose drivers have come since, and the
// kernel's own besides: that one ends a hang of programs even where the
// hardware counts but never resets, as a chipset's whose board forbids it.
func armLateWatchdogs(ctx context.Context, b *boot) error {
	if err := b.loader.Load("softdog"); err != nil {
		b.notice(fmt.Sprintf("no watchdog of the kernel: %v", err))
	}
	return armWatchdogs(ctx, b)
}

// loadModules loads the drivers of what is there already, and beside it what
// every boot needs; findPartitions follows the hardware that appears later.
func loadModules(_ context.Context, b *boot) error {
	events, err := uevent.Listen()
	if err != nil {
		return err
	}
	b.events = events
	if b.loader, err = modules.New("/"); err != nil {
		return err
	}
	b.loader.Async = true
	b.loadForProcessor()
	var wait sync.WaitGroup
	problems := make([]error, len(sysModules))
	for i, name := range sysModules {
		wait.Go(func() { problems[i] = b.loader.Load(name) })
	}
	b.modules = func() error {
		wait.Wait()
		return errors.Join(problems...)
	}
	_, err = b.loader.LoadForAll("/sys")
	b.driverProblem(err)
	return nil
}

// loadForProcessor loads what the processor has instructions for: SHA-256, if
// the initrd carries its module, before dm-verity chooses how to compute it.
func (b *boot) loadForProcessor() {
	alias, err := os.ReadFile("/sys/devices/system/cpu/modalias")
	if err != nil {
		return
	}
	_, err = b.loader.LoadFor(strings.TrimSpace(string(alias)))
	b.driverProblem(err)
}

// driverProblem tells of a driver that did not load: not the end, since it may
// be for another device than the disk.
func (b *boot) driverProblem(err error) {
	if err != nil {
		b.notice(err.Error())
	}
}

func findPartitions(_ context.Context, b *boot) error {
	waiting := partition.Waiting{Most: 30 * time.Second, Half: 5 * time.Second, Poll: time.Second}
	pair := partition.PairOf(b.rootHash)
	told := false
	found, err := partition.Wait(waiting, pair, time.Now,
		func() ([]partition.Disk, error) {
			disks, err := partition.Scan("/sys", "/dev")
			for i := range disks {
				b.repair(&disks[i], pair)
			}
			return disks, err
		},
		func(wait time.Duration) {
			if wait == waiting.Poll && !told && sinceKernelStart()-b.start > 3*time.Second {
				told = true
				b.console.Notice("waiting for the disk with root " + b.info.RootHash[:16])
			}
			b.follow(wait)
		})
	if err != nil {
		return err
	}
	b.found = found
	b.info.RootDevice, b.info.VerityDevice = found.Root.Device, found.Verity.Device
	b.info.Slot = partition.Slot(found.Root.Name)
	for _, text := range found.Notices {
		b.notice(text)
	}
	return b.modules()
}

// follow waits for news of devices, loads their drivers and returns when there
// may be a new disk or partition.
func (b *boot) follow(wait time.Duration) {
	for deadline := time.Now().Add(wait); ; {
		event, ok, err := b.events.Next(max(0, time.Until(deadline)))
		if err != nil {
			_, err = b.loader.LoadForAll("/sys")
			b.driverProblem(err)
			return
		}
		if !ok || event.Subsystem == "block" {
			return
		}
		if event.Modalias != "" && event.Action == "add" {
			_, err := b.loader.LoadFor(event.Modalias)
			b.driverProblem(err)
		}
	}
}

// repair restores the first copy of the partition table if it is damaged and
// the disk holds our root. The disk is scanned again afterwards.
func (b *boot) repair(disk *partition.Disk, pair partition.Pair) {
	if !errors.Is(disk.Problem, partition.ErrDamaged) {
		return
	}
	for _, part := range disk.Partitions {
		if part.UUID != pair.Root {
			continue
		}
		if err := grow.Repair(disk.Device, disk.Size, disk.Table); err != nil {
			b.notice(err.Error())
			return
		}
		b.notice("the partition table of " + disk.Device + " was damaged and has been restored from its second copy")
		disks, err := partition.Scan("/sys", "/dev")
		if err != nil {
			return
		}
		for _, again := range disks {
			if again.Device == disk.Device {
				*disk = again
			}
		}
	}
}

func openVerity(_ context.Context, b *boot) error {
	_, err := dmverity.Open("root", b.found.Root.Device, b.found.Verity.Device, b.found.Root.Size, b.rootHash)
	return err
}

func mountRoot(_ context.Context, b *boot) error {
	if err := os.MkdirAll(sysroot, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/dev/mapper/root", sysroot, "erofs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount the verified root %s: %w (dmesg says more)", b.found.Root.Device, err)
	}
	return nil
}

func growState(_ context.Context, b *boot) error {
	part, ok := partition.State(b.found.Disk)
	if !ok {
		return nil // mountState says so
	}
	plan, err := grow.Disk(b.found.Disk.Device, b.found.Disk.SectorSize, part.Index, partition.ReadTable)
	if err != nil {
		// The machine works with the partition as it is.
		b.notice("the state partition was not enlarged: " + err.Error())
		return nil
	}
	if !plan.Empty() {
		b.console.Info("partition table: " + plan.Reason)
		b.lock.closed = errors.Join(b.lock.closed, b.growOpen())
	}
	return nil
}

func mountState(ctx context.Context, b *boot) error {
	target := filepath.Join(sysroot, "var")
	if b.info.Live != "" {
		return b.mountLiveState(ctx, target)
	}
	reason := "the disk has no state partition"
	if part, ok := partition.State(b.found.Disk); ok {
		b.info.StateDevice = part.Device
		device, err := b.stateDevice(ctx, part.Device)
		if err == nil {
			b.info.StateDevice = device
			err = b.mountStateOf(ctx, device, target)
		}
		if err == nil {
			return nil
		}
		reason = err.Error()
	}
	b.info.VolatileState = true
	b.notice("/var is in memory and lost at the next boot: " + reason)
	return state.MountVolatile(target)
}

// mountStateOf mounts the state partition of a device, resets it if that was
// asked for, and lets it fill the device.
func (b *boot) mountStateOf(ctx context.Context, device, target string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	mounted, err := state.Mount(ctx, device, sysroot, target)
	for _, text := range mounted.Notices {
		b.notice(text)
	}
	if err != nil {
		return err
	}
	done, err := reset.Apply(target)
	switch {
	case err != nil:
		b.notice(err.Error())
	case done:
		b.notice("the state was reset, as coracle-reset was asked to")
	}
	b.fillState(device, target, mounted.Superblock)
	return nil
}

// fillState lets the file system fill its partition.
func (b *boot) fillState(device, target string, superblock state.Superblock) {
	blocks, larger, err := superblock.Grown(device)
	if err == nil && larger {
		err = grow.ResizeFS(target, blocks)
		if err == nil {
			b.console.Info(fmt.Sprintf("state partition: file system enlarged from %d to %d MiB",
				int64(superblock.Blocks)*superblock.BlockSize>>20, int64(blocks)*superblock.BlockSize>>20))
		}
	}
	if err != nil {
		b.notice("the state file system was not enlarged: " + err.Error())
	}
}

func mountEtc(_ context.Context, b *boot) error {
	notice, err := overlay.Mount(overlay.Dirs{
		Etc:      filepath.Join(sysroot, "etc"),
		State:    filepath.Join(sysroot, "var/lib/coracle/etc"),
		Volatile: "/run/coracle/etc",
	})
	if err != nil {
		// Read-only, but the machine comes up and can be looked at.
		notice = err.Error()
	}
	if notice != "" {
		b.notice(notice)
	}
	return nil
}

func switchRoot(_ context.Context, b *boot) error {
	if err := switchroot.Check(sysroot, finalInit); err != nil {
		return err
	}
	b.leaveStage1()
	b.events.Close()
	b.dogs.handOver()
	b.info.Stage1Millis = (sinceKernelStart() - b.start).Milliseconds()
	if err := bootinfo.Write(bootinfo.Path, b.info); err != nil {
		return err
	}
	place := "slot " + b.info.Slot
	if b.info.Live != "" {
		place = "live, from " + b.info.Live
	}
	b.console.Info(fmt.Sprintf("root %s verified (%s, %s) after %d ms",
		b.info.RootHash[:16], place, b.info.RootDevice, b.info.Stage1Millis))
	return switchroot.Exec(sysroot, finalInit)
}
