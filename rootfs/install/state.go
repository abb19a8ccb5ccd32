package install

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// State is what "systemctl is-enabled" says.
type State string

// The states of unit files.
const (
	Enabled        State = "enabled"
	EnabledRuntime State = "enabled-runtime"
	Linked         State = "linked"
	LinkedRuntime  State = "linked-runtime"
	Alias          State = "alias"
	Masked         State = "masked"
	MaskedRuntime  State = "masked-runtime"
	Static         State = "static"
	Disabled       State = "disabled"
	Indirect       State = "indirect"
	Generated      State = "generated"
	Transient      State = "transient"
	Bad            State = "bad"
)

// Good tells if is-enabled exits with 0.
func (s State) Good() bool {
	return slices.Contains([]State{Enabled, EnabledRuntime, Static, Alias, Indirect, Generated, Transient}, s)
}

// ErrNotFound is returned for a unit without a file.
var ErrNotFound = errors.New("No such file or directory")

// State tells the state of a unit's file.
func (i *Installer) State(unitName string) (State, error) {
	if err := name.Check(unitName); err != nil {
		return "", err
	}
	found, ok := i.Index.Lookup(unitName)
	runtime := strings.HasPrefix(found.Path, "run/")
	_, isInstance := name.Instance(unitName)
	switch {
	case !ok:
		return "", ErrNotFound
	case found.Masked && runtime:
		return MaskedRuntime, nil
	case found.Masked:
		return Masked, nil
	case i.Index.Alias(unitName) != "" || found.Name != unitName && !isInstance:
		return Alias, nil
	case strings.HasPrefix(found.Path, "run/systemd/generator"):
		return Generated, nil
	case strings.HasPrefix(found.Path, "run/systemd/transient"):
		return Transient, nil
	}
	return i.installed(unitName, found.Path), nil
}

// installed is State for a unit with a file of its own.
func (i *Installer) installed(unitName, file string) State {
	section := i.Loader.Installed(i.Index, unitName)
	byDefault := ""
	if name.IsTemplate(unitName) && section.DefaultInstance != "" {
		if instance, err := i.expand(section.DefaultInstance, unitName); err == nil {
			byDefault = name.WithInstance(unitName, instance)
		}
	}
	indirect := false
	for _, d := range []struct {
		dir             string
		enabled, linked State
	}{{persistentDir, Enabled, Linked}, {runtimeDir, EnabledRuntime, LinkedRuntime}} {
		linked := false
		for _, at := range i.linksTo(d.dir, unitName) {
			switch base := path.Base(at); {
			case path.Dir(at) != d.dir && (base == unitName || base == byDefault):
				return d.enabled
			case slices.Contains(section.Alias, base):
				return d.enabled
			case base == unitName:
				linked = true
			default:
				indirect = true
			}
		}
		if linked {
			return d.linked
		}
	}
	switch {
	case indirect:
		return Indirect
	case hasRules(section):
		return Disabled
	case len(section.Also) > 0:
		return Indirect
	}
	return Static
}

func hasRules(s unit.Install) bool {
	return len(s.Alias)+len(s.WantedBy)+len(s.RequiredBy) > 0
}

// presetDirs hold the policy which units are enabled by default; the first
// file of a name wins.
var presetDirs = []string{"etc/systemd/system-preset", "run/systemd/system-preset", "usr/local/lib/systemd/system-preset", "usr/lib/systemd/system-preset"}

// PresetRule is one line of a preset file.
type PresetRule struct {
	Enable    bool
	Pattern   string
	Instances []string // of a template that are meant; none: what Pattern matches
}

// matches tells if the rule is about a unit.
func (r PresetRule) matches(unitName string) bool {
	ok, err := path.Match(r.Pattern, unitName)
	if len(r.Instances) == 0 || name.IsTemplate(unitName) {
		return ok && err == nil
	}
	instance, isInstance := name.Instance(unitName)
	return isInstance && name.Template(unitName) == r.Pattern && slices.Contains(r.Instances, instance)
}

// Presets reads the policy; systemd.preset(5).
func Presets(fsys fs.FS) []PresetRule {
	byName := map[string]string{}
	for _, dir := range presetDirs {
		entries, _ := fs.ReadDir(fsys, dir)
		for _, e := range entries {
			if _, seen := byName[e.Name()]; !seen && strings.HasSuffix(e.Name(), ".preset") {
				byName[e.Name()] = path.Join(dir, e.Name())
			}
		}
	}
	var names []string
	for n := range byName {
		names = append(names, n)
	}
	sort.Strings(names)
	var rules []PresetRule
	for _, n := range names {
		data, _ := fs.ReadFile(fsys, byName[n])
		for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
			f := strings.Fields(lines.Text())
			if len(f) >= 2 && (f[0] == "enable" || f[0] == "disable") {
				r := PresetRule{Enable: f[0] == "enable", Pattern: f[1]}
				if r.Enable && name.IsTemplate(f[1]) {
					r.Instances = f[2:]
				}
				rules = append(rules, r)
			}
		}
	}
	return rules
}

// Preset tells if the policy enables a unit; it does if no rule is about it.
func Preset(rules []PresetRule, unitName string) bool {
	for _, r := range rules {
		if r.matches(unitName) {
			return r.Enable
		}
	}
	return true
}

// Preset plans the links that the policy asks for. A template is enabled with the
// instances that the policy names; without any there is nothing to be done.
func (i *Installer) Preset(names []string, o Options) (Plan, error) {
	rules := Presets(i.Loader.FS)
	var on, off []string
	for _, n := range names {
		switch enable := Preset(rules, n); {
		case enable && o.Preset != DisableOnly:
			on = append(on, instancesOf(rules, n)...)
		case !enable && o.Preset != EnableOnly:
			off = append(off, n)
		}
	}
	p, err := i.Disable(off, o)
	if err != nil {
		return Plan{}, err
	}
	q, err := i.Enable(on, o)
	p.Changes, p.Warnings = append(p.Changes, q.Changes...), append(p.Warnings, q.Warnings...)
	return p, err
}

// instancesOf are the instances of a template that the policy enables, or the
// unit itself.
func instancesOf(rules []PresetRule, unitName string) []string {
	at := slices.IndexFunc(rules, func(r PresetRule) bool { return r.matches(unitName) })
	if at < 0 || !name.IsTemplate(unitName) || len(rules[at].Instances) == 0 {
		return []string{unitName}
	}
	var list []string
	for _, instance := range rules[at].Instances {
		list = append(list, name.WithInstance(unitName, instance))
	}
	return list
}
