// Package state brings the state partition to /var, for stage 1: check it if
// it was not left clean, mount it, let its file system fill its partition.
//
// The check runs e2fsck of the verified root, which is mounted by then; the
// initrd has none. A state partition that is missing or cannot be used does
// not stop the boot: /var is a tmpfs then, and the reason is told.
package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrUnrepaired says that e2fsck left errors that a person must decide about.
var ErrUnrepaired = errors.New("the file system has errors that are not safe to repair by itself: run e2fsck on it")

// Mounted is a state partition in use.
type Mounted struct {
	Superblock Superblock // as it was before
	Notices    []string   // what was repaired
}

// Mount checks and mounts the ext4 file system of device at target. root is
// where the verified root is mounted; its e2fsck is used.
func Mount(ctx context.Context, device, root, target string) (Mounted, error) {
	var mounted Mounted
	file, err := os.Open(device)
	if err != nil {
		return mounted, fmt.Errorf("open state partition: %w", err)
	}
	mounted.Superblock, err = ReadSuperblock(file)
	file.Close()
	if errors.Is(err, ErrNotExt4) {
		// e2fsck -p does not look for the copies of a lost superblock.
		return mounted, fmt.Errorf("%s: %w: \"e2fsck -b 32768 %s\" may restore it, \"mke2fs -t ext4 -L STATE %s\" makes it anew", device, err, device, device)
	}
	if err != nil {
		return mounted, fmt.Errorf("open state partition %s: %w", device, err)
	}
	checked := false
	check := func(why string) error {
		checked = true
		note, err := Check(ctx, device, root)
		if err == nil {
			mounted.Notices = append(mounted.Notices, why+"; "+note)
		}
		return err
	}
	if !mounted.Superblock.Clean {
		if err := check("the state partition was not left clean"); err != nil {
			return mounted, err
		}
	}
	err = mountExt4(device, target)
	if err != nil && !checked {
		if checkErr := check("the state partition could not be mounted (" + err.Error() + ")"); checkErr != nil {
			return mounted, errors.Join(err, checkErr)
		}
		err = mountExt4(device, target)
	}
	return mounted, err
}

func mountExt4(device, target string) error {
	if err := unix.Mount(device, target, "ext4", unix.MS_RELATIME, ""); err != nil {
		return fmt.Errorf("mount state partition %s: %w", device, err)
	}
	return nil
}

// Check runs "e2fsck -p" of the system at root on device. The note says what
// it did.
func Check(ctx context.Context, device, root string) (note string, err error) {
	command := chroot(ctx, root, "/usr/sbin/e2fsck", "-p", device)
	output, err := command.output()
	return verdict(command.ProcessState, err, lastLine(output))
}

// inRoot is a program of another root.
type inRoot struct {
	*exec.Cmd
	root string
}

func chroot(ctx context.Context, root, program string, args ...string) inRoot {
	command := exec.CommandContext(ctx, program, args...)
	command.Path = program // in the root
	command.Err = nil
	command.Env = []string{"PATH=/usr/sbin:/usr/bin"}
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	return inRoot{command, root}
}

// output runs the program, which sees /dev: it opens devices by their names.
func (c inRoot) output() ([]byte, error) {
	dev := filepath.Join(c.root, "dev")
	if err := unix.Mount("/dev", dev, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("show it /dev: %w", err)
	}
	defer unix.Unmount(dev, unix.MNT_DETACH)
	return c.CombinedOutput()
}

// Format makes an ext4 file system with the mke2fs of the system at root. What
// the device held is lost.
func Format(ctx context.Context, device, root, label string) error {
	output, err := chroot(ctx, root, "/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", label, device).output()
	if err != nil {
		return fmt.Errorf("make the state file system on %s: mke2fs: %w (%s)", device, err, lastLine(output))
	}
	return nil
}

// verdict reads e2fsck's exit code: 0 no errors, 1 repaired, 2 repaired and
// the machine should restart (only for mounted ones), 4 errors left.
func verdict(process *os.ProcessState, err error, line string) (string, error) {
	if process == nil {
		return "", fmt.Errorf("check state partition: %w", err)
	}
	switch code := process.ExitCode(); {
	case code == 0:
		return "e2fsck found no errors", nil
	case code > 0 && code&^3 == 0:
		return "e2fsck repaired it (" + line + ")", nil
	case code > 0 && code&4 != 0:
		return "", fmt.Errorf("check state partition: %w (%s)", ErrUnrepaired, line)
	}
	return "", fmt.Errorf("check state partition: e2fsck: %w (%s)", err, line)
}

func lastLine(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// MountVolatile mounts a tmpfs at target in place of the state partition. It
// may take half of the memory that is free now: a live system's root has its
// part already.
func MountVolatile(target string) error {
	size := "50%"
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		size = fmt.Sprint(uint64(info.Freeram+info.Bufferram) * uint64(info.Unit) / 2)
	}
	if err := unix.Mount("tmpfs", target, "tmpfs", 0, "mode=0755,size="+size); err != nil {
		return fmt.Errorf("mount a tmpfs in place of the state partition: %w", err)
	}
	return nil
}

// Grown gives the size that the file system should have on its device, in
// blocks, and whether that is enough more than now to enlarge it.
func (s Superblock) Grown(device string) (blocks uint64, grow bool, err error) {
	file, err := os.Open(device)
	if err != nil {
		return 0, false, fmt.Errorf("ask for the size of the state partition: %w", err)
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, false, fmt.Errorf("ask for the size of the state partition: %w", err)
	}
	blocks, grow = s.grown(size)
	return blocks, grow, nil
}

func (s Superblock) grown(size int64) (blocks uint64, grow bool) {
	blocks = uint64(size / s.BlockSize)
	// ext4 does not use a last group that is too small for its own tables, so
	// a gap below one group of blocks may never close.
	group := uint64(s.BlockSize) * 8
	return blocks, blocks >= s.Blocks+group/4
}
