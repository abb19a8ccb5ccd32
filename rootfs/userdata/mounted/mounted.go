// Package mounted reads a disk through the kernel, for the disks of platforms
// that no library reads: mounted read-only where no other process sees it.
package mounted

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do mounts a device with a file system of the kind ("udf") and calls read with
// it. The error wraps that of the system call or is that of read.
func Do(device, kind string, read func(fs.FS) error) error {
	done := make(chan error, 1)
	go func() {
		// The thread gets a mount namespace of its own and, because it is never
		// unlocked, ends with this function; the mount ends with it.
		runtime.LockOSThread()
		done <- mountAndRead(device, kind, read)
	}()
	return <-done
}

func mountAndRead(device, kind string, read func(fs.FS) error) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	dir, err := os.MkdirTemp("/run", "coracle-disk-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount(device, dir, kind, flags, ""); err != nil {
		return fmt.Errorf("mount %s as %s: %w", device, kind, err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	return read(os.DirFS(dir))
}
