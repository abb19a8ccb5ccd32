// Package baseline is what was already wrong with a machine before a new
// release was booted: failed units and unreadable files of health.d. The health
// gate does not hold those against the release, which could not be to blame;
// otherwise a machine with one broken service of its owner's would never be
// updated, and would call every good release bad.
//
// locksmithd saves it right before the reboot, under the system that works; the
// health gate reads it under the new one. One is good for one update: it names
// the root hash that it was saved under.
package baseline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/coracle-os/coracle/agents/health/check"
	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/rootfs/control"
)

// Judged is there once the health gate is done with this boot: its release is
// good, is not on trial, or is about to be rebooted.
const Judged = "/run/coracle/health-judged"

// path is the file below the root.
const path = "var/lib/coracle/health-baseline.json"

// Dirs are the directories with checks, below the root; later ones win.
var Dirs = []string{"usr/lib/coracle/health.d", "etc/coracle/health.d"}

// Baseline is the state of a machine before an update.
type Baseline struct {
	RootHash    string   `json:"rootHash"`
	FailedUnits []string `json:"failedUnits"`
	// BrokenFiles maps the path of a file of health.d to the SHA-256 of its
	// content.
	BrokenFiles map[string]string `json:"brokenFiles"`
}

// LoadChecks reads the files of health.d below root.
func LoadChecks(root string) ([]check.Check, []check.Broken) {
	dirs := slices.Clone(Dirs)
	for i := range dirs {
		dirs[i] = filepath.Join(root, dirs[i])
	}
	return check.Load(dirs...)
}

// Save notes the state of the running machine.
func Save(ctx context.Context, root string) error {
	info, err := bootinfo.Read(filepath.Join(root, bootinfo.Path))
	if err != nil {
		return fmt.Errorf("save health baseline: %w", err)
	}
	b := Baseline{RootHash: info.RootHash, BrokenFiles: map[string]string{}}
	_, broken := LoadChecks(root)
	for _, f := range broken {
		b.BrokenFiles[f.Path] = f.SHA256
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	units, err := Units(ctx, nil)
	if err != nil {
		return fmt.Errorf("save health baseline: %w", err)
	}
	for _, u := range units {
		if u.Active == "failed" || u.Sub == "auto-restart" {
			b.FailedUnits = append(b.FailedUnits, u.Name)
		}
	}
	return write(root, b)
}

// Units asks PID 1 for the units that match; nil means all that are loaded.
func Units(ctx context.Context, patterns []string) ([]check.Unit, error) {
	resp, err := control.Client{}.Collect(ctx, control.Request{Verb: control.ListUnits, Units: patterns})
	if err != nil {
		return nil, err
	}
	var out []check.Unit
	for _, u := range resp.Units {
		out = append(out, check.Unit{Name: u.Name, Load: u.Load, Active: u.Active, Sub: u.Sub})
	}
	return out, nil
}

// write replaces the file; it is on the disk when it returns.
func write(root string, b Baseline) error {
	data, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("save health baseline: %w", err)
	}
	name := filepath.Join(root, path)
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("save health baseline: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return fmt.Errorf("save health baseline: %w", err)
	}
	return nil
}

// Load returns the baseline for the system with that root hash: one that
// another system saved. None is the zero value.
func Load(root, rootHash string) (Baseline, error) {
	data, err := os.ReadFile(filepath.Join(root, path))
	if errors.Is(err, fs.ErrNotExist) {
		return Baseline{}, nil
	}
	if err != nil {
		return Baseline{}, fmt.Errorf("load health baseline: %w", err)
	}
	var b Baseline
	if err := json.Unmarshal(data, &b); err != nil {
		return Baseline{}, fmt.Errorf("load health baseline %q: %w", path, err)
	}
	if b.RootHash == rootHash {
		return Baseline{}, nil
	}
	return b, nil
}

// Remove forgets it, once a release is good.
func Remove(root string) error {
	err := os.Remove(filepath.Join(root, path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove health baseline: %w", err)
	}
	return nil
}
