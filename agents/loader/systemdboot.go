package loader

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"strings"

	"github.com/coracle-os/coracle/agents/efiboot"
	"github.com/coracle-os/coracle/image/sdboot"
	"github.com/coracle-os/coracle/initrd/entries"
)

// Tries is how often the firmware is asked to start a new systemd-boot.
const Tries = 3

// names of the firmware's boot entries, the first copy and the second.
var entryNames = [2]string{"Coracle", "Coracle (second copy)"}

// UEFI is what the update of systemd-boot works on.
type UEFI struct {
	Root fs.FS // of the running release, which is good
	// The directories of sdboot.Fallback and sdboot.Second.
	Fallback, Second entries.Dir
	Variables        efiboot.Variables
	Partition        efiboot.Partition
	// Trust fails for a program that the firmware would refuse; nil without Secure Boot.
	Trust func(program io.ReaderAt) error
	// Tried and SetTried keep a word on which loader was tried and how often.
	Tried    func() (string, error)
	SetTried func(string) error
}

// Update does the next step towards the release's systemd-boot in both places,
// and returns what it did, "" for nothing. A newer one goes to the second place,
// and the firmware is asked to start that once (BootNext); the first place, which
// the firmware starts by itself, keeps the old one. When it is the new one that
// has started the machine, the first place gets it too. An older one is never
// installed, so that going back and forth between releases changes nothing.
func (u UEFI) Update() (done string, err error) {
	next, err := u.next()
	if err == nil {
		done, err = u.apply(next)
	}
	if err != nil {
		return done, fmt.Errorf("update systemd-boot: %w", err)
	}
	return done, nil
}

// copies are the loaders that there are; one that is not whole has the reason.
type copies struct {
	fresh, first, second installed
	started              bool // by the second
}

type installed struct {
	sdboot.Program
	err error // nil: it is whole
}

// A step is a program for one of the two places, or for none and to be tried.
type step struct {
	first, second *sdboot.Program // nil: as it is
	try           bool            // the second, next time
	reason        string
}

func (u UEFI) next() (step, error) {
	content, err := fs.ReadFile(u.Root, sdboot.InRoot)
	if errors.Is(err, fs.ErrNotExist) {
		return step{}, nil
	}
	if err != nil {
		return step{}, err
	}
	var c copies
	if c.fresh.Program, err = sdboot.Read(content); err != nil {
		return step{}, fmt.Errorf("that of the release: %w", err)
	}
	c.first, c.second = look(u.Fallback, sdboot.Fallback), look(u.Second, sdboot.Second)
	path, info := u.Variables.StartedBy()
	c.started = c.second.err == nil && info == c.second.Info() &&
		strings.EqualFold(strings.ReplaceAll(path, `\`, "/"), "/"+sdboot.Second)
	return plan(c)
}

// look reads the program in one of the places.
func look(d entries.Dir, name string) installed {
	f, err := d.Open(path.Base(name))
	if err != nil {
		return installed{err: err}
	}
	defer f.Close()
	content, err := io.ReadAll(io.NewSectionReader(f, 0, math.MaxInt64))
	if err != nil {
		return installed{err: err}
	}
	p, err := sdboot.Read(content)
	return installed{p, err}
}

// plan never touches a place while the other one has nothing that starts.
func plan(c copies) (step, error) {
	for name, l := range map[string]installed{sdboot.Fallback: c.first, sdboot.Second: c.second} {
		if errors.Is(l.err, sdboot.ErrForeign) {
			return step{}, fmt.Errorf("%s: %w; both are left as they are", name, l.err)
		}
	}
	fresh, first, second := &c.fresh.Program, &c.first.Program, &c.second.Program
	switch {
	case c.first.err != nil && c.started:
		return step{first: second, reason: "the first copy cannot be read"}, nil
	case c.first.err != nil && c.second.err == nil:
		return step{first: fresh, reason: "the first copy cannot be read"}, nil
	case c.first.err != nil:
		return step{first: fresh, second: fresh, reason: "neither copy can be read"}, nil
	}
	switch order := fresh.Compare(*first); {
	case order == 0 && !same(fresh, first):
		s := step{first: fresh, reason: "the first copy is damaged"}
		if !same(fresh, second) {
			s.second = fresh
		}
		return s, nil
	case order <= 0:
		// A newer second one is on trial, or was.
		if c.second.err != nil || second.Compare(*first) <= 0 && !same(first, second) {
			return step{second: first, reason: "the second copy is not like the first"}, nil
		}
		return step{}, nil
	case !same(fresh, second):
		return step{second: fresh, try: true, reason: "the release has a newer one"}, nil
	case c.started:
		return step{first: fresh, reason: "the new one has started this machine"}, nil
	}
	return step{try: true}, nil
}

func same(a, b *sdboot.Program) bool { return bytes.Equal(a.Content, b.Content) }

// apply writes the second place first.
func (u UEFI) apply(s step) (done string, err error) {
	for _, w := range []struct {
		to      entries.Dir
		name    string
		program *sdboot.Program
	}{{u.Second, sdboot.Second, s.second}, {u.Fallback, sdboot.Fallback, s.first}} {
		if w.program == nil {
			continue
		}
		if err := u.trusted(w.program); err != nil {
			return done, err
		}
		if err := replace(w.to, path.Base(w.name), w.program.Content, s.reason); err != nil {
			return done, err
		}
		done = fmt.Sprintf("%s is in %s now: %s", w.program.Info(), w.name, s.reason)
	}
	numbers, err := u.Variables.Ensure(
		efiboot.Entry{Name: entryNames[0], Partition: u.Partition, File: windows(sdboot.Fallback)},
		efiboot.Entry{Name: entryNames[1], Partition: u.Partition, File: windows(sdboot.Second)},
	)
	if err != nil {
		return done, fmt.Errorf("only %s starts this machine: %w", sdboot.Fallback, err)
	}
	if s.try {
		return u.try(numbers[1])
	}
	return done, nil
}

// windows is a path as firmware has it.
func windows(name string) string { return `\` + strings.ReplaceAll(name, "/", `\`) }

func (u UEFI) trusted(p *sdboot.Program) error {
	if u.Trust == nil {
		return nil
	}
	if err := u.Trust(bytes.NewReader(p.Content)); err != nil {
		return fmt.Errorf("%s is not installed: %w", p.Info(), err)
	}
	return nil
}

// try has the second place started once, unless that was in vain too often.
func (u UEFI) try(number uint16) (string, error) {
	l := look(u.Second, sdboot.Second)
	if l.err != nil {
		return "", l.err
	}
	if err := u.trusted(&l.Program); err != nil {
		return "", err
	}
	text, err := u.Tried()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(l.Content)
	id, count := hex.EncodeToString(sum[:]), 0
	if _, err := fmt.Sscanf(text, id+" %d", &count); err == nil && count >= Tries {
		return "", fmt.Errorf("%s was to start this machine %d times and did not; the one before stays", l.Info(), count)
	}
	if err := u.SetTried(fmt.Sprintf("%s %d", id, count+1)); err != nil {
		return "", err
	}
	if err := u.Variables.Next(number); err != nil {
		return "", err
	}
	return l.Info() + " in " + sdboot.Second + " is started the next time, on trial", nil
}

// replace puts a file in the place of another: written, on the disk, renamed.
func replace(d entries.Dir, name string, content []byte, reason string) error {
	const temporary = ".new"
	return entries.Apply(d, []entries.Step{
		{Kind: entries.Remove, File: name + temporary, Reason: "left by a power cut"},
		{Kind: entries.Write, File: name + temporary, Reason: reason},
		{Kind: entries.Sync},
		{Kind: entries.Rename, File: name + temporary, To: name, Reason: reason},
		{Kind: entries.Sync},
	}, bytes.NewReader(content))
}
