package lab

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/control"
)

// on lists the machines on which a unit runs now.
func (l *lab) on(unit string) (names []string) {
	for _, i := range l.running() {
		if i.unit == unit {
			names = append(names, i.machine)
		}
	}
	return names
}

// runsOn waits until a unit runs on one machine alone, and returns it.
func (l *lab) runsOn(unit string, not *machine) *machine {
	l.t.Helper()
	var found *machine
	l.eventually(30*time.Second, func() string {
		names := l.on(unit)
		i := slices.IndexFunc(l.machines, func(m *machine) bool { return len(names) == 1 && m.name == names[0] && m != not })
		if i < 0 {
			return fmt.Sprintf("%s runs on %q", unit, names)
		}
		found = l.machines[i]
		return ""
	})
	return found
}

// TestMoves cuts a machine off: what it runs is stopped there before it starts
// elsewhere; with Fence=no it goes on. Then fleet is stopped on the other one:
// its units move back, and PID 1 has nothing of them left.
func TestMoves(t *testing.T) {
	l := newLab(t, 3, 2)
	l.submit("fenced.service", "")
	l.submit("free.service", "[X-Fleet]\nMachineOf=fenced.service\nFence=no\n")
	first := l.runsOn("fenced.service", nil)
	l.runsOn("free.service", nil)
	l.cable(first.name, "down")
	second := l.runsOn("fenced.service", first)
	l.eventually(10*time.Second, func() string {
		if names := l.on("free.service"); len(names) != 2 {
			return fmt.Sprintf("the unit that is not fenced runs on %q", names)
		}
		return ""
	})
	l.cable(first.name, "up")
	l.eventually(30*time.Second, first.absent)
	if m := l.runsOn("free.service", first); m != second {
		t.Errorf("the unit that is not fenced ended up on %s", m.name)
	}
	all := l.instances()
	only := func(unit string) []instance {
		return slices.DeleteFunc(slices.Clone(all), func(i instance) bool { return i.unit != unit })
	}
	none := func(string) bool { return false }
	if longest, what := twice(only("fenced.service"), none); longest > 0 {
		t.Errorf("it ran twice for %s: %s", longest, what)
	}
	if longest, _ := twice(only("free.service"), none); longest == 0 {
		t.Error("the unit that is not fenced ran once only: nothing here would see a unit that runs twice")
	}
	if i := only("fenced.service"); len(i) == 2 {
		t.Logf("between its end and its start elsewhere were %s", i[1].first-i[0].last)
	}

	if _, err := second.init().Collect(t.Context(), control.Request{Verb: control.Stop, Units: []string{"fleet.service"}}); err != nil {
		t.Fatal(err)
	}
	if problem := second.absent(); problem != second.name+" is not registered" {
		t.Errorf("after fleet was stopped: %q", problem)
	}
	l.runsOn("fenced.service", second)
	l.runsOn("free.service", second)
	r, err := second.init().Collect(t.Context(), control.Request{Verb: control.ListUnits, Units: []string{"f*d.service", "free.service"}, Flags: control.Flags{All: true}})
	if err != nil || len(r.Units) > 0 {
		t.Errorf("PID 1 of the machine that left has %+v, %v", r.Units, err)
	}
	show, err := second.init().Collect(t.Context(), control.Request{Verb: control.Show, Units: []string{"fleet.service"}})
	if err != nil || len(show.Units) != 1 || show.Units[0].Active != "inactive" || show.Units[0].Properties["Result"] != "success" {
		t.Errorf("fleet.service: %+v, %v", show.Units, err)
	}
}
