package decide

import (
	"fmt"
	"slices"
	"testing"

	"github.com/coracle-os/coracle/agents/fleet"
)

// large is a cluster of 1,000 machines in 20 racks with 10,000 units of many
// kinds, sorted as a Snapshot is.
func large() *fleet.Snapshot {
	s := &fleet.Snapshot{Now: now}
	for i := range 1000 {
		s.Machines = append(s.Machines, fleet.Machine{
			ID: fmt.Sprintf("%032x", i), CPU: 16000, Memory: 64 << 30,
			Metadata: map[string]string{"rack": fmt.Sprintf("r%02d", i%20), "disk": []string{"ssd", "hdd"}[i%2]},
		})
	}
	add := func(name string, req fleet.Requirements) {
		s.Units = append(s.Units, fleet.Unit{Name: name, Hash: "h1", Desired: fleet.Launched, Requirements: req})
	}
	for i := range 3000 {
		add(fmt.Sprintf("plain-%04d.service", i), fleet.Requirements{})
		add(fmt.Sprintf("sized-%04d.service", i), fleet.Requirements{CPU: int64(100 + i%7*300), Memory: int64(1+i%5) << 30})
	}
	for i := range 1000 {
		add(fmt.Sprintf("web@%d.service", i), fleet.Requirements{Conflicts: []string{"web@*.service"}, SpreadOver: "rack"})
		add(fmt.Sprintf("db@%d.service", i), fleet.Requirements{Metadata: map[string][]string{"disk": {"ssd"}, "rack": {fmt.Sprintf("r%02d", i%10*2), "r00"}}, MaxPerMachine: 3})
		add(fmt.Sprintf("side@%d.service", i), fleet.Requirements{MachineOf: []string{fmt.Sprintf("db@%d.service", i)}})
		add(fmt.Sprintf("lone-%d.service", i), fleet.Requirements{Conflicts: []string{fmt.Sprintf("plain-%04d.service", i), fmt.Sprintf("pl*-%04d.service", i+1)}})
	}
	slices.SortFunc(s.Units, byName)
	return s
}

func report(b *testing.B, r Result) {
	b.ReportMetric(float64(len(r.Tasks)), "tasks/op")
	b.ReportMetric(float64(len(r.Unplaced)), "unplaced/op")
}

// BenchmarkFromNothing places 10,000 units on 1,000 machines.
func BenchmarkFromNothing(b *testing.B) {
	s := large()
	var r Result
	for b.Loop() {
		r = Decide(s)
	}
	report(b, r)
}

// BenchmarkSteady decides when nothing is left to do.
func BenchmarkSteady(b *testing.B) {
	s, _ := settle(large())
	var r Result
	for b.Loop() {
		r = Decide(s)
	}
	report(b, r)
}

// BenchmarkDeadMachine decides when one machine went away.
func BenchmarkDeadMachine(b *testing.B) {
	s, _ := settle(large())
	s.Machines = slices.Delete(s.Machines, 500, 501)
	var r Result
	for b.Loop() {
		r = Decide(s)
	}
	report(b, r)
}

// BenchmarkNothingFits explains 10,000 times why a unit has no machine.
func BenchmarkNothingFits(b *testing.B) {
	s := large()
	for i := range s.Machines {
		s.Machines[i].Draining = "test"
	}
	var r Result
	for b.Loop() {
		r = Decide(s)
	}
	report(b, r)
}

// BenchmarkReplicas places 10,000 copies of one template that fit on half of
// the machines only, so that half of them stay without.
func BenchmarkReplicas(b *testing.B) {
	s := large()
	s.Units = []fleet.Unit{{Name: "web@.service", Hash: "h1", Desired: fleet.Launched, Requirements: fleet.Requirements{
		Replicas: 10000, MaxPerMachine: 10, SpreadOver: "rack", Metadata: map[string][]string{"disk": {"ssd"}}, Memory: 1 << 30,
	}}}
	var r Result
	for b.Loop() {
		r = Decide(s)
	}
	report(b, r)
}

// BenchmarkGlobals has 50 global units on 1,000 machines, and 1,000 units that
// want to be where one of them is.
func BenchmarkGlobals(b *testing.B) {
	s := large()
	s.Units = nil
	for i := range 50 {
		s.Units = append(s.Units, fleet.Unit{Name: fmt.Sprintf("global-%02d.service", i), Hash: "h1", Desired: fleet.Launched, Requirements: fleet.Requirements{Global: true}})
	}
	for i := range 1000 {
		s.Units = append(s.Units, fleet.Unit{Name: fmt.Sprintf("near-%04d.service", i), Hash: "h1", Desired: fleet.Launched, Requirements: fleet.Requirements{MachineOf: []string{"global-07.service"}}})
	}
	s, _ = settle(s)
	s.Machines = slices.Delete(s.Machines, 500, 501)
	var r Result
	for b.Loop() {
		r = Decide(s)
	}
	report(b, r)
}
