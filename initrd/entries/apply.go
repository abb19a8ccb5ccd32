package entries

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/image/uki"
)

// A Dir is the directory of the entries. All names are without a directory.
type Dir interface {
	// Names returns the names and sizes in bytes of the files.
	Names() (map[string]int64, error)
	// Free returns how many bytes a new file can have.
	Free() (int64, error)
	Open(name string) (Reader, error)
	// Write makes the file with this content, anew if it is there, and syncs it.
	Write(name string, content io.Reader) error
	Rename(from, to string) error
	Remove(name string) error
	// Sync returns when everything is on the disk.
	Sync() error
}

// A Reader is an open file.
type Reader interface {
	io.ReaderAt
	io.Closer
}

// List reads the directory. Files that are not our entries are left out; an
// entry that cannot be read as a UKI is in it without a root hash.
func List(d Dir) (Listing, error) {
	names, err := d.Names()
	if err != nil {
		return Listing{}, fmt.Errorf("list boot entries: %w", err)
	}
	var l Listing
	if l.Free, err = d.Free(); err != nil {
		return Listing{}, fmt.Errorf("list boot entries: %w", err)
	}
	for _, file := range slices.Sorted(maps.Keys(names)) {
		if IsTemp(file) {
			l.Temps = append(l.Temps, file)
			continue
		}
		name, err := ParseName(file)
		if err != nil {
			continue
		}
		l.Files = append(l.Files, File{Name: name, File: file, Size: names[file], RootHash: RootHash(d, file)})
	}
	return l, nil
}

// RootHash returns the root hash on the command line of a UKI, or "" when the
// file cannot be read as one.
func RootHash(d Dir, file string) string {
	f, err := d.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	image, err := uki.Read(f)
	if err != nil {
		return ""
	}
	line, err := image.Text(".cmdline")
	if err != nil {
		return ""
	}
	for _, word := range strings.Fields(line) {
		if hash, ok := strings.CutPrefix(word, "roothash="); ok {
			return strings.ToLower(hash)
		}
	}
	return ""
}

// Apply performs the steps in order. content is what a Write step writes. After
// an error the directory is at some step of the plan, which List shows; every
// such state is a bootable one, and a new plan goes on from there.
func Apply(d Dir, steps []Step, content io.Reader) error {
	for _, s := range steps {
		var err error
		switch s.Kind {
		case Remove:
			err = d.Remove(s.File)
		case Write:
			err = d.Write(s.File, content)
		case Rename:
			err = d.Rename(s.File, s.To)
		case Sync:
			err = d.Sync()
		}
		if errors.Is(err, unix.ENOSPC) {
			err = errors.Join(ErrFull, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// OSDir is a Dir in a mounted file system.
type OSDir string

// Names returns the regular files and their sizes.
func (d OSDir) Names() (map[string]int64, error) {
	list, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	names := map[string]int64{}
	for _, e := range list {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			names[e.Name()] = info.Size()
		}
	}
	return names, nil
}

// Free asks the file system; 1 MiB stays free for its directories.
func (d OSDir) Free() (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(string(d), &s); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: string(d), Err: err}
	}
	return max(0, int64(s.Bavail)*s.Bsize-(1<<20)), nil
}

// Open opens a file for reading.
func (d OSDir) Open(name string) (Reader, error) { return os.Open(d.path(name)) }

// Write writes and syncs the file; what it could not finish it removes.
func (d OSDir) Write(name string, content io.Reader) (err error) {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		os.Remove(d.path(name))
	}
	return err
}

// Rename renames a file, over another one if need be. FAT frees the clusters of
// that one as soon as nobody has it open, and may have that on the disk before the
// new name: it is kept open until the name is there.
func (d OSDir) Rename(from, to string) error {
	old, err := os.Open(d.path(to))
	if errors.Is(err, fs.ErrNotExist) {
		return os.Rename(d.path(from), d.path(to))
	}
	if err != nil {
		return err
	}
	defer old.Close()
	if err := os.Rename(d.path(from), d.path(to)); err != nil {
		return err
	}
	return d.Sync()
}

// Remove removes a file; one that is not there is no error.
func (d OSDir) Remove(name string) error {
	if err := os.Remove(d.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Sync syncs the file system. A FAT's syncfs(2) leaves what it wrote in the disk's
// own cache; fsync(2) has the disk write that, too.
func (d OSDir) Sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "syncfs", Path: string(d), Err: err}
	}
	return f.Sync()
}

func (d OSDir) path(name string) string { return filepath.Join(string(d), name) }
