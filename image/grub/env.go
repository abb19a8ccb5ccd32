package grub

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

const (
	// EnvSize is the size of a copy of the state in bytes: one sector, which a
	// disk writes as a whole or not at all.
	EnvSize = 512
	// MaxEntries is how many entries a state has at most; the others are tried
	// last.
	MaxEntries = 3
	// ReleaseDigits is how much of a root hash is in a state.
	ReleaseDigits = 16
	// MaxTries is the highest number that boot.cfg counts down from.
	MaxTries = 3

	signature = "# GRUB Environment Block\n"
	goodWord  = "good"
)

// Names of the two copies, below Directory. GRUB writes the first one first.
var EnvNames = [2]string{"boot-1.env", "boot-2.env"}

// ErrEnv says that a file is no state, or a damaged one.
var ErrEnv = errors.New("not a boot state")

// A State is what GRUB works through, entry by entry.
type State struct {
	Generation uint32 // counts the writes of the running system; GRUB leaves it
	Entries    []Entry
}

// An Entry is one release in a State.
type Entry struct {
	Version string
	// Release is the start of the root hash, 16 digits: a second release of the
	// same version does not inherit the count of the first.
	Release string
	Good    bool // is not counted
	// Given is the number of tries when the state was written, Left that which
	// GRUB has left over. Both are 0 with Good.
	Given, Left int
}

// Encode returns a copy of the state, of EnvSize bytes. Entries that do not fit
// are left out from the end.
func (s State) Encode() []byte {
	for n := min(len(s.Entries), MaxEntries); ; n-- {
		if text := s.text(n); len(text) <= EnvSize {
			return []byte(text + strings.Repeat("#", EnvSize-len(text)))
		}
	}
}

func (s State) text(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%sgeneration=%d\n", signature, s.Generation)
	for i, e := range s.Entries[:n] {
		left := goodWord
		if !e.Good {
			left = strconv.Itoa(e.Left)
		}
		fmt.Fprintf(&b, "v%d=%s\nr%d=%s-%d\nl%d=%s\n", i+1, e.Version, i+1, e.Release, e.Given, i+1, left)
	}
	fmt.Fprintf(&b, "check=%s\nend=%d\n", s.check(n), s.Generation)
	return b.String()
}

// check is a sum of what GRUB does not change.
func (s State) check(n int) string {
	text := fmt.Sprint(s.Generation)
	for _, e := range s.Entries[:n] {
		text += fmt.Sprintf(" %s %s %d %t", e.Version, e.Release, e.Given, e.Good)
	}
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text)))
}

// Decode reads a copy of the state. What GRUB could not have left, and what a
// failing disk changed, is an error that wraps ErrEnv.
func Decode(data []byte) (State, error) {
	values, err := variables(data)
	if err != nil {
		return State{}, err
	}
	generation, err := strconv.ParseUint(values["generation"], 10, 32)
	if err != nil || values["end"] != values["generation"] {
		return State{}, fmt.Errorf("%w: it begins with generation %q and ends with %q", ErrEnv, values["generation"], values["end"])
	}
	s := State{Generation: uint32(generation)}
	for i := 1; i <= MaxEntries && values[fmt.Sprint("v", i)] != ""; i++ {
		e := Entry{Version: values[fmt.Sprint("v", i)]}
		given, left := "", values[fmt.Sprint("l", i)]
		e.Release, given, _ = strings.Cut(values[fmt.Sprint("r", i)], "-")
		if e.Given, err = strconv.Atoi(given); err != nil {
			return State{}, fmt.Errorf("%w: version %q: tries given: %w", ErrEnv, e.Version, err)
		}
		if e.Good = left == goodWord; !e.Good {
			if e.Left, err = strconv.Atoi(left); err != nil || e.Left < 0 || e.Left > e.Given {
				return State{}, fmt.Errorf("%w: version %q has %q tries left of %d", ErrEnv, e.Version, left, e.Given)
			}
		}
		s.Entries = append(s.Entries, e)
	}
	if want := s.check(len(s.Entries)); values["check"] != want {
		return State{}, fmt.Errorf("%w: its sum is %q, want %q", ErrEnv, values["check"], want)
	}
	return s, nil
}

// variables reads an environment block: lines of name=value, in which a
// backslash quotes the next character, up to the padding.
func variables(data []byte) (map[string]string, error) {
	text, ok := strings.CutPrefix(string(data), signature)
	if !ok || len(data) != EnvSize {
		return nil, fmt.Errorf("%w: want %d bytes that begin with %q", ErrEnv, EnvSize, signature)
	}
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			return nil, fmt.Errorf("%w: line %q is no assignment", ErrEnv, line)
		}
		values[name] = value
	}
	return values, nil
}

// Latest returns the state that GRUB goes by: that of the higher generation,
// and the first of equal ones. An error says that neither copy can be read.
func Latest(first, second []byte) (State, error) {
	a, errA := Decode(first)
	b, errB := Decode(second)
	switch {
	case errA != nil && errB != nil:
		return State{}, errors.Join(errA, errB)
	case errA != nil || errB == nil && b.Generation > a.Generation:
		return b, nil
	}
	return a, nil
}
