package decide

import (
	"cmp"
	"path"
	"slices"
)

// globs is the different patterns of one option, so that a pattern is compared
// with a name once and not with every unit on every machine, and only with
// names that have the text in them that is rarest among the patterns.
type globs struct {
	ids      map[string]int
	patterns []string
	built    bool             // the rest is; add comes before match
	always   []int            // patterns without text
	byText   map[string][]int // patterns by their rarest text
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
				g.ids = map[string]int{}
			}
			g.ids[pattern] = id
			g.patterns = append(g.patterns, pattern)
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// build makes the index.
func (g *globs) build() {
	g.built, g.byText = true, map[string][]int{}
	number := map[string]int{}
	for _, pattern := range g.patterns {
		for _, text := range texts(pattern) {
			number[text]++
		}
	}
	for id, pattern := range g.patterns {
		all := texts(pattern)
		if len(all) == 0 {
			g.always = append(g.always, id)
			continue
		}
		rarest := slices.MinFunc(all, func(a, b string) int {
			return cmp.Or(cmp.Compare(number[a], number[b]), cmp.Compare(len(b), len(a)))
		})
		g.byText[rarest] = append(g.byText[rarest], id)
		if !slices.Contains(g.lengths, len(rarest)) {
			g.lengths = append(g.lengths, len(rarest))
		}
	}
}

// texts are the pieces of a well-formed pattern that a name must have in it.
func texts(pattern string) []string {
	var all []string
	start := 0
	cut := func(end, next int) {
		if end > start {
			all = append(all, pattern[start:end])
		}
		start = next
	}
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*', '?':
			cut(i, i+1)
		case '\\': // the next one is text
			cut(i, i+1)
			i++
		case '[':
			end := i
			for ; end < len(pattern) && pattern[end] != ']'; end++ {
				if pattern[end] == '\\' {
					end++
				}
			}
			cut(i, min(end+1, len(pattern)))
			i = end
		}
	}
	cut(len(pattern), len(pattern))
	return all
}

// match gives the numbers of the patterns that the name matches.
func (g *globs) match(name string) []int {
	if !g.built {
		g.build()
	}
	var ids []int
	try := func(id int) {
		if ok, _ := path.Match(g.patterns[id], name); ok && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for _, id := range g.always {
		try(id)
	}
	for _, n := range g.lengths {
		for i := 0; i+n <= len(name); i++ {
			for _, id := range g.byText[name[i:i+n]] {
				try(id)
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
