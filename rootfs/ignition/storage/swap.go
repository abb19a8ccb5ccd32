package storage

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// swapOn begins to swap to a device; x/sys has no function for it.
func swapOn(node string) error {
	path, err := unix.BytePtrFromString(node)
	if err != nil {
		return fmt.Errorf("swap to %q: %w", node, err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
		return fmt.Errorf("swap to %s: %w", node, errno)
	}
	return nil
}
