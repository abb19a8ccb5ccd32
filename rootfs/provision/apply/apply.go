// Package apply carries out plans on a machine, for
// coreos-cloudinit. Every step is tried, whatever became of those before it;
// one that is done already changes nothing, so that the same plan can be
// applied on every boot.
//
// Files, users and keys are changed below a root directory; what only the
// running system can do is behind Machine. Compare tells beforehand what a step
// would change, Undo what takes it back. Each file is written beside its
// place, synced and renamed: a power cut or a full disk leaves the old file or
// the new one, never half of one.
package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/install"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
	"github.com/coracle-os/coracle/rootfs/user"
)

// Machine is what only the running system can do.
type Machine interface {
	// Hostname and SetHostname are about the kernel's host name.
	Hostname() (string, error)
	SetHostname(name string) error
	// Reload makes PID 1 read all unit files.
	Reload(ctx context.Context) error
	// Command is a verb of systemctl for one unit; it waits for the job.
	Command(ctx context.Context, verb, unit string) error
	// Start begins to start a unit.
	Start(ctx context.Context, unit string) error
}

// Inspector is a Machine that can be compared with and taken back to what it
// was.
type Inspector interface {
	Machine
	// Active tells whether a unit is active or about to be.
	Active(ctx context.Context, unit string) (bool, error)
}

// Result says what became of a step.
type Result string

// The results.
const (
	Changed   Result = "changed"
	Unchanged Result = "unchanged"
	Failed    Result = "failed"
	// Pending is a unit's command that takes longer than CommandTimeout: it
	// goes on by itself.
	Pending Result = "pending"
)

// errPending marks the error of a pending command, errNoInstall what enabling
// nothing is worth.
var (
	errPending   = errors.New("it goes on by itself")
	errNoInstall = errors.New("it has no [Install] section, so there is nothing to enable; use command: start")
)

// Outcome is a step with its result.
type Outcome struct {
	Step   plan.Step
	Result Result
	Err    error // what went wrong or, unless Result is Failed, is worth a warning
}

// Executor applies plans to one machine. Its zero values are not useful; all
// fields but CommandTimeout must be set.
type Executor struct {
	Root    string // stands for "/"
	Machine Machine
	Now     func() time.Time
	// Host is what the specifiers in [Install] sections stand for.
	Host func() specifier.Host
	// KeyName is the name of the set of SSH keys that provisioning owns.
	KeyName string
	// Workspace is the directory for scripts, below Root.
	Workspace string
	// CommandTimeout bounds the wait for a unit's command, so that a unit that
	// takes minutes to start holds up neither the steps after it nor the boot;
	// the command goes on by itself. 0 is 60 s.
	CommandTimeout time.Duration
	// Storage carries out the actions that this package does not know: those of
	// disks and filesystems. nil knows none.
	Storage func(ctx context.Context, action plan.Action) (changed bool, err error)
	// CompareStorage is Compare for the actions of Storage.
	CompareStorage func(action plan.Action) Comparison
	// Services is a unit to begin to start when all files are written, before
	// the first unit's command: what the machine offers anyway need not wait
	// for commands, of which each waits for its unit. "" is none.
	Services string

	// Created are the users that were made.
	Created []string

	unitsChanged, networkChanged bool
	scripts                      map[string]bool // that were run, by their names
}

// Apply tries every step of a plan and calls report after each.
func (e *Executor) Apply(ctx context.Context, p plan.Plan, report func(Outcome)) {
	for _, step := range p.Steps {
		changed, err := e.step(ctx, step.Action)
		outcome := Outcome{Step: step, Result: Unchanged, Err: err}
		switch {
		case errors.Is(err, errPending):
			outcome.Result = Pending
		case errors.Is(err, errNoInstall):
		case err != nil:
			outcome.Result = Failed
		case changed:
			outcome.Result = Changed
		}
		report(outcome)
	}
}

func (e *Executor) step(ctx context.Context, action plan.Action) (changed bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: fault in this program: %v", action, r)
		}
	}()
	switch a := action.(type) {
	case plan.SetHostname:
		return e.hostname(a.Name)
	case plan.EnsureUser:
		return e.user(a.User)
	case plan.EnsureGroup:
		return user.EnsureGroup(e.Root, user.GroupSpec{Name: a.Name, GID: a.GID, System: a.System})
	case plan.MakeDirectory:
		return e.directory(a)
	case plan.MakeLink:
		return e.link(a.Path, a.Target)
	case plan.RemoveUser:
		return user.Remove(e.Root, a.Name)
	case plan.AuthorizeKeys:
		return e.keys(a)
	case plan.WriteFile:
		return e.writeFile(a)
	case plan.MergeEnvironment:
		return e.environment(a)
	case plan.PlaceUnit:
		changed, err := e.put(file{path: a.Path, content: a.Content, mode: a.Mode()})
		e.noteUnit(a.Path, changed)
		return changed, err
	case plan.MaskUnit:
		changed, err := e.mask(a.Path)
		e.noteUnit(a.Path, changed)
		return changed, err
	case plan.UnmaskUnit:
		changed, err := e.unmask(a.Path)
		e.noteUnit(a.Path, changed)
		return changed, err
	case plan.PutBack:
		changed, err := e.putBack(a)
		e.noteUnit(a.Path, changed && strings.Contains(a.Path, "/systemd/"))
		return changed, err
	case plan.EnableUnit:
		changed, err := e.enable(a)
		e.noteUnit("", changed)
		return changed, err
	case plan.ReloadUnits:
		return e.reload(ctx)
	case plan.RestartNetwork:
		return e.restartNetwork(ctx)
	case plan.UnitCommand:
		e.services(ctx)
		return true, e.command(ctx, a)
	case plan.RunScript:
		return true, e.script(ctx, a.Content)
	}
	if e.Storage != nil {
		return e.Storage(ctx, action)
	}
	return false, fmt.Errorf("apply %T: this program does not know the step", action)
}

func (e *Executor) noteUnit(path string, changed bool) {
	e.unitsChanged = e.unitsChanged || changed
	e.networkChanged = e.networkChanged || (changed && filepath.Base(filepath.Dir(path)) == "network")
}

// reload makes PID 1 read the unit files when one of them changed; those that
// were there before the boot it has read already.
func (e *Executor) reload(ctx context.Context) (changed bool, err error) {
	if !e.unitsChanged {
		return false, nil
	}
	if err := e.Machine.Reload(ctx); err != nil {
		return false, fmt.Errorf("reload unit files: %w", err)
	}
	e.unitsChanged = false
	return true, nil
}

func (e *Executor) restartNetwork(ctx context.Context) (changed bool, err error) {
	if !e.networkChanged {
		return false, nil
	}
	e.networkChanged = false
	return true, e.command(ctx, plan.UnitCommand{Verb: "restart", Unit: "systemd-networkd.service"})
}

// services begins to start Services, once. If it fails, PID 1 starts them after
// provisioning, as without this.
func (e *Executor) services(ctx context.Context) {
	if e.Services == "" {
		return
	}
	if _, err := e.reload(ctx); err == nil {
		_ = e.Machine.Start(ctx, e.Services)
	}
	e.Services = ""
}

// command acts on a unit. Masked and enabled units that no reload step follows
// (the plan has one only after files were written) are made known first.
func (e *Executor) command(ctx context.Context, a plan.UnitCommand) error {
	if _, err := e.reload(ctx); err != nil {
		return err
	}
	timeout := e.CommandTimeout
	if timeout == 0 {
		timeout = 60 * time.Second
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := e.Machine.Command(bounded, a.Verb, a.Unit)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("%s %s: not done after %v, %w: see systemctl status %s", a.Verb, a.Unit, timeout, errPending, a.Unit)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", a.Verb, a.Unit, err)
	}
	return nil
}

// enable makes the links of a unit's [Install] section.
func (e *Executor) enable(a plan.EnableUnit) (changed bool, err error) {
	p, err := e.enablePlan(a)
	if err != nil {
		return false, err
	}
	if err := install.Apply(e.Root, p.Changes); err != nil {
		return false, fmt.Errorf("enable %s: %w", a.Name, err)
	}
	if p.Failed != nil {
		return len(p.Changes) > 0, fmt.Errorf("enable %s: %w", a.Name, p.Failed)
	}
	return len(p.Changes) > 0, nil
}

func (e *Executor) hostname(name string) (changed bool, err error) {
	changed, err = e.put(file{path: "/etc/hostname", content: []byte(name + "\n"), mode: 0o644})
	// A full disk is no reason for the running machine to have no name.
	if now, nowErr := e.Machine.Hostname(); nowErr != nil || now != name {
		changed = true
		if setErr := e.Machine.SetHostname(name); setErr != nil {
			err = errors.Join(err, fmt.Errorf("set hostname %q: %w", name, setErr))
		}
	}
	return changed, err
}

func (e *Executor) user(u plan.User) (changed bool, err error) {
	spec := user.Spec{
		Name: u.Name, Passwd: u.PasswordHash, Gecos: u.Gecos, HomeDir: u.HomeDir, NoCreateHome: u.NoCreateHome,
		PrimaryGroup: u.PrimaryGroup, Groups: u.Groups, NoUserGroup: u.NoUserGroup, System: u.System, Shell: u.Shell, UID: u.UID,
	}
	_, err = user.Lookup(e.Root, u.Name)
	exists := err == nil
	if exists {
		hash, err := user.PasswordHash(e.Root, u.Name)
		if u.PasswordHash == "" || (err == nil && hash == u.PasswordHash) {
			return false, nil
		}
	}
	created, err := user.Ensure(e.Root, spec, e.Now())
	if created {
		e.Created = append(e.Created, u.Name)
	}
	return err == nil, err
}

func (e *Executor) keys(a plan.AuthorizeKeys) (changed bool, err error) {
	account, err := user.Lookup(e.Root, a.User)
	if notFound := (*user.NotFoundError)(nil); len(a.Keys) == 0 && errors.As(err, &notFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("authorize SSH keys: %w", err)
	}
	now, err := os.ReadFile(filepath.Join(e.Root, account.Home, ".ssh/authorized_keys.d", e.setOf(a)))
	if (err == nil || errors.Is(err, fs.ErrNotExist)) && string(now) == keyText(a.Keys) {
		return false, nil
	}
	return true, user.AuthorizeKeys(e.Root, a.User, e.setOf(a), a.Keys)
}

// setOf is the name of a set of keys.
func (e *Executor) setOf(a plan.AuthorizeKeys) string { return cmp.Or(a.Set, e.KeyName) }

func (e *Executor) environment(a plan.MergeEnvironment) (changed bool, err error) {
	now, err := os.ReadFile(filepath.Join(e.Root, a.Path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read %s: %w", a.Path, err)
	}
	return e.put(file{path: a.Path, content: plan.MergeLines(now, a.Values), mode: 0o644})
}
