// Package progress is the note of how far the first boot of a machine is, for
// the program ignition and for the small one that looks whether there is
// anything for it to do.
package progress

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Files below the root. Path is there from the first boot's beginning to its
// end, with documents in SpoolPath, and DonePath from then on.
const (
	Path      = "/var/lib/coracle/ignition.json"
	DonePath  = "/var/lib/coracle/ignition.done"
	SpoolPath = "/var/lib/coracle/ignition.spool"
)

// Progress is how far a first boot is.
type Progress struct {
	// Source and Digest (SHA-256) are of the config.
	Source string `json:"source,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Storage is the digest of the config whose storage was made.
	Storage string `json:"storage,omitempty"`
	// Step of Steps, from 1, is the one that was begun; Action is what it does.
	Step   int    `json:"step,omitempty"`
	Steps  int    `json:"steps,omitempty"`
	Action string `json:"action,omitempty"`
	// Problem is why a run ended before its end.
	Problem string `json:"problem,omitempty"`
	Boot    string `json:"boot,omitempty"` // the boot's id
	// Awaits is the address of a document that may be the config: coreos-cloudinit
	// gets it and, when it is one, runs the program ignition with it.
	Awaits string `json:"awaits,omitempty"`
	Note   string `json:"note,omitempty"`
}

// Read returns the progress of a first boot that did not reach its end, and
// whether one was begun.
func Read(root string) (p Progress, found bool, err error) {
	data, err := os.ReadFile(filepath.Join(root, Path))
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err != nil {
		return p, false, fmt.Errorf("read progress: %w", err)
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return Progress{}, true, nil // of a disk that lost it: begin again
	}
	return p, true, nil
}

// Describe says what became of the run before; boot is the id of this boot. It
// is "" when none was begun.
func (p Progress) Describe(boot string) string {
	switch {
	case p.Problem != "":
		return "the run before did not end well and begins again; it said: " + p.Problem
	case p.Action != "":
		cut := "was cut off"
		if p.Boot == boot {
			cut = "ended"
		}
		return fmt.Sprintf("the run before %s at step %d of %d (%s); everything is gone through again", cut, p.Step, p.Steps, p.Action)
	}
	if p.Awaits != "" && p.Source == "" {
		return ""
	}
	return "the run before ended before its first step; it begins again"
}

// Keep writes progress down before what it says is done.
func (p Progress) Keep(root string) error { return p.keep(root, Path) }

func (p Progress) keep(root, name string) error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("keep progress: %w", err)
	}
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep progress: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("keep progress: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("keep progress: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("keep progress: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("keep progress: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("keep progress: %w", err)
	}
	return nil
}

// Finish notes that the machine is set up.
func (p Progress) Finish(root string) error {
	p.Step, p.Action, p.Problem, p.Awaits = p.Steps, "", "", ""
	if err := p.keep(root, DonePath); err != nil {
		return err
	}
	for _, path := range []string{Path, SpoolPath} {
		if err := os.RemoveAll(filepath.Join(root, path)); err != nil {
			return fmt.Errorf("keep progress: %w", err)
		}
	}
	return nil
}

// Done tells whether the first boot reached its end.
func Done(root string) bool {
	_, err := os.Stat(filepath.Join(root, DonePath))
	return err == nil
}
