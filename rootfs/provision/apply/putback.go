package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// maxKept is the size in bytes of the largest file whose content is kept to be
// put back.
const maxKept = 64 << 20

// Before returns the action that puts back what is at a path now.
func Before(root, path string) (plan.PutBack, error) {
	at := filepath.Join(root, path)
	info, err := os.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return plan.PutBack{Path: path, Kind: plan.Absent}, nil
	case err != nil:
		return plan.PutBack{}, fmt.Errorf("keep %s: %w", path, err)
	}
	kept := plan.PutBack{Path: path}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		kept.UID, kept.GID = int(stat.Uid), int(stat.Gid)
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		kept.Kind = plan.Link
		kept.Target, err = os.Readlink(at)
	case !info.Mode().IsRegular():
		return kept, fmt.Errorf("keep %s: it is neither a file nor a link", path)
	case info.Size() > maxKept:
		return kept, fmt.Errorf("keep %s: it has %d bytes, at most %d are kept", path, info.Size(), maxKept)
	default:
		kept.Kind, kept.Mode = plan.Regular, info.Mode()
		kept.Content, err = os.ReadFile(at)
	}
	if err != nil {
		return kept, fmt.Errorf("keep %s: %w", path, err)
	}
	return kept, nil
}

// putBack makes a path what it was.
func (e *Executor) putBack(a plan.PutBack) (changed bool, err error) {
	path := filepath.Join(e.Root, a.Path)
	switch a.Kind {
	case plan.Absent:
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) ||
			errors.Is(err, syscall.ENOTEMPTY) { // others have put something in the directory
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("remove %s: %w", a.Path, err)
		}
		return true, syncDir(filepath.Dir(path))
	case plan.Link:
		return e.link(a.Path, a.Target)
	case plan.Regular:
		return e.put(file{path: a.Path, content: a.Content, mode: a.Mode, uid: a.UID, gid: a.GID})
	}
	return false, fmt.Errorf("put %s back: %q is not a kind of file", a.Path, a.Kind)
}

func (e *Executor) comparePutBack(a plan.PutBack) Comparison {
	path := filepath.Join(e.Root, a.Path)
	_, err := os.Lstat(path)
	switch a.Kind {
	case plan.Regular:
		return e.compareFile(file{path: a.Path, content: a.Content, mode: a.Mode, uid: a.UID, gid: a.GID})
	case plan.Link:
		target, readErr := os.Readlink(path)
		if readErr == nil && target == a.Target {
			return Comparison{State: Done}
		}
	case plan.Absent:
		if err != nil {
			return Comparison{State: Done}
		}
	}
	if err != nil {
		return Comparison{State: New}
	}
	return Comparison{State: Differs}
}
