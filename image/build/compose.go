package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/image/debian"
	"github.com/coracle-os/coracle/image/recipe"
	"github.com/coracle-os/coracle/image/sharedlib"
	"github.com/coracle-os/coracle/image/tree"
)

// composer puts the root tree together.
type composer struct {
	*builder
	packages *packageSet
	used     []debian.Package // that files were taken from, by name
	bios     string           // directory with GRUB, "" for none
}

// merged are the links of a root in which all programs and libraries are in /usr.
var merged = []tree.Entry{
	tree.Symlink("bin", "usr/bin"),
	tree.Symlink("sbin", "usr/sbin"),
	tree.Symlink("lib", "usr/lib"),
	tree.Symlink("lib64", "usr/lib64"),
}

// skeleton is the part of the root that is the same for every recipe: mount
// points, and links for what lives in the state partition.
func skeleton(osRelease string) (tree.Tree, error) {
	entries := append([]tree.Entry{
		tree.Symlink("home", "var/home"),
		tree.Symlink("root", "var/roothome"),
		tree.Symlink("opt", "var/opt"),
		tree.Symlink("srv", "var/srv"),
		tree.Symlink("usr/local", "../var/usrlocal"),
		tree.Directory("tmp", 0o777|fs.ModeSticky),
		tree.Symlink("etc/os-release", "../usr/lib/os-release"),
		tree.Symlink("etc/mtab", "../proc/self/mounts"),
		tree.File("usr/lib/os-release", 0o644, []byte(osRelease)),
	}, merged...)
	for _, dir := range []string{"boot", "dev", "media", "mnt", "proc", "run", "sys", "usr/bin", "usr/sbin",
		"usr/lib", "usr/lib64", "usr/share/oem", "var",
		// Where owners put files of their own.
		"etc/modules-load.d", "etc/sysctl.d", "etc/systemd/network", "etc/systemd/system", "etc/tmpfiles.d"} {
		entries = append(entries, tree.Directory(dir, 0o755))
	}
	return tree.New(entries...)
}

// compose returns the root tree. Layers from below: skeleton, Debian's files,
// modules, programs, the repository's base, the recipe's files and units; last
// the names of the commands that nothing else has.
func (c *composer) compose(ctx context.Context, kernel *kernelResult, programs []program) (tree.Tree, error) {
	base, err := skeleton(c.osRelease())
	if err != nil {
		return tree.Tree{}, err
	}
	layers := []tree.Tree{base}
	add := func(layer tree.Tree, err error) error {
		layers = append(layers, layer)
		return err
	}
	if err := add(c.fromPackages(ctx)); err != nil {
		return tree.Tree{}, err
	}
	if err := add(tree.FromDir(kernel.modules)); err != nil {
		return tree.Tree{}, err
	}
	if err := add(programTree(programs)); err != nil {
		return tree.Tree{}, err
	}
	if err := add(biosTree(c.bios)); err != nil {
		return tree.Tree{}, err
	}
	if err := add(c.loaderTree(ctx, c.packages)); err != nil {
		return tree.Tree{}, err
	}
	for _, dir := range c.Recipe.Base {
		if err := add(tree.FromDir(filepath.Join(c.Source, dir))); err != nil {
			return tree.Tree{}, err
		}
	}
	root, err := tree.Merge(layers...)
	if err != nil {
		return tree.Tree{}, err
	}
	for _, change := range []func(tree.Tree) (tree.Tree, error){c.addUnits, c.addFiles, c.addNames, c.addCommands} {
		if root, err = change(root); err != nil {
			return tree.Tree{}, err
		}
	}
	missing, err := missingPrograms(root)
	if err != nil {
		return tree.Tree{}, err
	}
	for _, sentence := range missing {
		c.store.Note("root", "%s", sentence)
	}
	return root, checkLinks(root)
}

func programTree(programs []program) (tree.Tree, error) {
	var entries []tree.Entry
	for _, p := range programs {
		if p.initrd {
			continue
		}
		entry, err := tree.HostFile(p.path, 0o755, p.file)
		if err != nil {
			return tree.Tree{}, err
		}
		entries = append(entries, entry)
	}
	return tree.New(entries...)
}

// fromPackages returns the files that the recipe takes from Debian packages and
// the shared libraries that they need.
func (c *composer) fromPackages(ctx context.Context) (tree.Tree, error) {
	links, err := tree.New(merged...)
	if err != nil {
		return tree.Tree{}, err
	}
	owners := map[string]debian.Package{} // of a path
	byName := map[string]tree.Tree{}      // files of a package, by id
	layers := []tree.Tree{links}
	for _, p := range c.packages.lock.Root {
		files, err := c.packages.read(ctx, p)
		if err != nil {
			return tree.Tree{}, err
		}
		// A package may still have files in /lib; the links move them.
		files, err = tree.Merge(links, files.Filter(isUseful))
		if err != nil {
			return tree.Tree{}, fmt.Errorf("package %s: %w", p.Name, err)
		}
		for entry := range files.All() {
			if !entry.Mode.IsDir() {
				owners[entry.Path] = p
			}
		}
		byName[id(p)] = files
		layers = append(layers, files)
	}
	available, err := tree.Merge(layers...)
	if err != nil {
		return tree.Tree{}, err
	}
	chosen, err := c.choose(byName)
	if err != nil {
		return tree.Tree{}, err
	}
	libraries, err := sharedlib.Closure(chosen, available)
	if err != nil {
		return tree.Tree{}, err
	}
	result, err := tree.Merge(chosen, libraries)
	if err != nil {
		return tree.Tree{}, err
	}
	for entry := range result.All() {
		if p, ok := owners[entry.Path]; ok {
			c.use(p)
		}
	}
	slices.SortFunc(c.used, func(a, b debian.Package) int { return strings.Compare(id(a), id(b)) })
	return result, nil
}

func (c *composer) use(p debian.Package) {
	if !slices.ContainsFunc(c.used, func(q debian.Package) bool { return id(p) == id(q) }) {
		c.used = append(c.used, p)
	}
}

// isUseful leaves out what an image never needs, to have less to carry around.
func isUseful(entry tree.Entry) bool {
	for _, prefix := range []string{"usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/info/", "usr/include/"} {
		if strings.HasPrefix(entry.Path, prefix) {
			return false
		}
	}
	return true
}

// choose returns the files that the recipe names.
func (c *composer) choose(byName map[string]tree.Tree) (tree.Tree, error) {
	layers := []tree.Tree{}
	var errs []error
	for _, wanted := range c.Recipe.Packages {
		suite := c.suite(wanted.Suite).Name
		files := byName[suite+"/"+wanted.Name]
		for _, pattern := range wanted.Files {
			found := false
			for entry := range files.All() {
				found = found || !entry.Mode.IsDir() && matchOne(pattern, entry.Path)
			}
			if !found {
				errs = append(errs, fmt.Errorf("package %s has no file %q; correct the recipe", wanted.Name, pattern))
			}
		}
		files = files.Filter(func(entry tree.Entry) bool { return !entry.Mode.IsDir() && match(wanted, entry.Path) })
		if wanted.Bundle != "" {
			for _, p := range c.packages.lock.Root {
				if id(p) == suite+"/"+wanted.Name {
					c.use(p)
				}
			}
			var err error
			if files, err = bundle(files, wanted.Bundle); err != nil {
				errs = append(errs, err)
			}
		}
		layers = append(layers, files)
	}
	if len(errs) > 0 {
		return tree.Tree{}, errors.Join(errs...)
	}
	return tree.Merge(layers...)
}

func matchOne(pattern, name string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/**"); ok {
		return strings.HasPrefix(name, dir+"/")
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// bundle joins the files into one.
func bundle(files tree.Tree, name string) (tree.Tree, error) {
	var all bytes.Buffer
	for entry := range files.All() {
		if !entry.Mode.IsRegular() {
			continue
		}
		content, err := entry.ReadFile()
		if err != nil {
			return tree.Tree{}, err
		}
		all.Write(bytes.TrimRight(content, "\n"))
		all.WriteByte('\n')
	}
	return tree.New(tree.File(name, 0o644, all.Bytes()))
}

// addNames adds the names of the multi-call programs.
func (c *composer) addNames(root tree.Tree) (tree.Tree, error) {
	var entries []tree.Entry
	var errs []error
	taken := map[string]string{} // program by name
	for _, program := range slices.Sorted(maps.Keys(c.Recipe.Programs)) {
		if !root.Has(program) {
			errs = append(errs, fmt.Errorf("programs: nothing is installed at %q", program))
		}
		for _, link := range c.Recipe.Programs[program] {
			if root.Has(link) {
				errs = append(errs, fmt.Errorf("programs: %q is to be a name of %s, but there is a file", link, program))
				continue
			}
			if other, ok := taken[link]; ok {
				errs = append(errs, fmt.Errorf("programs: %q is to be a name of both %s and %s", link, other, program))
				continue
			}
			taken[link] = program
			entries = append(entries, relativeLink(link, program))
		}
	}
	if len(errs) > 0 {
		return tree.Tree{}, errors.Join(errs...)
	}
	return overlay(root, entries)
}

// addCommands adds the names of the small commands, except those that a Debian
// package or a program of ours has.
func (c *composer) addCommands(root tree.Tree) (tree.Tree, error) {
	var entries []tree.Entry
	for _, name := range c.commandNames() {
		if root.Has("usr/bin/"+name) || root.Has("usr/sbin/"+name) {
			continue
		}
		entries = append(entries, relativeLink(path.Join(c.Recipe.Commands.Links, name), c.Recipe.Commands.Path))
	}
	return overlay(root, entries)
}

func overlay(root tree.Tree, entries []tree.Entry) (tree.Tree, error) {
	layer, err := tree.New(entries...)
	if err != nil {
		return tree.Tree{}, err
	}
	return tree.Merge(root, layer)
}

// relativeLink returns a link at name that leads to target, both in the root.
func relativeLink(name, target string) tree.Entry {
	relative, err := filepath.Rel(path.Join("/", path.Dir(name)), path.Join("/", target))
	if err != nil { // cannot be: both are absolute
		relative = "/" + target
	}
	return tree.Symlink(name, filepath.ToSlash(relative))
}

// checkLinks reports links that lead nowhere. What is in /run, /var and the
// kernel's own file systems is only there on a running machine.
func checkLinks(root tree.Tree) error {
	var errs []error
	for entry := range root.All() {
		if entry.Mode&fs.ModeSymlink == 0 {
			continue
		}
		target, err := root.Resolve(entry.Path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", entry.Path, err))
			continue
		}
		first, _, _ := strings.Cut(target, "/")
		if !slices.Contains([]string{"dev", "proc", "run", "sys", "tmp", "var"}, first) && !root.Has(target) {
			errs = append(errs, fmt.Errorf("%s is a link to %s, which the root does not have", entry.Path, entry.Target))
		}
	}
	return errors.Join(errs...)
}

// content returns the text of a file or unit of the recipe.
func (c *composer) content(text, source string) (tree.Entry, error) {
	if source == "" {
		return tree.File("x", 0o644, []byte(text)), nil
	}
	return tree.HostFile("x", 0o644, filepath.Join(c.RecipeDir, source))
}

// addFiles applies the recipe's files.
func (c *composer) addFiles(root tree.Tree) (tree.Tree, error) {
	for _, f := range c.Recipe.Files {
		var err error
		if root, err = c.addFile(root, f); err != nil {
			return tree.Tree{}, fmt.Errorf("files: %s: %w", f.Path, err)
		}
	}
	return root, nil
}

func (c *composer) addFile(root tree.Tree, f recipe.File) (tree.Tree, error) {
	owned := func(entry tree.Entry) tree.Entry {
		entry.Path, entry.UID, entry.GID = f.Path, uint32(f.UID), uint32(f.GID)
		if f.Mode != 0 {
			entry.Mode = entry.Mode.Type() | f.Mode.FileMode()
		}
		return entry
	}
	switch {
	case f.Remove:
		if !root.Has(f.Path) {
			return tree.Tree{}, errors.New("there is no such file to remove")
		}
		return root.Filter(func(entry tree.Entry) bool {
			return entry.Path != f.Path && !strings.HasPrefix(entry.Path, f.Path+"/")
		}), nil
	case f.Directory:
		return overlay(root, []tree.Entry{owned(tree.Directory(f.Path, 0o755))})
	case f.Link != "":
		return overlay(root, []tree.Entry{tree.Symlink(f.Path, f.Link)})
	case f.Source != "" || f.Content != "":
		entry, err := c.content(f.Content, f.Source)
		if err != nil {
			return tree.Tree{}, err
		}
		return overlay(root, []tree.Entry{owned(entry)})
	case root.Has(f.Path):
		return root.Edit(f.Path, func(entry *tree.Entry) { *entry = owned(*entry) })
	}
	return tree.Tree{}, errors.New("there is no such file; give it content, source, link or directory")
}
