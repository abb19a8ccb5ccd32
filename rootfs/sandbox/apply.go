package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespaces gives the calling thread, which must be locked to its goroutine and
// the one that calls execve, its namespaces and what is mounted in them.
func (p Plan) Namespaces() error {
	if !p.namespaces() {
		return nil
	}
	how := 0
	if p.mountNamespace() {
		how |= unix.CLONE_NEWNS
	}
	if p.Network {
		how |= unix.CLONE_NEWNET
	}
	if p.IPC {
		how |= unix.CLONE_NEWIPC
	}
	if p.Hostname {
		how |= unix.CLONE_NEWUTS
	}
	if err := unix.Unshare(how); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if p.Network {
		if err := loopback(); err != nil {
			return err
		}
	}
	if !p.mountNamespace() {
		return nil
	}
	// What is mounted outside later comes in; what is mounted here stays here.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("separate the mounts: %w", err)
	}
	return p.mounts()
}

func (p Plan) mounts() error {
	if p.Proc != "" {
		// A kernel or a container that cannot do that leaves it as it is, as systemd does.
		_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, p.Proc)
	}
	if p.Devices {
		if err := devices(); err != nil {
			return err
		}
	}
	for i, dir := range p.Private {
		if err := bind(dir, []string{"/tmp", "/var/tmp"}[i]); err != nil {
			return err
		}
	}
	for _, b := range p.Binds {
		if err := b.apply(); err != nil {
			return err
		}
	}
	for _, r := range p.Rules {
		if err := r.prepare(); err != nil {
			return err
		}
	}
	return p.lock()
}

func (b Bind) apply() error {
	info, err := os.Stat(b.From)
	if errors.Is(err, os.ErrNotExist) && b.Optional {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bind %q: %w", b.From, err)
	}
	if _, err := os.Stat(b.To); err != nil {
		if info.IsDir() {
			err = os.MkdirAll(b.To, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(b.To), 0o755); err == nil {
			err = os.WriteFile(b.To, nil, 0o644)
		}
		if err != nil {
			return fmt.Errorf("make the place of a bind mount: %w", err)
		}
	}
	if err := bind(b.From, b.To); err != nil || !b.ReadOnly {
		return err
	}
	return readOnly(b.To, unix.AT_RECURSIVE)
}

func bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %q on %q: %w", from, to, err)
	}
	return nil
}

// hiding is where there is a directory and a file that nobody may open.
const hiding = "/run/systemd/inaccessible"

// prepare makes a mount of its own of the path, so that what is set for it does
// not hold for what is above.
func (r Rule) prepare() error {
	info, err := os.Stat(r.Path)
	switch {
	case errors.Is(err, os.ErrNotExist) && (r.Optional || r.Access == Hidden):
		return nil
	case err != nil && r.Access == Empty:
		err = os.MkdirAll(r.Path, 0o755)
	}
	if err != nil {
		return fmt.Errorf("restrict the path %q: %w: write -%s if it may be missing", r.Path, err, r.Path)
	}
	switch {
	case r.Access == Hidden:
		return hide(r.Path, info.IsDir())
	case r.Access == Empty:
		if err := unix.Mount("tmpfs", r.Path, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, "mode=755"); err != nil {
			return fmt.Errorf("mount an empty directory on %q: %w", r.Path, err)
		}
		return nil
	case r.Path == "/":
		return nil
	}
	return bind(r.Path, r.Path)
}

func hide(path string, isDir bool) error {
	with := filepath.Join(hiding, "reg")
	err := os.MkdirAll(hiding, 0o755)
	if isDir {
		with = filepath.Join(hiding, "dir")
		if err == nil {
			err = os.Mkdir(with, 0)
		}
	} else if err == nil {
		var f *os.File
		if f, err = os.OpenFile(with, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0); err == nil {
			f.Close()
		}
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("hide %q: %w", path, err)
	}
	return bind(with, path)
}

// lock makes all mounts read-only whose rule says so.
func (p Plan) lock() error {
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return fmt.Errorf("read what is mounted: %w", err)
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		where := unescape.Replace(f[4])
		if r, ok := at(p.Rules, where); !ok || r.Access != Read && r.Access != Hidden {
			continue
		}
		// One that is below another cannot be reached, and need not be.
		if err := readOnly(where, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EACCES) {
			return err
		}
	}
	return nil
}

func readOnly(path string, flags uint) error {
	err := unix.MountSetattr(unix.AT_FDCWD, path, flags|unix.AT_SYMLINK_NOFOLLOW, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if err != nil {
		return fmt.Errorf("make %q read-only: %w", path, err)
	}
	return nil
}

// devices mounts a /dev with the devices that every program may use.
func devices() error {
	const dir = "/run/systemd/unit-dev"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a /dev: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_STRICTATIME, "mode=755,size=4m"); err != nil {
		return fmt.Errorf("make a /dev: %w", err)
	}
	for name, number := range map[string][2]uint32{"null": {1, 3}, "zero": {1, 5}, "full": {1, 7}, "random": {1, 8}, "urandom": {1, 9}, "tty": {5, 0}} {
		node := filepath.Join(dir, name)
		if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(number[0], number[1]))); err != nil {
			return fmt.Errorf("make the device %q: %w", name, err)
		}
		if err := os.Chmod(node, 0o666); err != nil {
			return fmt.Errorf("make the device %q: %w", name, err)
		}
	}
	for _, name := range []string{"pts", "shm", "mqueue", "hugepages"} {
		if _, err := os.Stat("/dev/" + name); err != nil {
			continue
		}
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return fmt.Errorf("make a /dev: %w", err)
		}
		if err := bind("/dev/"+name, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx", "log": "/run/systemd/journal/dev-log"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("make a /dev: %w", err)
		}
	}
	if err := unix.Mount(dir, "/dev", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("use a /dev: %w", err)
	}
	return nil
}

// loopback brings up the loopback device of a new network namespace.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up the loopback device: %w", err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring up the loopback device: %w", err)
	}
	r.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("bring up the loopback device: %w", err)
	}
	return nil
}

// lastCapability is the highest one that any kernel of today has.
const lastCapability = unix.CAP_LAST_CAP

// Bound drops capabilities from what the process and its children can ever
// have. It is called as root.
func (p Plan) Bound() error {
	for c := range lastCapability + 1 {
		if p.Drop>>c&1 == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}

// Keep says before the change of the user that capabilities are kept over it.
func (p Plan) Keep() error {
	if p.Ambient == 0 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	return nil
}

// Raise gives the ambient capabilities to the process after that.
func (p Plan) Raise() error {
	if p.Ambient == 0 {
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities: %w", err)
	}
	for i := range data {
		want := uint32(p.Ambient >> (32 * i))
		data[i].Inheritable |= want
		data[i].Effective |= want
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("keep the ambient capabilities: %w", err)
	}
	for c := range lastCapability + 1 {
		if p.Ambient>>c&1 == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0); err != nil {
			return fmt.Errorf("raise the ambient capability %d: %w", c, err)
		}
	}
	return nil
}
