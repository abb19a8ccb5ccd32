// Package early is what PID 1 does before the first unit starts: the kernel's
// file systems, kernel parameters, hostname, machine id, clock, loopback,
// random seed and the oem partition.
//
// Each part is a function of its own that works below a root directory where
// it can, so that tests need no machine. A part that fails is a warning: the
// machine comes up without it. The directories of tmpfiles.d and kernel
// modules are other packages' (rootfs/tmpfiles, rootfs/modload).
package early

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one file system of the kernel.
type Mount struct {
	Source, Target, Type, Data string
	Flags                      uintptr
	Mode                       os.FileMode // of the directory, when it is made; 0: it has to be there
	Optional                   bool        // the kernel may not have it
}

const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// Mounts lists the file systems that the kernel offers, in the order in which
// they are mounted.
func Mounts() []Mount {
	return []Mount{
		{"proc", "/proc", "proc", "", safe, 0, false},
		{"sysfs", "/sys", "sysfs", "", safe, 0, false},
		{"devtmpfs", "/dev", "devtmpfs", "mode=755", unix.MS_NOSUID | unix.MS_STRICTATIME, 0, false},
		{"tmpfs", "/run", "tmpfs", "mode=755,size=20%,nr_inodes=800k", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_STRICTATIME, 0, false},
		{"tmpfs", "/tmp", "tmpfs", "mode=1777,size=50%,nr_inodes=1m", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_STRICTATIME, 0, false},
		{"devpts", "/dev/pts", "devpts", "mode=620,gid=5,ptmxmode=666", unix.MS_NOSUID | unix.MS_NOEXEC, 0o755, false},
		{"tmpfs", "/dev/shm", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_STRICTATIME, 0o1777, false},
		{"mqueue", "/dev/mqueue", "mqueue", "", safe, 0o1777, true},
		{"hugetlbfs", "/dev/hugepages", "hugetlbfs", "pagesize=2M", unix.MS_NOSUID | unix.MS_NODEV, 0o755, true},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", "nsdelegate,memory_recursiveprot", safe, 0, false},
		{"bpf", "/sys/fs/bpf", "bpf", "mode=700", safe, 0, true},
		{"securityfs", "/sys/kernel/security", "securityfs", "", safe, 0, true},
		{"debugfs", "/sys/kernel/debug", "debugfs", "", safe, 0, true},
		{"tracefs", "/sys/kernel/tracing", "tracefs", "", safe, 0, true},
		{"fusectl", "/sys/fs/fuse/connections", "fusectl", "", safe, 0, true},
		{"pstore", "/sys/fs/pstore", "pstore", "", safe, 0, true},
		{"efivarfs", "/sys/firmware/efi/efivars", "efivarfs", "", safe, 0, true},
	}
}

// MountAll mounts what is not mounted yet; stage 1 has done some of it.
func MountAll(list []Mount) error {
	var errs []error
	for _, m := range list {
		if isMount(m.Target) {
			continue
		}
		if m.Mode != 0 {
			if err := os.Mkdir(m.Target, m.Mode); err == nil {
				_ = os.Chmod(m.Target, m.Mode)
			}
		}
		if _, err := os.Stat(m.Target); err != nil && m.Optional {
			continue
		}
		err := unix.Mount(m.Source, m.Target, m.Type, m.Flags, m.Data)
		if err == unix.EINVAL && m.Data != "" { // an option that this kernel does not know
			err = unix.Mount(m.Source, m.Target, m.Type, m.Flags, "")
		}
		if err != nil && !(m.Optional && (err == unix.ENODEV || err == unix.EPERM || err == unix.EBUSY)) {
			errs = append(errs, fmt.Errorf("mount %s on %s: %w", m.Type, m.Target, err))
		}
	}
	return errors.Join(errs...)
}

// isMount tells if path is a mount point.
func isMount(path string) bool {
	var here, above unix.Stat_t
	if unix.Lstat(path, &here) != nil || unix.Lstat(filepath.Dir(path), &above) != nil {
		return false
	}
	return here.Dev != above.Dev
}

// Share makes mounts show in the name spaces of containers, as they expect.
func Share() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts with containers: %w", err)
	}
	return nil
}

// DeviceLinks makes the links in /dev that programs expect.
func DeviceLinks(dev string) error {
	links := map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "core": "/proc/kcore", "ptmx": "pts/ptmx"}
	var errs []error
	for name, to := range links {
		path := filepath.Join(dev, name)
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		if err := os.Symlink(to, path); err != nil && !errors.Is(err, os.ErrExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Directories makes what must be in /run before anything runs.
func Directories(root string) error {
	var errs []error
	for _, d := range []string{"run/systemd/system", "run/systemd/units", "run/systemd/journal", "run/systemd/netif",
		"run/systemd/ask-password", "run/lock", "run/log", "run/coracle", "run/user"} {
		errs = append(errs, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	return errors.Join(errs...)
}

// OEM mounts the oem partition, read-only, at target. It is the partition
// named "oem" on the disk that the root is on, or on any. No such partition is
// no error.
func OEM(sys, dev, rootDevice, target string) error {
	device := FindPartition(sys, "oem", rootDevice)
	if device == "" || isMount(target) {
		return nil
	}
	if err := unix.Mount(filepath.Join(dev, device), target, "ext4", unix.MS_RDONLY|safe&^unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount the oem partition %s on %s: %w", device, target, err)
	}
	return nil
}

// FindPartition returns the device name of the partition with that name,
// such as "vda2", those on the disk of rootDevice first; "" when there is none.
// sys is "/sys" on the machine.
func FindPartition(sys, name, rootDevice string) string {
	files, _ := filepath.Glob(filepath.Join(sys, "class/block/*/uevent"))
	best := ""
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || !strings.Contains("\n"+string(b), "\nPARTNAME="+name+"\n") {
			continue
		}
		device := filepath.Base(filepath.Dir(f))
		if best == "" || sameDisk(sys, device, filepath.Base(rootDevice)) {
			best = device
		}
	}
	return best
}

// sameDisk tells if two partitions are on one disk: their directories in
// sysfs are then in the same one.
func sameDisk(sys, a, b string) bool {
	da, err1 := filepath.EvalSymlinks(filepath.Join(sys, "class/block", a))
	db, err2 := filepath.EvalSymlinks(filepath.Join(sys, "class/block", b))
	return err1 == nil && err2 == nil && filepath.Dir(da) == filepath.Dir(db)
}
