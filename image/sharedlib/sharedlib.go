// Package sharedlib finds the shared libraries that programs of a tree need.
//
// It is for the builder, which takes a few programs out of Debian packages and
// not the packages whole. It follows ld.so(8): the program interpreter and the
// DT_NEEDED entries, looked up in DT_RUNPATH or DT_RPATH and the system's
// directories. Libraries that a program opens by name while it runs (PAM and NSS
// modules) cannot be seen in the file: the recipe lists those.
package sharedlib

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/image/tree"
)

// Dirs are the directories in which ld.so of Debian for x86-64 looks.
var Dirs = []string{
	"usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib",
	"lib/x86_64-linux-gnu", "lib64", "lib",
}

var magic = []byte(elf.ELFMAG)

// Closure returns the entries of available that the files of wanted need, the
// symbolic links that lead to them included, without those of wanted itself.
// Paths are resolved by the links in available, so both trees must be of the
// same layout. All libraries that are missing are reported at once.
func Closure(wanted, available tree.Tree) (tree.Tree, error) {
	c := &closure{available: available, entries: map[string]tree.Entry{}}
	for entry := range wanted.All() {
		if entry.Mode.IsRegular() {
			c.visit(entry)
		}
	}
	if len(c.errs) > 0 {
		return tree.Tree{}, errors.Join(c.errs...)
	}
	var result []tree.Entry
	for name, entry := range c.entries {
		if _, ok := wanted.Lookup(name); !ok {
			result = append(result, entry)
		}
	}
	slices.SortFunc(result, func(a, b tree.Entry) int { return tree.ComparePaths(a.Path, b.Path) })
	return tree.New(result...)
}

type closure struct {
	available tree.Tree
	entries   map[string]tree.Entry
	errs      []error
}

// visit adds what an ELF file needs; other files need nothing.
func (c *closure) visit(entry tree.Entry) {
	needs, err := Needed(entry)
	if err != nil {
		c.errs = append(c.errs, err)
		return
	}
	for _, need := range needs {
		if !c.add(need) {
			c.errs = append(c.errs, fmt.Errorf("%s needs the library %s, which no package of the recipe has", entry.Path, need.Name))
		}
	}
}

func (c *closure) add(need Need) bool {
	if strings.HasPrefix(need.Name, "/") {
		return c.addPath(strings.TrimPrefix(need.Name, "/"))
	}
	for _, dir := range append(slices.Clone(need.Dirs), Dirs...) {
		if c.addPath(path.Join(dir, need.Name)) {
			return true
		}
	}
	return false
}

// addPath adds the file that name leads to and every link on the way.
func (c *closure) addPath(name string) bool {
	for range 40 {
		dir, err := c.available.Resolve(path.Dir(name))
		if err != nil {
			return false
		}
		name = path.Join(dir, path.Base(name))
		entry, ok := c.available.Lookup(name)
		if !ok {
			return false
		}
		_, seen := c.entries[name]
		c.entries[name] = entry
		switch {
		case entry.Mode.IsRegular():
			if !seen {
				c.visit(entry)
			}
			return true
		case entry.Mode&fs.ModeSymlink == 0:
			return false
		case strings.HasPrefix(entry.Target, "/"):
			name = strings.TrimPrefix(path.Clean(entry.Target), "/")
		default:
			name = path.Join(dir, entry.Target)
		}
	}
	return false
}

// A Need is one library that an ELF file names.
type Need struct {
	Name string   // file name, or the absolute path of an interpreter
	Dirs []string // where the file asks to look first
}

// Needed returns the libraries that an entry names; nothing if it is not ELF.
func Needed(entry tree.Entry) ([]Need, error) {
	content, err := head(entry)
	if err != nil || !bytes.Equal(content, magic) {
		return nil, err
	}
	content, err = entry.ReadFile()
	if err != nil {
		return nil, err
	}
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", entry.Path, err)
	}
	var result []Need
	for _, prog := range file.Progs {
		if prog.Type == elf.PT_INTERP {
			name := make([]byte, prog.Filesz)
			if _, err := prog.ReadAt(name, 0); err != nil {
				return nil, fmt.Errorf("read interpreter of %s: %w", entry.Path, err)
			}
			result = append(result, Need{Name: string(bytes.TrimRight(name, "\x00"))})
		}
	}
	if file.Section(".dynamic") == nil {
		return result, nil
	}
	names, err := file.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read libraries of %s: %w", entry.Path, err)
	}
	dirs, err := runPath(file, path.Dir(entry.Path))
	if err != nil {
		return nil, fmt.Errorf("read run path of %s: %w", entry.Path, err)
	}
	for _, name := range names {
		result = append(result, Need{Name: name, Dirs: dirs})
	}
	return result, nil
}

func head(entry tree.Entry) ([]byte, error) {
	if entry.Size < 64 {
		return nil, nil
	}
	r, err := entry.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content := make([]byte, len(magic))
	for read := 0; read < len(content); {
		n, err := r.Read(content[read:])
		if read += n; err != nil && read < len(content) {
			return nil, fmt.Errorf("read %s: %w", entry.Path, err)
		}
	}
	return content, nil
}

func runPath(file *elf.File, origin string) ([]string, error) {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, err := file.DynString(tag)
		if err != nil {
			return nil, err
		}
		for _, value := range values {
			for dir := range strings.SplitSeq(value, ":") {
				dir = strings.NewReplacer("$ORIGIN", "/"+origin, "${ORIGIN}", "/"+origin).Replace(dir)
				dirs = append(dirs, strings.TrimPrefix(path.Clean(dir), "/"))
			}
		}
	}
	return dirs, nil
}
