package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/spelling"
	"github.com/coracle-os/coracle/rootfs/unit/syntax"
)

// source is one file: the file itself or a drop-in.
type source struct {
	file string
	text []byte
}

// reader collects what one file and its drop-ins say.
type reader struct {
	file     string // the source that is being read
	warnings []Warning
	hints    int
}

// maxHints bounds the words for which a better one is looked for: that takes
// more time than all the rest.
const maxHints = 100

func (r *reader) warn(line int, format string, args ...any) {
	r.warnings = append(r.warnings, Warning{File: r.file, Line: line, Text: fmt.Sprintf(format, args...)})
}

// section is one [Section] of a source with its assignments.
type section struct {
	name        string
	line        int
	assignments []syntax.Assignment // with the lines of the file
}

// each calls do for the sections of all sources in order. Package syntax is
// given a section at a time, since two [Route] sections are two routes.
func (r *reader) each(sources []source, do func(section)) {
	for _, source := range sources {
		r.file = source.file
		for _, part := range parts(string(source.text)) {
			file, err := syntax.Parse([]byte(part.text), nil)
			for _, warning := range file.Warnings {
				r.warn(part.line+warning.Line, "%s", warning.Text)
			}
			if err != nil {
				r.warn(part.line+1, "%v", err)
				continue
			}
			if part.name == "" || strings.HasPrefix(part.name, "X-") {
				continue
			}
			next := section{name: part.name, line: part.line + 1, assignments: file.Assignments}
			for i := range next.assignments {
				next.assignments[i].Line += part.line
			}
			do(next)
		}
	}
	r.file = sources[0].file
}

// part is the text of a section; line is the number of its first line, minus 1.
type part struct {
	name, text string
	line       int
}

// parts cuts a text in front of every line that begins a section.
func parts(text string) []part {
	all := []part{{}}
	number, begin, at, continued := 0, 0, 0, false
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "[") && !continued {
			all[len(all)-1].text = text[begin:at]
			name, _ := strings.CutSuffix(strings.TrimPrefix(trimmed, "["), "]")
			all, begin = append(all, part{line: number, name: name}), at
		}
		continued = strings.HasSuffix(trimmed, `\`)
		at += len(line)
		number++
	}
	all[len(all)-1].text = text[begin:]
	return all
}

// field takes one value. The error says what is wrong with it.
type field[T any] func(target *T, value string) error

// table are the known keys of a section.
type table[T any] map[string]field[T]

// fill gives target the assignments of a section. A bad one costs itself.
func fill[T any](r *reader, s section, known table[T], target *T) {
	for _, a := range s.assignments {
		set, ok := known[a.Key]
		if !ok {
			r.warn(a.Line, "%s= in [%s] is not supported%s", a.Key, s.name, r.hint(a.Key, slices.Collect(maps.Keys(known)), "="))
			continue
		}
		if err := set(target, a.Value); err != nil {
			r.warn(a.Line, "%s=: %v", a.Key, err)
		}
	}
}

// hint names what was meant by a word that is not known, by its case or its
// spelling; suffix is what a key has behind it.
func (r *reader) hint(word string, known []string, suffix string) string {
	for _, name := range known {
		if strings.EqualFold(name, word) {
			return "; write " + name + suffix
		}
	}
	if r.hints++; r.hints > maxHints {
		return ""
	}
	if best := spelling.Nearest(word, known); best != "" {
		return "; did you mean " + best + suffix + "?"
	}
	return ""
}

// unknown reports a section that is not one of known.
func (r *reader) unknown(s section, known ...string) {
	r.warn(s.line, "section [%s] is not supported%s", s.name, r.hint(s.name, known, ""))
}
