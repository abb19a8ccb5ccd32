package systemctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/install"
	"github.com/coracle-os/coracle/rootfs/unit/load"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// installer looks at the unit files below the root.
func (t *tool) installer() (*install.Installer, error) {
	fsys := os.DirFS(t.Root)
	return install.New(load.New(fsys, func() specifier.Host { return specifier.ReadHost(fsys) }))
}

// fileNames returns arguments as unit names; with paths kept.
func (t *tool) fileNames(args []string) []string {
	var list []string
	for _, a := range args {
		if !strings.Contains(a, "/") {
			a = t.unitName(a, "service")
		} else if abs, err := filepath.Abs(a); err == nil {
			a = abs
		}
		list = append(list, a)
	}
	return list
}

const noInstallText = `The unit files have no installation config (WantedBy=, RequiredBy=, Also=,
Alias= settings in the [Install] section, and DefaultInstance= for template
units). This means they are not meant to be enabled using systemctl.
 
Possible reasons for having this kind of units are:
• A unit may be statically enabled by being symlinked from another unit's
  .wants/ or .requires/ directory.
• A unit's purpose may be to act as a helper for some other unit which has
  a requirement dependency on it.
• A unit may be started when needed via activation (socket, path, timer,
  D-Bus, udev, scripted systemctl call, ...).
• In case of template units, the unit is meant to be enabled with some
  instance name specified.`

// change makes a plan, carries it out, and has PID 1 read the files again. doing
// is what is done, for messages.
func (t *tool) change(doing string, makePlan func(*install.Installer, []string, install.Options) (install.Plan, error)) error {
	names := t.fileNames(t.args)
	i, err := t.installer()
	if err != nil {
		return fmt.Errorf("Failed to %s: %w", doing, err)
	}
	p, err := makePlan(i, names, install.Options{Runtime: t.o.runtime, Force: t.o.force, Preset: install.PresetMode(t.o.presetMode)})
	for _, n := range p.Missing {
		t.say(t.Err, "Unit %s does not exist, proceeding anyway.", n)
	}
	if err == nil {
		err = errors.Join(install.Apply(t.Root, p.Changes), p.Failed)
	}
	if err != nil {
		return fmt.Errorf("Failed to %s: %w", doing, err)
	}
	for _, c := range p.Changes {
		t.say(t.Err, "%s", c)
	}
	for _, w := range p.Warnings {
		t.say(t.Err, "%s", w)
	}
	if len(p.NoInstall) == len(names) && len(p.Changes) == 0 {
		t.say(t.Err, noInstallText)
	}
	return t.reloadAfter()
}

// reloadAfter has PID 1 read the files again, if it runs and is wanted.
func (t *tool) reloadAfter() error {
	if t.o.noReload || t.o.root != "" {
		return nil
	}
	_, err := t.collect(control.Request{Verb: control.DaemonReload})
	if e := (*control.Error)(nil); errors.As(err, &e) {
		return fmt.Errorf("Failed to reload daemon: %w", err)
	}
	return nil
}

// thenJobs starts or stops the units if --now is given.
func (t *tool) thenJobs(err error, v control.Verb) error {
	if err != nil || !t.o.now {
		return err
	}
	names := t.fileNames(t.args)
	for i := range names {
		names[i] = path.Base(names[i])
	}
	return t.jobs(v, string(v), names)
}

func (t *tool) enable() error {
	return t.thenJobs(t.change("enable unit", (*install.Installer).Enable), control.Start)
}

func (t *tool) disable() error {
	return t.thenJobs(t.change("disable unit", (*install.Installer).Disable), control.Stop)
}

func (t *tool) reenable() error {
	if err := t.change("reenable unit", (*install.Installer).Disable); err != nil {
		return err
	}
	return t.thenJobs(t.change("reenable unit", (*install.Installer).Enable), control.Start)
}

func (t *tool) preset() error {
	switch install.PresetMode(t.o.presetMode) {
	case install.Full, install.EnableOnly, install.DisableOnly:
		return t.change("preset unit", (*install.Installer).Preset)
	}
	return fmt.Errorf("Failed to parse preset mode: %s.", t.o.presetMode)
}

func (t *tool) mask() error {
	return t.thenJobs(t.change("mask unit", (*install.Installer).Mask), control.Stop)
}

func (t *tool) unmask() error { return t.change("unmask unit", (*install.Installer).Unmask) }

func (t *tool) isEnabled() error {
	i, err := t.installer()
	if err != nil {
		return err
	}
	good := false
	for _, n := range t.fileNames(t.args) {
		s, err := i.State(path.Base(n))
		if err != nil {
			fmt.Fprintf(t.Err, "Failed to get unit file state for %s: %s\n", n, err)
			return errExit(exitFailure)
		}
		t.say(t.Out, "%s", s)
		good = good || s.Good()
	}
	if !good {
		return errExit(exitFailure)
	}
	return nil
}

func presetWord(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}

func (t *tool) listUnitFiles() error {
	i, err := t.installer()
	if err != nil {
		return err
	}
	rules := install.Presets(i.Loader.FS)
	var rows [][]string
	for _, n := range i.Index.Names() {
		state, err := i.State(n)
		if err != nil || !t.wantedFile(n, state) {
			continue
		}
		p := "-"
		if state != install.Static && state != install.Alias && state != install.Generated && state != install.Transient {
			p = presetWord(install.Preset(rules, n))
		}
		rows = append(rows, []string{n, string(state), p})
	}
	sort.Slice(rows, func(a, b int) bool { return bySuffix(rows[a][0], rows[b][0]) })
	if t.inJSON() {
		return t.printJSON([]string{"unit_file", "state", "preset"}, cells(rows))
	}
	var header []string
	if t.o.legend {
		header = []string{"UNIT FILE", "STATE", "PRESET"}
	}
	table(t.Out, header, rows)
	if t.o.legend {
		fmt.Fprintf(t.Out, "\n%d unit files listed.\n", len(rows))
	}
	if len(rows) == 0 && len(t.args) > 0 {
		return errExit(exitFailure)
	}
	return nil
}

func (t *tool) wantedFile(n string, state install.State) bool {
	contains := func(list []string, s string) bool {
		for _, x := range list {
			if x == s {
				return true
			}
		}
		return len(list) == 0
	}
	if !contains(t.o.types, name.Kind(n)) || !contains(t.o.states, string(state)) {
		return false
	}
	for _, p := range t.args {
		if !isPattern(p) {
			p = name.Mangle(p, "service")
		}
		if ok, err := path.Match(p, n); err == nil && ok {
			return true
		}
	}
	return len(t.args) == 0
}

// cat prints the files of units as PID 1 loaded them, or without it as they
// would be.
func (t *tool) cat() error {
	code := 0
	first := true
	for _, n := range t.fileNames(t.args) {
		fragment, dropIns := t.filesOf(n)
		if fragment == "" && len(dropIns) == 0 {
			fmt.Fprintf(t.Err, "No files found for %s.\n", n)
			code = exitFailure
			continue
		}
		for _, p := range append([]string{fragment}, dropIns...) {
			if p == "" {
				continue
			}
			if !first {
				fmt.Fprintln(t.Out)
			}
			first = false
			if err := t.catFile(p); err != nil {
				fmt.Fprintf(t.Err, "Failed to cat %s: %s\n", p, err)
				code = exitFailure
			}
		}
	}
	if code != 0 {
		return errExit(code)
	}
	return nil
}

func (t *tool) catFile(p string) error {
	data, err := os.ReadFile(filepath.Join(t.Root, p))
	if to, lerr := os.Readlink(filepath.Join(t.Root, p)); lerr == nil && to == "/dev/null" {
		fmt.Fprintf(t.Out, "# Unit %s is masked.\n", filepath.Base(p))
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: it was removed; run systemctl daemon-reload", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(t.Out, "# %s\n%s", p, data)
	if len(data) > 0 && data[len(data)-1] != '\n' {
		fmt.Fprintln(t.Out)
	}
	return nil
}

func (t *tool) filesOf(n string) (fragment string, dropIns []string) {
	if t.o.root == "" && !name.IsTemplate(n) {
		r, err := t.collect(control.Request{Verb: control.Show, Units: []string{n}})
		if err == nil && len(r.Units) == 1 {
			p := r.Units[0].Properties
			return p["FragmentPath"], strings.Fields(p["DropInPaths"])
		}
	}
	i, err := t.installer()
	if err != nil {
		return "", nil
	}
	found, ok := i.Index.Lookup(n)
	if !ok {
		return "", nil
	}
	for _, p := range i.Index.DropIns(append([]string{found.Name}, found.Aliases...)...) {
		dropIns = append(dropIns, "/"+p)
	}
	return "/" + found.Path, dropIns
}

const defaultTarget = "default.target"

func (t *tool) getDefault() error {
	i, err := t.installer()
	if err != nil {
		return err
	}
	found, ok := i.Index.Lookup(defaultTarget)
	if !ok {
		return errors.New("Failed to get default target: there is no default.target")
	}
	fmt.Fprintln(t.Out, found.Name)
	return nil
}

func (t *tool) setDefault() error {
	i, err := t.installer()
	if err != nil {
		return err
	}
	n := t.unitName(t.args[0], "target")
	if name.Kind(n) != "target" || !name.Valid(n) {
		return errors.New("Failed to set default target: Invalid argument")
	}
	found, ok := i.Index.Lookup(n)
	if !ok {
		return fmt.Errorf("Failed to set default target: Unit file %s does not exist.", n)
	}
	const at = "/etc/systemd/system/" + defaultTarget
	old, err := os.Readlink(filepath.Join(t.Root, at))
	if old == "/"+found.Path {
		return nil
	}
	c := install.Change{Path: at, Target: "/" + found.Path, Replaces: err == nil}
	if err := install.Apply(t.Root, []install.Change{c}); err != nil {
		return fmt.Errorf("Failed to set default target: %w", err)
	}
	t.say(t.Err, "%s", c)
	return t.reloadAfter()
}
