// Package cgroup keeps the control groups (cgroup v2) of PID 1's units: it
// makes them, opens them for clone3, limits them, counts and kills what is in
// them and says when they become empty.
//
// It follows Documentation/admin-guide/cgroup-v2.rst. It works without any
// controller too (a hierarchy that a container was given): limits then fail
// with ErrNoController, which callers log and ignore. Left out on purpose:
// cgroup v1, threaded groups, device programs (BPF).
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoController says that the kernel or the surrounding container does not
// offer the controller that a limit needs.
var ErrNoController = errors.New("the controller is not available here")

// Tree is a cgroup v2 hierarchy.
type Tree struct {
	root string
}

// Open returns the hierarchy mounted at root, such as /sys/fs/cgroup.
func Open(root string) (Tree, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return Tree{}, fmt.Errorf("open the cgroup tree %q: %w", root, err)
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return Tree{}, fmt.Errorf("open the cgroup tree %q: it is not a cgroup v2 mount", root)
	}
	return Tree{root: root}, nil
}

// Root returns the directory where the hierarchy is mounted.
func (t Tree) Root() string { return t.root }

// Delegated lists the controllers that units get, when the kernel has them.
var Delegated = []string{"cpu", "cpuset", "io", "memory", "pids"}

// Enable turns on the Delegated controllers that are there for the children of
// the group at path ("" for the root), and leaves the others off.
func (t Tree) Enable(path string) error {
	dir := filepath.Join(t.root, path)
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("enable the controllers of %q: %w", path, err)
	}
	var failed []error
	for _, c := range strings.Fields(string(have)) {
		if !slices.Contains(Delegated, c) {
			continue
		}
		if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+c); err != nil {
			failed = append(failed, fmt.Errorf("enable the controller %q below %q: %w", c, path, err))
		}
	}
	return errors.Join(failed...)
}

// Group returns the group at path, for example "/system.slice/a.service",
// whether or not it exists.
func (t Tree) Group(path string) Group {
	clean := filepath.Clean("/" + path)
	return Group{dir: filepath.Join(t.root, clean), path: clean}
}

// Create makes the group at path with its parents, enabling controllers on the
// way down, and returns it. A group that is there already is no error.
func (t Tree) Create(path string) (Group, error) {
	g := t.Group(path)
	parts := strings.Split(strings.Trim(g.path, "/"), "/")
	for i := range parts {
		dir := filepath.Join(t.root, filepath.Join(parts[:i+1]...))
		err := os.Mkdir(dir, 0o755)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return Group{}, fmt.Errorf("create the control group %q: %w", g.path, err)
		}
		if err == nil && i > 0 {
			// A failure shows when a limit is set; the group works without.
			_ = t.Enable(filepath.Join(parts[:i]...))
		}
	}
	return g, nil
}

// Of returns the path of the group that a process is in, or "" when the
// process is gone. proc is where procfs is mounted.
func Of(proc string, pid int) string {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return strings.TrimSuffix(path, " (deleted)")
		}
	}
	return ""
}

// Group is one control group.
type Group struct {
	dir  string
	path string
}

// Path returns the group's path in its hierarchy, starting with "/".
func (g Group) Path() string { return g.path }

// Dir returns the group's directory in the file system.
func (g Group) Dir() string { return g.dir }

// Exists reports whether the group is there.
func (g Group) Exists() bool {
	_, err := os.Stat(g.dir)
	return err == nil
}

// OpenDir opens the group for clone3's CLONE_INTO_CGROUP. The caller closes
// the descriptor.
func (g Group) OpenDir() (int, error) {
	fd, err := unix.Open(g.dir, unix.O_DIRECTORY|unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the control group %q: %w", g.path, err)
	}
	return fd, nil
}

// Add moves a process into the group.
func (g Group) Add(pid int) error {
	if err := write(filepath.Join(g.dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("move process %d to the control group %q: %w", pid, g.path, err)
	}
	return nil
}

// Populated reports whether a living process is in the group or below it. A
// group that does not exist is not populated.
func (g Group) Populated() bool {
	b, err := os.ReadFile(filepath.Join(g.dir, "cgroup.events"))
	return err == nil && strings.Contains("\n"+string(b), "\npopulated 1")
}

// Procs returns the processes in the group and below it, in no order.
func (g Group) Procs() []int {
	var all []int
	_ = filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // a group that vanishes meanwhile has no process
		}
		b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil
		}
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				all = append(all, pid)
			}
		}
		return nil
	})
	return all
}

// Signal sends sig to every process in the group and below it except those
// named, and returns how many were there. Processes that fork meanwhile are
// found in further rounds; when there is no end to them and sig is SIGKILL, the
// kernel kills the group at once (see Kill), and killed is true.
func (g Group) Signal(sig unix.Signal, except ...int) (n int, killed bool) {
	seen := map[int]bool{}
	for _, pid := range except {
		seen[pid] = true
	}
	for range 10 {
		again := false
		for _, pid := range g.Procs() {
			if seen[pid] {
				continue
			}
			seen[pid], again = true, true
			if unix.Kill(pid, sig) == nil {
				n++
			}
		}
		if !again {
			return n, false
		}
	}
	return n, sig == unix.SIGKILL && g.Kill() == nil
}

// Kill kills all that is in the group and below it, in a way that no fork can
// outrun (cgroup.kill).
//
// Kernels from 6.12 on then also kill what clone3 starts in the group later
// (they compare the count of kills of the group with that of the caller's), so
// the group must be removed and made anew before it is used again.
func (g Group) Kill() error { return g.Set("cgroup.kill", "1") }

// Remove deletes the group and the groups below it. Processes in it make it
// fail. A group that does not exist is no error.
func (g Group) Remove() error {
	var dirs []string
	_ = filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, dir := range slices.Backward(dirs) {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the control group %q: %w", g.path, err)
		}
	}
	return nil
}

// RemoveEmpty deletes the group if no process and no other group is in it.
func (g Group) RemoveEmpty() error { return unix.Rmdir(g.dir) }

// Set writes a value to one of the group's interface files, such as
// "memory.max". It returns ErrNoController when the file is not there.
func (g Group) Set(file, value string) error {
	err := write(filepath.Join(g.dir, file), value)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNoController
	}
	if err != nil {
		return fmt.Errorf("set %s=%s for %q: %w", file, value, g.path, err)
	}
	return nil
}

// Stats is what a group uses now. A field is -1 when its controller is not
// there.
type Stats struct {
	MemoryBytes int64         // memory.current
	MemoryPeak  int64         // memory.peak
	Tasks       int64         // pids.current
	CPU         time.Duration // user and system time since the group was made
	OOMKills    int64         // processes that the kernel killed for want of memory
}

// Stats reads the group's counters.
func (g Group) Stats() Stats {
	s := Stats{MemoryBytes: g.number("memory.current"), MemoryPeak: g.number("memory.peak"),
		Tasks: g.number("pids.current"), CPU: -1, OOMKills: -1}
	if us := g.field("cpu.stat", "usage_usec"); us >= 0 {
		s.CPU = time.Duration(us) * time.Microsecond
	}
	s.OOMKills = g.field("memory.events", "oom_kill")
	return s
}

func (g Group) number(file string) int64 {
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return -1
	}
	return parse(strings.TrimSpace(string(b)))
}

func (g Group) field(file, key string) int64 {
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, key+" "); ok {
			return parse(strings.TrimSpace(v))
		}
	}
	return -1
}

func parse(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// write is os.WriteFile without creating: on cgroupfs O_CREAT of a missing
// file would say EACCES instead of ENOENT.
func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
