// Package files finds the files of units: fragments over the load path,
// aliases by link, masks, drop-ins, and the .wants and .requires links;
// systemd.unit(5), "Unit File Load Path". It is used by the loader and by
// rootfs/install. It reads through an fs.FS, so that it works on a machine, on
// an image's tree and on a test's map alike.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// LoadPath is where units are looked for, the first directory winning; paths
// are relative to the root of the file system.
var LoadPath = []string{
	"etc/systemd/system.control",
	"run/systemd/system.control",
	"run/systemd/transient",
	"run/systemd/generator.early",
	"etc/systemd/system",
	"run/systemd/system",
	"run/systemd/generator",
	"usr/local/lib/systemd/system",
	"usr/lib/systemd/system",
	"run/systemd/generator.late",
}

// Index is what a scan of the load path found. It is immutable; when files
// change a new one is made.
type Index struct {
	FS       fs.FS
	Warnings []string // links that are ignored, and why

	dirs    []string
	entries map[string]entry
	aliases map[string][]string // canonical name -> names that lead to it
	subdirs map[string][]string // "a.service.d", "a.service.wants" -> paths, first wins
}

// entry is the first file of a name in the load path: exactly one field is
// set.
type entry struct {
	path   string // of the file, links followed
	alias  string // another name
	masked string // path of the file or link that masks
}

// Found is the answer to a Lookup.
type Found struct {
	Name    string   // canonical
	Path    string   // of the fragment, relative to the root; of the mask if Masked
	Masked  bool     //
	Aliases []string // other names, sorted
}

// Scan reads the directories of a load path. Directories that do not exist
// are left out.
func Scan(fsys fs.FS, loadPath []string) (*Index, error) {
	x := &Index{FS: fsys, entries: map[string]entry{}, aliases: map[string][]string{}, subdirs: map[string][]string{}}
	for _, dir := range loadPath {
		real, err := Chase(fsys, dir)
		if err == nil && !slices.Contains(x.dirs, real) {
			x.dirs = append(x.dirs, real)
		}
	}
	for _, dir := range x.dirs {
		list, err := fs.ReadDir(fsys, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("scan units in %q: %w", "/"+dir, err)
		}
		for _, e := range list {
			x.add(dir, e)
		}
	}
	for n := range x.entries {
		if to, _, ok := x.follow(n); ok && to != n {
			x.aliases[to] = append(x.aliases[to], n)
		}
	}
	return x, nil
}

func (x *Index) add(dir string, e fs.DirEntry) {
	p := path.Join(dir, e.Name())
	switch ext := path.Ext(e.Name()); {
	case ext == ".d" || ext == ".wants" || ext == ".requires":
		x.subdirs[e.Name()] = append(x.subdirs[e.Name()], p)
		return
	case !name.Valid(e.Name()):
		return
	}
	if _, seen := x.entries[e.Name()]; seen {
		return
	}
	switch {
	case e.Type()&fs.ModeSymlink != 0:
		x.addLink(dir, e.Name())
	case e.Type().IsRegular():
		x.addFile(e.Name(), p, p)
	}
}

// addFile enters a file; an empty one is a mask.
func (x *Index) addFile(unit, at, target string) {
	if info, err := fs.Stat(x.FS, target); err == nil && (info.Mode().IsRegular() && info.Size() == 0 || info.Mode()&fs.ModeCharDevice != 0) {
		x.entries[unit] = entry{masked: at}
		return
	}
	x.entries[unit] = entry{path: target}
}

// addLink enters a link: to /dev/null it is a mask, to a file in the load path
// another name of that unit, to anything else the unit itself.
func (x *Index) addLink(dir, unit string) {
	p := path.Join(dir, unit)
	target, err := readLink(x.FS, p)
	if err != nil {
		x.warn("%s: cannot read the link: %v", "/"+p, err)
		return
	}
	if target == "dev/null" {
		x.entries[unit] = entry{masked: p}
		return
	}
	base := path.Base(target)
	if parent, err := Chase(x.FS, path.Dir(target)); err == nil && slices.Contains(x.dirs, parent) {
		switch {
		case base == unit:
			x.warn("%s: links to a file of its own name in the load path, ignoring.", "/"+p)
		case base == name.Template(unit):
			// An instance linked to its template is just that.
		case !aliasAllowed(unit, base):
			x.warn("%s: symlink target name type %q does not match source, rejecting.", unit, base)
		default:
			x.entries[unit] = entry{alias: base}
		}
		return
	}
	real, err := Chase(x.FS, target)
	if err != nil {
		x.warn("%s: the link leads nowhere: %v", "/"+p, err)
		return
	}
	x.addFile(unit, p, real)
}

// aliasAllowed tells if from may be another name of the unit to: the type and
// the instance must be the same.
func aliasAllowed(from, to string) bool {
	if !name.Valid(to) || name.Kind(from) != name.Kind(to) {
		return false
	}
	i, isInstance := name.Instance(from)
	if isInstance && name.IsTemplate(to) {
		return true
	}
	j, toInstance := name.Instance(to)
	return isInstance == toInstance && i == j && name.IsTemplate(from) == name.IsTemplate(to)
}

func (x *Index) warn(format string, args ...any) {
	x.Warnings = append(x.Warnings, fmt.Sprintf(format, args...))
}

// follow goes from a name over aliases and templates to its entry.
func (x *Index) follow(unit string) (string, entry, bool) {
	for range 40 {
		e, ok := x.entries[unit]
		if !ok {
			e, ok = x.entries[name.Template(unit)]
		}
		switch {
		case !ok:
			return unit, entry{}, false
		case e.alias == "":
			return unit, e, true
		}
		if i, isInstance := name.Instance(unit); isInstance && name.IsTemplate(e.alias) {
			unit = name.WithInstance(e.alias, i)
		} else {
			unit = e.alias
		}
	}
	return unit, entry{}, false
}

// Lookup finds the fragment for a name; false if there is none.
func (x *Index) Lookup(unit string) (Found, bool) {
	to, e, ok := x.follow(unit)
	if !ok {
		return Found{Name: to}, false
	}
	f := Found{Name: to, Path: e.path}
	if e.masked != "" {
		f.Path, f.Masked = e.masked, true
	}
	f.Aliases = append(f.Aliases, x.aliases[to]...)
	if i, isInstance := name.Instance(to); isInstance {
		for _, t := range x.aliases[name.Template(to)] {
			f.Aliases = append(f.Aliases, name.WithInstance(t, i))
		}
	}
	if unit != to {
		f.Aliases = append(f.Aliases, unit)
	}
	sort.Strings(f.Aliases)
	f.Aliases = slices.Compact(f.Aliases)
	return f, true
}

// Equal tells if two scans found the same names leading to the same files.
func (x *Index) Equal(y *Index) bool {
	return maps.Equal(x.entries, y.entries) && maps.EqualFunc(x.subdirs, y.subdirs, slices.Equal)
}

// Names returns every name that has a file or link in the load path, sorted.
func (x *Index) Names() []string {
	var list []string
	for n := range x.entries {
		list = append(list, n)
	}
	sort.Strings(list)
	return list
}

// Alias returns the name that a name is a link to, "" if it is none.
func (x *Index) Alias(unit string) string { return x.entries[unit].alias }

// DropIns returns the drop-in files for a unit of these names, in the order in
// which they are read: sorted by their own name. Of files of the same name the
// one in the earlier directory of the load path wins, then the one with the
// more specific name; those for the whole type come last. A link to /dev/null
// takes a drop-in away.
func (x *Index) DropIns(names ...string) []string {
	dirs := x.dirsOf(names, ".d")
	if len(names) > 0 {
		dirs = append(dirs, x.subdirs[name.Kind(names[0])+".d"]...)
	}
	return x.list(dirs, func(base string) bool { return strings.HasSuffix(base, ".conf") && base[0] != '.' })
}

// Links returns the unit names in the .wants or .requires directories of a
// unit of these names; suffix is ".wants" or ".requires".
func (x *Index) Links(suffix string, names ...string) []string {
	var list []string
	for _, p := range x.list(x.dirsOf(names, suffix), name.Valid) {
		list = append(list, path.Base(p))
	}
	return list
}

// list returns the first file of each name in dirs that is not masked, sorted
// by name.
func (x *Index) list(dirs []string, take func(base string) bool) []string {
	seen := map[string]string{}
	for _, dir := range dirs {
		entries, err := fs.ReadDir(x.FS, dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if _, ok := seen[e.Name()]; ok || !take(e.Name()) || e.IsDir() {
				continue
			}
			p := path.Join(dir, e.Name())
			if target, err := readLink(x.FS, p); err == nil && target == "dev/null" {
				p = ""
			}
			seen[e.Name()] = p
		}
	}
	var list []string
	for _, p := range seen {
		if p != "" {
			list = append(list, p)
		}
	}
	sort.Slice(list, func(i, j int) bool { return path.Base(list[i]) < path.Base(list[j]) })
	return list
}

// dirsOf returns the directories that belong to the names: for each directory
// of the load path those of the name itself, its template and its prefixes.
func (x *Index) dirsOf(names []string, suffix string) []string {
	var levels []string
	for _, n := range names {
		levels = append(levels, Levels(n)...)
	}
	var dirs []string
	for _, root := range x.dirs {
		for _, level := range levels {
			p := path.Join(root, level+suffix)
			if slices.Contains(x.subdirs[level+suffix], p) && !slices.Contains(dirs, p) {
				dirs = append(dirs, p)
			}
		}
	}
	return dirs
}

// Levels returns the names under which drop-ins of a unit are looked for, the
// most specific first: a-b@i, a-b@, a-@i, a-@, a- for "a-b@i.service".
func Levels(unit string) []string {
	kind := "." + name.Kind(unit)
	prefix := name.Prefix(unit)
	instance, isInstance := name.Instance(unit)
	tails := []string{""}
	if isInstance {
		tails = []string{"@" + instance, "@"}
	} else if name.IsTemplate(unit) {
		tails = []string{"@"}
	}
	list := []string{}
	for i := len(prefix); i > 0; {
		for _, tail := range tails {
			list = append(list, prefix[:i]+tail+kind)
		}
		if i < len(prefix) && tails[0] != "" {
			list = append(list, prefix[:i]+kind)
		}
		i = strings.LastIndexByte(prefix[:i-1], '-') + 1
	}
	return list
}
