// Package esp finds and opens the boot entries of the running machine, for the
// update engine and the health gate. What an opened partition is, and what the
// entries are, is said in packages esp and entries of initrd, which stage 1 uses
// too.
package esp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/bootstate"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/initrd/esp"
	"github.com/coracle-os/coracle/initrd/partition"
)

// Entries calls f with the directory of the boot entries, on the disk that
// rootDevice, such as "/dev/vda3", is on. They say what the boot loaders have
// counted; what f did is on the disk afterwards, and the loaders know of it.
// One program at a time has them.
func Entries(rootDevice string, f func(entries.Dir) error) error {
	return Partition(rootDevice, func(path func(string) string, _ partition.Partition) error {
		return bootstate.With(entries.OSDir(path(entries.Directory)), bootstate.Loaders(path, bootstate.UEFI("/sys")), f)
	})
}

// Partition calls f with a function that returns the path of a file or directory
// of the same partition, such as "EFI/BOOT", and with which one that is. One
// program at a time has it.
func Partition(rootDevice string, f func(path func(name string) string, _ partition.Partition) error) error {
	disks, err := partition.Scan("/sys", "/dev")
	if err != nil {
		return fmt.Errorf("find the EFI system partition: %w", err)
	}
	disk, ok := diskOf(disks, rootDevice)
	if !ok {
		return fmt.Errorf("find the EFI system partition: no disk has the root %s", rootDevice)
	}
	fs, err := esp.OpenOn(disk, loadDriver)
	if err != nil {
		return err
	}
	return errors.Join(locked(fs, f), fs.Close())
}

// diskOf is the disk that a partition is on.
func diskOf(disks []partition.Disk, device string) (partition.Disk, bool) {
	for _, d := range disks {
		for _, p := range d.Partitions {
			if p.Device == device {
				return d, true
			}
		}
	}
	return partition.Disk{}, false
}

func locked(fs *esp.FS, f func(path func(string) string, _ partition.Partition) error) error {
	lock, err := os.Open(fs.Path(entries.Directory))
	if err != nil {
		return fmt.Errorf("open the boot entries: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock the boot entries: %w", err)
	}
	return f(fs.Path, fs.Partition)
}

func loadDriver() error {
	if out, err := exec.Command("modprobe", "vfat").CombinedOutput(); err != nil {
		return fmt.Errorf("modprobe vfat: %w: %s", err, out)
	}
	return nil
}
