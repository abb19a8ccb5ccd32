package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/settings"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// Mask plans links to /dev/null, which hide the units' files.
func (i *Installer) Mask(names []string, o Options) (Plan, error) {
	var p Plan
	for _, n := range names {
		if err := name.Check(n); err != nil {
			return Plan{}, err
		}
		if _, ok := i.Index.Lookup(n); !ok {
			p.Missing = append(p.Missing, n)
		}
		if err := i.link(&p, path.Join("/", o.dir(), n), "/dev/null", o.Force); err != nil {
			p.fail(err)
		}
	}
	return p, nil
}

// Unmask plans the removal of such links, and of empty files, which do the
// same.
func (i *Installer) Unmask(names []string, o Options) (Plan, error) {
	var p Plan
	for _, n := range names {
		at := path.Join(o.dir(), n)
		if _, ok := i.Index.Lookup(n); !ok {
			p.Missing = append(p.Missing, n)
		}
		info, err := fs.Lstat(i.Loader.FS, at)
		if err != nil {
			continue
		}
		target, _ := fs.ReadLink(i.Loader.FS, at)
		if path.Clean(target) == "/dev/null" || info.Mode().IsRegular() && info.Size() == 0 {
			p.Changes = append(p.Changes, Change{Path: "/" + at})
		}
	}
	return p, nil
}

// Apply makes the changes below a root directory. It stops at the first that
// fails; those made before it stay, and making the plan again goes on.
func Apply(root string, changes []Change) error {
	for _, c := range changes {
		if err := apply(filepath.Join(root, c.Path), c); err != nil {
			return err
		}
	}
	return nil
}

func apply(at string, c Change) error {
	if c.Target == "" {
		if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %q: %w", c.Path, err)
		}
		if dir := filepath.Dir(at); strings.HasSuffix(dir, ".wants") || strings.HasSuffix(dir, ".requires") {
			// Only an empty directory goes; that is not worth an error.
			_ = os.Remove(dir)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return fmt.Errorf("create link %q: %w", c.Path, err)
	}
	// Under a new name first: a unit must never be without its old link and
	// its new one.
	temporary := filepath.Join(filepath.Dir(at), fmt.Sprintf(".#%s.%d", filepath.Base(at), os.Getpid()))
	_ = os.Remove(temporary)
	if err := os.Symlink(c.Target, temporary); err != nil {
		return fmt.Errorf("create link %q: %w", c.Path, err)
	}
	if err := os.Rename(temporary, at); err != nil {
		_ = os.Remove(temporary)
		return fmt.Errorf("create link %q: %w", c.Path, err)
	}
	return nil
}

// installOf reads the [Install] section of a file alone.
func installOf(unitName string, data []byte) unit.Install {
	u := settings.New(unitName)
	settings.Apply(u, unitName, data, specifier.Expander{Name: unitName})
	return u.Install
}
