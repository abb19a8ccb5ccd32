package tmpfiles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/rootfs/user"
	"golang.org/x/sys/unix"
)

// Env is what the specifiers of a path or an argument stand for.
type Env struct {
	BootID    string // %b
	MachineID string // %m
	Host      string // %H
	Kernel    string // %v
}

// Boot loads the configuration of root and applies all of it, as at boot.
// Every error is a warning for the log; the other lines still took effect.
func Boot(root string, env Env) []error {
	items, errs := Load(root)
	return append(errs, Apply(root, items, env)...)
}

// Apply makes what the items say below root. It goes on after an error, so
// that one bad line does not take the machine's other directories away.
func Apply(root string, items []Item, env Env) (errs []error) {
	a := applier{root: root, env: env}
	for _, item := range items {
		if err := a.apply(item); err != nil && !item.Quiet {
			errs = append(errs, fmt.Errorf("%s: %w", item.Source, err))
		}
	}
	return errs
}

type applier struct {
	root string
	env  Env
}

// apply makes one item.
func (a applier) apply(item Item) error {
	expanded, err := a.env.expand(item.Path)
	if err != nil {
		return err
	}
	if item.Argument, err = a.env.expand(item.Argument); err != nil && item.Type != 'w' {
		return err
	}
	if strings.ContainsRune("ezZrRw", rune(item.Type)) {
		return a.eachMatch(item, expanded)
	}
	path := filepath.Join(a.root, expanded)
	switch item.Type {
	case 'd', 'D', 'v', 'q', 'Q':
		return a.directory(item, path)
	case 'f', 'F':
		return a.file(item, path)
	case 'L':
		return a.link(item, path)
	case 'C':
		return a.copy(item, path)
	case 'p':
		return a.fifo(item, path)
	}
	return nil // x and X only matter to cleaning by age
}

func (a applier) eachMatch(item Item, pattern string) error {
	paths, err := filepath.Glob(filepath.Join(a.root, pattern))
	if err != nil {
		return fmt.Errorf("pattern %q: %w", pattern, err)
	}
	var errs []error
	for _, path := range paths {
		switch item.Type {
		case 'e', 'z':
			err = a.adjust(item, path, false)
		case 'Z':
			err = filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				return a.adjust(item, path, false)
			})
		case 'r':
			err = os.Remove(path)
		case 'R':
			err = os.RemoveAll(path)
		case 'w':
			err = write(path, item.Argument, item.Append)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (a applier) directory(item Item, path string) error {
	if err := a.parents(path); err != nil {
		return err
	}
	err := os.Mkdir(path, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, statErr := os.Stat(path); statErr != nil || !info.IsDir() {
		return fmt.Errorf("make directory %q: something else is there; move it away", path)
	}
	return a.adjustDefault(item, path, 0o755, err == nil)
}

// file makes an empty file, or one with the argument as content; with "+" (and
// the old type F) an existing one is truncated and written anew.
func (a applier) file(item Item, path string) error {
	if err := a.parents(path); err != nil {
		return err
	}
	flags := os.O_CREATE | os.O_EXCL | os.O_WRONLY
	file, err := os.OpenFile(path, flags, 0o600)
	fresh := err == nil
	if errors.Is(err, fs.ErrExist) {
		if item.Type == 'f' && !item.Append {
			return a.adjust(item, path, false)
		}
		file, err = os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, item.Argument)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return a.adjustDefault(item, path, 0o644, fresh)
}

func write(path, text string, appending bool) error {
	flags := os.O_WRONLY
	if appending {
		flags |= os.O_APPEND
	}
	file, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

func (a applier) link(item Item, path string) error {
	target := item.Argument
	if target == "" {
		target = "/usr/share/factory" + strings.TrimPrefix(path, strings.TrimSuffix(a.root, "/"))
	}
	if err := a.parents(path); err != nil {
		return err
	}
	err := os.Symlink(target, path)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if present, readErr := os.Readlink(path); readErr == nil && present == target || !item.Append {
		return nil // what is there stays
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

// copy copies a file or a directory that is not there yet.
func (a applier) copy(item Item, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return a.adjust(item, path, false)
	}
	source := item.Argument
	if source == "" {
		source = "/usr/share/factory" + strings.TrimPrefix(path, strings.TrimSuffix(a.root, "/"))
	}
	source = filepath.Join(a.root, source)
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if err := a.parents(path); err != nil {
		return err
	}
	if info.IsDir() {
		if err := os.Mkdir(path, info.Mode().Perm()); err != nil {
			return err
		}
		if err := user.CopySkeleton(source, path, 0, 0); err != nil {
			return err
		}
		return a.adjust(item, path, true)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, text, info.Mode().Perm()); err != nil {
		return err
	}
	return a.adjust(item, path, true)
}

func (a applier) fifo(item Item, path string) error {
	if err := a.parents(path); err != nil {
		return err
	}
	err := unix.Mkfifo(path, 0o600)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make fifo %q: %w", path, err)
	}
	return a.adjustDefault(item, path, 0o644, err == nil)
}

// parents makes the missing directories above path, 0755 root. A link that an
// unprivileged user could have placed is not followed.
func (a applier) parents(path string) error {
	root := strings.TrimSuffix(a.root, "/")
	rel := strings.TrimPrefix(filepath.Dir(path), root)
	at := root
	trusted := true
	for _, part := range strings.Split(strings.Trim(rel, "/"), "/") {
		at += "/" + part
		var stat unix.Stat_t
		err := unix.Lstat(at, &stat)
		if errors.Is(err, unix.ENOENT) {
			if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("look at %q: %w", at, err)
		}
		if stat.Mode&unix.S_IFMT == unix.S_IFLNK && !trusted {
			return fmt.Errorf("make %q: %q is a link in a directory of another user; not followed", path, at)
		}
		trusted = trusted && (stat.Uid == 0 || int(stat.Uid) == os.Geteuid())
	}
	return nil
}
