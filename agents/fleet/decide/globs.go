package decide

import (
	"path"
	"slices"
	"strings"
)

// globs is the different patterns of one option, so that a pattern is compared
// with a name once and not with every unit on every machine.
type globs struct {
	ids      map[string]int
	patterns []string
	byPrefix map[string][]int // the text before the first special character
	lengths  []int            // of those texts
}

// links is what a unit has to do with patterns.
type links struct {
	carries []int // patterns in its own option
	matches []int // patterns of any unit that its name matches
}

// add gives the numbers of patterns. One that is malformed matches nothing.
func (g *globs) add(patterns []string) []int {
	var ids []int
	for _, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil {
			continue
		}
		id, ok := g.ids[pattern]
		if !ok {
			id = len(g.patterns)
			if g.ids == nil {
				g.ids, g.byPrefix = map[string]int{}, map[string][]int{}
			}
			g.ids[pattern] = id
			g.patterns = append(g.patterns, pattern)
			literal := pattern
			if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
				literal = pattern[:i]
			}
			g.byPrefix[literal] = append(g.byPrefix[literal], id)
			if !slices.Contains(g.lengths, len(literal)) {
				g.lengths = append(g.lengths, len(literal))
			}
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// match gives the numbers of the patterns that the name matches.
func (g *globs) match(name string) []int {
	var ids []int
	for _, n := range g.lengths {
		if n > len(name) {
			continue
		}
		for _, id := range g.byPrefix[name[:n]] {
			if ok, _ := path.Match(g.patterns[id], name); ok {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// counts is how many units on a machine carry and match a pattern.
type counts struct {
	carry, match map[int]int
}

func (c *counts) put(l links) {
	if len(l.carries)+len(l.matches) == 0 {
		return
	}
	if c.carry == nil {
		c.carry, c.match = map[int]int{}, map[int]int{}
	}
	for _, id := range l.carries {
		c.carry[id]++
	}
	for _, id := range l.matches {
		c.match[id]++
	}
}

// matched tells whether a unit on the machine matches what l carries.
func (c *counts) matched(l links) bool {
	return slices.ContainsFunc(l.carries, func(id int) bool { return c.match[id] > 0 })
}

// carried tells whether a unit on the machine carries what l matches.
func (c *counts) carried(l links) bool {
	return slices.ContainsFunc(l.matches, func(id int) bool { return c.carry[id] > 0 })
}

// meets tells whether two different units have to do with each other, from a to b.
func meets(a, b links) bool {
	return slices.ContainsFunc(a.carries, func(id int) bool { return slices.Contains(b.matches, id) })
}
