// Package cmdline reads the kernel's command line for stage 1, by the rules of
// the kernel's own parser (lib/cmdline.c, next_arg): words are separated by
// white space, double quotes protect white space, and "-" and "_" are the same
// in a name.
//
// It is our own because the command line is outside input to the first process
// of the machine: u-root's pkg/cmdline reads only /proc/cmdline, so it cannot
// be tested with values, and it panics on an argument that ends in a single
// quote mark.
package cmdline

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Arg is one word of the command line.
type Arg struct {
	Name     string // as written
	Value    string // without its quotes; "" if there is none
	HasValue bool   // whether there was a "="
}

// Args is the command line in its order.
type Args []Arg

// Parse splits a command line. It accepts every input, as the kernel does.
func Parse(line string) Args {
	var args Args
	for line = strings.TrimLeft(line, " \t\n\r"); line != ""; line = strings.TrimLeft(line, " \t\n\r") {
		var word string
		word, line = nextWord(line)
		// The kernel takes one pair of quotes off the whole word or the value.
		quoted := strings.HasPrefix(word, `"`)
		if quoted {
			word = strings.TrimSuffix(word[1:], `"`)
		}
		name, value, hasValue := strings.Cut(word, "=")
		if !quoted && strings.HasPrefix(value, `"`) {
			value = strings.TrimSuffix(value[1:], `"`)
		}
		args = append(args, Arg{Name: name, Value: value, HasValue: hasValue})
	}
	return args
}

func nextWord(line string) (word, rest string) {
	quoted := false
	for i := range len(line) {
		switch line[i] {
		case '"':
			quoted = !quoted
		case ' ', '\t', '\n', '\r':
			if !quoted {
				return line[:i], line[i:]
			}
		}
	}
	return line, ""
}

// Lookup gives the value of the last argument with the name.
func (a Args) Lookup(name string) (value string, found bool) {
	for _, arg := range a {
		if same(arg.Name, name) {
			value, found = arg.Value, true
		}
	}
	return value, found
}

// Bool is true if the name stands alone or with a value that means yes.
func (a Args) Bool(name string) bool {
	for i := len(a) - 1; i >= 0; i-- {
		if !same(a[i].Name, name) {
			continue
		}
		switch strings.ToLower(a[i].Value) {
		case "0", "no", "false", "off":
			return false
		}
		return true
	}
	return false
}

func same(a, b string) bool {
	return strings.ReplaceAll(a, "-", "_") == strings.ReplaceAll(b, "-", "_")
}

// Errors of RootHash.
var (
	ErrNoRootHash    = errors.New("the kernel command line has no roothash=: boot a Coracle UKI, or give the root hash of the image")
	ErrManyRootHashs = errors.New("the kernel command line has two different roothash= values: remove the one that was added to the UKI's own")
)

// RootHash gives the SHA-256 root hash of the release from "roothash=". Two
// different values are an error: that is either an accident or an attempt to
// boot another root than the one that the UKI was made for.
func (a Args) RootHash() ([32]byte, error) {
	var hash [32]byte
	found := false
	for _, arg := range a {
		if !same(arg.Name, "roothash") {
			continue
		}
		var next [32]byte
		if len(arg.Value) != 2*len(next) {
			return hash, fmt.Errorf("read roothash=%q: %d characters, want %d hexadecimal digits (SHA-256)", arg.Value, len(arg.Value), 2*len(next))
		}
		if _, err := hex.Decode(next[:], []byte(arg.Value)); err != nil {
			return hash, fmt.Errorf("read roothash=%q: %w", arg.Value, err)
		}
		if found && next != hash {
			return hash, ErrManyRootHashs
		}
		hash, found = next, true
	}
	if !found {
		return hash, ErrNoRootHash
	}
	return hash, nil
}
