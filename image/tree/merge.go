package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxLinks is how many symbolic links one path may go through, as in Linux.
const maxLinks = 40

// ErrLinkLoop says that a path goes through too many symbolic links.
var ErrLinkLoop = errors.New("too many levels of symbolic links")

// A ConflictError says that a directory and something that is not one want the
// same path.
type ConflictError struct {
	Path string
	Have fs.FileMode // what is there
	Want fs.FileMode // what was to be put there
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("path %q: a %s cannot replace a %s; drop one of the two from its layer", e.Path, kind(e.Want), kind(e.Have))
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m.IsRegular():
		return "regular file"
	case m.Type() == fs.ModeSymlink:
		return "symbolic link"
	}
	return "special file"
}

// Merge lays the trees over each other, later ones on top.
//
// A later file replaces an earlier one; directories unite, the later one's
// mode and owner winning unless it was only implied by its content. Entries
// follow the symbolic links that are in the layers below: with bin -> usr/bin
// in the first tree, bin/sh of the second lands at usr/bin/sh, so packages
// that are not usr-merged fit in a usr-merged root. A directory against a
// non-directory is a *ConflictError; all conflicts are reported at once.
func Merge(trees ...Tree) (Tree, error) {
	m := merger{byPath: make(map[string]Entry)}
	var errs []error
	for _, t := range trees {
		for _, e := range t.entries {
			if err := m.add(e); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Tree{}, fmt.Errorf("merge trees: %w", err)
	}
	return fromMap(m.byPath), nil
}

type merger struct{ byPath map[string]Entry }

func (m merger) add(e Entry) error {
	if e.Path != "." {
		dir, err := m.resolve(path.Dir(e.Path))
		if err != nil {
			return err
		}
		e.Path = path.Join(dir, path.Base(e.Path))
	}
	have, ok := m.byPath[e.Path]
	if ok && have.Mode.Type() == fs.ModeSymlink && e.Mode.IsDir() {
		return m.addThroughLink(have, e)
	}
	if ok && have.Mode.IsDir() != e.Mode.IsDir() {
		return &ConflictError{Path: e.Path, Have: have.Mode, Want: e.Mode}
	}
	if ok && e.Mode.IsDir() && e.implicit {
		return nil
	}
	if ok && have.Mode.Type() == fs.ModeSymlink && e.Mode.Type() != fs.ModeSymlink && m.leadsToDirectory(have.Path) {
		return &ConflictError{Path: e.Path, Have: fs.ModeDir, Want: e.Mode}
	}
	m.byPath[e.Path] = e
	return addParents(m.byPath, e.Path)
}

// addThroughLink adds the directory dir that a link stands in the place of.
// The link's target is where the directory's content goes; the directory's own
// attributes count only when the target is new.
func (m merger) addThroughLink(link, dir Entry) error {
	target, err := m.resolve(link.Path)
	if err != nil {
		return err
	}
	if have, ok := m.byPath[target]; ok {
		if !have.Mode.IsDir() {
			return &ConflictError{Path: target, Have: have.Mode, Want: dir.Mode}
		}
		return nil
	}
	dir.Path = target
	m.byPath[target] = dir
	return addParents(m.byPath, target)
}

func (m merger) leadsToDirectory(name string) bool {
	target, err := m.resolve(name)
	return err == nil && m.byPath[target].Mode.IsDir()
}

func (m merger) resolve(name string) (string, error) {
	return resolve(name, func(p string) (Entry, bool) { e, ok := m.byPath[p]; return e, ok })
}

// Resolve follows all symbolic links in name as if the tree were the root file
// system (a target that starts with / starts at the tree's root, and .. stops
// there). What does not exist resolves to itself, so the result need not be in
// the tree. The error is ErrLinkLoop.
func (t Tree) Resolve(name string) (string, error) { return resolve(name, t.Lookup) }

func resolve(name string, lookup func(string) (Entry, bool)) (string, error) {
	rest := strings.Split(name, "/")
	done := "."
	links := 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		e, ok := lookup(next)
		if !ok || e.Mode.Type() != fs.ModeSymlink {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("path %q: %w", name, ErrLinkLoop)
		}
		if strings.HasPrefix(e.Target, "/") {
			done = "."
		}
		rest = append(strings.Split(e.Target, "/"), rest...)
	}
	return done, nil
}
