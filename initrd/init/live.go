package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/image/livename"
	"github.com/coracle-os/coracle/initrd/cmdline"
	"github.com/coracle-os/coracle/initrd/live"
	"github.com/coracle-os/coracle/initrd/partition"
	"github.com/coracle-os/coracle/initrd/state"
	"golang.org/x/sys/unix"
)

// liveModules are needed for a root in files, beside sysModules.
var liveModules = map[string][]string{
	livename.Memory: {"loop"},
	livename.Medium: {"loop", "isofs"},
}

// Directories of a live system that outlast stage 1.
const (
	mediumDir = "/run/coracle/medium"
	bootDir   = "/run/coracle/live"
)

// readLive reads the arguments of live systems.
func (b *boot) readLive(args cmdline.Args) error {
	value, found := args.Lookup(livename.RootArgument)
	if !found {
		return nil
	}
	if liveModules[value] == nil {
		return fmt.Errorf("%s=%q: write %s or %s", livename.RootArgument, value, livename.Memory, livename.Medium)
	}
	b.info.Live = value
	b.counted = true // there is no other release to fall back to
	var err error
	if b.wantState, err = live.ParseState(args, value); err != nil {
		b.notice(err.Error())
	}
	return nil
}

// findRoot finds the root where the command line says that it is.
func findRoot(ctx context.Context, b *boot) error {
	if b.info.Live == "" {
		return findPartitions(ctx, b)
	}
	if err := b.modules(); err != nil {
		return err
	}
	for _, name := range liveModules[b.info.Live] {
		if err := b.loader.Load(name); err != nil {
			return err
		}
	}
	files, err := b.liveFiles()
	if err != nil {
		return err
	}
	for file, part := range map[string]*partition.Partition{files.Root: &b.found.Root, files.Hashes: &b.found.Verity} {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		part.Size = info.Size()
		if part.Device, err = live.Attach(file); err != nil {
			return err
		}
	}
	b.info.RootDevice, b.info.VerityDevice = b.found.Root.Device, b.found.Verity.Device
	return nil
}

// liveFiles finds the files of the root, and keeps those that an installer needs.
func (b *boot) liveFiles() (live.Files, error) {
	if b.info.Live == livename.Medium {
		return b.mountMedium()
	}
	dir := filepath.Join("/", livename.Directory)
	files, err := live.In(dir, b.rootHash)
	if errors.Is(err, live.ErrNoFiles) {
		return files, fmt.Errorf("%w: give the kernel root.cpio.zst as a second initrd; %d MiB of memory may also be too few to unpack it", err, memory()>>20)
	}
	if err != nil {
		return files, err
	}
	whole, err := live.CopyBootFiles(dir, bootDir)
	if err != nil {
		b.notice(err.Error())
	}
	if whole {
		b.info.BootFiles = bootDir
	}
	return files, nil
}

// memory is the machine's memory in bytes.
func memory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// mountMedium waits for a medium with the root and mounts it.
func (b *boot) mountMedium() (files live.Files, err error) {
	err = live.ErrNoFiles
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); b.follow(time.Second) {
		nodes, nodesErr := live.Nodes("/sys", "/dev")
		if nodesErr != nil {
			return files, nodesErr
		}
		for _, medium := range live.Media(nodes) {
			if files, err = b.tryMedium(medium); err == nil {
				return files, nil
			}
		}
	}
	return files, fmt.Errorf("find the medium that the machine was started from (label %s): %w", livename.VolumeLabel, err)
}

func (b *boot) tryMedium(medium string) (live.Files, error) {
	if err := os.MkdirAll(mediumDir, 0o755); err != nil {
		return live.Files{}, err
	}
	if err := unix.Mount(medium, mediumDir, "iso9660", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return live.Files{}, fmt.Errorf("mount %s: %w", medium, err)
	}
	dir := filepath.Join(mediumDir, livename.Directory)
	files, err := live.In(dir, b.rootHash)
	if err != nil {
		_ = unix.Unmount(mediumDir, 0)
		return files, fmt.Errorf("%s: %w", medium, err)
	}
	b.info.BootFiles = dir
	return files, nil
}

// mountLiveState brings the state of a live system to target.
func (b *boot) mountLiveState(ctx context.Context, target string) error {
	device, err := b.liveState(ctx)
	if err == nil && device != "" {
		b.info.StateDevice = device
		if err = b.mountStateOf(ctx, device, target); err == nil {
			return nil
		}
	}
	b.info.VolatileState = true
	if err != nil {
		b.info.StateDevice = ""
		b.notice("/var is in memory and lost at the next boot: " + err.Error())
	}
	return state.MountVolatile(target)
}

// liveState gives the device for the state; "" if memory is as it should be.
func (b *boot) liveState(ctx context.Context) (string, error) {
	want := b.wantState
	if want.Memory {
		return "", nil
	}
	within := time.Duration(0)
	switch {
	case want.Wanted:
		within = 30 * time.Second
	case hasStorage("/sys"):
		within = 2 * time.Second
	}
	deadline := time.Now().Add(within)
	for {
		nodes, err := live.Nodes("/sys", "/dev")
		if err != nil {
			return "", err
		}
		if want.Label != "" {
			if device, ok := live.ByLabel(nodes, want.Label); ok {
				return device, nil
			}
		} else if _, err := os.Stat(want.Device); err == nil {
			return want.Device, b.formatState(ctx, want)
		}
		if !time.Now().Before(deadline) {
			break
		}
		b.follow(min(time.Second/2, time.Until(deadline)))
	}
	switch {
	case want.Device != "":
		return "", fmt.Errorf("there is no device %s (coracle.state=)", want.Device)
	case want.Wanted:
		return "", fmt.Errorf("no file system has the label %s (coracle.state=)", want.Label)
	}
	return "", nil
}

// hasStorage is true when a PCI device of the class of storage controllers is
// there, whose disks may take a moment to appear.
func hasStorage(sys string) bool {
	classes, _ := filepath.Glob(filepath.Join(sys, "bus/pci/devices/*/class"))
	for _, path := range classes {
		if text, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(text), "0x01") {
			return true
		}
	}
	return false
}

// formatState makes a file system on an empty device, when that is asked for.
func (b *boot) formatState(ctx context.Context, want live.State) error {
	if !want.Format {
		return nil
	}
	f, err := os.Open(want.Device)
	if err != nil {
		return err
	}
	_, err = state.ReadSuperblock(f)
	if err == nil {
		f.Close()
		return nil // made at an earlier boot
	}
	err = live.Empty(f)
	f.Close()
	if err != nil {
		return fmt.Errorf("%s is not made the state partition: %w", want.Device, err)
	}
	b.console.Info("making a file system for the state on " + want.Device)
	return state.Format(ctx, want.Device, sysroot, live.StateLabel)
}
