package configdrive

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// readMounted reads a drive that go-diskfs can not (an ISO with Joliet names
// only, whose nested folders it does not find) through the kernel, mounted
// read-only where no other process sees it.
func readMounted(device string, format Format) (drive Drive, err error) {
	kind := "vfat"
	if format == ISO9660 {
		kind = "iso9660"
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread gets a mount namespace of its own and, because it is never
		// unlocked, ends with this function; the mount ends with it.
		runtime.LockOSThread()
		drive, err = mountAndRead(device, kind)
	}()
	<-done
	return drive, err
}

func mountAndRead(device, kind string) (Drive, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return Drive{}, fmt.Errorf("make mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return Drive{}, fmt.Errorf("make mounts private: %w", err)
	}
	dir, err := os.MkdirTemp("/run", "configdrive-")
	if err != nil {
		return Drive{}, err
	}
	defer os.Remove(dir)
	flags := uintptr(unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount(device, dir, kind, flags, ""); err != nil {
		return Drive{}, fmt.Errorf("mount as %s: %w", kind, err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	return Read(os.DirFS(dir))
}
