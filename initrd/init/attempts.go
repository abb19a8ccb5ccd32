package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/coracle-os/coracle/initrd/attempts"
	"github.com/coracle-os/coracle/initrd/bootstate"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/initrd/esp"
	"github.com/coracle-os/coracle/initrd/modules"
	"github.com/coracle-os/coracle/initrd/partition"
	"github.com/coracle-os/coracle/initrd/state"
	"golang.org/x/sys/unix"
)

// countStart counts this start, and ends it when a release that was good does
// not last any more and another system can take over. It comes before anything
// is read from the root: what is damaged there restarts the machine at once.
func countStart(_ context.Context, b *boot) error { return b.countOn(b.found.Disk) }

// countOn counts in the disk's state partition. One with errors is left to
// e2fsck, which is in the root.
func (b *boot) countOn(disk partition.Disk) error {
	part, ok := partition.State(disk)
	if !ok || b.lock.fresh {
		return nil
	}
	part.Device = b.opened(part.Device)
	if !clean(part.Device) {
		return nil
	}
	const target = "/state"
	err := os.MkdirAll(target, 0o755)
	if err == nil {
		err = unix.Mount(part.Device, target, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	}
	if err != nil {
		b.notice(fmt.Sprintf("this start is not counted: mount %s: %v", part.Device, err))
		return nil
	}
	err = b.count(target)
	if unmountErr := unix.Unmount(target, 0); unmountErr != nil {
		b.notice(fmt.Sprintf("unmount %s: %v", part.Device, unmountErr))
	}
	return err
}

func clean(device string) bool {
	f, err := os.Open(device)
	if err != nil {
		return false
	}
	defer f.Close()
	superblock, err := state.ReadSuperblock(f)
	return err == nil && superblock.Clean
}

func (b *boot) count(dir string) error {
	b.counted = true
	r := attempts.Read(dir).Next(b.info.RootHash)
	if err := r.Write(dir); err != nil {
		b.notice(err.Error())
	}
	if !r.Spent() {
		return nil
	}
	text := fmt.Sprintf("this release was started %d times in a row without lasting %s", r.Starts-1, attempts.Lasting)
	given, err := b.giveUp()
	if err != nil {
		b.notice(text + ", and cannot be given up: " + err.Error())
	}
	if !given {
		b.notice(text + "; there is no other good system on the disk to take over")
		return nil
	}
	if err := attempts.Forget(dir); err != nil {
		b.notice(err.Error())
	}
	return errors.New(text + "; the other system on the disk takes over at the next start")
}

// countFailure counts a start that ends before countStart. cause is why; what is
// returned may say more.
func (b *boot) countFailure(cause error) error {
	if b.counted || b.info.RootHash == "" {
		return cause
	}
	for _, disk := range b.disks() {
		b.openByTPM(disk)
		if err := b.countOn(disk); err != nil {
			return fmt.Errorf("%w; %w", cause, err)
		}
	}
	return cause
}

// disks are the disk of the root, or, when it was not found, all.
func (b *boot) disks() []partition.Disk {
	if b.found.Disk.Device != "" {
		return []partition.Disk{b.found.Disk}
	}
	disks, err := partition.Scan("/sys", "/dev")
	if err != nil {
		b.notice(err.Error())
	}
	return disks
}

// giveUp has the boot loader take another system that is whole on the disk. It
// returns false when there is none.
func (b *boot) giveUp() (given bool, err error) {
	for _, disk := range b.disks() {
		if !slices.ContainsFunc(disk.Partitions, func(p partition.Partition) bool { return p.Name == esp.PartitionName }) {
			continue
		}
		fs, openErr := esp.OpenOn(disk, loadFAT)
		if openErr != nil {
			return false, openErr
		}
		dir := entries.OSDir(fs.Path(entries.Directory))
		err = bootstate.With(dir, bootstate.Loaders(fs.Path, bootstate.UEFI("/sys")), func(dir entries.Dir) error {
			l, err := entries.List(dir)
			if err != nil {
				return err
			}
			steps := entries.PlanGiveUp(l, b.info.RootHash, func(hash string) bool { return holds(disk, hash) })
			given = len(steps) > 0
			return entries.Apply(dir, steps, nil)
		})
		err = errors.Join(err, fs.Close())
		return given && err == nil, err
	}
	return false, nil
}

// loadFAT loads what the kernel would ask modprobe for.
func loadFAT() error {
	loader, err := modules.New("/")
	if err != nil {
		return err
	}
	for _, name := range []string{"nls_cp437", "nls_ascii", "nls_utf8", "vfat"} {
		if err := loader.Load(name); err != nil {
			return err
		}
	}
	return nil
}

// holds is true when a disk has the partitions of the system with a root hash.
func holds(disk partition.Disk, rootHash string) bool {
	sum, err := hex.DecodeString(rootHash)
	if err != nil || len(sum) != 32 {
		return false
	}
	pair := partition.PairOf([32]byte(sum))
	root, verity := false, false
	for _, part := range disk.Partitions {
		root = root || part.UUID == pair.Root
		verity = verity || part.UUID == pair.Verity
	}
	return root && verity
}
