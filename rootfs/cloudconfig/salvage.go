package cloudconfig

import (
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// block is a run of lines, [from, to), counted from 0.
type block struct {
	from, to int
	name     string
}

// Patterns of a line that begins a top-level section, a section below one, and
// a list entry; what follows the indentation is the same for every depth.
const (
	key      = `["']?([A-Za-z_][\w-]*)["']?\s*:(\s|$)`
	listItem = `-(\s|$)`
)

// salvage finds the sections of a document with a syntax error that can be
// read by themselves, and returns the root of what is left and a message for
// each part that is not applied. A part is a top-level section, a section of
// coreos, or one entry of a list: applying half of an entry (a file without its
// permissions) would be worse than leaving it out.
func salvage(data []byte, errorLine int) (*yaml.Node, plan.Report) {
	var report plan.Report
	s := salvager{lines: strings.Split(string(data), "\n"), report: &report}
	s.sections(split(s.lines, block{from: 1, to: len(s.lines)}, regexp.MustCompile(`^`+key)))
	root, _, err := parseYAML([]byte(strings.Join(s.lines, "\n")))
	if err != nil || (root != nil && root.Kind != yaml.MappingNode) {
		report = nil
		report.Add(plan.Position{Line: errorLine}, plan.Error, "nothing of the document can be read; correct it and restart the machine")
		return nil, report
	}
	return root, report
}

type salvager struct {
	lines  []string
	report *plan.Report
}

// sections blanks every block that can not be read, after trying to keep the
// readable entries of its list or, for coreos, its sections.
func (s *salvager) sections(blocks []block) {
	for _, b := range blocks {
		if s.readable(b) {
			continue
		}
		if b.name == "" || !s.split(b) {
			s.drop(b)
		}
	}
}

// split keeps the readable parts of a section and reports whether it could.
func (s *salvager) split(b block) bool {
	inner := block{from: b.from + 1, to: b.to}
	first := s.firstLine(inner)
	switch {
	case first < 0:
		return false
	case regexp.MustCompile(`^\s*` + listItem).MatchString(s.lines[first]):
		s.items(b.name, split(s.lines, inner, atIndent(listItem, s.lines[first])))
	case b.name == "coreos" && regexp.MustCompile(`^\s+`+key).MatchString(s.lines[first]):
		s.sections(split(s.lines, inner, atIndent(key, s.lines[first])))
	default:
		return false
	}
	if s.firstLine(inner) < 0 { // nothing is left of it
		s.lines[b.from] = ""
	}
	return s.readable(b)
}

func (s *salvager) items(name string, items []block) {
	for i, item := range items {
		if !s.readable(item) {
			item.name = name + "[" + strconv.Itoa(i) + "]"
			s.drop(item)
		}
	}
}

func (s *salvager) drop(b block) {
	first, last := s.firstLine(b)+1, b.to
	for last > first && strings.TrimSpace(s.lines[last-1]) == "" {
		last--
	}
	for i := b.from; i < b.to; i++ {
		s.lines[i] = ""
	}
	switch {
	case first == 0: // only comments
	case b.name == "":
		s.report.Add(plan.Position{Line: first}, plan.Error, "lines %d to %d can not be read and are not applied", first, last)
	default:
		s.report.Add(plan.Position{Line: first}, plan.Error, "%q (lines %d to %d) can not be read and is not applied", b.name, first, last)
	}
}

func (s *salvager) readable(b block) bool {
	root, more, err := parseYAML([]byte(strings.Join(s.lines[b.from:b.to], "\n")))
	if err != nil || more || root == nil {
		return err == nil && !more
	}
	// What is neither mapping nor list is stray text.
	return root.Kind == yaml.MappingNode || root.Kind == yaml.SequenceNode
}

// firstLine returns the first line of b that has content, or -1.
func (s *salvager) firstLine(b block) int {
	for i := b.from; i < b.to; i++ {
		text := strings.TrimSpace(s.lines[i])
		if text != "" && !strings.HasPrefix(text, "#") {
			return i
		}
	}
	return -1
}

// split cuts b before every line that matches; lines before the first match are
// a block without a name.
func split(lines []string, b block, start *regexp.Regexp) []block {
	var blocks []block
	current := block{from: b.from, to: b.from}
	for i := b.from; i < b.to; i++ {
		if match := start.FindStringSubmatch(lines[i]); match != nil {
			if current.to > current.from {
				blocks = append(blocks, current)
			}
			current = block{from: i, name: match[len(match)-2]}
		}
		current.to = i + 1
	}
	if current.to > current.from {
		blocks = append(blocks, current)
	}
	return blocks
}

// atIndent puts a pattern at the indentation of an example line.
func atIndent(pattern, line string) *regexp.Regexp {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	return regexp.MustCompile("^" + regexp.QuoteMeta(indent) + pattern)
}
