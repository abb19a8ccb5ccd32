package transaction

import (
	"fmt"
	"slices"
	"strings"
)

// next returns the units of the transaction, or with a queued job, whose jobs
// run after that of a unit.
func (b *builder) next(name string) []string {
	g := b.w.Graph
	var list []string
	add := func(others []string, before bool) {
		for _, other := range others {
			for _, x := range b.typesOf(name) {
				for _, y := range b.typesOf(other) {
					if Precedes(x, y, before) && !slices.Contains(list, other) {
						list = append(list, other)
					}
				}
			}
		}
	}
	add(g.Before(name), true)
	add(g.After(name), false)
	return list
}

// typesOf returns the jobs of a unit: those of the transaction, or the queued
// one.
func (b *builder) typesOf(name string) []Job {
	var list []Job
	for _, n := range b.jobs[name] {
		list = append(list, Job{Unit: name, Type: n.typ, IgnoreOrder: b.req.Mode == IgnoreDependencies})
	}
	if q, ok := b.w.Queued[name]; ok && list == nil {
		list = append(list, q)
	}
	return list
}

// breakCycles drops jobs that do not matter until no job waits for itself.
func (b *builder) breakCycles() error {
	for {
		b.dropOrphans()
		cycle := b.cycle()
		if cycle == nil {
			return nil
		}
		path := describe(cycle)
		victim := b.victim(cycle)
		if victim == "" {
			return &Error{Cyclic, b.plan.Anchor, fmt.Sprintf("Transaction order is cyclic: %s. Unable to break the cycle starting with %s/%s: remove a Before= or After= of one of them.", path, b.plan.Anchor, b.req.Type)}
		}
		b.warnCycle(cycle, victim)
		for _, n := range slices.Clone(b.jobs[victim]) {
			if slices.Contains(b.jobs[victim], n) {
				b.drop(n, true)
			}
		}
	}
}

// warnCycle names a cycle as systemd does, from one unit to what that is ordered
// after, and so on; a long one is cut.
func (b *builder) warnCycle(cycle []string, victim string) {
	first, what := cycle[0], "ordering cycle"
	list := append(slices.Clone(cycle[1:]), first)
	slices.Reverse(list[:len(list)-1])
	for i, name := range list {
		if i == 20 {
			b.plan.Warnings = append(b.plan.Warnings, fmt.Sprintf("%s: Found dependency on %d more", first, len(list)-i))
			break
		}
		t := Type(Start)
		if types := b.typesOf(name); len(types) > 0 {
			t = types[0].Type
		}
		b.plan.Warnings = append(b.plan.Warnings, fmt.Sprintf("%s: Found %s on %s/%s", first, what, name, t))
		what = "dependency"
	}
	b.plan.Warnings = append(b.plan.Warnings, fmt.Sprintf("%s: Job %s/%s deleted to break ordering cycle starting with %s/%s",
		first, victim, b.jobs[victim][0].typ, b.plan.Anchor, b.req.Type))
}

// describe writes a cycle for people; a long one is cut in the middle.
func describe(cycle []string) string {
	list := append(slices.Clone(cycle), cycle[0])
	if len(list) > 20 {
		list = append(append(slices.Clone(list[:10]), fmt.Sprintf("(%d more)", len(list)-20)), list[len(list)-10:]...)
	}
	return strings.Join(list, " before ")
}

// victim returns the last unit of a cycle without which the anchor can be.
func (b *builder) victim(cycle []string) string {
	for _, name := range slices.Backward(cycle) {
		list := b.jobs[name]
		if len(list) > 0 && !slices.ContainsFunc(list, func(n *node) bool { return n.matters }) {
			return name
		}
	}
	return ""
}

// cycle returns the units of one ordering cycle, nil if there is none. It keeps
// its own stack: a chain of units may be long.
func (b *builder) cycle() []string {
	const open, closed = 1, 2
	state := map[string]int{}
	type frame struct {
		name string
		next []string
	}
	for _, start := range b.order {
		if state[start] != 0 {
			continue
		}
		stack := []frame{{start, b.next(start)}}
		state[start] = open
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if len(top.next) == 0 {
				state[top.name] = closed
				stack = stack[:len(stack)-1]
				continue
			}
			to := top.next[0]
			top.next = top.next[1:]
			switch state[to] {
			case 0:
				state[to] = open
				stack = append(stack, frame{to, b.next(to)})
			case open:
				var names []string
				for i := len(stack) - 1; ; i-- {
					names = append(names, stack[i].name)
					if stack[i].name == to {
						slices.Reverse(names)
						return names
					}
				}
			}
		}
	}
	return nil
}

// sorted returns the units in an order in which their jobs can run, otherwise
// as they came.
func (b *builder) sorted() []string {
	var list []string
	waits := map[string]int{}
	after := map[string][]string{}
	for _, name := range b.order {
		for _, to := range b.next(name) {
			if b.jobs[to] != nil {
				waits[to]++
				after[name] = append(after[name], to)
			}
		}
	}
	for len(list) < len(b.order) {
		before := len(list)
		for _, name := range b.order {
			if waits[name] == 0 {
				waits[name] = -1
				list = append(list, name)
				for _, to := range after[name] {
					waits[to]--
				}
			}
		}
		if len(list) == before {
			break // cannot be: there are no cycles
		}
	}
	return list
}
