// Package reset takes a machine back to its first boot: everything on the state
// partition goes, but for the paths that were asked to be kept. coracle-reset
// asks for it with a file (Ask); stage 1 does it when it next mounts the state
// partition, before anything uses it (Apply).
//
// The file with the request goes last, so a reset that a power cut ends is
// finished at the next start. What is outside the state partition stays: the
// release that is installed, and the OEM partition, which is what a first boot
// is set up from. Left out on purpose: overwriting what was deleted.
package reset

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// File is the request, in the top directory of the state partition.
const File = ".coracle-reset.json"

// request is the content of File.
type request struct {
	Keep []string `json:"keep"` // relative to the top of the state partition
}

// ErrOutside says that a path is not on the state partition.
var ErrOutside = errors.New("it is not on the state partition, which only has what is below /var and /etc")

// Place gives the path of something below /var or /etc on the state partition,
// relative to its top. resolve is filepath.EvalSymlinks.
func Place(name string, resolve func(string) (string, error)) (string, error) {
	if !path.IsAbs(name) {
		return "", fmt.Errorf("keep %q: give the whole path, from / on", name)
	}
	real, err := resolve(name)
	if err != nil {
		return "", fmt.Errorf("keep %q: %w", name, err)
	}
	if below, ok := strings.CutPrefix(real, "/etc/"); ok {
		return path.Join("lib/coracle/etc/upper", below), nil
	}
	if below, ok := strings.CutPrefix(real, "/var/"); ok {
		return below, nil
	}
	return "", fmt.Errorf("keep %q: %w", name, ErrOutside)
}

// Ask leaves the request in the state partition mounted at dir; it is on the
// disk when Ask returns. keep are paths as Place gives them.
func Ask(dir string, keep []string) error {
	text, err := json.Marshal(request{Keep: keep})
	if err != nil {
		return err
	}
	temporary := filepath.Join(dir, File+".new")
	if err := writeSynced(temporary, text); err != nil {
		return fmt.Errorf("ask for a reset: %w", err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, File)); err != nil {
		return fmt.Errorf("ask for a reset: %w", err)
	}
	return syncDir(dir)
}

// Forget takes a request back.
func Forget(dir string) error {
	if err := os.Remove(filepath.Join(dir, File)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the reset: %w", err)
	}
	return syncDir(dir)
}

// Apply does what was asked of the state partition mounted at dir, and reports
// whether anything was. A request that cannot be read deletes nothing.
func Apply(dir string) (done bool, err error) {
	text, err := os.ReadFile(filepath.Join(dir, File))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	var r request
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return false, fmt.Errorf("the state is not reset: read %s: %w; run coracle-reset again", File, err)
	}
	for i, keep := range r.Keep {
		r.Keep[i] = path.Clean("/" + keep)[1:]
	}
	if slices.Contains(r.Keep, "") {
		return false, errors.Join(errors.New("the state is not reset: all of it is to be kept"), Forget(dir))
	}
	top, err := os.OpenRoot(dir)
	if err != nil {
		return false, fmt.Errorf("reset the state: %w", err)
	}
	defer top.Close()
	if err := sweep(top, ".", r.Keep); err != nil {
		return false, fmt.Errorf("reset the state: %w; it goes on at the next start", err)
	}
	if err := syncDir(dir); err != nil {
		return false, err
	}
	return true, Forget(dir)
}

// sweep deletes what is in a directory and neither kept nor above what is kept.
func sweep(top *os.Root, dir string, keep []string) error {
	entries, err := fs.ReadDir(top.FS(), dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		above := slices.ContainsFunc(keep, func(k string) bool { return strings.HasPrefix(k, name+"/") })
		switch {
		case name == File || slices.Contains(keep, name):
		case above && entry.IsDir():
			errs = append(errs, sweep(top, name, keep))
		default:
			errs = append(errs, top.RemoveAll(name))
		}
	}
	return errors.Join(errs...)
}

func writeSynced(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
