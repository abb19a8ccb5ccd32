package execcontext

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/spawn"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// Exit statuses of directories that cannot be made.
const (
	statusRuntime = 233
	statusState   = 238
	statusCache   = 239
	statusLogs    = 240
	statusConfig  = 241
)

type directories struct {
	names    []string
	base     string
	mode     int
	variable string
	status   int
	owned    bool
}

func directoriesOf(c *unit.ExecContext) []directories {
	return []directories{
		{c.RuntimeDirectory, "/run", c.RuntimeDirectoryMode, "RUNTIME_DIRECTORY", statusRuntime, true},
		{c.StateDirectory, "/var/lib", c.StateDirectoryMode, "STATE_DIRECTORY", statusState, true},
		{c.CacheDirectory, "/var/cache", c.CacheDirectoryMode, "CACHE_DIRECTORY", statusCache, true},
		{c.LogsDirectory, "/var/log", c.LogsDirectoryMode, "LOGS_DIRECTORY", statusLogs, true},
		{c.ConfigurationDirectory, "/etc", c.ConfigurationMode, "CONFIGURATION_DIRECTORY", statusConfig, true},
	}
}

// makeDirectories makes RuntimeDirectory= and its relatives and returns the
// variables that name them.
func (sys System) makeDirectories(c *unit.ExecContext, who identity) ([]string, error) {
	var env []string
	for _, d := range directoriesOf(c) {
		var paths []string
		for _, name := range sorted(d.names) {
			name, link, _ := strings.Cut(name, ":")
			path := filepath.Join(d.base, name)
			err := sys.makeDirectory(path, d, who)
			if err == nil && link != "" {
				err = sys.link(d.base, name, link)
			}
			if err != nil {
				return nil, &spawn.Error{Status: d.status, Err: err}
			}
			paths = append(paths, path)
		}
		if len(paths) > 0 {
			env = append(env, d.variable+"="+strings.Join(paths, ":"))
		}
	}
	return env, nil
}

// sorted puts directories before what is below them.
func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.SortStableFunc(names, func(a, b string) int {
		a, _, _ = strings.Cut(a, ":")
		b, _, _ = strings.Cut(b, ":")
		return strings.Compare(a, b)
	})
	return names
}

// link makes a second name of a directory, unless something has it.
func (sys System) link(base, name, link string) error {
	full := filepath.Join(sys.Root, base, link)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return fmt.Errorf("make the link %q: %w", link, err)
	}
	to, err := filepath.Rel(filepath.Dir(filepath.Join(base, link)), filepath.Join(base, name))
	if err == nil {
		err = os.Symlink(to, full)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the link %q: %w", link, err)
	}
	return nil
}

func (sys System) makeDirectory(path string, d directories, who identity) error {
	full := filepath.Join(sys.Root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return fmt.Errorf("make the directory %q: %w", path, err)
	}
	mode := os.FileMode(d.mode)
	if mode == 0 {
		mode = 0o755
	}
	if err := os.Mkdir(full, mode); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the directory %q: %w", path, err)
	}
	if err := os.Chmod(full, mode); err != nil {
		return fmt.Errorf("make the directory %q: %w", path, err)
	}
	if d.owned && who.name != "" {
		if err := os.Chown(full, who.uid, who.gid); err != nil {
			return fmt.Errorf("make the directory %q: %w", path, err)
		}
	}
	return nil
}

// RemoveRuntimeDirectories removes what RuntimeDirectory= made, with its
// content.
func (sys System) RemoveRuntimeDirectories(c *unit.ExecContext) error {
	var errs []error
	for _, name := range c.RuntimeDirectory {
		name, link, _ := strings.Cut(name, ":")
		if link != "" {
			errs = append(errs, os.RemoveAll(filepath.Join(sys.Root, "/run", link)))
		}
		errs = append(errs, os.RemoveAll(filepath.Join(sys.Root, "/run", name)))
	}
	return errors.Join(errs...)
}
