package target

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

var errBusy = unix.EBUSY

// file is a disk whose cached pages can be dropped.
type file struct{ *os.File }

// Uncache drops the pages that are on the disk already.
func (f file) Uncache() { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// blkZeroOut is BLKZEROOUT of linux/fs.h.
const blkZeroOut = 0x127f

func zeroer(f *os.File, device bool) func(offset, length int64) error {
	if !device {
		return func(offset, length int64) error {
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
		}
	}
	return func(offset, length int64) error {
		area := [2]uint64{uint64(offset), uint64(length)}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), blkZeroOut, uintptr(unsafe.Pointer(&area))); errno != 0 {
			return errno
		}
		return nil
	}
}

func sectorSize(f *os.File) (int, error) { return unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET) }

// reread has the kernel read the partition table. It may be busy for a moment
// with what looks at new disks.
func reread(f *os.File, device bool) error {
	if !device {
		return nil
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKRRPART, 0); errno != 0 && !errors.Is(errno, unix.EBUSY) {
		return fmt.Errorf("have the kernel read the new partition table: %w", errno)
	}
	return nil
}

// ErrInUse says that a disk must not be written.
var ErrInUse = errors.New("the disk is in use")

// InUse says why a disk must not be written: it or a partition of it is mounted,
// swapped to, or part of a RAID, a volume group, an encrypted or a loop device.
// sys and proc are the directories of that name; device may be a link.
func InUse(sys, proc, device string) error {
	real, err := filepath.EvalSymlinks(device)
	if err != nil {
		return fmt.Errorf("look at the disk: %w", err)
	}
	name := strings.ReplaceAll(strings.TrimPrefix(real, "/dev/"), "/", "!")
	dir := filepath.Join(sys, "class/block", name)
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		return fmt.Errorf("%s is a partition; name the whole disk", device)
	}
	names := []string{name}
	parts, _ := filepath.Glob(filepath.Join(dir, "*", "partition"))
	for _, p := range parts {
		names = append(names, filepath.Base(filepath.Dir(p)))
	}
	for _, n := range names {
		holders, _ := os.ReadDir(filepath.Join(sys, "class/block", n, "holders"))
		for _, h := range holders {
			return fmt.Errorf("%w: %s is part of %s; take that apart first", ErrInUse, n, h.Name())
		}
		for table, hint := range map[string]string{"mounts": "is mounted on %s; unmount it first", "swaps": "is swapped to; swapoff it first"} {
			text, _ := os.ReadFile(filepath.Join(proc, table))
			for line := range strings.Lines(string(text)) {
				words := strings.Fields(line)
				if len(words) < 2 || words[0] != "/dev/"+strings.ReplaceAll(n, "!", "/") {
					continue
				}
				if strings.Contains(hint, "%s") {
					hint = fmt.Sprintf(hint, words[1])
				}
				return fmt.Errorf("%w: %s %s", ErrInUse, n, hint)
			}
		}
		loops, _ := filepath.Glob(filepath.Join(sys, "class/block/loop*/loop/backing_file"))
		for _, l := range loops {
			text, _ := os.ReadFile(l)
			if strings.TrimSpace(string(text)) == "/dev/"+n {
				return fmt.Errorf("%w: %s is behind %s; losetup -d it first", ErrInUse, n, filepath.Base(filepath.Dir(filepath.Dir(l))))
			}
		}
	}
	return nil
}
