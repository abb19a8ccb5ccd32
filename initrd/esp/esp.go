// Package esp opens the EFI system partition, for stage 1, the update engine and
// the health gate. It is not mounted otherwise: a file system that nobody has
// open cannot be damaged by a power cut.
//
// The mount is detached (fsopen(2), fsmount(2)): it is in no mount name space,
// nobody else sees it, and the kernel undoes it when the last file on it is
// closed, however the process ends.
package esp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/partition"
)

// PartitionName is the partition's name in the GPT.
const PartitionName = "ESP"

// FS is an opened partition.
type FS struct {
	Partition partition.Partition // which one OpenOn has found
	root      *os.File
}

// Open mounts the FAT file system on device. When the kernel does not know the
// file system yet it calls loadDriver, which may be nil, and tries again.
func Open(device string, loadDriver func() error) (*FS, error) {
	fd, err := mount("vfat", device, "umask=0077")
	if errors.Is(err, unix.ENODEV) && loadDriver != nil {
		if loadErr := loadDriver(); loadErr != nil {
			return nil, fmt.Errorf("open the EFI system partition %s: %w: %w", device, err, loadErr)
		}
		fd, err = mount("vfat", device, "umask=0077")
	}
	if err != nil {
		return nil, fmt.Errorf("open the EFI system partition %s: %w", device, err)
	}
	return &FS{root: os.NewFile(uintptr(fd), device)}, nil
}

// mount returns the root of a detached mount.
func mount(kind, device string, options ...string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, option := range append(options, "source="+device) {
		name, value, _ := strings.Cut(option, "=")
		if err := unix.FsconfigSetString(fs, name, value); err != nil {
			return -1, fmt.Errorf("option %s: %w", option, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		if errors.Is(err, unix.ENODEV) {
			err = errors.New("the device does not exist") // not the file system
		}
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

// Path returns a path to a file of the partition, such as "EFI/Linux". It is
// valid in this process until Close.
func (f *FS) Path(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.root.Fd(), filepath.Clean("/" + name)[1:])
}

// Close writes everything to the disk and gives the partition up.
func (f *FS) Close() error {
	if err := errors.Join(f.sync(), f.root.Close()); err != nil {
		return fmt.Errorf("close the EFI system partition: %w", err)
	}
	return nil
}

func (f *FS) sync() error {
	dir, err := os.Open(f.Path("")) // the root itself is only a path to the kernel
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return err
	}
	return dir.Sync() // which alone has the disk flush its cache, on a FAT
}
