package decide

// circle is units that replace each other, each the next one. fleet looked at
// pairs only and moved the others round and round; here one of them runs.
type circle struct{ members []*unit }

// findCircles finds the strongly connected parts (Tarjan's algorithm) of the
// graph from units to the patterns in their Replaces= and from patterns to the
// units that match, so that the work grows with the matches, not with pairs.
func (w *world) findCircles() {
	f := finder{matched: make([][]*unit, len(w.replaces.patterns)), number: map[any]int{}, low: map[any]int{}, open: map[any]bool{}}
	for _, u := range w.units {
		for _, id := range u.replace.matches {
			f.matched[id] = append(f.matched[id], u)
		}
	}
	for _, u := range w.units {
		if len(u.replace.carries) > 0 && len(u.replace.matches) > 0 && f.number[u] == 0 {
			f.visit(u)
		}
	}
}

// finder is one search. Its nodes are *unit and int, a pattern's number.
type finder struct {
	matched [][]*unit
	number  map[any]int // order of visits, from 1
	low     map[any]int
	open    map[any]bool
	stack   []any
}

func (f *finder) visit(node any) {
	f.number[node] = len(f.number) + 1
	f.low[node] = f.number[node]
	f.stack = append(f.stack, node)
	f.open[node] = true
	if u, ok := node.(*unit); ok {
		for _, id := range u.replace.carries {
			f.follow(node, id)
		}
	} else {
		for _, u := range f.matched[node.(int)] {
			f.follow(node, u)
		}
	}
	if f.low[node] == f.number[node] {
		f.close(node)
	}
}

func (f *finder) follow(from, to any) {
	if f.number[to] == 0 {
		f.visit(to)
		f.low[from] = min(f.low[from], f.low[to])
	} else if f.open[to] {
		f.low[from] = min(f.low[from], f.number[to])
	}
}

// close takes a part from the stack; two units in it are a circle.
func (f *finder) close(first any) {
	c := &circle{}
	for {
		last := f.stack[len(f.stack)-1]
		f.stack = f.stack[:len(f.stack)-1]
		f.open[last] = false
		if u, ok := last.(*unit); ok {
			c.members = append(c.members, u)
		}
		if last == first {
			break
		}
	}
	if len(c.members) > 1 {
		for _, u := range c.members {
			u.circle = c
		}
	}
}

// displaces tells whether u makes other leave its machine.
func (u *unit) displaces(other *unit) bool {
	return u != other && (u.circle == nil || u.circle != other.circle) && meets(u.replace, other.replace)
}

// rival is a unit of u's circle that has a machine; nil if there is none.
func (u *unit) rival() *unit {
	if u.circle == nil {
		return nil
	}
	for _, other := range u.circle.members {
		if other != u && len(other.on)+len(other.held) > 0 {
			return other
		}
	}
	return nil
}
