// Package tree holds a root file tree as a value: what files there are, their
// modes, owners, targets, device numbers and extended attributes, and where
// their content comes from. The builder composes the root from such trees and
// image/erofs writes one to an image, so neither needs root rights: a device
// node or an owner is a field here, never a thing on the host's disk.
//
// Paths follow io/fs: slash separated, relative, clean, "." is the root
// directory ("usr/bin/sh", never "/usr/bin/sh"). Modes are io/fs modes.
//
// There are no times and no hard links: every file of an image has the image's
// time, and a second link of a file is a second entry with the same source.
package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// Source opens the content of a regular file. It can be called many times and
// from several goroutines; every reader gives the same Entry.Size bytes.
type Source func() (io.ReadCloser, error)

// An Entry is one file of a tree.
type Entry struct {
	Path string // io/fs path of the file, "." for the root directory
	// Mode is the type and permission, with fs.ModeSetuid, fs.ModeSetgid and
	// fs.ModeSticky. A character device has fs.ModeDevice|fs.ModeCharDevice.
	Mode         fs.FileMode
	UID, GID     uint32
	Target       string            // of a symbolic link, as written
	Major, Minor uint32            // of a device
	Size         int64             // of a regular file, in bytes
	Source       Source            // of a regular file; nil means empty
	Xattrs       map[string][]byte // full names, like "security.capability"

	implicit bool // a parent directory that no layer named
}

// Directory returns a directory owned by root.
func Directory(name string, perm fs.FileMode) Entry {
	return Entry{Path: name, Mode: fs.ModeDir | perm}
}

// File returns a regular file owned by root with the content given.
func File(name string, perm fs.FileMode, content []byte) Entry {
	return Entry{Path: name, Mode: perm, Size: int64(len(content)), Source: Bytes(content)}
}

// HostFile returns a regular file owned by root with the content of the file
// at hostPath, which must not change until the tree is written.
func HostFile(name string, perm fs.FileMode, hostPath string) (Entry, error) {
	info, err := os.Stat(hostPath)
	if err != nil {
		return Entry{}, fmt.Errorf("add file %q: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return Entry{}, fmt.Errorf("add file %q: %q is not a regular file", name, hostPath)
	}
	open := func() (io.ReadCloser, error) { return os.Open(hostPath) }
	return Entry{Path: name, Mode: perm, Size: info.Size(), Source: open}, nil
}

// Symlink returns a symbolic link owned by root.
func Symlink(name, target string) Entry {
	return Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Target: target}
}

// CharDevice returns a character device owned by root.
func CharDevice(name string, perm fs.FileMode, major, minor uint32) Entry {
	return Entry{Path: name, Mode: fs.ModeDevice | fs.ModeCharDevice | perm, Major: major, Minor: minor}
}

// Bytes is a Source of the content given, which is kept and must not change.
func Bytes(content []byte) Source {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
}

// Open opens the content of a regular file.
func (e Entry) Open() (io.ReadCloser, error) {
	if e.Source == nil {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	return e.Source()
}

// ReadFile reads the content of a regular file and fails when its length is
// not Size.
func (e Entry) ReadFile() ([]byte, error) {
	r, err := e.Open()
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", e.Path, err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", e.Path, err)
	}
	if int64(len(content)) != e.Size {
		return nil, fmt.Errorf("read %q: got %d bytes, the tree says %d; the source changed while it was used", e.Path, len(content), e.Size)
	}
	return content, nil
}

// check reports what makes e unusable in any tree.
func (e Entry) check() error {
	const knownBits = fs.ModeType | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	switch {
	case !fs.ValidPath(e.Path):
		return fmt.Errorf("path %q: want a clean relative path like \"usr/bin/sh\"", e.Path)
	case strings.ContainsRune(e.Path, 0):
		return fmt.Errorf("path %q: holds a zero byte", e.Path)
	case len(path.Base(e.Path)) > 255:
		return fmt.Errorf("path %q: name is longer than 255 bytes", e.Path)
	case e.Path == "." && !e.Mode.IsDir():
		return errors.New(`path ".": the root must be a directory`)
	case e.Mode&^knownBits != 0 || e.Mode&fs.ModeIrregular != 0:
		return fmt.Errorf("path %q: mode %v has bits that no image can hold", e.Path, e.Mode)
	case e.Mode.Type() == fs.ModeSymlink && (e.Target == "" || len(e.Target) > 4095):
		return fmt.Errorf("path %q: a symbolic link needs a target of 1 to 4095 bytes, got %d", e.Path, len(e.Target))
	case e.Size < 0 || !e.Mode.IsRegular() && e.Size != 0:
		return fmt.Errorf("path %q: size %d of a %v", e.Path, e.Size, e.Mode)
	case e.Mode.IsRegular() && e.Source == nil && e.Size != 0:
		return fmt.Errorf("path %q: %d bytes but no source for them", e.Path, e.Size)
	}
	return nil
}

// A Tree is a set of entries in which every parent is a directory. The zero
// Tree has no entries. A Tree never changes; methods return new ones.
type Tree struct {
	entries []Entry // sorted by ComparePaths
	index   map[string]int
}

// New returns the tree of the entries. Missing parents become directories,
// mode 0755, owned by root. Two entries with one path are an error, and so is
// an entry below something that is not a directory (use Merge to overlay).
// New does not follow symbolic links.
func New(entries ...Entry) (Tree, error) {
	byPath := make(map[string]Entry, len(entries))
	var errs []error
	for _, e := range entries {
		if err := e.check(); err != nil {
			errs = append(errs, err)
			continue
		}
		if _, twice := byPath[e.Path]; twice {
			errs = append(errs, fmt.Errorf("path %q: given twice; remove one, or merge two trees to replace it", e.Path))
		}
		byPath[e.Path] = e
	}
	for _, name := range slices.Sorted(maps.Keys(byPath)) {
		if err := addParents(byPath, name); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Tree{}, fmt.Errorf("make tree: %w", err)
	}
	return fromMap(byPath), nil
}

// addParents puts the missing parents of name in byPath.
func addParents(byPath map[string]Entry, name string) error {
	for name != "." {
		name = path.Dir(name)
		parent, ok := byPath[name]
		if ok && !parent.Mode.IsDir() {
			return &ConflictError{Path: name, Have: parent.Mode, Want: fs.ModeDir}
		}
		if ok {
			return nil
		}
		byPath[name] = Entry{Path: name, Mode: fs.ModeDir | 0o755, implicit: true}
	}
	return nil
}

func fromMap(byPath map[string]Entry) Tree {
	t := Tree{entries: make([]Entry, 0, len(byPath)), index: make(map[string]int, len(byPath))}
	for _, e := range byPath {
		t.entries = append(t.entries, e)
	}
	slices.SortFunc(t.entries, func(a, b Entry) int { return ComparePaths(a.Path, b.Path) })
	for i, e := range t.entries {
		t.index[e.Path] = i
	}
	return t
}

// ComparePaths orders paths as a walk visits them: a directory, then all that
// is in it by name, before its next sibling.
func ComparePaths(a, b string) int {
	if a == b {
		return 0
	}
	if a == "." {
		return -1
	}
	if b == "." {
		return 1
	}
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] == b[i] {
			continue
		}
		if a[i] == '/' {
			return -1
		}
		if b[i] == '/' {
			return 1
		}
		return int(a[i]) - int(b[i])
	}
	return len(a) - len(b)
}

// All walks the tree: parents before children, siblings by name in byte order.
func (t Tree) All() iter.Seq[Entry] { return slices.Values(t.entries) }

// Len is the number of entries, the root directory included.
func (t Tree) Len() int { return len(t.entries) }

// Size is the sum of the regular files' sizes in bytes.
func (t Tree) Size() int64 {
	var sum int64
	for _, e := range t.entries {
		sum += e.Size
	}
	return sum
}

// Lookup returns the entry at exactly this path; no link is followed.
func (t Tree) Lookup(name string) (Entry, bool) {
	i, ok := t.index[name]
	if !ok {
		return Entry{}, false
	}
	return t.entries[i], true
}

// Has says whether there is an entry at the path after following the symbolic
// links in its directory part (a last link itself is not followed).
func (t Tree) Has(name string) bool {
	dir, err := t.Resolve(path.Dir(name))
	if err != nil {
		return false
	}
	_, ok := t.index[path.Join(dir, path.Base(name))]
	return ok
}

// Filter returns the tree of the entries that keep says yes to. Parents of
// kept entries stay.
func (t Tree) Filter(keep func(Entry) bool) Tree {
	byPath := make(map[string]Entry)
	for _, e := range t.entries {
		if !keep(e) {
			continue
		}
		byPath[e.Path] = e
		for dir := path.Dir(e.Path); ; dir = path.Dir(dir) {
			if _, ok := byPath[dir]; !ok {
				byPath[dir] = t.entries[t.index[dir]]
			}
			if dir == "." {
				break
			}
		}
	}
	return fromMap(byPath)
}

// Under returns the tree moved below the directory dir.
func (t Tree) Under(dir string) (Tree, error) {
	moved := make([]Entry, len(t.entries))
	for i, e := range t.entries {
		e.Path = path.Join(dir, e.Path)
		moved[i] = e
	}
	return New(moved...)
}

// Edit returns the tree with the entry at path changed by change, which may
// alter everything but the path and the type. Links in the directory part of
// path are followed.
func (t Tree) Edit(name string, change func(*Entry)) (Tree, error) {
	dir, err := t.Resolve(path.Dir(name))
	if err != nil {
		return Tree{}, fmt.Errorf("edit %q: %w", name, err)
	}
	i, ok := t.index[path.Join(dir, path.Base(name))]
	if !ok {
		return Tree{}, fmt.Errorf("edit %q: %w", name, fs.ErrNotExist)
	}
	before := t.entries[i]
	after := before
	after.Xattrs = maps.Clone(before.Xattrs)
	change(&after)
	if after.Path != before.Path || after.Mode.Type() != before.Mode.Type() {
		return Tree{}, fmt.Errorf("edit %q: the path and the type cannot change; merge another entry instead", name)
	}
	if err := after.check(); err != nil {
		return Tree{}, fmt.Errorf("edit %q: %w", name, err)
	}
	after.implicit = false
	entries := slices.Clone(t.entries)
	entries[i] = after
	return Tree{entries: entries, index: t.index}, nil
}
