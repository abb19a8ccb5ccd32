package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// tree opens the machine's cgroup v2 hierarchy, mounting one if it has none at
// the usual places, and returns a scratch group of this test in it.
func tree(t *testing.T) (Tree, string) {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if tr, err := Open(root); err == nil {
			return tr, scratch(t, tr)
		}
	}
	dir := t.TempDir()
	if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		t.Fatalf("mount cgroup2 (this test needs root): %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	tr, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tr, scratch(t, tr)
}

func scratch(t *testing.T, tr Tree) string {
	path := "/coracle-test-" + strconv.Itoa(os.Getpid())
	t.Cleanup(func() {
		g := tr.Group(path)
		g.Signal(unix.SIGKILL)
		for range 200 {
			if !g.Populated() && g.Remove() == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return path
}

// start runs a shell script in the group and returns its process id; the
// process is collected in the background.
func start(t *testing.T, g Group, script string) int {
	t.Helper()
	fd, err := g.OpenDir()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd, Setsid: true}})
	if err != nil {
		t.Fatal(err)
	}
	go syscall.Wait4(pid, nil, 0, nil)
	return pid
}

func TestLifeOfAGroup(t *testing.T) {
	tr, base := tree(t)
	g, err := tr.Create(base + "/system.slice/a.service")
	if err != nil {
		t.Fatal(err)
	}
	if g.Populated() {
		t.Error("a new group is populated")
	}
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Add(g); err != nil {
		t.Fatal(err)
	}
	empty := make(chan string, 8)
	go w.Run(func(g Group) { empty <- g.Path() })

	pid := start(t, g, "sleep 100 & setsid sleep 100 & wait")
	if !g.Populated() {
		t.Error("the group is not populated after a start")
	}
	if !slices.Contains(g.Procs(), pid) {
		t.Errorf("process %d is not in %v", pid, g.Procs())
	}
	if got := Of("/proc", pid); filepath.Base(got) != "a.service" {
		t.Errorf("process %d is in %q", pid, got)
	}
	if err := g.Remove(); err == nil {
		t.Error("a populated group was removed")
	}
	// All of it, what left the session too.
	for len(g.Procs()) < 3 {
		time.Sleep(5 * time.Millisecond)
	}
	if n, _ := g.Signal(unix.SIGKILL); n != 3 {
		t.Errorf("%d processes were there, want 3", n)
	}
	select {
	case path := <-empty:
		if path != g.Path() {
			t.Errorf("report about %q", path)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no report that the group is empty")
	}
	w.Drop(g)
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if g.Exists() {
		t.Error("the group is still there")
	}
	if err := g.Remove(); err != nil {
		t.Errorf("second removal: %v", err)
	}
}

func TestSignalSparesTheNamed(t *testing.T) {
	tr, base := tree(t)
	g, err := tr.Create(base + "/spare")
	if err != nil {
		t.Fatal(err)
	}
	spared, other := start(t, g, "exec sleep 100"), start(t, g, "exec sleep 100")
	if n, _ := g.Signal(unix.SIGTERM, spared); n != 1 {
		t.Errorf("%d processes signalled, want 1", n)
	}
	for unix.Kill(other, 0) == nil {
		time.Sleep(5 * time.Millisecond)
	}
	if unix.Kill(spared, 0) != nil {
		t.Error("the spared process is gone")
	}
}

// A group can be used again after its processes were killed one by one; this
// is why Signal does not go through cgroup.kill.
func TestUseAfterKill(t *testing.T) {
	tr, base := tree(t)
	g, err := tr.Create(base + "/again")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		pid := start(t, g, "exec sleep 100")
		time.Sleep(20 * time.Millisecond)
		if unix.Kill(pid, 0) != nil {
			t.Fatal("a process was killed by the kill of an earlier one")
		}
		g.Signal(unix.SIGKILL)
		for g.Populated() {
			time.Sleep(time.Millisecond)
		}
	}
}

// Processes that fork without end are killed all the same.
func TestForkBomb(t *testing.T) {
	tr, base := tree(t)
	g, err := tr.Create(base + "/bomb")
	if err != nil {
		t.Fatal(err)
	}
	start(t, g, "while :; do (sleep 0.01; :) & done")
	for len(g.Procs()) < 20 {
		time.Sleep(time.Millisecond)
	}
	for end := time.Now().Add(20 * time.Second); g.Populated(); time.Sleep(5 * time.Millisecond) {
		g.Signal(unix.SIGKILL)
		if time.Now().After(end) {
			t.Fatal("the group is still populated")
		}
	}
}

func TestMissingController(t *testing.T) {
	tr, base := tree(t)
	g, err := tr.Create(base + "/limits")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Set("nosuch.max", "1"); !errors.Is(err, ErrNoController) {
		t.Errorf("got %v", err)
	}
	if s := tr.Group(base + "/nowhere").Stats(); s.MemoryBytes != -1 || s.CPU != -1 {
		t.Errorf("stats of a missing group: %+v", s)
	}
}

func TestNumber(t *testing.T) {
	tests := []struct {
		v    unit.Value
		of   uint64
		want string
	}{
		{unit.Value{Set: true, N: 64 << 20}, 0, "67108864"},
		{unit.Value{Set: true, Infinity: true}, 0, "max"},
		{unit.Value{Set: true, Permyriad: true, N: 1500}, 10000, "1500"},
		{unit.Value{Set: true, Permyriad: true, N: 5000}, 1 << 63, "4611686018427387904"},
	}
	for _, tt := range tests {
		if got := number(tt.v, tt.of); got != tt.want {
			t.Errorf("number(%+v, %d) = %s, want %s", tt.v, tt.of, got, tt.want)
		}
	}
}

func TestOpenRefusesOtherFileSystems(t *testing.T) {
	if _, err := Open("/proc"); err == nil {
		t.Error("no error for /proc")
	}
}
