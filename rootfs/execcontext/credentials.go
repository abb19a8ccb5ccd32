package execcontext

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/spawn"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// Bounds of a unit's credentials, in bytes.
const maxCredentials = 1 << 20

// credentialStores are where a credential is looked for that is named without a
// path.
var credentialStores = []string{"/etc/credstore", "/run/credstore", "/usr/local/lib/credstore", "/usr/lib/credstore"}

// credentials is where a unit's credentials are.
func (sys System) credentials(unitName string) string {
	return filepath.Join(sys.Root, "/run/credentials", unitName)
}

// makeCredentials writes the unit's credentials for its user alone, and returns
// the variable that says where. They are in /run, which is memory; there is no
// swap that they could get into. Encrypted ones are left out.
func (sys System) makeCredentials(r Request, who identity) ([]string, error) {
	c := r.Context
	if len(c.Credentials) == 0 {
		return nil, nil
	}
	err := sys.writeCredentials(sys.credentials(r.Unit), c.Credentials, who)
	if err != nil {
		return nil, &spawn.Error{Status: spawn.StatusCredentials, Err: fmt.Errorf("set up credentials: %w", err)}
	}
	return []string{"CREDENTIALS_DIRECTORY=/run/credentials/" + r.Unit}, nil
}

func (sys System) writeCredentials(dir string, list []unit.Credential, who identity) error {
	data, err := sys.loadCredentials(list)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for id, b := range data {
		file := filepath.Join(dir, id)
		_ = os.Remove(file)
		if err := os.WriteFile(file, b, 0o400); err != nil {
			return err
		}
		if who.name != "" {
			if err := os.Chown(file, who.uid, who.gid); err != nil {
				return err
			}
		}
	}
	if who.name != "" {
		if err := os.Chown(dir, who.uid, who.gid); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o500)
}

// loadCredentials reads all. What SetCredential= says counts where there is
// nothing to load.
func (sys System) loadCredentials(list []unit.Credential) (map[string][]byte, error) {
	data, size := map[string][]byte{}, 0
	for _, c := range list {
		if c.Path == "" {
			continue
		}
		err := sys.loadCredential(c, data)
		set := slices.ContainsFunc(list, func(o unit.Credential) bool { return o.ID == c.ID && o.Path == "" })
		if err != nil && !(set && errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("load %q: %w", c.ID, err)
		}
	}
	for _, c := range list {
		if _, loaded := data[c.ID]; c.Path == "" && !loaded {
			data[c.ID] = []byte(c.Data)
		}
	}
	for _, b := range data {
		size += len(b)
	}
	if size > maxCredentials {
		return nil, fmt.Errorf("they have %d bytes together; at most %d are taken", size, maxCredentials)
	}
	return data, nil
}

// loadCredential reads a file, or all files of a directory, whose names then
// begin with the credential's.
func (sys System) loadCredential(c unit.Credential, data map[string][]byte) error {
	paths := []string{c.Path}
	if !strings.HasPrefix(c.Path, "/") {
		paths = nil
		for _, dir := range credentialStores {
			paths = append(paths, filepath.Join(dir, c.Path))
		}
	}
	err := error(fs.ErrNotExist)
	for _, p := range paths {
		full := filepath.Join(sys.Root, p)
		var info fs.FileInfo
		if info, err = os.Stat(full); err != nil {
			continue
		}
		if !info.IsDir() {
			return readCredential(full, info, c.ID, data)
		}
		entries, err := os.ReadDir(full)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if info, err := os.Stat(filepath.Join(full, e.Name())); err == nil && info.Mode().IsRegular() {
				if err := readCredential(filepath.Join(full, e.Name()), info, c.ID+"_"+e.Name(), data); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return err
}

func readCredential(path string, info fs.FileInfo, id string, data map[string][]byte) error {
	if !info.Mode().IsRegular() || info.Size() > maxCredentials {
		return fmt.Errorf("%q is not a file of at most %d bytes", path, maxCredentials)
	}
	b, err := os.ReadFile(path)
	if err == nil {
		data[id] = b
	}
	return err
}

// RemoveCredentials removes what a unit's credentials were written to.
func (sys System) RemoveCredentials(c *unit.ExecContext, unitName string) error {
	if len(c.Credentials) == 0 {
		return nil
	}
	return os.RemoveAll(sys.credentials(unitName))
}
