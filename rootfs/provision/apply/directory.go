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

// directory makes a directory, or gives one that is there its mode and owner.
func (e *Executor) directory(a plan.MakeDirectory) (changed bool, err error) {
	if e.compareDirectory(a).State == Done {
		return false, nil
	}
	uid, gid, err := owner(e.Root, a.Owner)
	if err != nil {
		return false, fmt.Errorf("find owner %q of %s: %w", a.Owner, a.Path, err)
	}
	path := filepath.Join(e.Root, a.Path)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return false, explain(a.Path, err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, uid, gid); err != nil {
			return true, explain(a.Path, err)
		}
	}
	if err := os.Chmod(path, a.Mode); err != nil {
		return true, explain(a.Path, err)
	}
	return true, nil
}

func (e *Executor) compareDirectory(a plan.MakeDirectory) Comparison {
	info, err := os.Stat(filepath.Join(e.Root, a.Path))
	switch {
	case err != nil:
		return Comparison{State: New}
	case !info.IsDir():
		return Comparison{State: Differs, Detail: "it is no directory, and is not replaced"}
	case info.Mode().Perm() != a.Mode.Perm():
		return Comparison{State: Differs, Detail: fmt.Sprintf("mode %04o -> %04o", info.Mode().Perm(), a.Mode.Perm())}
	}
	uid, gid, err := owner(e.Root, a.Owner)
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && os.Geteuid() == 0 && (err != nil || int(stat.Uid) != uid || int(stat.Gid) != gid) {
		return Comparison{State: Differs, Detail: "another owner"}
	}
	return Comparison{State: Done}
}

// undoDirectory removes a directory that is made, and gives one that is there
// its mode and owner back.
func (e *Executor) undoDirectory(a plan.MakeDirectory) ([]plan.Action, error) {
	info, err := os.Stat(filepath.Join(e.Root, a.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return e.keep(a.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("keep %s: %w", a.Path, err)
	}
	before := plan.MakeDirectory{Path: a.Path, Mode: info.Mode().Perm()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		before.Owner = fmt.Sprintf("%d:%d", stat.Uid, stat.Gid)
	}
	return []plan.Action{before}, nil
}
