// Package kmod selects kernel modules for an image.
//
// It takes the tree of a kernel package, the modules that a recipe wants by
// name, and gives back a tree with those modules, all that they depend on and
// the index files of depmod(8) for just them. Modules leave uncompressed: in the
// initrd one zstd stream over all of them is smaller and faster to unpack than
// many xz files, and in the root the kernel loads a module from the page cache
// instead of running xz over it while the machine boots. Modules that few
// machines ever load can stay as the kernel package has them (Packed).
//
// Dependencies are read from the modules' own .modinfo section (depends= and
// softdep=), as depmod does; the index files are written by Debian's depmod.
// Firmware is not handled: Debian's free archive has none, and drivers that
// cannot do without are not selected.
package kmod

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/coracle-os/coracle/image/tree"
)

// Root is where the modules of all kernels are in a tree.
const Root = "usr/lib/modules"

// Kernel is the kernel package's tree, read for selecting.
type Kernel struct {
	Release string // as uname -r says
	files   map[string]tree.Entry
	builtin map[string]bool
	meta    []tree.Entry // modules.builtin, modules.order and the like
}

// Open reads the module directory of the one kernel in files.
func Open(files tree.Tree) (*Kernel, error) {
	k := &Kernel{files: map[string]tree.Entry{}, builtin: map[string]bool{}}
	for entry := range files.All() {
		rest, ok := strings.CutPrefix(entry.Path, Root+"/")
		if !ok {
			continue
		}
		release, rest, _ := strings.Cut(rest, "/")
		if k.Release != "" && k.Release != release {
			return nil, fmt.Errorf("the package has the modules of two kernels, %s and %s", k.Release, release)
		}
		k.Release = release
		switch {
		case !entry.Mode.IsRegular():
		case strings.HasPrefix(rest, "modules."):
			k.meta = append(k.meta, entry)
		case strings.Contains(path.Base(rest), ".ko"):
			k.files[Name(rest)] = entry
		}
	}
	if k.Release == "" {
		return nil, fmt.Errorf("the package has no directory below %s", Root)
	}
	for _, entry := range k.meta {
		if path.Base(entry.Path) != "modules.builtin" {
			continue
		}
		text, err := entry.ReadFile()
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			k.builtin[Name(strings.TrimSpace(line))] = true
		}
	}
	return k, nil
}

// Name returns the module's name for a path: without directory and suffixes,
// with _ for -.
func Name(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// Packed returns the modules of all, as Closure returned it for all patterns,
// that are not in plain, as it did for fewer: with the content and the name that
// they have in the kernel package. The others leave as they are.
func (k *Kernel) Packed(all, plain []tree.Entry) []tree.Entry {
	keep := map[string]bool{}
	for _, entry := range plain {
		keep[entry.Path] = true
	}
	result := slices.Clone(all)
	for i, entry := range result {
		if !keep[entry.Path] {
			result[i] = k.files[Name(entry.Path)]
		}
	}
	return result
}

// Closure returns the modules that match the patterns (path.Match on names) and
// everything they depend on, sorted by name, with uncompressed content at their
// final paths. A pattern that matches neither a module nor a built-in one is an
// error; a leading "?" makes it optional, for modules that only some kernels
// have.
func (k *Kernel) Closure(patterns []string) ([]tree.Entry, error) {
	var queue []string
	var errs []error
	for _, pattern := range patterns {
		pattern, optional := strings.CutPrefix(pattern, "?")
		names, err := k.match(pattern)
		if err != nil {
			errs = append(errs, err)
		} else if len(names) == 0 && !optional && !k.isBuiltin(pattern) {
			errs = append(errs, fmt.Errorf("kernel %s has no module %q; correct the recipe, or write \"?%s\" if other kernels have it",
				k.Release, pattern, pattern))
		}
		queue = append(queue, names...)
	}
	selected := map[string]tree.Entry{}
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		if _, done := selected[name]; done || k.builtin[name] {
			continue
		}
		entry, ok := k.files[name]
		if !ok {
			errs = append(errs, fmt.Errorf("kernel %s has no module %q, which another one depends on", k.Release, name))
			continue
		}
		module, err := plain(entry)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		depends, soft, err := dependencies(module)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		selected[name] = module
		queue = append(queue, depends...)
		for _, name := range soft { // may name an alias; those that are modules help
			if _, ok := k.files[name]; ok {
				queue = append(queue, name)
			}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	var result []tree.Entry
	for _, name := range slices.Sorted(maps.Keys(selected)) {
		result = append(result, selected[name])
	}
	return result, nil
}

func (k *Kernel) match(pattern string) ([]string, error) {
	pattern = strings.ReplaceAll(pattern, "-", "_")
	var names []string
	for _, name := range slices.Sorted(maps.Keys(k.files)) {
		ok, err := path.Match(pattern, name)
		if err != nil {
			return nil, fmt.Errorf("module pattern %q: %w", pattern, err)
		}
		if ok {
			names = append(names, name)
		}
	}
	return names, nil
}

func (k *Kernel) isBuiltin(pattern string) bool {
	for name := range k.builtin {
		if ok, _ := path.Match(strings.ReplaceAll(pattern, "-", "_"), name); ok {
			return true
		}
	}
	return false
}

// plain returns the entry uncompressed.
func plain(entry tree.Entry) (tree.Entry, error) {
	content, err := entry.ReadFile()
	if err != nil {
		return tree.Entry{}, err
	}
	var reader io.Reader = bytes.NewReader(content)
	switch path.Ext(entry.Path) {
	case ".ko":
	case ".xz":
		reader, err = xz.NewReader(reader)
	case ".zst":
		reader, err = zstd.NewReader(reader)
	default:
		err = errors.New("unknown compression")
	}
	if err == nil {
		content, err = io.ReadAll(reader)
	}
	if err != nil {
		return tree.Entry{}, fmt.Errorf("unpack %s: %w", entry.Path, err)
	}
	name, _, _ := strings.Cut(entry.Path, ".ko")
	// The release has dots, the directory names below it have none.
	return tree.File(name+".ko", 0o644, content), nil
}

// dependencies reads the .modinfo section: NUL-terminated key=value strings.
func dependencies(module tree.Entry) (depends, soft []string, err error) {
	content, err := module.ReadFile()
	if err != nil {
		return nil, nil, err
	}
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, nil, fmt.Errorf("read module %s: %w", module.Path, err)
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, nil, fmt.Errorf("read module %s: no .modinfo section", module.Path)
	}
	info, err := section.Data()
	if err != nil {
		return nil, nil, fmt.Errorf("read module %s: %w", module.Path, err)
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "depends":
			for name := range strings.SplitSeq(value, ",") {
				if name != "" {
					depends = append(depends, Name(name))
				}
			}
		case "softdep":
			for _, word := range strings.Fields(value) {
				if word != "pre:" && word != "post:" {
					soft = append(soft, Name(word))
				}
			}
		}
	}
	return depends, soft, nil
}

// Index returns the modules with the index files (modules.dep, modules.alias and
// so on) that depmod makes for them. dir is an empty directory to work in.
func (k *Kernel) Index(ctx context.Context, modules []tree.Entry, dir string) (tree.Tree, error) {
	all := append(slices.Clone(modules), k.meta...)
	for _, entry := range all {
		content, err := entry.ReadFile()
		if err != nil {
			return tree.Tree{}, err
		}
		file := filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(entry.Path, "usr/")))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return tree.Tree{}, err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return tree.Tree{}, err
		}
	}
	depmod, err := find("depmod", "/usr/sbin/depmod", "/sbin/depmod")
	if err != nil {
		return tree.Tree{}, err
	}
	empty := filepath.Join(dir, "depmod.d")
	if err := os.Mkdir(empty, 0o755); err != nil {
		return tree.Tree{}, err
	}
	out, err := exec.CommandContext(ctx, depmod, "-b", dir, "-C", empty, k.Release).CombinedOutput()
	if err != nil {
		return tree.Tree{}, fmt.Errorf("depmod: %w: %s", err, bytes.TrimSpace(out))
	}
	entries := slices.Clone(modules)
	indexes, err := filepath.Glob(filepath.Join(dir, "lib/modules", k.Release, "modules.*"))
	if err != nil {
		return tree.Tree{}, err
	}
	for _, index := range indexes {
		// What only depmod reads, or is there in binary form too.
		if name := filepath.Base(index); name == "modules.symbols" || name == "modules.order" {
			continue
		}
		content, err := os.ReadFile(index)
		if err != nil {
			return tree.Tree{}, err
		}
		entries = append(entries, tree.File(path.Join(Root, k.Release, filepath.Base(index)), 0o644, content))
	}
	return tree.New(entries...)
}

// find looks for a program that may not be on an ordinary user's path.
func find(name string, places ...string) (string, error) {
	if file, err := exec.LookPath(name); err == nil {
		return file, nil
	}
	for _, place := range places {
		if _, err := os.Stat(place); err == nil {
			return place, nil
		}
	}
	return "", fmt.Errorf("find %s: not installed; install the Debian package kmod (make setup does)", name)
}
