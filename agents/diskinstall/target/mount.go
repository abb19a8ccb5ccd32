package target

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mount mounts the ext4 file system in a range of the disk at name, calls fill
// with its directory, and takes it down again; what fill did is on the disk then.
// It needs no partition table. name is the device or file of the disk.
func Mount(name string, offset, size int64, fill func(dir string) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write into the partition at byte %d of %s: %w", offset, name, err)
		}
	}()
	loop, err := attach(name, offset, size)
	if err != nil {
		return err
	}
	defer loop.Close()
	defer unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0)
	dir, err := os.MkdirTemp("", "coracle-oem-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount(loop.Name(), dir, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	err = fill(dir)
	return errors.Join(err, unix.Unmount(dir, 0), loop.Sync())
}

// attach makes a loop device of a range.
func attach(name string, offset, size int64) (*os.File, error) {
	backing, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%w; load the kernel module loop (modprobe loop)", err)
	}
	defer control.Close()
	// Another program may take the free device first.
	for range 8 {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", number), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(backing.Fd())}
		config.Info.Offset, config.Info.Sizelimit = uint64(offset), uint64(size)
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), &config); err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("loop device: %w", err)
		}
	}
	return nil, fmt.Errorf("loop device: %w", unix.EBUSY)
}
