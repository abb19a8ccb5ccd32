// Package load reads units: it finds the files of a name, parses them and adds
// the dependencies that follow from settings, from .wants and .requires links
// and from DefaultDependencies=. PID 1 keeps the loaded units in a Set;
// other programs use a Loader alone.
//
// It follows systemd.unit(5), systemd.special(7) and the "Implicit
// Dependencies" and "Default Dependencies" sections of the pages of each kind.
package load

import (
	"fmt"
	"io/fs"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/files"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/settings"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// MaxFile is the largest unit file that is read, in bytes.
const MaxFile = 4 << 20

// Loader reads units from a file system.
type Loader struct {
	FS       fs.FS // the root: "etc/systemd/system" is in it
	LoadPath []string
	// Host says what the specifiers stand for; it is asked for every unit.
	Host func() specifier.Host
}

// New makes a Loader with systemd's load path.
func New(fsys fs.FS, host func() specifier.Host) *Loader {
	return &Loader{FS: fsys, LoadPath: files.LoadPath, Host: host}
}

// Scan looks at which files there are.
func (l *Loader) Scan() (*files.Index, error) { return files.Scan(l.FS, l.LoadPath) }

// Load reads one unit, found by any of its names. It always returns a unit:
// its LoadState says how far that came.
func (l *Loader) Load(index *files.Index, unitName string) *unit.Unit {
	if err := name.Check(unitName); err != nil {
		return &unit.Unit{Name: unitName, Description: unitName, LoadState: unit.Error, LoadError: err.Error(), Deps: unit.Deps{}}
	}
	found, ok := index.Lookup(unitName)
	u := settings.New(found.Name)
	u.Aliases = found.Aliases
	if name.IsTemplate(found.Name) {
		return fail(u, unit.Error, fmt.Sprintf("Unit name %s is missing the instance name.", found.Name))
	}
	switch {
	case found.Masked:
		u.FragmentPath = "/" + found.Path
		return fail(u, unit.Masked, fmt.Sprintf("Unit %s is masked.", u.Name))
	case !ok && !builtIn(u):
		return fail(u, unit.NotFound, fmt.Sprintf("Unit %s not found.", unitName))
	}
	x := specifier.Expander{Host: l.Host(), Name: u.Name}
	if ok {
		u.FragmentPath = "/" + found.Path
		x.Fragment = u.FragmentPath
		l.read(u, found.Path, x)
	}
	for _, p := range index.DropIns(u.Names()...) {
		u.DropIns = append(u.DropIns, "/"+p)
		l.read(u, p, x)
	}
	settings.Finish(u)
	for _, dep := range index.Links(".wants", u.Names()...) {
		u.Deps.Add(unit.Wants, settings.Instantiate(dep, u.Name))
	}
	for _, dep := range index.Links(".requires", u.Names()...) {
		u.Deps.Add(unit.Requires, settings.Instantiate(dep, u.Name))
	}
	if u.LoadState == unit.Loaded {
		implicit(u, func(n string) bool { f, ok := index.Lookup(n); return ok && !f.Masked })
	}
	return u
}

func fail(u *unit.Unit, state unit.LoadState, why string) *unit.Unit {
	u.LoadState, u.LoadError = state, why
	settings.Finish(u)
	return u
}

// read applies one file. One that cannot be read makes the unit unusable if it
// is the fragment, and costs only itself if it is a drop-in.
func (l *Loader) read(u *unit.Unit, p string, x specifier.Expander) {
	data, err := readFile(l.FS, p)
	if err == nil {
		settings.Apply(u, "/"+p, data, x)
		return
	}
	u.Warnings = append(u.Warnings, unit.Warning{Path: "/" + p, Text: err.Error()})
	if "/"+p == u.FragmentPath {
		fail(u, unit.Error, err.Error())
	}
}

func readFile(fsys fs.FS, p string) ([]byte, error) {
	real, err := files.Chase(fsys, p)
	if err != nil {
		return nil, err
	}
	info, err := fs.Stat(fsys, real)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read unit file: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read unit file %q: it is no regular file", "/"+p)
	case info.Size() > MaxFile:
		return nil, fmt.Errorf("read unit file %q: it has %d bytes, at most %d are read", "/"+p, info.Size(), MaxFile)
	}
	data, err := fs.ReadFile(fsys, real)
	if err != nil {
		return nil, fmt.Errorf("read unit file: %w", err)
	}
	return data, nil
}

// builtIn tells if a unit needs no file: slices, scopes and devices.
func builtIn(u *unit.Unit) bool {
	switch u.Kind {
	case unit.KindSlice:
		switch p, err := name.UnescapePath(name.Base(u.Name)); {
		case u.Name == "-.slice":
			u.Description = "Root Slice"
		case u.Name == "system.slice":
			u.Description = "System Slice"
		case err == nil:
			u.Description = "Slice " + p
		}
		return true
	case unit.KindScope, unit.KindDevice:
		return true
	}
	return false
}

// Installed is what rootfs/install needs of a unit or template: its [Install]
// section from the fragment and the drop-ins, specifiers not yet replaced.
func (l *Loader) Installed(index *files.Index, unitName string) unit.Install {
	found, ok := index.Lookup(unitName)
	if !ok || found.Masked {
		return unit.Install{}
	}
	u := settings.New(unitName)
	x := specifier.Expander{Host: l.Host(), Name: unitName, Fragment: "/" + found.Path}
	l.read(u, found.Path, x)
	for _, p := range index.DropIns(append([]string{found.Name}, found.Aliases...)...) {
		l.read(u, p, x)
	}
	return u.Install
}
