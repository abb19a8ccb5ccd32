package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/cgroup"
)

// build compiles a package of this module without cgo.
func build(t *testing.T, pkg, to string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", to, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// programs fills a directory with what every machine sees as /box: init, this
// test's binary, the unit's program, and the base's targets.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build(t, "github.com/coracle-os/coracle/rootfs/init", filepath.Join(dir, "init"))
	build(t, "./testdata/unit", filepath.Join(dir, "unit"))
	self, err := os.Executable()
	must(t, err)
	b, err := os.ReadFile(self)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "test"), b, 0o755))
	units := filepath.Join(dir, "units")
	must(t, os.Mkdir(units, 0o755))
	targets, err := filepath.Glob("../../../rootfs/base/usr/lib/systemd/system/*.target")
	must(t, err)
	for _, f := range targets {
		if to, err := os.Readlink(f); err == nil { // default.target
			must(t, os.Symlink(to, filepath.Join(units, filepath.Base(f))))
			continue
		}
		b, err := os.ReadFile(f)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(units, filepath.Base(f)), b, 0o644))
	}
	return dir
}

// newGroup makes a control group for a machine.
func newGroup(t *testing.T, name string) cgroup.Group {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		tree, err := cgroup.Open(root)
		if err != nil {
			continue
		}
		g, err := tree.Create("/coracle-lab-" + strconv.Itoa(os.Getpid()) + name)
		must(t, err)
		t.Cleanup(func() {
			for end := time.Now().Add(10 * time.Second); g.Remove() != nil && time.Now().Before(end); {
				g.Signal(unix.SIGKILL)
				time.Sleep(20 * time.Millisecond)
			}
		})
		return g
	}
	t.Fatal("no cgroup v2 is mounted on this machine; mount one on /sys/fs/cgroup")
	panic("unreachable")
}

// setup runs in the new name spaces of a machine: it makes a root directory and
// becomes init in it. box is the directory of programs, dir the machine's own.
// It returns only on failure.
func setup(netns, box, dir string) error {
	runtime.LockOSThread()
	fd, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	root := filepath.Join(dir, "root")
	at := func(p string) string { return filepath.Join(root, p) }
	for i, f := range []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return os.MkdirAll(root, 0o755) },
		func() error { return unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755") },
		func() error { return tree(root) },
		func() error { return os.CopyFS(at("etc/systemd/system"), os.DirFS(filepath.Join(box, "units"))) },
		func() error { return os.CopyFS(at("etc"), os.DirFS(filepath.Join(dir, "etc"))) },
		func() error { return unix.Mount("/usr", at("usr"), "", unix.MS_BIND, "") },
		func() error { return hide(at("usr/lib/systemd/system")) },
		func() error { return unix.Mount(box, at("box"), "", unix.MS_BIND, "") },
		func() error { return unix.Mount(dir, at("var/lib"), "", unix.MS_BIND, "") },
		func() error { return mounts(at) },
		func() error {
			return unix.Mount(filepath.Join(dir, "boot_id"), at("proc/sys/kernel/random/boot_id"), "", unix.MS_BIND, "")
		},
		func() error { return os.Chdir(root) },
		func() error { return unix.PivotRoot(".", "old") },
		func() error { return unix.Unmount("/old", unix.MNT_DETACH) },
		func() error { return os.Chdir("/") },
	} {
		if err := f(); err != nil {
			return fmt.Errorf("set up the machine, step %d: %w", i, err)
		}
	}
	return unix.Exec("/box/init", []string{"/box/init"}, []string{"container=lab", "PATH=/usr/bin:/usr/sbin"})
}

// hide mounts an empty directory over one: the units of the computer that the
// lab runs on must not be seen.
func hide(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	return unix.Mount("tmpfs", dir, "tmpfs", 0, "")
}

// tree makes the directories and files of a machine's root.
func tree(root string) error {
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "var/log", "var/lib", "var/tmp", "root", "usr", "box", "old", "etc/systemd/system"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	// This test's binary may need the C library.
	for _, l := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+l, filepath.Join(root, l)); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\ntty:x:5:\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// mounts mounts what init would find on a machine.
func mounts(at func(string) string) error {
	for _, m := range strings.Fields("proc:proc sysfs:sys cgroup2:sys/fs/cgroup tmpfs:dev tmpfs:run tmpfs:tmp") {
		kind, where, _ := strings.Cut(m, ":")
		if err := unix.Mount(kind, at(where), kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", where, err)
		}
	}
	for name, minor := range map[string]int{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		if err := unix.Mknod(at("dev/"+name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, uint32(minor)))); err != nil {
			return err
		}
	}
	return nil
}
