// Package machine tells facts about the running machine: what conditions in
// unit files ask for, its identity, and how it is virtualised. It is used by
// PID 1 and by the programs that show such facts.
//
// Virtualization is told from DMI and the kernel's clock sources, which are
// files; the CPUID instruction is left out on purpose.
package machine

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// Machine is the machine whose root directory is Root.
type Machine struct {
	Root  string // "" for the running one
	First bool   // this is the first boot
	Env   []string
}

// Open implements fs.FS. Unlike os.DirFS it follows absolute links.
func (m Machine) Open(name string) (fs.File, error) { return os.Open(m.path(name)) }

// Stat implements fs.StatFS.
func (m Machine) Stat(name string) (fs.FileInfo, error) { return os.Stat(m.path(name)) }

// Lstat implements fs.ReadLinkFS.
func (m Machine) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(m.path(name)) }

// ReadLink implements fs.ReadLinkFS.
func (m Machine) ReadLink(name string) (string, error) { return os.Readlink(m.path(name)) }

// ReadFile implements fs.ReadFileFS.
func (m Machine) ReadFile(name string) ([]byte, error) { return os.ReadFile(m.path(name)) }

// ReadDir implements fs.ReadDirFS.
func (m Machine) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(m.path(name)) }

func (m Machine) path(name string) string { return filepath.Join("/", m.Root, name) }

func (m Machine) text(name string) string {
	b, _ := os.ReadFile(m.path(name))
	return strings.TrimSpace(string(b))
}

// IsMountPoint tells if something is mounted at the path.
func (m Machine) IsMountPoint(p string) bool {
	var here, above unix.Stat_t
	full := m.path(p)
	if unix.Stat(full, &here) != nil || unix.Lstat(path.Dir(full), &above) != nil {
		return false
	}
	if here.Dev != above.Dev || full == "/" {
		return true
	}
	for line := range strings.Lines(m.text("proc/self/mountinfo")) { // bind mounts
		if f := strings.Fields(line); len(f) > 4 && f[4] == full {
			return true
		}
	}
	return false
}

// IsReadWrite tells if the path is on a file system that can be written.
func (m Machine) IsReadWrite(p string) bool {
	var st unix.Statfs_t
	return unix.Statfs(m.path(p), &st) == nil && st.Flags&unix.ST_RDONLY == 0
}

// CommandLine returns the kernel's command line; in a container the arguments
// of PID 1 stand for it.
func (m Machine) CommandLine() string {
	if !m.InContainer() {
		return m.text("proc/cmdline")
	}
	args := strings.Split(strings.TrimRight(m.text("proc/1/cmdline"), "\x00"), "\x00")
	return strings.Join(args[1:], " ")
}

// Virtualization returns "none" or what the machine runs on, in the words of
// systemd-detect-virt(1).
func (m Machine) Virtualization() string {
	if c, ok := m.Getenv("container"); ok && c != "" {
		switch c {
		case "lxc", "lxc-libvirt", "systemd-nspawn", "docker", "podman", "rkt", "wsl", "proot", "pouch":
			return c
		}
		return "container-other"
	}
	return m.hypervisor()
}

// InContainer tells if PID 1 was told so ($container).
func (m Machine) InContainer() bool {
	c, ok := m.Getenv("container")
	return ok && c != ""
}

func (m Machine) hypervisor() string {
	dmi := ""
	for _, f := range []string{"product_name", "sys_vendor", "board_vendor", "bios_vendor"} {
		dmi += m.text("sys/class/dmi/id/"+f) + "\n"
	}
	known := []struct{ text, name string }{
		{"KVM", "kvm"}, {"OpenStack", "kvm"}, {"Amazon EC2", "amazon"}, {"QEMU", "qemu"}, {"VMware", "vmware"}, {"VMW", "vmware"},
		{"innotek GmbH", "oracle"}, {"VirtualBox", "oracle"}, {"Xen", "xen"}, {"Bochs", "bochs"}, {"Parallels", "parallels"},
		{"BHYVE", "bhyve"}, {"Hyper-V", "microsoft"}, {"Google Compute Engine", "google"}, {"Apple Virtualization", "apple"},
	}
	for _, k := range known {
		if !strings.Contains(dmi, k.text) {
			continue
		}
		if k.name == "qemu" && strings.Contains(m.text("sys/devices/system/clocksource/clocksource0/available_clocksource"), "kvm-clock") {
			return "kvm"
		}
		return k.name
	}
	if strings.Contains(dmi, "Microsoft Corporation") && strings.Contains(dmi, "Virtual Machine") {
		return "microsoft"
	}
	if strings.Contains(m.text("proc/cpuinfo"), " hypervisor") {
		return "vm-other"
	}
	return "none"
}

// FirstBoot tells if the machine has no identity from an earlier boot.
func (m Machine) FirstBoot() bool { return m.First }

// Host returns what specifiers stand for.
func (m Machine) Host() specifier.Host { return specifier.ReadHost(m) }

// Getenv reads a variable of PID 1.
func (m Machine) Getenv(name string) (string, bool) {
	for _, e := range m.Env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// MemoryBytes returns the size of the machine's memory.
func (m Machine) MemoryBytes() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return info.Totalram * uint64(info.Unit)
}

// CPUs returns how many CPUs PID 1 may use.
func (m Machine) CPUs() int { return runtime.NumCPU() }

// TaskLimit returns how many processes the machine can hold.
func (m Machine) TaskLimit() uint64 {
	limit := uint64(1 << 22)
	for _, f := range []string{"proc/sys/kernel/pid_max", "proc/sys/kernel/threads-max"} {
		if n, err := strconv.ParseUint(m.text(f), 10, 64); err == nil && n < limit {
			limit = n
		}
	}
	return limit
}
