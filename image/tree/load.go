package tree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// FromDir is FromFS of a directory of the host.
func FromDir(dir string) (Tree, error) {
	t, err := FromFS(os.DirFS(dir))
	if err != nil {
		return Tree{}, fmt.Errorf("read directory %q: %w", dir, err)
	}
	return t, nil
}

// FromFS returns the tree of fsys in the plain form that a checkout of a
// repository has: everything is owned by root, a file is 0755 if anyone may
// execute it and else 0644, a directory is 0755, symbolic links stay as they
// are. So the result does not depend on the umask and owner of the checkout.
// Devices, sockets and pipes are errors.
func FromFS(fsys fs.FS) (Tree, error) {
	var entries []Entry
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		e, err := plainEntry(fsys, name, d)
		if err != nil {
			return err
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return Tree{}, err
	}
	return New(entries...)
}

func plainEntry(fsys fs.FS, name string, d fs.DirEntry) (Entry, error) {
	switch d.Type() {
	case fs.ModeDir:
		return Directory(name, 0o755), nil
	case fs.ModeSymlink:
		target, err := fs.ReadLink(fsys, name)
		return Symlink(name, target), err
	case 0:
		info, err := d.Info()
		if err != nil {
			return Entry{}, err
		}
		perm := fs.FileMode(0o644)
		if info.Mode()&0o111 != 0 {
			perm = 0o755
		}
		open := func() (io.ReadCloser, error) { return fsys.Open(name) }
		return Entry{Path: name, Mode: perm, Size: info.Size(), Source: open}, nil
	}
	return Entry{}, fmt.Errorf("path %q: %v files cannot be taken from a directory; add it as an entry", name, d.Type())
}

// xattrPrefix begins the names of the pax records that hold extended attributes.
const xattrPrefix = "SCHILY.xattr."

// FromTar returns the tree of an archive, such as a Debian package's data.tar,
// with its modes and owners by number. Contents are kept in memory. A name
// that occurs twice has its last meaning, and a hard link becomes a file of
// its own with the same content.
func FromTar(r io.Reader) (Tree, error) {
	byPath := make(map[string]Entry)
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Tree{}, fmt.Errorf("read tar: %w", err)
		}
		e, err := tarEntry(h, archive, byPath)
		if err != nil {
			return Tree{}, fmt.Errorf("read tar: %w", err)
		}
		byPath[e.Path] = e
	}
	entries := make([]Entry, 0, len(byPath))
	for _, e := range byPath {
		entries = append(entries, e)
	}
	return New(entries...)
}

func tarEntry(h *tar.Header, content io.Reader, before map[string]Entry) (Entry, error) {
	e := Entry{Path: tarPath(h.Name), UID: uint32(h.Uid), GID: uint32(h.Gid)}
	e.Mode = h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
			if e.Xattrs == nil {
				e.Xattrs = make(map[string][]byte)
			}
			e.Xattrs[name] = []byte(value)
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		data, err := io.ReadAll(content)
		if err != nil {
			return Entry{}, fmt.Errorf("content of %q: %w", h.Name, err)
		}
		e.Size, e.Source = int64(len(data)), Bytes(data)
	case tar.TypeLink:
		first, ok := before[tarPath(h.Linkname)]
		if !ok || !first.Mode.IsRegular() {
			return Entry{}, fmt.Errorf("hard link %q: its target %q is not an earlier regular file", h.Name, h.Linkname)
		}
		first.Path = e.Path
		return first, nil
	case tar.TypeSymlink:
		e.Mode |= fs.ModeSymlink
		e.Target = h.Linkname
	case tar.TypeDir:
		e.Mode |= fs.ModeDir
	case tar.TypeChar, tar.TypeBlock:
		e.Mode |= fs.ModeDevice
		if h.Typeflag == tar.TypeChar {
			e.Mode |= fs.ModeCharDevice
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeFifo:
		e.Mode |= fs.ModeNamedPipe
	default:
		return Entry{}, fmt.Errorf("%q: unknown type %q", h.Name, h.Typeflag)
	}
	return e, nil
}

// tarPath turns a name like "./usr/bin/" into "usr/bin". What climbs out of
// the archive stays visibly wrong, so that New refuses it.
func tarPath(name string) string { return path.Clean(strings.TrimLeft(name, "/")) }
