package erofs

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	goerofs "github.com/erofs/go-erofs"

	"github.com/coracle-os/coracle/image/tree"
)

// source shows a tree to go-erofs as an fs.FS whose file infos carry owner,
// device number and extended attributes in a *goerofs.Stat.
type source struct {
	t        tree.Tree
	time     uint64
	children map[string][]fs.DirEntry
}

func newSource(t tree.Tree, seconds uint64) *source {
	s := &source{t: t, time: seconds, children: make(map[string][]fs.DirEntry)}
	subdirs := make(map[string]int)
	for e := range t.All() {
		if e.Mode.IsDir() && e.Path != "." {
			subdirs[path.Dir(e.Path)]++
		}
	}
	for e := range t.All() {
		if e.Path != "." {
			dir := path.Dir(e.Path)
			s.children[dir] = append(s.children[dir], fs.FileInfoToDirEntry(s.info(e, subdirs[e.Path])))
		} else {
			s.children[""] = []fs.DirEntry{fs.FileInfoToDirEntry(s.info(e, subdirs["."]))}
		}
	}
	return s
}

func (s *source) info(e tree.Entry, subdirs int) *info {
	stat := &goerofs.Stat{UID: e.UID, GID: e.GID, Mtime: s.time, Nlink: 1, Rdev: deviceNumber(e)}
	if e.Mode.IsDir() {
		stat.Nlink = 2 + subdirs
	}
	if len(e.Xattrs) > 0 {
		stat.Xattrs = make(map[string]string, len(e.Xattrs))
		for name, value := range e.Xattrs {
			stat.Xattrs[name] = string(value)
		}
	}
	return &info{entry: e, stat: stat}
}

// Stat is what fs.WalkDir asks of the root.
func (s *source) Stat(name string) (fs.FileInfo, error) {
	if name == "." {
		return s.children[""][0].Info()
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

func (s *source) ReadDir(name string) ([]fs.DirEntry, error) { return s.children[name], nil }

func (s *source) ReadLink(name string) (string, error) {
	e, ok := s.t.Lookup(name)
	if !ok {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrNotExist}
	}
	return e.Target, nil
}

func (s *source) Open(name string) (fs.File, error) {
	e, ok := s.t.Lookup(name)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &file{entry: e, left: e.Size}, nil
}

type info struct {
	entry tree.Entry
	stat  *goerofs.Stat
}

func (i *info) Name() string       { return path.Base(i.entry.Path) }
func (i *info) Size() int64        { return i.entry.Size }
func (i *info) Mode() fs.FileMode  { return i.entry.Mode }
func (i *info) ModTime() time.Time { return time.Unix(int64(i.stat.Mtime), 0) }
func (i *info) IsDir() bool        { return i.entry.Mode.IsDir() }
func (i *info) Sys() any           { return i.stat }

// file opens its source at the first read, because go-erofs opens all files
// before it reads any, and ends with an error when the source does not have
// exactly the entry's size.
type file struct {
	entry  tree.Entry
	left   int64
	reader io.ReadCloser
	closed bool
}

func (f *file) Stat() (fs.FileInfo, error) {
	return nil, &fs.PathError{Op: "stat", Path: f.entry.Path, Err: fs.ErrInvalid}
}

func (f *file) Read(p []byte) (int, error) {
	if f.closed {
		return 0, fs.ErrClosed
	}
	if f.reader == nil {
		r, err := f.entry.Open()
		if err != nil {
			return 0, fmt.Errorf("open source of %q: %w", f.entry.Path, err)
		}
		f.reader = r
	}
	n, err := f.reader.Read(p)
	f.left -= int64(n)
	if f.left < 0 || err == io.EOF && f.left > 0 {
		return n, f.wrongSize()
	}
	if f.left == 0 && err == nil {
		err = f.expectEnd()
	}
	return n, err
}

// expectEnd reads past the size that the entry gives: go-erofs would stop
// there and leave the rest out.
func (f *file) expectEnd() error {
	var one [1]byte
	n, err := io.ReadFull(f.reader, one[:])
	if n > 0 {
		return f.wrongSize()
	}
	return err
}

func (f *file) wrongSize() error {
	return fmt.Errorf("source of %q does not have the %d bytes that the tree says; it changed while the image was written", f.entry.Path, f.entry.Size)
}

func (f *file) Close() error {
	f.closed = true
	if f.reader == nil {
		return nil
	}
	return f.reader.Close()
}
