// Package syntax takes a unit file apart into assignments; it is used by the
// loader and by rootfs/install. systemd.syntax(7).
//
// coreos/go-systemd's unit.Deserialize was compared: it has no line numbers,
// keeps the backslash and newline of a continued line, ends with an error at
// a line without "=" or over 2048 bytes, and stops a comment's continuation
// elsewhere than systemd does. Warnings with file and line and the rule that a
// bad line costs only itself need code of our own.
package syntax

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxLine is the longest line that is read, in bytes, continuations included.
const MaxLine = 1 << 20

// Assignment is one KEY=VALUE, blanks around both dropped.
type Assignment struct {
	Section, Key, Value string
	Line                int // 1-based; of the first line if it is continued
}

// Warning is a line that was ignored.
type Warning struct {
	Line int
	Text string
}

// Error is a fault that makes the whole file unusable.
type Error struct {
	Line int
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

// File is a parsed file.
type File struct {
	Assignments []Assignment
	Warnings    []Warning
}

// Parse reads a file. Sections that are not in known are ignored, those whose
// names begin with X- silently. A nil known takes all.
func Parse(data []byte, known []string) (File, error) {
	p := parser{known: known}
	text := strings.TrimPrefix(string(data), "\ufeff")
	var held string // a continued line up to here
	first, number := 0, 0
	for text != "" {
		var line string
		line, text = cutLine(text)
		number++
		trimmed := strings.TrimLeft(line, blank)
		if trimmed != "" && (trimmed[0] == '#' || trimmed[0] == ';') {
			continue
		}
		if held == "" {
			first = number
		}
		if len(held)+len(line) > MaxLine {
			return p.file, &Error{first, fmt.Sprintf("Line too long: at most %d bytes are read.", MaxLine)}
		}
		held += line
		if odd(held) {
			held = held[:len(held)-1] + " "
			if text != "" {
				continue
			}
		}
		if err := p.line(held, first); err != nil {
			return p.file, err
		}
		held = ""
	}
	if held != "" {
		return p.file, p.lineError(held, first)
	}
	return p.file, nil
}

const blank = " \t\n\r"

// cutLine cuts at LF, CR LF, CR or NUL.
func cutLine(s string) (line, rest string) {
	i := strings.IndexAny(s, "\n\r\x00")
	if i < 0 {
		return s, ""
	}
	n := 1
	if s[i] == '\r' && i+1 < len(s) && s[i+1] == '\n' {
		n = 2
	}
	return s[:i], s[i+n:]
}

// odd tells if s ends in an odd number of backslashes.
func odd(s string) bool {
	n := len(s) - len(strings.TrimRight(s, "\\"))
	return n%2 == 1
}

type parser struct {
	known   []string
	file    File
	section string
	ignored bool // inside a section that is not known
}

// lineError is line with a nil error of the right type.
func (p *parser) lineError(text string, number int) error {
	if err := p.line(text, number); err != nil {
		return err
	}
	return nil
}

func (p *parser) line(text string, number int) error {
	text = strings.Trim(text, blank)
	switch {
	case text == "":
		return nil
	case !utf8.ValidString(text):
		p.warn(number, "String is not UTF-8 clean, ignoring assignment: %q", text)
		return nil
	case text[0] == '[':
		return p.header(text, number)
	case p.section == "":
		if !p.ignored {
			p.warn(number, "Assignment outside of section. Ignoring.")
		}
		return nil
	}
	key, value, ok := strings.Cut(text, "=")
	key = strings.TrimRight(key, blank)
	switch {
	case !ok:
		p.warn(number, "Missing '=', ignoring line.")
	case key == "":
		p.warn(number, "Missing key name before '=', ignoring line.")
	default:
		value = strings.TrimLeft(value, blank)
		p.file.Assignments = append(p.file.Assignments, Assignment{p.section, key, value, number})
	}
	return nil
}

func (p *parser) header(text string, number int) error {
	if text[len(text)-1] != ']' {
		return &Error{number, fmt.Sprintf("Invalid section header '%s': it must end in ']'.", text)}
	}
	p.section, p.ignored = text[1:len(text)-1], false
	if p.known == nil || slices.Contains(p.known, p.section) {
		return nil
	}
	if !strings.HasPrefix(p.section, "X-") {
		p.warn(number, "Unknown section '%s'. Ignoring.", p.section)
	}
	p.section, p.ignored = "", true
	return nil
}

func (p *parser) warn(line int, format string, args ...any) {
	p.file.Warnings = append(p.file.Warnings, Warning{line, fmt.Sprintf(format, args...)})
}

// Bool reads a boolean.
func Bool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, fmt.Errorf("Failed to parse boolean value, ignoring: %s (write yes or no)", s)
}
