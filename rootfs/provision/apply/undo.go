package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/user"
)

// ErrNoUndo is the error for a step that can not be taken back.
var ErrNoUndo = errors.New("it can not be taken back")

// Undo returns what takes a step back that is about to be applied: the actions
// that make the machine what it is now, in the order of applying. A step that
// changes nothing has none.
func (e *Executor) Undo(ctx context.Context, action plan.Action) ([]plan.Action, error) {
	switch a := action.(type) {
	case plan.ReloadUnits, plan.RestartNetwork:
		return nil, nil // they follow from what is put back
	case plan.SetHostname:
		now, err := e.Machine.Hostname()
		if err != nil {
			return nil, fmt.Errorf("keep the hostname: %w", err)
		}
		files, err := e.keep("/etc/hostname")
		return append([]plan.Action{plan.SetHostname{Name: now}}, files...), err
	case plan.EnsureUser:
		return e.undoUser(a.User)
	case plan.RemoveUser:
		return e.keep("/etc/group", "/etc/gshadow", "/etc/shadow", "/etc/passwd")
	case plan.AuthorizeKeys:
		return e.undoKeys(a)
	case plan.WriteFile:
		return e.keep(a.Path)
	case plan.MergeEnvironment:
		return e.keep(a.Path)
	case plan.PlaceUnit:
		return e.keep(a.Path)
	case plan.MaskUnit:
		return e.keep(a.Path)
	case plan.MakeLink:
		return e.keep(a.Path)
	case plan.EnsureGroup:
		return e.keep("/etc/group", "/etc/gshadow")
	case plan.MakeDirectory:
		return e.undoDirectory(a)
	case plan.UnmaskUnit:
		return e.keep(a.Path)
	case plan.PutBack:
		return e.keep(a.Path)
	case plan.EnableUnit:
		return e.undoEnable(a)
	case plan.UnitCommand:
		return e.undoCommand(ctx, a)
	}
	return nil, fmt.Errorf("%s: %w", action, ErrNoUndo)
}

// keep returns what puts paths back, and what removes the directories that are
// made for them.
func (e *Executor) keep(paths ...string) (actions []plan.Action, err error) {
	for _, path := range paths {
		kept, err := Before(e.Root, path)
		if err != nil {
			return nil, err
		}
		actions = append(actions, kept)
		if kept.Kind != plan.Absent {
			continue
		}
		for dir := filepath.Dir(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
			if _, err := os.Lstat(filepath.Join(e.Root, dir)); err == nil {
				break
			}
			actions = append(actions, plan.PutBack{Path: dir, Kind: plan.Absent})
		}
	}
	return actions, nil
}

func (e *Executor) undoUser(u plan.User) ([]plan.Action, error) {
	if _, err := user.Lookup(e.Root, u.Name); err != nil {
		if notFound := (*user.NotFoundError)(nil); errors.As(err, &notFound) {
			return []plan.Action{plan.RemoveUser{Name: u.Name}}, nil
		}
		return nil, fmt.Errorf("keep user %q: %w", u.Name, err)
	}
	hash, err := user.PasswordHash(e.Root, u.Name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("keep the password of %q: %w", u.Name, err)
	case u.PasswordHash == "" || u.PasswordHash == hash:
		return nil, nil
	case hash == "":
		hash = "*"
	}
	return []plan.Action{plan.EnsureUser{User: plan.User{Name: u.Name, PasswordHash: hash}}}, nil
}

func (e *Executor) undoKeys(a plan.AuthorizeKeys) ([]plan.Action, error) {
	account, err := user.Lookup(e.Root, a.User)
	if err != nil {
		return nil, nil // applying it fails and changes nothing
	}
	now, err := os.ReadFile(filepath.Join(e.Root, account.Home, ".ssh/authorized_keys.d", e.setOf(a)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("keep the keys of %q: %w", a.User, err)
	}
	var keys []string
	if text := strings.TrimSuffix(string(now), "\n"); text != "" {
		keys = strings.Split(text, "\n")
	}
	return []plan.Action{plan.AuthorizeKeys{User: a.User, Keys: keys, Set: a.Set}}, nil
}

func (e *Executor) undoEnable(a plan.EnableUnit) ([]plan.Action, error) {
	p, err := e.enablePlan(a)
	if err != nil {
		return nil, nil // applying it fails and changes nothing
	}
	var paths []string
	for _, change := range p.Changes {
		paths = append(paths, change.Path)
	}
	return e.keep(paths...)
}

// undoCommand returns the command that brings a unit back to what it is: one
// that runs is restarted, for it must read the files that are put back.
func (e *Executor) undoCommand(ctx context.Context, a plan.UnitCommand) ([]plan.Action, error) {
	active, err := e.Active(ctx, a.Unit)
	switch {
	case err != nil:
		return nil, fmt.Errorf("keep the state of %s: %w", a.Unit, err)
	case active && a.Verb == "start":
		return nil, nil
	case active && a.Verb == "stop":
		return []plan.Action{plan.UnitCommand{Verb: "start", Unit: a.Unit}}, nil
	case active:
		return []plan.Action{plan.UnitCommand{Verb: "restart", Unit: a.Unit}}, nil
	case slices.Contains([]string{"start", "restart", "reload-or-restart"}, a.Verb):
		return []plan.Action{plan.UnitCommand{Verb: "stop", Unit: a.Unit}}, nil
	}
	return nil, nil
}
