package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watcher reports groups that became empty, through one inotify descriptor for
// all of them.
type Watcher struct {
	fd int

	mu     sync.Mutex
	groups map[int32]Group
	marks  map[string]int32
}

// NewWatcher returns a Watcher; call Run to receive its reports.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch control groups: %w", err)
	}
	return &Watcher{fd: fd, groups: map[int32]Group{}, marks: map[string]int32{}}, nil
}

// Add starts reporting changes of the group. Adding it again is no error.
func (w *Watcher) Add(g Group) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	mark, err := unix.InotifyAddWatch(w.fd, filepath.Join(g.dir, "cgroup.events"), unix.IN_MODIFY)
	if err != nil {
		return fmt.Errorf("watch the control group %q: %w", g.path, err)
	}
	w.groups[int32(mark)] = g
	w.marks[g.path] = int32(mark)
	return nil
}

// Drop stops reporting changes of the group.
func (w *Watcher) Drop(g Group) {
	w.mu.Lock()
	defer w.mu.Unlock()
	mark, ok := w.marks[g.path]
	if !ok {
		return
	}
	delete(w.marks, g.path)
	delete(w.groups, mark)
	// EINVAL means that the kernel dropped the mark with the directory.
	_, _ = unix.InotifyRmWatch(w.fd, uint32(mark))
}

// Run calls empty for each watched group that holds no process any more, until
// reading fails, which happens after Close.
func (w *Watcher) Run(empty func(Group)) error {
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(w.fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("watch control groups: %w", err)
		}
		for off := 0; off+unix.SizeofInotifyEvent <= n; {
			ev := (*unix.InotifyEvent)(unsafe.Pointer(&buf[off]))
			off += unix.SizeofInotifyEvent + int(ev.Len)
			w.mu.Lock()
			g, ok := w.groups[ev.Wd]
			w.mu.Unlock()
			if ok && !g.Populated() {
				empty(g)
			}
		}
	}
}

// Close ends watching.
func (w *Watcher) Close() error { return unix.Close(w.fd) }
