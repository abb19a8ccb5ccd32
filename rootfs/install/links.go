package install

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit/files"
	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// Link plans links to unit files outside of the load path, given by their
// absolute paths.
func (i *Installer) Link(paths []string, o Options) (Plan, error) {
	var p Plan
	for _, file := range paths {
		if !path.IsAbs(file) {
			return Plan{}, fmt.Errorf("Link argument %s must be the path of a unit file; name its directory, for example ./%s.", file, file)
		}
		if err := name.Check(path.Base(file)); err != nil {
			return Plan{}, err
		}
		info, err := fs.Stat(i.Loader.FS, strings.TrimPrefix(path.Clean(file), "/"))
		if err != nil {
			return Plan{}, errNoFile(file)
		}
		if !info.Mode().IsRegular() {
			return Plan{}, fmt.Errorf("File %s cannot be linked: it is no regular file.", file)
		}
		if err := i.link(&p, path.Join("/", o.dir(), path.Base(file)), path.Clean(file), o.Force); err != nil {
			return Plan{}, err
		}
	}
	return p, nil
}

// AddDependency plans links that let the unit called target want or require
// others; suffix is ".wants" or ".requires".
func (i *Installer) AddDependency(target string, names []string, suffix string, o Options) (Plan, error) {
	var p Plan
	for _, n := range append([]string{target}, names...) {
		found, ok := i.Index.Lookup(n)
		switch {
		case name.Check(n) != nil:
			return Plan{}, name.Check(n)
		case !ok:
			return Plan{}, errNoFile(n)
		case found.Masked:
			return Plan{}, fmt.Errorf("Unit file %s is masked.", n)
		case n == target:
			continue
		case name.IsTemplate(n) && !name.IsTemplate(target):
			return Plan{}, errNotTemplate(target, n)
		}
		if err := i.link(&p, path.Join("/", o.dir(), target+suffix, n), "/"+found.Path, o.Force); err != nil {
			return Plan{}, err
		}
	}
	return p, nil
}

// Revert plans the removal of what was set for units on this machine: their
// drop-ins, properties and masks, and their files where the vendor has one as well.
func (i *Installer) Revert(names []string, _ Options) (Plan, error) {
	var p Plan
	for _, n := range names {
		if err := name.Check(n); err != nil {
			return Plan{}, err
		}
		vendor := i.vendor(n)
		for _, dir := range []string{persistentDir + ".control", runtimeDir + ".control", persistentDir, runtimeDir} {
			drop := path.Join(dir, n+".d")
			list, _ := fs.ReadDir(i.Loader.FS, drop)
			for _, e := range list {
				p.Changes = append(p.Changes, Change{Path: "/" + path.Join(drop, e.Name())})
			}
			if _, err := fs.Stat(i.Loader.FS, drop); err == nil {
				p.Changes = append(p.Changes, Change{Path: "/" + drop})
			}
			at := path.Join(dir, n)
			to, _ := fs.ReadLink(i.Loader.FS, at)
			if _, err := fs.Lstat(i.Loader.FS, at); err == nil && (vendor || to == "/dev/null") {
				p.Changes = append(p.Changes, Change{Path: "/" + at})
			}
		}
	}
	return p, nil
}

// vendor reports whether the image has a file of the unit.
func (i *Installer) vendor(n string) bool {
	for _, dir := range files.LoadPath {
		if strings.HasPrefix(dir, "etc/") || strings.HasPrefix(dir, "run/") {
			continue
		}
		if _, err := fs.Stat(i.Loader.FS, path.Join(dir, n)); err == nil {
			return true
		}
	}
	return false
}
