package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/rootfs/install"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/unit/load"
	"github.com/coracle-os/coracle/rootfs/user"
)

// State says how a step stands to the machine as it is.
type State string

// The states.
const (
	Done    State = "done"    // nothing would change
	Differs State = "differs" // what is there would be replaced
	New     State = "new"     // nothing of it is there
	Runs    State = "runs"    // it is carried out every time, or when a step before it changed something
)

// Comparison is what a step would change.
type Comparison struct {
	State State
	// Detail is one line about what differs; it holds no secret.
	Detail string
	// Path, Before and After are a text that would change, to be shown as a
	// difference; Path is "" when there is none, or when others may not read it.
	Path          string
	Before, After []byte
}

// Compare tells what a step would do, and changes nothing. Steps are compared
// with the machine as it is, not as the steps before them would leave it.
func (e *Executor) Compare(ctx context.Context, step plan.Step) Comparison {
	switch a := step.Action.(type) {
	case plan.SetHostname:
		return e.compareHostname(a.Name)
	case plan.EnsureUser:
		return e.compareUser(a.User)
	case plan.RemoveUser:
		if _, err := user.Lookup(e.Root, a.Name); err != nil {
			return Comparison{State: Done}
		}
		return Comparison{State: Differs, Detail: "the user is there"}
	case plan.AuthorizeKeys:
		return e.compareKeys(a)
	case plan.WriteFile:
		uid, gid, err := owner(e.Root, a.Owner)
		c := e.compareFile(file{path: a.Path, content: a.Content, mode: a.Mode, uid: uid, gid: gid})
		if err != nil {
			c.Detail = strings.TrimPrefix(c.Detail+", owner "+a.Owner+" is not there yet", ", ")
		}
		return c
	case plan.MergeEnvironment:
		now, _ := os.ReadFile(filepath.Join(e.Root, a.Path))
		return e.compareFile(file{path: a.Path, content: plan.MergeLines(now, a.Values), mode: 0o644})
	case plan.PlaceUnit:
		return e.compareFile(file{path: a.Path, content: a.Content, mode: a.Mode()})
	case plan.MaskUnit, plan.UnmaskUnit, plan.EnableUnit, plan.UnitCommand:
		return e.compareUnit(ctx, a)
	case plan.PutBack:
		return e.comparePutBack(a)
	case plan.MakeLink:
		return e.comparePutBack(plan.PutBack{Path: a.Path, Kind: plan.Link, Target: a.Target})
	case plan.MakeDirectory:
		return e.compareDirectory(a)
	case plan.EnsureGroup:
		now, err := user.LookupGroup(e.Root, a.Name)
		switch {
		case err != nil:
			return Comparison{State: New}
		case a.GID != 0 && a.GID != now:
			return Comparison{State: Differs, Detail: fmt.Sprintf("number %d -> %d", now, a.GID)}
		}
		return Comparison{State: Done}
	case plan.ReloadUnits, plan.RestartNetwork, plan.RunScript:
		return Comparison{State: Runs}
	}
	if e.CompareStorage != nil {
		return e.CompareStorage(step.Action)
	}
	return Comparison{State: Runs}
}

func (e *Executor) compareHostname(name string) Comparison {
	now, _ := e.Machine.Hostname()
	stored, err := os.ReadFile(filepath.Join(e.Root, "/etc/hostname"))
	switch {
	case now != name:
		return Comparison{State: Differs, Detail: fmt.Sprintf("%q -> %q", now, name)}
	case err != nil || string(stored) != name+"\n":
		return Comparison{State: Differs, Detail: "not in /etc/hostname"}
	}
	return Comparison{State: Done}
}

func (e *Executor) compareUser(u plan.User) Comparison {
	if _, err := user.Lookup(e.Root, u.Name); err != nil {
		return Comparison{State: New}
	}
	hash, err := user.PasswordHash(e.Root, u.Name)
	switch {
	case u.PasswordHash == "":
		return Comparison{State: Done}
	case errors.Is(err, fs.ErrPermission):
		return Comparison{State: Runs, Detail: "only root can compare the password"}
	case err == nil && hash == u.PasswordHash:
		return Comparison{State: Done}
	}
	return Comparison{State: Differs, Detail: "another password"}
}

func (e *Executor) compareKeys(a plan.AuthorizeKeys) Comparison {
	account, err := user.Lookup(e.Root, a.User)
	switch {
	case err != nil && len(a.Keys) == 0:
		return Comparison{State: Done}
	case err != nil:
		return Comparison{State: New, Detail: "the user is not there yet"}
	}
	set := filepath.Join(account.Home, ".ssh/authorized_keys.d", e.setOf(a))
	now, err := os.ReadFile(filepath.Join(e.Root, set))
	want := keyText(a.Keys)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return Comparison{State: Runs, Detail: "only root can compare the keys"}
	case string(now) == want:
		return Comparison{State: Done}
	case err != nil:
		return Comparison{State: New, Path: set, After: []byte(want)}
	}
	return Comparison{State: Differs, Path: set, Before: now, After: []byte(want)}
}

func keyText(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	return strings.Join(keys, "\n") + "\n"
}

// compareFile compares content, mode and owner. Text of a file that only its
// owner may read is not shown.
func (e *Executor) compareFile(f file) Comparison {
	path := filepath.Join(e.Root, f.path)
	info, err := os.Lstat(path)
	c := Comparison{State: New}
	switch {
	case err == nil && same(path, f):
		return Comparison{State: Done}
	case err == nil && info.IsDir():
		return Comparison{State: Differs, Detail: "it is a directory, which is not replaced"}
	case err == nil:
		c.State = Differs
	}
	now, readErr := []byte(nil), error(nil)
	if err == nil {
		now, readErr = os.ReadFile(path)
	}
	switch {
	case readErr != nil && errors.Is(readErr, fs.ErrPermission):
		c.Detail = "only root can compare it"
		return c
	case bytes.Equal(now, f.content) && err == nil && info.Mode() != f.mode:
		c.Detail = fmt.Sprintf("mode %04o -> %04o", plan.UnixMode(info.Mode()), plan.UnixMode(f.mode))
	case bytes.Equal(now, f.content) && err == nil:
		c.Detail = "another owner"
	case f.mode&0o044 == 0 || (err == nil && info.Mode()&0o044 == 0):
		c.Detail = fmt.Sprintf("%d -> %d bytes, not shown", len(now), len(f.content))
	default:
		c.Path, c.Before, c.After = f.path, now, f.content
	}
	return c
}

func (e *Executor) compareUnit(ctx context.Context, action plan.Action) Comparison {
	switch a := action.(type) {
	case plan.MaskUnit:
		path := filepath.Join(e.Root, a.Path)
		if target, err := os.Readlink(path); err == nil && target == os.DevNull {
			return Comparison{State: Done}
		}
		if _, err := os.Lstat(path); err != nil {
			return Comparison{State: New}
		}
		return Comparison{State: Differs, Detail: "the file is removed"}
	case plan.UnmaskUnit:
		if masked(filepath.Join(e.Root, a.Path)) {
			return Comparison{State: Differs, Detail: "it is masked"}
		}
		return Comparison{State: Done}
	case plan.EnableUnit:
		p, err := e.enablePlan(a)
		switch {
		case err != nil && !errors.Is(err, errNoInstall):
			return Comparison{State: New, Detail: "the unit is not there yet"}
		case len(p.Changes) == 0:
			return Comparison{State: Done}
		}
		return Comparison{State: New}
	case plan.UnitCommand:
		active, err := e.Active(ctx, a.Unit)
		if err == nil && ((a.Verb == "start" && active) || (a.Verb == "stop" && !active)) {
			return Comparison{State: Done}
		}
	}
	return Comparison{State: Runs}
}

// Active tells whether a unit is active or about to be; it is an error when
// Machine is no Inspector.
func (e *Executor) Active(ctx context.Context, unit string) (bool, error) {
	inspector, ok := e.Machine.(Inspector)
	if !ok {
		return false, fmt.Errorf("look at %s: this program cannot", unit)
	}
	return inspector.Active(ctx, unit)
}

// masked tells whether unmasking would remove the file at path.
func masked(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	target, _ := os.Readlink(path)
	return target == os.DevNull || (info.Mode().IsRegular() && info.Size() == 0)
}

// enablePlan plans the links that enabling a unit makes; an alias stands for its
// unit.
func (e *Executor) enablePlan(a plan.EnableUnit) (p install.Plan, err error) {
	installer, err := install.New(load.New(os.DirFS(e.Root), e.Host))
	if err != nil {
		return p, fmt.Errorf("enable %s: %w", a.Name, err)
	}
	name := a.Name
	if target := installer.Index.Alias(name); target != "" {
		name = target
	}
	p, err = installer.Enable([]string{name}, install.Options{Runtime: a.Runtime, Force: true})
	switch {
	case err != nil:
		return p, fmt.Errorf("enable %s: %w", a.Name, err)
	case len(p.NoInstall) > 0 && len(p.Changes) == 0:
		return p, fmt.Errorf("enable %s: %w", a.Name, errNoInstall)
	}
	return p, nil
}
