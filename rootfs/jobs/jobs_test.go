package jobs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/graph"
)

// world builds a graph from words "a After b".
func world(edges ...string) *graph.Graph {
	units := map[string]*unit.Unit{}
	get := func(n string) *unit.Unit {
		if units[n] == nil {
			units[n] = &unit.Unit{Name: n, Deps: unit.Deps{}}
		}
		return units[n]
	}
	for _, e := range edges {
		f := strings.Fields(e)
		get(f[2])
		get(f[0]).Deps.Add(unit.Dep(f[1]), f[2])
	}
	var list []*unit.Unit
	for _, u := range units {
		list = append(list, u)
	}
	return graph.New(list)
}

func TestOrder(t *testing.T) {
	tests := []struct {
		name  string
		edges []string
		jobs  []string // "start a"
		want  []string // order in which they run, each ending at once
	}{
		{"start after", []string{"a After b"}, []string{"start a", "start b"}, []string{"b", "a"}},
		{"before", []string{"b Before a"}, []string{"start a", "start b"}, []string{"b", "a"}},
		{"stop inverse", []string{"a After b"}, []string{"stop b", "stop a"}, []string{"a", "b"}},
		{"stop before start", []string{"a After b"}, []string{"start b", "stop a"}, []string{"a", "b"}},
		{"stop before start, other way", []string{"a After b"}, []string{"start a", "stop b"}, []string{"b", "a"}},
		{"no order", []string{"a Wants b"}, []string{"start a", "start b"}, []string{"a", "b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := New(world(tt.edges...))
			for _, j := range tt.jobs {
				typ, name, _ := strings.Cut(j, " ")
				q.Add(transaction.Job{Unit: name, Type: transaction.Type(typ)})
			}
			var got []string
			for j := q.Next(nil); j != nil; j = q.Next(nil) {
				got = append(got, j.Unit)
				q.Finish(j, Done)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFailureReachesThoseWhoRequire(t *testing.T) {
	q := New(world("a Requires b", "a After b", "c Wants b", "c After b", "d BindsTo a"))
	got := map[string]Result{}
	for _, n := range []string{"a", "b", "c", "d"} {
		q.Add(transaction.Job{Unit: n, Type: transaction.Start}).Notify(func(r Result) { got[n] = r })
	}
	q.Finish(q.Of("b"), Failed)
	want := map[string]Result{"b": Failed, "a": Dependency, "d": Dependency}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if q.Of("c") == nil {
		t.Error("the job of a unit that only wants is gone")
	}
}

func TestAddToAQueuedJob(t *testing.T) {
	q := New(world())
	var got []Result
	first := q.Add(transaction.Job{Unit: "a", Type: transaction.Start})
	first.Notify(func(r Result) { got = append(got, r) })
	if q.Add(transaction.Job{Unit: "a", Type: transaction.Start}) != first {
		t.Error("the same type made a second job")
	}
	first.Running = true
	if q.Add(transaction.Job{Unit: "a", Type: transaction.Restart}) != first || first.Type != transaction.Restart || first.Running {
		t.Error("a restart did not take over the start")
	}
	if q.Add(transaction.Job{Unit: "a", Type: transaction.Stop}) == first {
		t.Error("a stop joined a start")
	}
	if d := cmp.Diff([]Result{Canceled}, got); d != "" {
		t.Error(d)
	}
}
