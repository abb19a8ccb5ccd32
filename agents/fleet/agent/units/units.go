// Package units is the agent's seam to PID 1: unit files in a directory of
// fleet's own, linked for PID 1 as runtime units, and jobs over its control
// socket. Nothing else of the scheduler knows how units run.
//
// A unit is linked as "systemctl link --runtime --force" would do it, so that
// "systemctl is-enabled" says linked-runtime, and enabled as its [Install]
// section says; all of that is below /run and gone with the next boot. Jobs
// have the mode "replace" and are not waited for: how they end is seen by Watch.
package units

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/install"
	"github.com/coracle-os/coracle/rootfs/unit/load"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// Directory is where unit files are written if nothing else is configured.
const Directory = "/run/fleet/units"

// State is what PID 1 says of a unit, in systemd's words.
type State struct {
	Unit   string
	Load   string // loaded, not-found, bad-setting, ...; "" is not in PID 1's memory
	Active string
	Sub    string
	Since  time.Time // when it came to be Active; zero if it always was
	Job    bool      // a job for it is queued or runs; only Show tells it
}

// Down tells whether nothing of the unit runs.
func (s State) Down() bool { return s.Active == "" || s.Active == "inactive" || s.Active == "failed" }

// Init is what the agent asks of PID 1. Methods that take several units answer
// with an error for each that failed.
type Init interface {
	// Files tells the text of each unit's file, by unit.
	Files() (map[string]string, error)
	// Load writes and links files of units, by unit.
	Load(contents map[string]string) map[string]error
	// Unload undoes Load.
	Unload(ctx context.Context, units []string) map[string]error
	// Reload has PID 1 read all files again.
	Reload(ctx context.Context) error
	Start(ctx context.Context, units []string) map[string]error
	Stop(ctx context.Context, units []string) map[string]error
	// Kill ends all processes of the units at once.
	Kill(ctx context.Context, units []string) error
	// Show tells the state of units, which PID 1 loads for that.
	Show(ctx context.Context, units []string) ([]State, error)
	// Watch calls each with the states of all units that PID 1 has in memory
	// and then with every change, until ctx ends or PID 1 hangs up. synced is
	// false while it tells what is there at first.
	Watch(ctx context.Context, each func(states []State, synced bool)) error
}

// System is the PID 1 of this machine.
type System struct {
	Control control.Client
	Root    string // where PID 1's files are; "" is "/"
	Dir     string // for unit files, below Root; "" is Directory
}

func (s System) root() string { return path.Join("/", s.Root) }

func (s System) dir() string {
	if s.Dir == "" {
		return Directory
	}
	return path.Clean("/" + s.Dir)
}

func (s System) file(unit string) string { return filepath.Join(s.root(), s.dir(), unit) }

// Hash is the hash of a unit file's text, as fleet counts it.
func Hash(content string) string {
	sum := sha1.Sum([]byte(content))
	return hex.EncodeToString(sum[:])
}

// Files implements Init. Files that no unit could have are not told.
func (s System) Files() (map[string]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.root(), s.dir()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list unit files: %w", err)
	}
	files := map[string]string{}
	for _, e := range entries {
		if !e.Type().IsRegular() || !name.Valid(e.Name()) {
			continue
		}
		data, err := os.ReadFile(s.file(e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read unit file: %w", err)
		}
		files[e.Name()] = string(data)
	}
	return files, nil
}

// Load implements Init.
func (s System) Load(contents map[string]string) map[string]error {
	failed := map[string]error{}
	for unit, text := range contents {
		if err := s.write(unit, text); err != nil {
			failed[unit] = err
		}
	}
	i, err := s.installer()
	for unit := range contents {
		if failed[unit] != nil {
			continue
		}
		e := err
		if e == nil {
			e = s.link(i, unit)
		}
		if e != nil {
			failed[unit] = fmt.Errorf("load %s: %w", unit, e)
			_ = os.Remove(s.file(unit)) // without it the unit counts as not loaded
		}
	}
	return failed
}

// write puts a unit's file in place whole: PID 1 may read it at any time.
func (s System) write(unit, text string) error {
	if err := name.Check(unit); err != nil {
		return fmt.Errorf("load %q: %w", unit, err)
	}
	at := s.file(unit)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return fmt.Errorf("load %s: %w", unit, err)
	}
	temporary := filepath.Join(filepath.Dir(at), ".#"+unit)
	err := os.WriteFile(temporary, []byte(text), 0o644)
	if err == nil {
		err = os.Rename(temporary, at)
	}
	if err != nil {
		_ = os.Remove(temporary)
		return fmt.Errorf("load %s: %w: is the disk full?", unit, err)
	}
	return nil
}

func (s System) installer() (*install.Installer, error) {
	fsys := os.DirFS(s.root())
	return install.New(load.New(fsys, func() specifier.Host { return specifier.ReadHost(fsys) }))
}

func (s System) link(i *install.Installer, unit string) error {
	p, err := i.Enable([]string{path.Join(s.dir(), unit)}, install.Options{Runtime: true, Force: true})
	if err == nil {
		err = p.Failed
	}
	if err != nil {
		return err
	}
	return install.Apply(s.root(), p.Changes)
}

// Unload implements Init. A unit that PID 1 does not know is unloaded all the
// same.
func (s System) Unload(ctx context.Context, list []string) map[string]error {
	failed := map[string]error{}
	i, err := s.installer()
	for _, unit := range list {
		e := err
		if e == nil {
			e = s.unlink(i, unit)
		}
		if e != nil {
			failed[unit] = fmt.Errorf("unload %s: %w", unit, e)
			continue
		}
		// Its start limit must not outlive it; one that PID 1 has forgotten
		// already has none.
		_, _ = s.Control.Collect(ctx, control.Request{Verb: control.ResetFailed, Units: []string{unit}})
	}
	return failed
}

func (s System) unlink(i *install.Installer, unit string) error {
	if _, known := i.Index.Lookup(unit); known {
		p, err := i.Disable([]string{unit}, install.Options{Runtime: true})
		if err != nil {
			return err
		}
		var own []install.Change
		for _, c := range p.Changes {
			if s.ours(c.Path, unit) {
				own = append(own, c)
			}
		}
		if err := install.Apply(s.root(), own); err != nil {
			return err
		}
	}
	if err := os.Remove(s.file(unit)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ours tells whether a link may go with the unit. Also= may name other units of
// the cluster, which have links of their own and stay.
func (s System) ours(link, unit string) bool {
	to, err := os.Readlink(filepath.Join(s.root(), link))
	to = path.Clean(to)
	return err == nil && (to == path.Join(s.dir(), unit) || !strings.HasPrefix(to, s.dir()+"/"))
}

// Reload implements Init.
func (s System) Reload(ctx context.Context) error {
	if _, err := s.Control.Collect(ctx, control.Request{Verb: control.DaemonReload}); err != nil {
		return fmt.Errorf("have PID 1 read its unit files again: %w", err)
	}
	return nil
}

// Start implements Init.
func (s System) Start(ctx context.Context, units []string) map[string]error {
	return s.jobs(ctx, control.Start, units)
}

// Stop implements Init. A unit that PID 1 does not know is stopped.
func (s System) Stop(ctx context.Context, units []string) map[string]error {
	failed := s.jobs(ctx, control.Stop, units)
	for unit, err := range failed {
		if e := (*control.Error)(nil); errors.As(err, &e) && e.Code == control.NotLoaded {
			delete(failed, unit)
		}
	}
	return failed
}

func (s System) jobs(ctx context.Context, verb control.Verb, units []string) map[string]error {
	failed := map[string]error{}
	if len(units) == 0 {
		return failed
	}
	answered := map[string]bool{}
	err := s.Control.Do(ctx, control.Request{Verb: verb, Units: units, Flags: control.Flags{NoBlock: true, Mode: "replace"}}, func(r control.Response) error {
		for _, result := range r.Results {
			answered[result.Unit] = true
			if result.Error != nil {
				failed[result.Unit] = fmt.Errorf("%s %s: %w", verb, result.Unit, result.Error)
			}
		}
		return nil
	})
	for _, unit := range units {
		if err != nil && !answered[unit] {
			failed[unit] = fmt.Errorf("%s %s: %w", verb, unit, err)
		}
	}
	return failed
}

// Kill implements Init. That there was nothing left to kill is no error.
func (s System) Kill(ctx context.Context, units []string) error {
	_, err := s.Control.Collect(ctx, control.Request{Verb: control.Kill, Units: units, Flags: control.Flags{Signal: "SIGKILL"}})
	if e := (*control.Error)(nil); errors.As(err, &e) && e.Code == control.NotLoaded {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill %s: %w", strings.Join(units, " "), err)
	}
	return nil
}

// Show implements Init.
func (s System) Show(ctx context.Context, units []string) ([]State, error) {
	if len(units) == 0 {
		return nil, nil
	}
	r, err := s.Control.Collect(ctx, control.Request{Verb: control.Show, Units: units})
	if err != nil {
		return nil, fmt.Errorf("ask PID 1 about units: %w", err)
	}
	return states(r.Units), nil
}

// Watch implements Init.
func (s System) Watch(ctx context.Context, each func([]State, bool)) error {
	synced := false
	err := s.Control.Do(ctx, control.Request{Verb: control.Watch}, func(r control.Response) error {
		synced = synced || r.Synced
		if len(r.Units) > 0 || r.Synced {
			each(states(r.Units), synced)
		}
		return nil
	})
	if err == nil {
		err = errors.New("PID 1 ended the answer")
	}
	return fmt.Errorf("watch units: %w", err)
}

func states(list []control.Unit) []State {
	out := make([]State, len(list))
	for i, u := range list {
		out[i] = State{Unit: u.Name, Load: u.Load, Active: u.Active, Sub: u.Sub, Since: u.Since, Job: u.Job != nil}
	}
	return out
}
