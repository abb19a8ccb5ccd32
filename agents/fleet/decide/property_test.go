package decide

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/fleet"
)

// TestProperties plays random clusters with machines that do as they are told,
// but in their own time, and checks every step against the rules, which are
// written here a second time and without indexes.
func TestProperties(t *testing.T) {
	for seed := range uint64(800) {
		c := chaos{Rand: rand.New(rand.NewPCG(seed, 1)), t: t, seed: seed}
		c.begin()
		for range 4 {
			for range 3 {
				c.pass(true)
			}
			c.disturb()
		}
		c.calm()
		if t.Failed() {
			return
		}
	}
}

// chaos is one random cluster.
type chaos struct {
	*rand.Rand
	t    *testing.T
	seed uint64
	s    fleet.Snapshot
}

func (c *chaos) one(choices ...string) string { return choices[c.IntN(len(choices))] }

func (c *chaos) begin() {
	c.s.Now = now
	for i := range 1 + c.IntN(5) {
		c.s.Machines = append(c.s.Machines, c.machine(i))
	}
	for _, name := range []string{"a.service", "b.service", "c.service", "d.service", "e@.service", "e@1.service", "e@2.service", "f@1.timer", "f@2.timer"} {
		if c.IntN(4) > 0 {
			c.s.Units = append(c.s.Units, c.unit(name))
		}
	}
	// Placements of all kinds that no engine would have made.
	for _, name := range []string{"a.service", "b.service", "e@2.service", "gone.service"} {
		for i := range 6 {
			if c.IntN(8) == 0 {
				c.s.Placements = append(c.s.Placements, fleet.Placement{Unit: name, Machine: fmt.Sprintf("m%d", i), Hash: c.one("h1", "h2"),
					State: fleet.JobState(c.one("inactive", "loaded", "launched"))})
			}
		}
	}
	c.report()
}

func (c *chaos) machine(i int) fleet.Machine {
	m := fleet.Machine{ID: fmt.Sprintf("m%d", i), CPU: int64(c.IntN(4)) * 1000, Memory: int64(c.IntN(5)), Metadata: map[string]string{}}
	if c.IntN(3) > 0 {
		m.Metadata["rack"] = c.one("r1", "r2")
	}
	if c.IntN(6) == 0 {
		m.Draining = "test"
	}
	return m
}

func (c *chaos) unit(name string) fleet.Unit {
	u := fleet.Unit{Name: name, Hash: c.one("h1", "h2"), Desired: fleet.JobState(c.one("inactive", "loaded", "launched", "launched", "launched"))}
	req := &u.Requirements
	switch c.IntN(10) {
	case 0:
		req.Global = true
	case 1:
		req.MachineID = c.one("m0", "m1")
	case 2, 3:
		req.MachineOf = []string{c.one("a.service", "b.service", "c.service", "e@1.service", "nobody.service")}
	case 4, 5:
		req.Replaces = []string{c.one("a.service", "*.service", "e@*", "d.service")}
	case 6, 7:
		req.Conflicts = []string{c.one("*.service", "e@*", "f@*", "a.service", "[")}
	}
	if c.IntN(3) == 0 {
		req.Metadata = map[string][]string{"rack": {c.one("r1", "r2", "r3"), "r2"}}
	}
	if c.IntN(3) == 0 {
		req.CPU, req.Memory = int64(c.IntN(3))*500, int64(c.IntN(3))
	}
	if c.IntN(4) == 0 && !req.Global && req.MachineID == "" {
		req.Replicas = 1 + c.IntN(4)
	}
	if c.IntN(4) == 0 && !req.Global {
		req.SpreadOver = "rack"
	}
	req.MaxPerMachine = max(0, c.IntN(5)-2)
	req.NoFence = c.IntN(6) == 0
	if c.IntN(3) == 0 {
		u.Rollout = &fleet.Rollout{Parallel: c.IntN(3), WaitHealthy: time.Minute, Previous: "h0"}
	}
	return u
}

// disturb changes something that people or fate change.
func (c *chaos) disturb() {
	switch c.IntN(5) {
	case 0:
		if i := c.IntN(6); c.s.Machine(fmt.Sprintf("m%d", i)) == nil {
			c.s.Machines = append(c.s.Machines, c.machine(i))
			slices.SortFunc(c.s.Machines, func(a, b fleet.Machine) int { return cmp.Compare(a.ID, b.ID) })
		}
	case 1:
		if n := len(c.s.Machines); n > 0 {
			c.s.Machines = slices.Delete(slices.Clone(c.s.Machines), 0, 1+c.IntN(n)/2)
		}
	case 2:
		if n := len(c.s.Machines); n > 0 {
			c.s.Machines = slices.Clone(c.s.Machines)
			i := c.IntN(n)
			draining := c.s.Machines[i].Draining
			c.s.Machines[i].Draining = map[bool]string{true: "", false: "test"}[draining != ""]
		}
	default:
		if n := len(c.s.Units); n > 0 {
			c.s.Units = slices.Clone(c.s.Units)
			i := c.IntN(n)
			c.s.Units[i] = c.unit(c.s.Units[i].Name)
		}
	}
}

// pass decides, checks and writes; machines do a part of their work if late. It
// gives the number of changes.
func (c *chaos) pass(late bool) int {
	r := Decide(&c.s)
	if diff := gocmp.Diff(r, Decide(clone(&c.s))); diff != "" {
		c.t.Fatalf("seed %d: two answers to one question: %s", c.seed, diff)
	}
	c.check(r)
	c.write(r.Tasks)
	if c.t.Failed() {
		c.t.Fatalf("seed %d: %+v\n%+v", c.seed, c.s, r)
	}
	before := len(c.s.Placements)
	c.s.Placements = slices.DeleteFunc(c.s.Placements, func(p fleet.Placement) bool {
		return p.State == fleet.Inactive && c.s.Machine(p.Machine) != nil && (!late || c.IntN(2) == 0)
	})
	c.report()
	c.s.Now = c.s.Now.Add(2 * time.Minute)
	return len(r.Tasks) + before - len(c.s.Placements)
}

// report is what the machines say: everything that was launched is active.
func (c *chaos) report() {
	c.s.States = nil
	for _, p := range c.s.Placements {
		if p.State == fleet.Launched && c.s.Machine(p.Machine) != nil {
			c.s.States = append(c.s.States, fleet.UnitState{Unit: p.Unit, Machine: p.Machine, Hash: p.Hash, Active: "active", Since: c.s.Now})
		}
	}
}

// write carries the tasks out one by one, as the engine's transactions do.
func (c *chaos) write(tasks []fleet.Task) {
	for _, task := range tasks {
		p := task.Placement
		i, found := slices.BinarySearchFunc(c.s.Placements, p, func(a, b fleet.Placement) int {
			return cmp.Or(cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Machine, b.Machine))
		})
		if found == (task.Kind == fleet.Place) {
			c.t.Errorf("%s of %s on %s: placement there: %v", task.Kind, p.Unit, p.Machine, found)
			return
		}
		switch task.Kind {
		case fleet.Place:
			c.checkToken(p)
			c.checkRoom(p)
			c.s.Placements = slices.Insert(slices.Clone(c.s.Placements), i, p)
		case fleet.Remove:
			if c.s.Machine(p.Machine) != nil {
				c.t.Errorf("Remove of %s from %s, which is alive", p.Unit, p.Machine)
			}
			c.s.Placements = slices.Delete(slices.Clone(c.s.Placements), i, i+1)
		default:
			if c.s.Placements[i] == p || c.s.Placements[i].State == fleet.Inactive {
				c.t.Errorf("%s of %s on %s from %v", task.Kind, p.Unit, p.Machine, c.s.Placements[i])
			}
			c.s.Placements = slices.Clone(c.s.Placements)
			c.s.Placements[i] = p
		}
	}
}

// checkToken checks that nobody else has a token of a fenced unit.
func (c *chaos) checkToken(p fleet.Placement) {
	u := find(Expand(c.s.Units), p.Unit)
	if u == nil || u.Desired == fleet.Inactive || u.Requirements.Global || u.Requirements.NoFence {
		return
	}
	most := 1
	if fleet.TemplateOf(u.Name) == "" {
		most = max(1, u.Requirements.Replicas)
	}
	for _, other := range c.s.Placements {
		if other.Unit == p.Unit {
			most--
		}
	}
	if most <= 0 {
		c.t.Errorf("%s is placed on %s while there are tokens of it", p.Unit, p.Machine)
	}
}

// checkRoom checks that a machine has what the units that stay on it ask for.
func (c *chaos) checkRoom(p fleet.Placement) {
	units, m := Expand(c.s.Units), c.s.Machine(p.Machine)
	req := find(units, p.Unit).Requirements
	cpu, memory := req.CPU, req.Memory
	for _, other := range c.s.Placements {
		if u := find(units, other.Unit); u != nil && other.Machine == p.Machine && other.State != fleet.Inactive {
			cpu, memory = cpu+u.Requirements.CPU, memory+u.Requirements.Memory
		}
	}
	if req.CPU > 0 && cpu > m.CPU || req.Memory > 0 && memory > m.Memory {
		c.t.Errorf("%s is placed on %s, which has not the room", p.Unit, p.Machine)
	}
}

// check looks at the form of a result.
func (c *chaos) check(r Result) {
	for _, task := range r.Tasks {
		if task.Reason == "" || (task.Kind == fleet.Place || task.Kind == fleet.Change) && c.s.Machine(task.Placement.Machine) == nil {
			c.t.Errorf("bad task %v", task)
		}
	}
}

// calm plays till nothing is left to do and compares the end with the rules.
func (c *chaos) calm() {
	for n := 0; c.pass(false) > 0; n++ {
		if n == 100 {
			c.t.Fatalf("seed %d: there is no end: %+v\n%+v", c.seed, c.s, Decide(&c.s))
		}
	}
	r := Decide(&c.s)
	units := Expand(c.s.Units)
	for i := range units {
		u := &units[i]
		on := 0
		for _, p := range c.s.Placements {
			if p.Unit != u.Name {
				continue
			}
			on++
			if p.Hash != u.Hash || p.State != u.Desired {
				c.t.Errorf("%s on %s is not as wanted: %v", u.Name, p.Machine, p)
			}
			if why := c.refuses(units, u, c.s.Machine(p.Machine), true); why != "" {
				c.t.Errorf("%s is on %s: %s", u.Name, p.Machine, why)
			}
		}
		want := wanted(u, len(c.s.Machines))
		if on > want {
			c.t.Errorf("%s has %d placements, want %d", u.Name, on, want)
		}
		if on < want && !u.Requirements.Global && r.Unplaced[u.Name] == "" {
			c.t.Errorf("%s has no machine and no reason", u.Name)
		}
		if on >= want || len(u.Requirements.Replaces)+len(u.Requirements.MachineOf) > 0 {
			continue
		}
		for j := range c.s.Machines {
			if m := &c.s.Machines[j]; c.refuses(units, u, m, false) == "" {
				c.t.Errorf("%s could be placed on %s: %s", u.Name, m.ID, r.Unplaced[u.Name])
			}
		}
	}
	if c.t.Failed() {
		c.t.Fatalf("seed %d: %+v\n%+v", c.seed, c.s, r)
	}
}

// refuses is the rules once more: may the unit be there (placed), or come there?
func (c *chaos) refuses(units []fleet.Unit, u *fleet.Unit, m *fleet.Machine, placed bool) string {
	req := u.Requirements
	if m == nil || m.Draining != "" {
		return "drained or dead"
	}
	if req.MachineID != "" && req.MachineID != m.ID {
		return "id"
	}
	for key, values := range req.Metadata {
		if !slices.Contains(values, m.Metadata[key]) {
			return "metadata"
		}
	}
	cpu, memory, instances := req.CPU, req.Memory, 0
	for _, p := range c.s.Placements {
		other := find(units, p.Unit)
		if p.Machine != m.ID || other == nil {
			continue
		}
		if other.Name == u.Name {
			if !placed {
				return "there already"
			}
			continue
		}
		if matches(req.Conflicts, other.Name) || matches(other.Requirements.Conflicts, u.Name) {
			return "conflict with " + other.Name
		}
		if !placed && matches(other.Requirements.Replaces, u.Name) {
			return "replaced by " + other.Name
		}
		if t := fleet.TemplateOf(u.Name); t != "" && t == fleet.TemplateOf(other.Name) {
			instances++
		}
		cpu, memory = cpu+other.Requirements.CPU, memory+other.Requirements.Memory
	}
	if !placed && (req.CPU > 0 && cpu > m.CPU || req.Memory > 0 && memory > m.Memory) {
		return "resources"
	}
	if !placed && req.MaxPerMachine > 0 && instances >= req.MaxPerMachine {
		return "instances"
	}
	for _, peer := range req.MachineOf {
		if !slices.ContainsFunc(c.s.Placements, func(p fleet.Placement) bool { return p.Unit == peer && p.Machine == m.ID }) {
			return "peer " + peer
		}
	}
	return ""
}

// wanted is how many placements a unit may have.
func wanted(u *fleet.Unit, machines int) int {
	switch {
	case u.Desired == fleet.Inactive || fleet.IsTemplate(u.Name):
		return 0
	case u.Requirements.Global:
		return machines
	case fleet.TemplateOf(u.Name) == "":
		return max(1, u.Requirements.Replicas)
	}
	return 1
}

func matches(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, _ := path.Match(glob, name)
		return ok
	})
}

func find(units []fleet.Unit, name string) *fleet.Unit {
	i := slices.IndexFunc(units, func(u fleet.Unit) bool { return u.Name == name })
	if i < 0 {
		return nil
	}
	return &units[i]
}
