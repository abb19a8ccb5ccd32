package cluster

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/tools/qemu"
)

// Host is what a machine needs of this computer.
type Host struct {
	Memory   int64 // MiB that programs can still have; below 0 is not known
	Overhead int   // MiB that QEMU needs for a machine besides the machine's memory
	DiskFree func(dir string) (int64, error)
	LookPath func(program string) (string, error)
	Firmware func() error
}

// ThisHost asks the kernel.
func ThisHost() Host {
	memory := int64(-1)
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		memory = availableMemory(text)
	}
	overhead := 64
	if qemu.DetectAccel() == "tcg" {
		overhead += codeSize
	}
	return Host{Memory: memory, Overhead: overhead, DiskFree: diskFree, LookPath: exec.LookPath, Firmware: func() error {
		_, err := qemu.FindFirmware("")
		return err
	}}
}

// availableMemory reads MemAvailable of /proc/meminfo in MiB, -1 without it.
func availableMemory(meminfo []byte) int64 {
	lines := bufio.NewScanner(bytes.NewReader(meminfo))
	for lines.Scan() {
		var kib int64
		if _, err := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); err == nil {
			return kib / 1024
		}
	}
	return -1
}

func diskFree(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("ask how full the disk of %q is: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// leastDisk is what a machine writes while it starts for the first time and
// runs a while, in bytes. A full disk of the host would damage the machines'.
const leastDisk = 512 << 20

// check says all that keeps n machines with so many MiB each from starting.
func (h Host) check(n, memory int, dir string) error {
	if n == 0 {
		return nil
	}
	var wrong []error
	for _, program := range []struct{ name, debian string }{
		{"qemu-system-x86_64", "qemu-system-x86"}, {"qemu-img", "qemu-utils"}, {"ssh", "openssh-client"}} {
		if _, err := h.LookPath(program.name); err != nil {
			wrong = append(wrong, fmt.Errorf("there is no program %s: `make setup` installs Debian's package %s", program.name, program.debian))
		}
	}
	if err := h.Firmware(); err != nil {
		wrong = append(wrong, err)
	}
	if need := int64(n) * int64(memory+h.Overhead); h.Memory >= 0 && need > h.Memory {
		wrong = append(wrong, fmt.Errorf("%d machines of %d MiB need %d MiB of memory with QEMU, and %d MiB are free: end other programs, "+
			"or make fewer (-machines) or smaller ones (-memory)", n, memory, need, h.Memory))
	}
	free, err := h.DiskFree(dir)
	if err == nil && free < int64(n)*leastDisk {
		err = fmt.Errorf("%d machines need %d MiB of disk in %q and %d MiB are free", n, int64(n)*leastDisk>>20, dir, free>>20)
	}
	if err = errors.Join(append(wrong, err)...); err != nil {
		return fmt.Errorf("start machines on this computer: %w", err)
	}
	return nil
}

// portTaken recognises QEMU's words for a forwarded port that is not free.
func portTaken(err error) bool {
	return strings.Contains(err.Error(), "Could not set up host forwarding rule")
}
