package systemdanalyze

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/rootfs/machine"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/files"
	"github.com/coracle-os/coracle/rootfs/unit/load"
	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// verify reads unit files and says what is wrong with them. Files that are not
// in the load path are read where they are, before those that are.
func (t *tool) verify() error {
	m := machine.Machine{Root: t.Root}
	l := load.New(m, m.Host)
	var units, dirs []string
	for _, arg := range t.args {
		if !strings.Contains(arg, "/") {
			if _, err := os.Stat(arg); err != nil {
				units = append(units, arg)
				continue
			}
		}
		full, err := filepath.Abs(arg)
		if err == nil {
			_, err = os.Stat(full)
		}
		if err != nil {
			return fmt.Errorf("Failed to prepare filename %s: %w", arg, err)
		}
		rel, err := filepath.Rel(t.Root, full)
		if err != nil {
			return fmt.Errorf("verify %q: %w", arg, err)
		}
		dirs = append(dirs, path.Dir(rel))
		units = append(units, path.Base(rel))
	}
	l.LoadPath = append(dirs, files.LoadPath...)
	set, err := load.NewSet(l)
	if err != nil {
		return err
	}
	bad := false
	for _, n := range units {
		if name.IsTemplate(n) {
			n = name.WithInstance(n, "test-instance")
		}
		bad = t.judge(m, set, set.Get(n)) || bad
	}
	if bad {
		return errReported
	}
	return nil
}

// judge prints what is wrong with a unit, and tells if it cannot be used.
func (t *tool) judge(m fs.FS, set *load.Set, u *unit.Unit) bool {
	for _, w := range u.Warnings {
		fmt.Fprintln(t.Err, w)
	}
	if u.LoadState != unit.Loaded {
		fmt.Fprintf(t.Err, "Unit %s failed to load properly, please adjust/correct and reload service manager: %s\n", u.Name, u.LoadError)
		return true
	}
	bad := false
	for _, dep := range []unit.Dep{unit.Requires, unit.BindsTo, unit.Requisite, unit.Triggers} {
		for _, n := range u.Deps[dep] {
			if o := set.Peek(n); o == nil || o.LoadState == unit.NotFound {
				fmt.Fprintf(t.Err, "%s: %s=%s: Unit %s not found.\n", u.Name, dep, n, n)
				bad = true
			}
		}
	}
	if u.Service == nil {
		return bad
	}
	s := u.Service
	for _, list := range [][]unit.Command{s.ExecCondition, s.ExecStartPre, s.ExecStart, s.ExecStartPost, s.ExecReload, s.ExecStop, s.ExecStopPost} {
		for _, c := range list {
			if c.IgnoreFailure || executable(m, c.Path) {
				continue
			}
			fmt.Fprintf(t.Err, "%s: Command %s is not executable: No such file or directory\n", u.Name, c.Path)
			bad = true
		}
	}
	return bad
}

func executable(m fs.FS, p string) bool {
	list := []string{p}
	if !strings.Contains(p, "/") {
		list = nil
		for _, dir := range unit.SearchPath {
			list = append(list, path.Join(dir, p))
		}
	}
	for _, p := range list {
		if info, err := fs.Stat(m, strings.TrimPrefix(p, "/")); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}
