// Package datadir keeps, beside etcd's own data, what a machine must remember
// about the cluster it belongs to: so that a restart goes on where it was, and
// so that a data directory whose member was removed is told apart from a new
// one. It is for the etcd of this machine only; etcd's files are never read or
// changed here, only moved aside as a whole.
package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// State is what is remembered.
type State struct {
	// Discovery is the token that this machine registered with and has not
	// formed a cluster through yet.
	Discovery *Registration `json:"discovery,omitempty"`
	// Cluster is the cluster that this machine is or was part of, as a member
	// or as its proxy.
	Cluster *Cluster `json:"cluster,omitempty"`
}

// Registration is an entry below a discovery token.
type Registration struct {
	URL string `json:"url"`
	ID  string `json:"id"`
}

// Cluster is a known cluster. IDs are hexadecimal; an empty Member is a proxy.
type Cluster struct {
	ID      string   `json:"id"`
	Member  string   `json:"member,omitempty"`
	Peers   []string `json:"peers"`
	Clients []string `json:"clients,omitempty"`
	Size    int      `json:"size,omitempty"` // wanted number of members
	// Removed says that Member was removed and its data moved aside.
	Removed bool `json:"removed,omitempty"`
	// Dismissed says that it was removed while it lived: healing never does
	// that, so that it was the owner's wish.
	Dismissed bool `json:"dismissed,omitempty"`
}

// Dir is a data directory.
type Dir struct{ Path string }

func (d Dir) file() string { return filepath.Join(d.Path, "forming.json") }

// Load reads the state. A file that cannot be read as one is moved aside and
// counts as none: it only saves asking again.
func (d Dir) Load() (State, error) {
	var s State
	text, err := os.ReadFile(d.file())
	switch {
	case errors.Is(err, os.ErrNotExist):
		return s, nil
	case err != nil:
		return s, fmt.Errorf("read what is known about the cluster: %w", err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		if err := os.Rename(d.file(), d.file()+".damaged"); err != nil {
			return State{}, fmt.Errorf("move the damaged %s aside: %w", d.file(), err)
		}
		return State{}, nil
	}
	return s, nil
}

// Save writes the state so that after a power cut the old or the new one is
// there.
func (d Dir) Save(s State) error {
	text, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return fmt.Errorf("write what is known about the cluster: %w", err)
	}
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	f, err := os.CreateTemp(d.Path, "forming.*.tmp")
	if err != nil {
		return fmt.Errorf("write what is known about the cluster: %w", err)
	}
	_, werr := f.Write(append(text, '\n'))
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", d.file(), errors.Join(err, os.Remove(f.Name())))
	}
	if err := os.Rename(f.Name(), d.file()); err != nil {
		return fmt.Errorf("write %s: %w", d.file(), err)
	}
	return syncDir(d.Path)
}

// Clean deletes half-written files that a power cut left.
func (d Dir) Clean() {
	old, _ := filepath.Glob(filepath.Join(d.Path, "forming.*.tmp"))
	for _, name := range old {
		os.Remove(name)
	}
}

// SetAside moves etcd's data, and its log when that has a directory of its
// own, to names with the time in them, and returns the new names. What was set
// aside before is deleted: a machine that is removed again and again must not
// fill its disk.
func (d Dir) SetAside(walDir string, now time.Time) ([]string, error) {
	var moved []string
	for _, from := range []string{filepath.Join(d.Path, "member"), walDir} {
		if _, err := os.Stat(from); from == "" || err != nil {
			continue
		}
		older, _ := filepath.Glob(from + ".removed-*")
		to := from + ".removed-" + now.UTC().Format("20060102T150405Z")
		if err := os.Rename(from, to); err != nil {
			return moved, fmt.Errorf("move the data of the removed member aside: %w", err)
		}
		moved = append(moved, to)
		for _, old := range older {
			if err := os.RemoveAll(old); err != nil {
				return moved, fmt.Errorf("delete what was moved aside before: %w", err)
			}
		}
	}
	return moved, syncDir(d.Path)
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return errors.Join(f.Sync(), f.Close())
}
