// Package live makes a plan of an Ignition config for a machine that runs, so
// that a change of the config can be looked at, tried and taken back: for
// `coracled config`. The plan is one of package provision/plan, as that of a
// cloud-config is.
//
// A first boot starts from nothing, a change does not; so files that are there
// are replaced without overwrite, and units whose files changed are restarted.
// Left out on purpose, with a message that names each: storage (disks, RAID,
// LUKS, file systems), which is made on a first boot only, the kernel's
// arguments, removing users and groups, hard links, and what of a user that is
// there is not the password or a key.
package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/ignition"
	"github.com/coracle-os/coracle/rootfs/ignition/files"
	"github.com/coracle-os/coracle/rootfs/provision/format"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Format returns the compiler of configs for the machine below root, whose files
// are read; fetcher gets what a config names.
func Format(ctx context.Context, root fs.FS, fetcher ignition.Fetcher) format.Compiler {
	return func(data []byte, _ cloudconfig.Facts) (plan.Plan, plan.Report) {
		doc := ignition.Compile(ctx, "the config", data, fetcher)
		c := compiler{ctx: ctx, root: root, fetcher: fetcher, report: doc.Plan.Problems, changed: map[string]bool{}, storage: map[string]bool{}}
		if doc.Valid() {
			c.compile(doc)
		}
		return plan.Plan{Steps: c.steps}, c.report.Sorted()
	}
}

type compiler struct {
	ctx     context.Context
	root    fs.FS
	fetcher ignition.Fetcher
	steps   []plan.Step
	report  plan.Report
	step    plan.Step       // that is being translated
	changed map[string]bool // units whose files differ from the machine's
	storage map[string]bool // mount units of file systems that are not made
	said    bool            // that storage is left alone
	network bool
	enabled []string
}

func (c *compiler) add(a plan.Action) {
	c.steps = append(c.steps, plan.Step{Action: a, Reason: c.step.Reason, Origin: c.step.Origin})
}

// leave says what a change does not do.
func (c *compiler) leave(what string, args ...any) {
	c.report.Add(c.step.Origin.Position, plan.Warning, what, args...)
}

func (c *compiler) compile(doc ignition.Document) {
	for _, c.step = range doc.Plan.Steps {
		c.translate(c.step.Action)
	}
	c.step = plan.Step{Reason: "unit files were written"}
	if len(c.changed)+len(c.enabled) > 0 {
		c.add(plan.ReloadUnits{})
	}
	if c.network {
		c.step.Reason = "network files were written"
		c.add(plan.RestartNetwork{})
	}
	for _, name := range c.enabled {
		c.step.Reason = "it is enabled"
		verb := "start"
		if c.changed[name] {
			verb, c.step.Reason = "restart", "it is enabled, and its files change"
		}
		if !strings.Contains(name, "@.") { // a template runs as its instances
			c.add(plan.UnitCommand{Verb: verb, Unit: name})
		}
	}
}

func (c *compiler) translate(action plan.Action) {
	switch a := action.(type) {
	case plan.PlaceUnit:
		unit := path.Base(a.Path)
		if a.DropIn {
			unit = strings.TrimSuffix(path.Base(path.Dir(a.Path)), ".d")
		}
		if now, err := c.read(a.Path); err != nil || string(now) != string(a.Content) {
			c.changed[unit] = true
		}
		c.add(a)
	case plan.MaskUnit, plan.UnmaskUnit:
		c.changed[""] = true // they need a reload, too
		c.add(a)
	case ignition.Preset:
		c.preset(a)
	case ignition.Group:
		c.group(a.PasswdGroup)
	case ignition.User:
		c.user(a.PasswdUser)
	case ignition.MakeDirectory:
		mode := fs.FileMode(0o755)
		info, err := c.stat(a.Path)
		if err == nil {
			mode = info.Mode().Perm()
		}
		if a.Mode != nil {
			mode = fs.FileMode(*a.Mode & 0o777)
		}
		c.add(plan.MakeDirectory{Path: path.Clean(a.Path), Mode: mode, Owner: owner(a.Node, info)})
	case ignition.WriteFile:
		c.file(a.File)
	case ignition.MakeLink:
		if a.Hard != nil && *a.Hard {
			c.leave("%s: a hard link is made on a first boot only", a.Path)
			return
		}
		c.add(plan.MakeLink{Path: path.Clean(a.Path), Target: *a.Target})
	case ignition.KernelArguments:
		c.leave("kernel arguments are those of the boot; a change does not look at them")
	case ignition.Mount:
		c.storage[a.Unit] = !a.Own
		c.leaveStorage()
	default:
		c.leaveStorage()
	}
}

func (c *compiler) leaveStorage() {
	if !c.said {
		c.said = true
		c.leave("disks, RAID, LUKS and file systems are made on a first boot only; they are left as they are")
	}
}

func (c *compiler) preset(a ignition.Preset) {
	switch {
	case c.storage[a.Name]:
	case a.Enabled:
		c.add(plan.EnableUnit{Name: a.Name})
		c.enabled = append(c.enabled, a.Name)
	default:
		c.leave("%s is not disabled by a change; use systemctl disable --now %s", a.Name, a.Name)
	}
}

func (c *compiler) group(g types.PasswdGroup) {
	if g.ShouldExist != nil && !*g.ShouldExist {
		c.leave("group %s is not removed by a change; use groupdel", g.Name)
		return
	}
	wanted := plan.EnsureGroup{Name: g.Name, System: g.System != nil && *g.System}
	if g.Gid != nil {
		wanted.GID = *g.Gid
	}
	c.add(wanted)
}

func (c *compiler) user(u types.PasswdUser) {
	if u.ShouldExist != nil && !*u.ShouldExist {
		c.leave("user %s is not removed by a change; use userdel", u.Name)
		return
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	is := func(b *bool) bool { return b != nil && *b }
	wanted := plan.User{Name: u.Name, PasswordHash: text(u.PasswordHash), Gecos: text(u.Gecos), HomeDir: text(u.HomeDir), NoCreateHome: is(u.NoCreateHome),
		PrimaryGroup: text(u.PrimaryGroup), NoUserGroup: is(u.NoUserGroup), System: is(u.System), NoLogInit: is(u.NoLogInit), Shell: text(u.Shell)}
	for _, g := range u.Groups {
		wanted.Groups = append(wanted.Groups, string(g))
	}
	if u.UID != nil {
		wanted.UID = *u.UID
	}
	c.add(plan.EnsureUser{User: wanted})
	var keys []string
	for _, key := range u.SSHAuthorizedKeys {
		keys = append(keys, string(key))
	}
	// Without keys, too: those that an earlier config gave are taken away.
	c.add(plan.AuthorizeKeys{User: u.Name, Keys: keys, Set: files.KeyName})
}

// file translates a file; what of it the config does not say stays as it is.
func (c *compiler) file(f types.File) {
	file := path.Clean(f.Path)
	now, err := c.read(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.problem("read %s: %v; it is left as it is", file, err)
		return
	}
	want, err := files.Content(c.ctx, c.fetch, f, now)
	if err != nil {
		c.problem("%s: %v; it is left as it is", file, err)
		return
	}
	mode := fs.FileMode(0o644)
	info, err := c.stat(file)
	if err == nil && f.Contents.Source == nil {
		mode = info.Mode().Perm()
	}
	if f.Mode != nil {
		mode = fs.FileMode(*f.Mode & 0o777)
	}
	if file == "/etc/hostname" {
		c.add(plan.SetHostname{Name: strings.TrimSpace(string(want))})
		return
	}
	a := plan.WriteFile{Path: file, Content: want, Mode: mode, Owner: owner(f.Node, info)}
	differs := string(now) != string(want)
	switch dir := path.Dir(file); {
	case dir == "/etc/systemd/network" || dir == "/run/systemd/network" || strings.HasPrefix(dir, "/etc/systemd/network/"):
		// The executor looks whether network files changed by their steps.
		if mode == 0o644 && a.Owner == "0:0" {
			c.network = true
			c.add(plan.PlaceUnit{Path: file, Content: want})
			return
		}
		c.enabled = append(c.enabled, "systemd-networkd.service")
		c.changed["systemd-networkd.service"] = differs
	case differs && (strings.HasPrefix(file, "/etc/sysctl.d/") || strings.HasPrefix(file, "/etc/modules-load.d/") || strings.HasPrefix(file, "/etc/tmpfiles.d/")):
		c.report.Add(c.step.Origin.Position, plan.Info, "%s counts from the next boot on", file)
	}
	c.add(a)
}

func (c *compiler) problem(text string, args ...any) {
	c.report.Add(c.step.Origin.Position, plan.Error, text, args...)
}

func (c *compiler) fetch(ctx context.Context, r types.Resource) ([]byte, error) {
	if r.Source == nil || *r.Source == "" {
		return nil, nil
	}
	return c.fetcher.Fetch(ctx, r)
}

func (c *compiler) read(file string) ([]byte, error) {
	return fs.ReadFile(c.root, strings.TrimPrefix(file, "/"))
}

func (c *compiler) stat(file string) (fs.FileInfo, error) {
	return fs.Stat(c.root, strings.TrimPrefix(path.Clean(file), "/"))
}

// owner is user:group of a node: what the config says, else what is there, else
// root.
func owner(n types.Node, now fs.FileInfo) string {
	user, group := "0", "0"
	if now != nil {
		if stat, ok := now.Sys().(*syscall.Stat_t); ok {
			user, group = fmt.Sprint(stat.Uid), fmt.Sprint(stat.Gid)
		}
	}
	pick := func(now *string, id *int, name *string) {
		switch {
		case id != nil:
			*now = fmt.Sprint(*id)
		case name != nil && *name != "":
			*now = *name
		}
	}
	pick(&user, n.User.ID, n.User.Name)
	pick(&group, n.Group.ID, n.Group.Name)
	return user + ":" + group
}
