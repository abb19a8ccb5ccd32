// Package install plans and makes the links that enable, disable, mask and
// unmask units, and tells their state; systemctl(1), "Unit File Commands". It
// works on a machine and on the tree of an image alike, and needs no PID 1.
//
// Plans are pure: files in, changes out. Apply makes the changes under a root.
// User units are left out.
package install

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/files"
	"github.com/coracle-os/coracle/rootfs/unit/load"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// The directories that links are made in, relative to the root.
const (
	persistentDir = "etc/systemd/system"
	runtimeDir    = "run/systemd/system"
)

// Change is one link to be made, or one file or link to be removed. Paths are
// absolute, without the root.
type Change struct {
	Path     string
	Target   string // "" means remove
	Replaces bool   // another link is there
}

// String is what systemctl prints for the change.
func (c Change) String() string {
	if c.Target == "" {
		return fmt.Sprintf("Removed %q.", c.Path)
	}
	removed := ""
	if c.Replaces {
		removed = Change{Path: c.Path}.String() + "\n"
	}
	return fmt.Sprintf("%sCreated symlink %s → %s.", removed, c.Path, c.Target)
}

// Plan is what is to be done, in order.
type Plan struct {
	Changes  []Change
	Warnings []string
	// Missing names units without a file, for which that is no reason to stop.
	Missing []string
	// NoInstall names units that have nothing to install.
	NoInstall []string
	// Failed is why the first of the links cannot be made; the others are.
	Failed error
}

func (p *Plan) fail(err error) {
	if p.Failed == nil {
		p.Failed = err
	}
}

// Options change where and how links are made.
type Options struct {
	Runtime bool // below /run, gone with the next boot
	Force   bool // replace links that are in the way
	Preset  PresetMode
}

// PresetMode says what of the policy counts.
type PresetMode string

// The modes, in the words of systemctl(1); "" is Full.
const (
	Full        PresetMode = "full"
	EnableOnly  PresetMode = "enable-only"
	DisableOnly PresetMode = "disable-only"
)

func (o Options) dir() string {
	if o.Runtime {
		return runtimeDir
	}
	return persistentDir
}

// Installer knows the files of one root.
type Installer struct {
	Loader *load.Loader
	Index  *files.Index
}

// New looks at the files below a root.
func New(l *load.Loader) (*Installer, error) {
	index, err := l.Scan()
	if err != nil {
		return nil, err
	}
	return &Installer{Loader: l, Index: index}, nil
}

// Enable plans the links of the units' [Install] sections and of those that
// they name in Also=. A name may be the path of a unit file anywhere.
func (i *Installer) Enable(names []string, o Options) (Plan, error) {
	var p Plan
	seen := map[string]bool{}
	for _, n := range names {
		if err := i.enable(&p, n, o, seen, true); err != nil {
			return Plan{}, err
		}
	}
	return p, nil
}

func (i *Installer) enable(p *Plan, n string, o Options, seen map[string]bool, asked bool) error {
	if strings.Contains(n, "/") {
		return i.enablePath(p, n, o, seen)
	}
	if seen[n] {
		return nil
	}
	seen[n] = true
	found, ok := i.Index.Lookup(n)
	switch err := name.Check(n); {
	case err != nil:
		return err
	case !ok && !asked:
		p.Warnings = append(p.Warnings, fmt.Sprintf("Failed to enable auxiliary unit %s, ignoring.", n))
		return nil
	case !ok:
		return errNoFile(n)
	case found.Masked:
		return fmt.Errorf("Unit file /%s is masked.", found.Path)
	}
	if i.Index.Alias(n) != "" && asked {
		return fmt.Errorf("Refusing to operate on alias name or linked unit file: %s", n)
	}
	section := i.Loader.Installed(i.Index, n)
	if !hasRules(section) {
		p.NoInstall = append(p.NoInstall, n)
	}
	return i.links(p, n, "/"+found.Path, section, o, seen)
}

// enablePath links a unit file outside of the load path into it.
func (i *Installer) enablePath(p *Plan, file string, o Options, seen map[string]bool) error {
	unitName := path.Base(file)
	if err := name.Check(unitName); err != nil {
		return err
	}
	if found, ok := i.Index.Lookup(unitName); ok && "/"+found.Path == path.Clean(file) {
		return i.enable(p, unitName, o, seen, true)
	}
	data, err := fs.ReadFile(i.Loader.FS, strings.TrimPrefix(path.Clean(file), "/"))
	if err != nil {
		return errNoFile(file)
	}
	if err := i.link(p, path.Join("/", o.dir(), unitName), path.Clean(file), o.Force); err != nil {
		return err
	}
	section := installOf(unitName, data)
	if section.Empty() {
		return nil
	}
	return i.links(p, unitName, path.Clean(file), section, o, seen)
}

func errNotTemplate(target, template string) error {
	return fmt.Errorf("Destination unit %s is a non-template unit. Name an instance, for example %s.", target, name.WithInstance(template, "1"))
}

func errNoFile(n string) error { return fmt.Errorf("Unit file %s does not exist.", n) }

// expand expands the specifiers of a name.
func (i *Installer) expand(text, unitName string) (string, error) {
	expanded, err := specifier.Expander{Host: i.Loader.Host(), Name: unitName}.Expand(text)
	if unknown := (*specifier.UnknownError)(nil); errors.As(err, &unknown) {
		return "", fmt.Errorf("Invalid specifier in %s.", text)
	}
	return expanded, err
}

// links adds the links of one unit.
func (i *Installer) links(p *Plan, n, file string, section unit.Install, o Options, seen map[string]bool) error {
	source := n
	if name.IsTemplate(n) && section.DefaultInstance != "" {
		instance, err := i.expand(section.DefaultInstance, n)
		if err != nil {
			return err
		}
		source = name.WithInstance(n, instance)
	}
	dir, aliased := "/"+o.dir(), false
	for _, alias := range section.Alias {
		a, err := i.expand(alias, source)
		if err != nil {
			p.fail(err)
			continue
		}
		link, ok := aliasOf(n, a)
		if !ok {
			p.fail(fmt.Errorf("Cannot alias %s as %s.", n, a))
			continue
		}
		if err := i.link(p, path.Join(dir, link), file, o.Force); err != nil {
			return err
		}
		aliased = true
	}
	for _, w := range []struct {
		suffix string
		by     []string
	}{{".wants", section.WantedBy}, {".requires", section.RequiredBy}} {
		for _, by := range w.by {
			// systemd lets such mistakes pass when there is an alias.
			if err := i.wanted(p, source, file, by, w.suffix, dir); err != nil && !aliased {
				p.fail(err)
			}
		}
	}
	for _, also := range section.Also {
		a, err := i.expand(also, source)
		if err != nil {
			return err
		}
		if err := i.enable(p, a, o, seen, false); err != nil {
			return err
		}
	}
	return nil
}

// aliasOf is the name of the link that gives a unit the alias a: the instance of
// a template's alias for an instance. ok is false when they do not fit.
func aliasOf(n, a string) (link string, ok bool) {
	if name.Kind(a) != name.Kind(n) || !name.Valid(a) {
		return a, false
	}
	instance, isInstance := name.Instance(n)
	other, otherIsInstance := name.Instance(a)
	switch {
	case !isInstance && !name.IsTemplate(n):
		return a, !otherIsInstance && !name.IsTemplate(a)
	case isInstance && name.IsTemplate(a):
		return name.WithInstance(a, instance), true
	case isInstance:
		return a, otherIsInstance && other == instance
	}
	return a, otherIsInstance || name.IsTemplate(a)
}

// wanted adds the link in a .wants or .requires directory.
func (i *Installer) wanted(p *Plan, source, file, by, suffix, dir string) error {
	target, err := i.expand(by, source)
	if err != nil {
		return err
	}
	if !name.Valid(target) {
		return fmt.Errorf("%q is not a valid unit name.", target)
	}
	if name.IsTemplate(source) && !name.IsTemplate(target) {
		return errNotTemplate(target, source)
	}
	if _, ok := i.Index.Lookup(target); !ok {
		p.Warnings = append(p.Warnings, fmt.Sprintf("Unit %s is added as a dependency to a non-existent unit %s.", file, target))
	}
	return i.link(p, path.Join(dir, target+suffix, source), file, true)
}

// link adds a link unless it is there already.
func (i *Installer) link(p *Plan, at, target string, force bool) error {
	rel := strings.TrimPrefix(at, "/")
	old, err := fs.ReadLink(i.Loader.FS, rel)
	switch {
	case err == nil && same(at, old, target):
		return nil
	case err == nil && !force:
		return fmt.Errorf("File %s already exists and is a symlink to %s.", at, old)
	case err != nil:
		if _, err := fs.Lstat(i.Loader.FS, rel); err == nil && at != target {
			return fmt.Errorf("File %s already exists.", at)
		} else if err == nil {
			return nil
		}
	}
	c := Change{Path: at, Target: target, Replaces: err == nil}
	if !slices.Contains(p.Changes, c) {
		p.Changes = append(p.Changes, c)
	}
	return nil
}

// same tells if a link's text leads to the target.
func same(at, text, target string) bool {
	if !path.IsAbs(text) {
		text = path.Join(path.Dir(at), text)
	}
	return path.Clean(text) == target
}

// Disable plans the removal of every link that leads to the units, and of
// those they name in Also=. A unit without a file is an error when there is
// nothing else to do.
func (i *Installer) Disable(names []string, o Options) (Plan, error) {
	var p Plan
	var missing error
	todo, seen := slices.Clone(names), map[string]bool{}
	for len(todo) > 0 {
		n := path.Base(todo[0])
		todo = todo[1:]
		if seen[n] {
			continue
		}
		seen[n] = true
		switch found, ok := i.Index.Lookup(n); {
		case !ok && missing == nil && slices.Contains(names, n):
			missing = errNoFile(n)
		case ok && found.Masked:
			p.Warnings = append(p.Warnings, fmt.Sprintf("Unit /%s is masked, ignoring.", found.Path))
			continue
		}
		if of := i.Index.Alias(n); of != "" {
			todo = append(todo, of)
		}
		for _, also := range i.Loader.Installed(i.Index, n).Also {
			if a, err := i.expand(also, n); err == nil {
				todo = append(todo, a)
			}
		}
		for _, at := range i.linksTo(o.dir(), n) {
			if c := (Change{Path: "/" + at}); !slices.Contains(p.Changes, c) {
				p.Changes = append(p.Changes, c)
			}
		}
	}
	if len(p.Changes) == 0 && missing != nil {
		return Plan{}, missing
	}
	return p, nil
}

// linksTo returns the links below one directory that enable a unit, alias it
// or link it from elsewhere; not masks.
func (i *Installer) linksTo(dir, unitName string) []string {
	var list []string
	entries, _ := fs.ReadDir(i.Loader.FS, dir)
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		switch ext := path.Ext(e.Name()); {
		case ext == ".wants" || ext == ".requires":
			inside, _ := fs.ReadDir(i.Loader.FS, p)
			for _, f := range inside {
				if leadsTo(i.Loader.FS, path.Join(p, f.Name()), unitName) {
					list = append(list, path.Join(p, f.Name()))
				}
			}
		case e.Type()&fs.ModeSymlink != 0:
			if leadsTo(i.Loader.FS, p, unitName) {
				list = append(list, p)
			}
		}
	}
	return list
}

// leadsTo tells if a link belongs to a unit: by its own name, as an instance
// of the template, or by its target.
func leadsTo(fsys fs.FS, p, unitName string) bool {
	target, err := fs.ReadLink(fsys, p)
	if err != nil || path.Clean(target) == "/dev/null" {
		return false
	}
	base := path.Base(p)
	if _, isInstance := name.Instance(unitName); isInstance {
		return base == unitName
	}
	return base == unitName || path.Base(target) == unitName || name.IsTemplate(unitName) && name.Template(base) == unitName
}
