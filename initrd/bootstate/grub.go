package bootstate

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/image/grub"
	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/initrd/entries"
)

// GRUB counts in an environment block. Files is the directory with its copies
// and with the files of the releases, grub.Directory on the EFI system partition.
type GRUB struct{ Files entries.Dir }

const tempSuffix = ".new"

// Settle renames the entries that GRUB has counted down since they were
// published. What cannot be read counts nothing.
func (g GRUB) Settle(d entries.Dir) error {
	state, err := g.read()
	if err != nil {
		return nil // Publish makes it anew
	}
	l, err := entries.List(d)
	if err != nil {
		return err
	}
	var steps []entries.Step
	for _, f := range l.Files {
		if left, ok := counted(state, f); ok {
			to := f.Name
			to.Left, to.Done = left, to.Done+to.Left-left
			steps = append(steps, entries.Step{Kind: entries.Rename, File: f.File, To: to.String(), Reason: "tries that GRUB has counted"})
		}
	}
	if len(steps) == 0 {
		return nil
	}
	if err := entries.Apply(d, append(steps, entries.Step{Kind: entries.Sync}), nil); err != nil {
		return fmt.Errorf("settle the boot state: %w", err)
	}
	return nil
}

// counted returns the tries that GRUB has left of an entry, if the entry is as
// it was published and GRUB has counted since. A damaged UKI does not tell whose
// it is; its version does.
func counted(s grub.State, f entries.File) (left int, ok bool) {
	for _, e := range s.Entries {
		same := e.Version == f.Name.Version && (f.RootHash == "" || strings.HasPrefix(f.RootHash, e.Release))
		if same && !e.Good && f.Name.Counted && min(f.Name.Left, grub.MaxTries) == e.Given && e.Left < e.Given {
			return e.Left, true
		}
	}
	return 0, false
}

// read reads the state that GRUB goes by.
func (g GRUB) read() (grub.State, error) {
	first, errFirst := g.content(grub.EnvNames[0])
	second, errSecond := g.content(grub.EnvNames[1])
	state, err := grub.Latest(first, second)
	if err != nil {
		err = errors.Join(errFirst, errSecond, err)
	}
	return state, err
}

func (g GRUB) content(name string) ([]byte, error) {
	f, err := g.Files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.NewSectionReader(f, 0, math.MaxInt64))
}

// Publish writes the files of releases that have none, then the state, then
// removes the files of releases that are gone.
func (g GRUB) Publish(d entries.Dir) error {
	if err := g.publish(d); err != nil {
		return fmt.Errorf("publish the boot state to GRUB: %w", err)
	}
	return nil
}

func (g GRUB) publish(d entries.Dir) error {
	l, err := entries.List(d)
	if err != nil {
		return err
	}
	names, err := g.Files.Names()
	if err != nil {
		return err
	}
	for name := range names {
		if strings.HasSuffix(name, tempSuffix) {
			if err := g.Files.Remove(name); err != nil {
				return err
			}
		}
	}
	for _, f := range l.Files {
		if err := g.describe(d, f); err != nil {
			return err
		}
	}
	if err := g.write(want(l)); err != nil {
		return err
	}
	return g.sweep(names, l)
}

// describe writes the files of a release, unless they are there. Those of a
// damaged UKI stay: with them GRUB sees that it is damaged.
func (g GRUB) describe(d entries.Dir, f entries.File) error {
	version := f.Name.Version
	if f.RootHash == "" {
		return nil
	}
	script, errScript := g.content(version + grub.ScriptSuffix)
	_, errSum := g.content(version + grub.SumSuffix)
	if errScript == nil && errSum == nil && bytes.HasPrefix(script, []byte(grub.Mark(f.RootHash, f.Size))) {
		return nil
	}
	r, err := d.Open(f.File)
	if err != nil {
		return err
	}
	defer r.Close()
	files, err := grub.Describe(version, r, f.Size)
	if err != nil {
		return nil // GRUB cannot start it and passes it over
	}
	return errors.Join(g.replace(version+grub.SumSuffix, files.Sum), g.replace(version+grub.ScriptSuffix, files.Script))
}

// write brings both copies of the state to what is wanted, one after the other.
func (g GRUB) write(entries []grub.Entry) error {
	first, errFirst := g.content(grub.EnvNames[0])
	second, errSecond := g.content(grub.EnvNames[1])
	state, err := grub.Latest(first, second)
	if err == nil && errFirst == nil && errSecond == nil && bytes.Equal(first, second) && slices.Equal(state.Entries, entries) {
		return nil
	}
	state = grub.State{Generation: state.Generation + 1, Entries: entries}
	// GRUB prefers the first of equals and the higher generation: from the first
	// write on it is the new state that counts.
	for _, name := range grub.EnvNames {
		if err := g.replace(name, state.Encode()); err != nil {
			return err
		}
	}
	return nil
}

// replace puts a file in the place of another; both are never gone from the disk
// in the middle of a power cut, unless FAT loses the rename, for which there is
// the other copy.
func (g GRUB) replace(name string, content []byte) error {
	return entries.Apply(g.Files, []entries.Step{
		{Kind: entries.Write, File: name + tempSuffix, Reason: "for GRUB"},
		{Kind: entries.Sync},
		{Kind: entries.Rename, File: name + tempSuffix, To: name, Reason: "for GRUB"},
		{Kind: entries.Sync},
	}, bytes.NewReader(content))
}

// sweep removes the files of versions that have no entry.
func (g GRUB) sweep(names map[string]int64, l entries.Listing) error {
	var steps []entries.Step
	for name := range names {
		version, ok := strings.CutSuffix(name, grub.ScriptSuffix)
		if !ok {
			version, ok = strings.CutSuffix(name, grub.SumSuffix)
		}
		kept := slices.ContainsFunc(l.Files, func(f entries.File) bool { return f.Name.Version == version })
		if ok && !kept {
			steps = append(steps, entries.Step{Kind: entries.Remove, File: name, Reason: "its release is gone"})
		}
	}
	if len(steps) == 0 {
		return nil
	}
	return entries.Apply(g.Files, append(steps, entries.Step{Kind: entries.Sync}), nil)
}

// want is the order of systemd-boot: what has tries left, the newest version
// first, then what has none.
func want(l entries.Listing) []grub.Entry {
	files := slices.Clone(l.Files)
	slices.SortStableFunc(files, func(a, b entries.File) int {
		if a.Name.Bad() != b.Name.Bad() {
			if a.Name.Bad() {
				return 1
			}
			return -1
		}
		return cmp.Or(release.CompareVersions(b.Name.Version, a.Name.Version), cmp.Compare(b.Name.Left, a.Name.Left))
	})
	var all []grub.Entry
	for _, f := range files {
		e := grub.Entry{Version: f.Name.Version, Release: f.RootHash, Good: f.Name.Good()}
		e.Release = e.Release[:min(grub.ReleaseDigits, len(e.Release))]
		if e.Given = min(f.Name.Left, grub.MaxTries); !e.Good {
			e.Left = e.Given
		}
		twin := slices.ContainsFunc(all, func(o grub.Entry) bool { return o.Version == e.Version })
		if !twin && len(all) < grub.MaxEntries {
			all = append(all, e)
		}
	}
	return all
}
