// Package live finds the root of a machine that was not started from its own
// disk, for stage 1: as two files that a network boot unpacked beside stage 1,
// or on a medium (CD, USB stick) with an ISO 9660 file system. Loop devices make
// block devices of the files; from there dm-verity and the root hash on the
// command line work as on a disk, so nothing is read that does not verify.
//
// Which of the two it is the command line says (Root); where /var is then kept
// it says too (State). Left out on purpose: fetching the root over the network,
// which the firmware and iPXE do before the kernel starts.
package live

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coracle-os/coracle/image/livename"
	"github.com/coracle-os/coracle/initrd/dmverity"
	"golang.org/x/sys/unix"
)

// ErrNoFiles says that a directory does not hold a root.
var ErrNoFiles = errors.New("there are no files of a root")

// Files are a root and its hash tree.
type Files struct{ Root, Hashes string }

// In gives the files below dir, after a look at whether they belong to the root
// hash and are whole.
func In(dir string, rootHash [32]byte) (Files, error) {
	f := Files{Root: filepath.Join(dir, livename.Root), Hashes: filepath.Join(dir, livename.Hashes)}
	info, err := os.Stat(f.Root)
	if err != nil {
		return f, fmt.Errorf("%w: %w", ErrNoFiles, err)
	}
	hashes, err := os.Open(f.Hashes)
	if err != nil {
		return f, fmt.Errorf("%w: %w", ErrNoFiles, err)
	}
	defer hashes.Close()
	if _, err := dmverity.Check(hashes, info.Size(), rootHash); err != nil {
		return f, fmt.Errorf("%s: %w", f.Root, err)
	}
	return f, nil
}

// Attach makes a read-only loop device of a file and returns its node. The
// device lasts until the machine ends; the file may be unlinked.
func Attach(file string) (device string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make a loop device of %s: %w", file, err)
		}
	}()
	backing, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	// Another program may take the free device first.
	for range 8 {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", err
		}
		device = fmt.Sprintf("/dev/loop%d", number)
		if err = configure(device, backing); !errors.Is(err, unix.EBUSY) {
			return device, err
		}
	}
	return "", unix.EBUSY
}

func configure(device string, backing *os.File) error {
	loop, err := os.OpenFile(device, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer loop.Close()
	config := unix.LoopConfig{Fd: uint32(backing.Fd()), Size: 4096}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY
	return unix.IoctlLoopConfigure(int(loop.Fd()), &config)
}

// CopyBootFiles copies what the installer needs beside the root from one
// directory to another; what is not there is left out. It returns whether all
// was there.
func CopyBootFiles(from, to string) (whole bool, err error) {
	whole = true
	for _, name := range []string{livename.UKI, livename.Loader} {
		content, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) {
			whole = false
			continue
		}
		if err == nil {
			err = os.MkdirAll(to, 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), content, 0o644)
		}
		if err != nil {
			return false, fmt.Errorf("keep the files of the boot loader: %w", err)
		}
	}
	return whole, nil
}
