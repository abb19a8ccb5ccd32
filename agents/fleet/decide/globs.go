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
	byEnds   map[ends][]int
	lengths  [][2]int // of the ends
}

// ends is a pattern's text before the first and after the last special
// character. A name must begin and end so.
type ends struct{ prefix, suffix string }

func endsOf(pattern string) ends {
	const special = `*?[]\`
	first := strings.IndexAny(pattern, special)
	if first < 0 {
		return ends{prefix: pattern}
	}
	return ends{pattern[:first], pattern[strings.LastIndexAny(pattern, special)+1:]}
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
				g.ids, g.byEnds = map[string]int{}, map[ends][]int{}
			}
			g.ids[pattern] = id
			g.patterns = append(g.patterns, pattern)
			e := endsOf(pattern)
			g.byEnds[e] = append(g.byEnds[e], id)
			if n := [2]int{len(e.prefix), len(e.suffix)}; !slices.Contains(g.lengths, n) {
				g.lengths = append(g.lengths, n)
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
		if n[0]+n[1] > len(name) {
			continue
		}
		for _, id := range g.byEnds[ends{name[:n[0]], name[len(name)-n[1]:]}] {
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
