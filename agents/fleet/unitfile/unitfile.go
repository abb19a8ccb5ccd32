// Package unitfile is the text of a fleet unit: its name, its options, its
// hash and what its [X-Fleet] section asks for. The API, fleetctl and the
// registry all read units through it, each content once.
//
// The lines are taken apart by coreos/go-systemd, as fleet's were, so that
// hashes and the text that "fleetctl cat" prints are the same as fleet's:
// comments and blanks around "=" are dropped and options are grouped by
// section. Sections other than [X-Fleet] are the machine's init's business and
// are not looked at. Where go-systemd is vague this package is strict, because
// a unit that changes when it is written and read again would never be in
// step: see Parse.
//
// [X-Fleet] means what it meant in fleet 0.10 to 1.0, with CPU=, Memory=,
// Replicas=, SpreadOver=, MaxPerMachine= and Fence= added. Left out on
// purpose: signatures, and the resource options of fleet before 0.9.
package unitfile

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/unit"
)

// MaxSize is the longest unit file, in bytes. A unit travels as JSON in one
// etcd request, which may be 1.5 MiB, and JSON may be six times the text.
const MaxSize = 256 << 10

// What is wrong with a file as a whole. ErrLineTooLong has go-systemd's text.
var (
	ErrTooLarge    = fmt.Errorf("unit file too large (max %d bytes): keep scripts and data in an image or a file of their own", MaxSize)
	ErrNUL         = errors.New("unit file has a NUL byte: it is not text")
	ErrNotUTF8     = errors.New("unit file is not UTF-8: convert it, for example with iconv -t UTF-8")
	ErrLineTooLong = unit.ErrLineTooLong
)

// Option is one assignment. Its JSON form is that of fleet's API.
type Option struct {
	Section string `json:"section"`
	Name    string `json:"name"`
	Value   string `json:"value"`
}

// File is a parsed unit file. The zero File is empty.
type File struct {
	options []Option // grouped by section, in order of the sections' first appearance
}

// Parse reads a unit file. Assignments before the first section are ignored, a
// line without "=" is an error, a line of 2048 bytes is ErrLineTooLong, and a
// continued line keeps its backslash and newline. CR LF counts as a newline.
//
// Parsing what String returns gives the same File. So what cannot be written
// back is an error: a NUL byte, text that is not UTF-8, a newline in a
// section's name, and a backslash that is the last of a line but for blanks.
func Parse(data []byte) (File, error) {
	switch {
	case len(data) > MaxSize:
		return File{}, ErrTooLarge
	case bytes.IndexByte(data, 0) >= 0:
		return File{}, ErrNUL
	case !utf8.Valid(data):
		return File{}, ErrNotUTF8
	}
	data = append(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")), '\n')
	for line := range bytes.Lines(data) {
		// go-systemd looks only at what its buffer happens to hold.
		if len(line) > unit.SYSTEMD_LINE_MAX {
			return File{}, ErrLineTooLong
		}
	}
	parsed, err := unit.DeserializeOptions(bytes.NewReader(data))
	if err != nil {
		return File{}, err
	}
	options := make([]Option, len(parsed))
	for i, o := range parsed {
		options[i] = Option(*o)
		if strings.ContainsAny(o.Section, "\n\r") {
			return File{}, fmt.Errorf("unable to find end of section: the line %q has no \"]\"", "["+firstLine(o.Section))
		}
		if strings.HasSuffix(o.Value, `\`) {
			return File{}, fmt.Errorf("option %s in section [%s] has blanks after the backslash that ends its line: remove them", o.Name, o.Section)
		}
	}
	f := File{options: group(options)}
	if len(f.String()) > MaxSize { // a blank line between sections is added
		return File{}, ErrTooLarge
	}
	return f, nil
}

// FromOptions is the file with these options. It is an error when an option
// would be another one after it was written to a file.
func FromOptions(options []Option) (File, error) {
	want := group(options)
	text := serialize(want)
	f, err := Parse([]byte(text))
	if err != nil {
		return File{}, err
	}
	for i, o := range want {
		if i >= len(f.options) || f.options[i] != o {
			return File{}, fmt.Errorf("option %q in section %q cannot be written to a unit file: it has a newline, a bracket, a comment sign or blanks where none may be", o.Name, o.Section)
		}
	}
	if len(f.options) != len(want) {
		return File{}, fmt.Errorf("option %q is not in the list, but would be in the unit file: a value has a newline without a backslash", f.options[len(want)].Name)
	}
	return f, nil
}

// Options are the file's options, grouped by section. The slice is a copy.
func (f File) Options() []Option { return slices.Clone(f.options) }

// Values are all values of an option, in order.
func (f File) Values(section, name string) []string {
	var values []string
	for _, o := range f.options {
		if o.Section == section && o.Name == name {
			values = append(values, o.Value)
		}
	}
	return values
}

// Description is the first Description= of the section [Unit]; "" if it has none.
func (f File) Description() string {
	if values := f.Values("Unit", "Description"); len(values) > 0 {
		return values[0]
	}
	return ""
}

// String is the file as it is stored and given to machines.
func (f File) String() string { return serialize(f.options) }

// Hash is the SHA-1 of String in 40 hex digits. People see the first 7.
func (f File) Hash() string {
	sum := sha1.Sum([]byte(f.String()))
	return hex.EncodeToString(sum[:])
}

// serialize writes options that are grouped by section.
func serialize(options []Option) string {
	list := make([]*unit.UnitOption, len(options))
	for i, o := range options {
		list[i] = unit.NewUnitOption(o.Section, o.Name, o.Value)
	}
	var text strings.Builder
	_, _ = io.Copy(&text, unit.Serialize(list)) // memory to memory
	return text.String()
}

// group sorts by the sections' first appearance and keeps the order within.
func group(options []Option) []Option {
	rank := map[string]int{}
	for _, o := range options {
		if _, ok := rank[o.Section]; !ok {
			rank[o.Section] = len(rank)
		}
	}
	grouped := slices.Clone(options)
	slices.SortStableFunc(grouped, func(a, b Option) int { return rank[a.Section] - rank[b.Section] })
	return grouped
}

// firstLine is s up to its first newline.
func firstLine(s string) string {
	if i := strings.IndexAny(s, "\n\r"); i >= 0 {
		return s[:i]
	}
	return s
}
