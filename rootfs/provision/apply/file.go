package apply

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/user"
)

// temporary is the name of the file that is written before it gets its place's
// name. There is one writer at a time, so it can be fixed, and one that a power
// cut left is found and replaced.
const temporary = ".coreos-cloudinit.new"

// file is a file to be written below the root directory.
type file struct {
	path     string
	content  []byte
	mode     fs.FileMode
	uid, gid int
}

func (e *Executor) writeFile(a plan.WriteFile) (changed bool, err error) {
	uid, gid, ownerErr := owner(e.Root, a.Owner)
	if ownerErr != nil {
		ownerErr = fmt.Errorf("find owner %q of %s: %w; the file belongs to root", a.Owner, a.Path, ownerErr)
	}
	changed, err = e.put(file{path: a.Path, content: a.Content, mode: a.Mode, uid: uid, gid: gid})
	return changed, errors.Join(err, ownerErr)
}

// owner resolves "user", "user:group", "user:" (the user's own group) and
// ":group", by names or numbers. "" is root.
func owner(root, spec string) (uid, gid int, err error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if name != "" {
		account, err := user.Lookup(root, name)
		if err != nil {
			return 0, 0, err
		}
		uid = account.UID
		if hasGroup && group == "" {
			gid = account.GID
		}
	}
	if group != "" {
		if gid, err = user.LookupGroup(root, group); err != nil {
			return 0, 0, err
		}
	}
	return uid, gid, nil
}

// put writes a file unless it is there with the same content, mode and owner.
func (e *Executor) put(f file) (changed bool, err error) {
	path := filepath.Join(e.Root, f.path)
	if same(path, f) {
		return false, nil
	}
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return false, fmt.Errorf("write %s: it is a directory", f.path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, explain(f.path, err)
	}
	temp := filepath.Join(filepath.Dir(path), temporary)
	err = writeNew(temp, f)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
		return false, explain(f.path, err)
	}
	return true, syncDir(filepath.Dir(path))
}

func same(path string, f file) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode() != f.mode || info.Size() != int64(len(f.content)) {
		return false
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 && (int(stat.Uid) != f.uid || int(stat.Gid) != f.gid) {
		return false
	}
	now, err := os.ReadFile(path)
	return err == nil && bytes.Equal(now, f.content)
}

func writeNew(path string, f file) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(f.content); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := w.Chown(f.uid, f.gid); err != nil {
			return err
		}
	}
	if err := w.Chmod(f.mode); err != nil { // after chown, which clears setuid
		return err
	}
	return w.Sync()
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// explain adds the next step to the errors that owners meet.
func explain(path string, err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("write %s: %w; the system image can not be changed, use a path below /etc, /var, /home or /opt", path, err)
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("write %s: %w; what was there is unchanged, free some space and restart", path, err)
	}
	return fmt.Errorf("write %s: %w", path, err)
}

// mask replaces a unit file by a link to /dev/null.
func (e *Executor) mask(unit string) (changed bool, err error) {
	return e.link(unit, os.DevNull)
}

// link replaces what is at a path by a symbolic link.
func (e *Executor) link(unit, to string) (changed bool, err error) {
	path := filepath.Join(e.Root, unit)
	if target, err := os.Readlink(path); err == nil && target == to {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, explain(unit, err)
	}
	temp := filepath.Join(filepath.Dir(path), temporary)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, explain(unit, err)
	}
	if err := os.Symlink(to, temp); err != nil {
		return false, explain(unit, err)
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return false, explain(unit, err)
	}
	return true, nil
}

// unmask removes a link to /dev/null or an empty file, and nothing else.
func (e *Executor) unmask(unit string) (changed bool, err error) {
	path := filepath.Join(e.Root, unit)
	if !masked(path) {
		return false, nil
	}
	if err := os.Remove(path); err != nil {
		return false, fmt.Errorf("unmask %s: %w", unit, err)
	}
	return true, nil
}
