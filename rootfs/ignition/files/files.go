// Package files carries out the steps of an Ignition config that are about
// files, directories, links and accounts, below a root directory, for the
// program ignition.
//
// Every step can be taken again: what is there already as the config wants it
// is left alone, so that a first boot that was cut off is done over. A file is
// written beside its place, synced and renamed. Symbolic links on the way to a
// file are followed inside the root.
package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/ignition"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// KeyName is the name of the set of SSH keys that Ignition owns.
const KeyName = "ignition"

// temporary is the name of what is written before it gets its place's name.
const temporary = ".ignition.new"

// Executor takes steps. All fields must be set.
type Executor struct {
	Root string // stands for "/"
	// Contents returns a document that was fetched before.
	Contents func(context.Context, types.Resource) ([]byte, error)
	Now      func() time.Time
}

// Do takes a step. known is false for one that is not of this package.
func (e *Executor) Do(ctx context.Context, action plan.Action) (changed, known bool, err error) {
	switch a := action.(type) {
	case ignition.MakeDirectory:
		changed, err = e.directory(a.Directory)
	case ignition.WriteFile:
		changed, err = e.file(ctx, a.File)
	case ignition.MakeLink:
		changed, err = e.link(a.Link)
	case ignition.Group:
		changed, err = e.group(a.PasswdGroup)
	case ignition.User:
		changed, err = e.user(a.PasswdUser)
	default:
		return false, false, nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", action, explain(err))
	}
	return changed, true, err
}

func explain(err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w; the system image can not be changed, use a path below /etc, /var, /home or /opt", err)
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w; what was there is unchanged, use a larger disk", err)
	}
	return err
}

// place resolves the links on the way to a path, and makes the directories that
// are not there.
func (e *Executor) place(path string) (string, error) {
	dir, err := e.follow(filepath.Dir(filepath.Clean("/"+path)), 0)
	if err != nil {
		return "", err
	}
	return filepath.Join(e.Root, dir, filepath.Base(path)), nil
}

// follow returns where a directory really is, below the root.
func (e *Executor) follow(dir string, depth int) (string, error) {
	if depth > 40 {
		return "", fmt.Errorf("follow %q: too many links", dir)
	}
	now := "/"
	for _, part := range strings.Split(strings.Trim(dir, "/"), "/") {
		if part == "" {
			continue
		}
		next := filepath.Join(now, part)
		real := filepath.Join(e.Root, next)
		info, err := os.Lstat(real)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := os.Mkdir(real, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return "", err
			}
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(real)
			if err != nil {
				return "", err
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(now, target)
			}
			if next, err = e.follow(filepath.Clean(target), depth+1); err != nil {
				return "", err
			}
		case !info.IsDir():
			return "", fmt.Errorf("%s is not a directory", next)
		}
		now = next
	}
	return now, nil
}

// clear makes way for what is to be at a path: a node of another kind goes only
// when overwrite says so, and never a mount point.
func clearWay(path string, n types.Node, want fs.FileMode) (exists bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Mode().Type() == want {
		return true, nil
	}
	if n.Overwrite == nil || !*n.Overwrite {
		return false, fmt.Errorf("there is a %s already; set overwrite to true to replace it", kind(info.Mode()))
	}
	return false, os.RemoveAll(path)
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "directory"
	case mode.IsRegular():
		return "file"
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	}
	return "special file"
}

func (e *Executor) directory(d types.Directory) (changed bool, err error) {
	path, err := e.place(d.Path)
	if err != nil {
		return false, err
	}
	exists, err := clearWay(path, d.Node, fs.ModeDir)
	if err != nil {
		return false, err
	}
	mode := fs.FileMode(0o755)
	if !exists {
		if err := os.Mkdir(path, 0o755); err != nil {
			return false, err
		}
	}
	if exists && d.Mode == nil {
		if mode, err = modeOf(path); err != nil {
			return false, err
		}
	}
	if d.Mode != nil {
		mode = permissions(*d.Mode)
	}
	set, err := e.own(path, d.Node, mode)
	return set || !exists, err
}

// permissions leaves out setuid, setgid and sticky bits: the specifications up
// to 3.5 have none, and validation warns of them.
func permissions(mode int) fs.FileMode { return plan.FileMode(uint64(mode & 0o777)) }

func modeOf(path string) (fs.FileMode, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	return info.Mode() &^ fs.ModeType, nil
}

// own sets owner and mode of a directory or file.
func (e *Executor) own(path string, n types.Node, mode fs.FileMode) (changed bool, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	uid, gid, err := e.owner(n, info)
	if err != nil {
		return false, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	if os.Geteuid() == 0 && (int(stat.Uid) != uid || int(stat.Gid) != gid) {
		if err := os.Lchown(path, uid, gid); err != nil {
			return false, err
		}
		changed = true
	}
	if info.Mode()&fs.ModeSymlink == 0 && (changed || info.Mode()&^fs.ModeType != mode) {
		if err := os.Chmod(path, mode); err != nil {
			return false, err
		}
		changed = true
	}
	return changed, nil
}

func (e *Executor) file(ctx context.Context, f types.File) (changed bool, err error) {
	path, err := e.place(f.Path)
	if err != nil {
		return false, err
	}
	if _, err := clearWay(path, f.Node, 0); err != nil {
		return false, err
	}
	now, err := os.ReadFile(path)
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	want, err := Content(ctx, e.Contents, f, now)
	if err != nil {
		return false, err
	}
	if exists && f.Contents.Source != nil && !bytes.Equal(want, now) && (f.Overwrite == nil || !*f.Overwrite) {
		return false, errors.New("there is a file with other contents already; set overwrite to true to replace it")
	}
	mode := fs.FileMode(0o644)
	if exists && f.Contents.Source == nil {
		if mode, err = modeOf(path); err != nil {
			return false, err
		}
	}
	if f.Mode != nil {
		mode = permissions(*f.Mode)
	}
	if exists && bytes.Equal(want, now) {
		return e.own(path, f.Node, mode)
	}
	return true, e.write(path, f.Node, want, mode)
}

// Content is what a file is to have that has now; contents returns the documents
// that it names. What was appended before a power cut is not appended again.
func Content(ctx context.Context, contents func(context.Context, types.Resource) ([]byte, error), f types.File, now []byte) ([]byte, error) {
	base := now
	if f.Contents.Source != nil {
		var err error
		if base, err = contents(ctx, f.Contents); err != nil {
			return nil, err
		}
	}
	var more []byte
	for _, part := range f.Append {
		data, err := contents(ctx, part)
		if err != nil {
			return nil, err
		}
		more = append(more, data...)
	}
	if f.Contents.Source == nil && len(more) > 0 && bytes.HasSuffix(base, more) {
		return base, nil
	}
	return append(bytes.Clone(base), more...), nil
}

func (e *Executor) write(path string, n types.Node, content []byte, mode fs.FileMode) error {
	old, err := os.Lstat(path)
	if err != nil {
		old = nil
	}
	uid, gid, err := e.owner(n, old)
	if err != nil {
		return err
	}
	temp := filepath.Join(filepath.Dir(path), temporary)
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	w, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	defer w.Close()
	if _, err := w.Write(content); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := w.Chown(uid, gid); err != nil {
			return err
		}
	}
	if err := w.Chmod(mode); err != nil { // after chown, which clears setuid
		return err
	}
	if err := w.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (e *Executor) link(l types.Link) (changed bool, err error) {
	path, err := e.place(l.Path)
	if err != nil {
		return false, err
	}
	target, hard := *l.Target, l.Hard != nil && *l.Hard
	if hard {
		if target, err = e.place(target); err != nil {
			return false, err
		}
	}
	if same(path, target, hard) {
		if hard {
			return false, nil
		}
		return e.own(path, l.Node, 0)
	}
	if _, err := os.Lstat(path); err == nil {
		if l.Overwrite == nil || !*l.Overwrite {
			return false, errors.New("there is something else already; set overwrite to true to replace it")
		}
		if err := os.RemoveAll(path); err != nil {
			return false, err
		}
	}
	if hard {
		return true, os.Link(target, path)
	}
	if err := os.Symlink(target, path); err != nil {
		return false, err
	}
	_, err = e.own(path, l.Node, 0)
	return true, err
}

func same(path, target string, hard bool) bool {
	if !hard {
		now, err := os.Readlink(path)
		return err == nil && now == target
	}
	a, err := os.Lstat(path)
	b, err2 := os.Lstat(target)
	return err == nil && err2 == nil && os.SameFile(a, b)
}
