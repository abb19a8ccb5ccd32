// Package pathwatch tells when something happens to the paths of a path unit,
// and decides if they are as the unit wants them; systemd.path(5). PID 1 uses it.
//
// It speaks to inotify itself: the Go library for it reports neither that a file
// was closed after writing, which PathChanged= is about, nor what happens to a
// path whose directories do not exist yet. Every directory on the way to a path
// is watched, so that it is noticed whichever of them comes or goes.
package pathwatch

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// Kinds of path settings.
const (
	exists   = "PathExists"
	glob     = "PathExistsGlob"
	notEmpty = "DirectoryNotEmpty"
	changed  = "PathChanged"
	modified = "PathModified"
)

// Edge tells if a setting is about what happens, not about how things are.
func Edge(w unit.PathWatch) bool { return w.Kind == changed || w.Kind == modified }

// Holds returns the path that is as a setting that is not an Edge wants it, ""
// if none is.
func Holds(w unit.PathWatch) string {
	holds := false
	switch w.Kind {
	case glob:
		if list, err := filepath.Glob(w.Path); err == nil && len(list) > 0 {
			return list[0]
		}
	case notEmpty:
		holds = occupied(w.Path)
	default:
		holds = Exists(w.Path)
	}
	if !holds {
		return ""
	}
	return w.Path
}

// Exists tells if there is something at a path; a dangling link is nothing.
func Exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// occupied tells if a directory has an entry; it reads only one.
func occupied(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	list, err := f.Readdirnames(1)
	return err == nil && len(list) > 0
}

// Make makes the directories that MakeDirectory= asks for.
func Make(list []unit.PathWatch, mode os.FileMode) error {
	var errs []error
	for _, w := range list {
		if w.Kind == exists || w.Kind == glob {
			continue
		}
		if err := os.MkdirAll(w.Path, mode); err != nil {
			errs = append(errs, fmt.Errorf("make the directory of %s=: %w", w.Kind, err))
		}
	}
	return errors.Join(errs...)
}

// Events that matter for a path itself, by kind, and for the directories on the
// way to it.
const (
	gone   = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ATTRIB
	edge   = gone | unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO
	onPath = unix.IN_MOVE_SELF | unix.IN_DELETE_SELF | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_ATTRIB
)

func events(kind string) uint32 {
	switch kind {
	case changed:
		return edge
	case modified:
		return edge | unix.IN_MODIFY
	case notEmpty:
		return gone | unix.IN_CREATE | unix.IN_MOVED_TO
	}
	return gone
}

// Watch watches the paths of one unit. Make it with Start.
type Watch struct {
	file *os.File
	fd   int
}

// Start watches paths. happened is called, from another goroutine, with the path
// of an Edge to which itself something happened; "" means that the paths are to
// be looked at again, and the Watch is spent: start a new one.
func Start(list []unit.PathWatch, happened func(edge string)) (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch paths: %w", err)
	}
	w := &Watch{file: os.NewFile(uintptr(fd), "inotify"), fd: fd}
	own := map[int32]string{}
	for _, p := range list {
		id, err := w.add(p)
		if err != nil {
			w.Close()
			return nil, err
		}
		if id >= 0 && Edge(p) {
			own[id] = p.Path
		}
	}
	go w.read(own, happened)
	return w, nil
}

// add watches a path and the directories above it, and returns the id of the
// path's own watch, -1 if it does not exist.
func (w *Watch) add(p unit.PathWatch) (int32, error) {
	path := p.Path
	if p.Kind == glob {
		for strings.ContainsAny(path, "*?[") {
			path = filepath.Dir(path)
		}
	}
	id := int32(-1)
	n, err := unix.InotifyAddWatch(w.fd, path, events(p.Kind)|unix.IN_MASK_ADD)
	switch {
	case err == nil:
		id = int32(n)
	case err == unix.ENOSPC:
		return -1, fmt.Errorf("watch the path %q: %w: raise fs.inotify.max_user_watches", path, err)
	case err != unix.ENOENT && err != unix.ENOTDIR && err != unix.EACCES:
		return -1, fmt.Errorf("watch the path %q: %w", path, err)
	}
	if p.Kind == glob && id >= 0 {
		_, _ = unix.InotifyAddWatch(w.fd, path, onPath|unix.IN_MASK_ADD)
	}
	for path != "/" && path != "." {
		path = filepath.Dir(path)
		// One that is not there yet is seen from above.
		_, _ = unix.InotifyAddWatch(w.fd, path, onPath|unix.IN_MASK_ADD|unix.IN_ONLYDIR)
	}
	return id, nil
}

// read reports events until the watch is closed, all that are there as one.
func (w *Watch) read(own map[int32]string, happened func(string)) {
	buf := make([]byte, 16<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		hit := ""
		for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			id := int32(binary.NativeEndian.Uint32(rest))
			hit = cmp.Or(hit, own[id])
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
			rest = rest[min(size, len(rest)):]
		}
		happened(hit)
	}
}

// Close stops watching.
func (w *Watch) Close() { _ = w.file.Close() }
