// Package jobs is PID 1's queue of jobs: which may run now, what becomes of
// the others when one ends. It holds the plans of rootfs/transaction while they
// are carried out.
//
// It is pure: no clock, no process. Ordering follows systemd: After= and
// Before= count between queued jobs only, a stop comes before a start, and two
// stops run in the inverse order. At most one job exists per unit.
package jobs

import (
	"slices"

	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/graph"
)

// Result is how a job ended; the words are systemd's.
type Result string

// The results of a job.
const (
	Done        Result = "done"
	Canceled    Result = "canceled"
	Timeout     Result = "timeout"
	Failed      Result = "failed"
	Dependency  Result = "dependency"
	Skipped     Result = "skipped"
	Invalid     Result = "invalid"
	Assert      Result = "assert"
	Unsupported Result = "unsupported"
)

// Job is a queued job.
type Job struct {
	ID           int
	Unit         string // canonical name
	Type         transaction.Type
	Reason       string
	Running      bool
	Irreversible bool
	IgnoreOrder  bool

	done []func(Result)
	over bool
}

// Notify asks for a call when the job has ended. Calls come in order.
func (j *Job) Notify(f func(Result)) { j.done = append(j.done, f) }

// Over reports whether the job has left the queue.
func (j *Job) Over() bool { return j.over }

// Queue holds the jobs by unit.
type Queue struct {
	jobs  map[string]*Job
	next  int
	graph *graph.Graph

	// Dependent, when set, is called for each job that Finish or Absent ends
	// because of another's end, after its listeners.
	Dependent func(*Job)
}

// New returns an empty queue over the units of g.
func New(g *graph.Graph) *Queue {
	return &Queue{jobs: map[string]*Job{}, next: 1, graph: g}
}

// SetGraph replaces the units' dependencies, after units were loaded.
func (q *Queue) SetGraph(g *graph.Graph) { q.graph = g }

// NextID returns the number that the next job gets.
func (q *Queue) NextID() int { return q.next }

// Restore fills an empty queue with what another one held; next is its NextID.
func (q *Queue) Restore(list []Job, next int) {
	for _, j := range list {
		j.done, j.over = nil, false
		q.jobs[j.Unit] = &j
		next = max(next, j.ID+1)
	}
	q.next = max(q.next, next)
}

// Of returns the unit's job, or nil.
func (q *Queue) Of(unit string) *Job { return q.jobs[unit] }

// Len returns the number of queued jobs.
func (q *Queue) Len() int { return len(q.jobs) }

// All returns the jobs in the order in which they were queued.
func (q *Queue) All() []*Job {
	all := make([]*Job, 0, len(q.jobs))
	for _, j := range q.jobs {
		all = append(all, j)
	}
	slices.SortFunc(all, func(a, b *Job) int { return a.ID - b.ID })
	return all
}

// Planned returns the queue as the planner wants to see it.
func (q *Queue) Planned() map[string]transaction.Job {
	m := make(map[string]transaction.Job, len(q.jobs))
	for name, j := range q.jobs {
		m[name] = transaction.Job{Unit: name, Type: j.Type, Reason: j.Reason, Running: j.Running, Irreversible: j.Irreversible, IgnoreOrder: j.IgnoreOrder}
	}
	return m
}

// Add queues a job. When the unit has one already, the same type joins it, a
// contradicting type cancels it, and another type replaces its type, as the
// planner decided. Ended jobs are reported to their listeners before Add
// returns.
func (q *Queue) Add(n transaction.Job) *Job {
	old := q.jobs[n.Unit]
	if old != nil {
		if old.Type == n.Type {
			old.Irreversible = old.Irreversible || n.Irreversible
			return old
		}
		if contradicts(old.Type, n.Type) {
			q.Finish(old, Canceled)
		} else {
			old.Type, old.Running = n.Type, false
			return old
		}
	}
	j := &Job{ID: q.next, Unit: n.Unit, Type: n.Type, Reason: n.Reason, Irreversible: n.Irreversible, IgnoreOrder: n.IgnoreOrder}
	q.next++
	q.jobs[n.Unit] = j
	return j
}

// contradicts tells whether two jobs want opposite things of a unit.
func contradicts(a, b transaction.Type) bool {
	return (a == transaction.Stop) != (b == transaction.Stop)
}

// Next returns the oldest job that waits and may run, or nil. tried holds
// jobs to pass over.
func (q *Queue) Next(tried map[*Job]bool) *Job {
	var best *Job
	for _, j := range q.jobs {
		if !j.Running && !tried[j] && (best == nil || j.ID < best.ID) && q.Runnable(j) {
			best = j
		}
	}
	return best
}

// Runnable reports whether no other queued job has to come first.
func (q *Queue) Runnable(j *Job) bool {
	if j.IgnoreOrder || j.Type == transaction.Nop {
		return true
	}
	for _, name := range q.graph.After(j.Unit) {
		if o := q.jobs[name]; o != nil && o != j && !stopsLater(j, o) {
			return false
		}
	}
	for _, name := range q.graph.Before(j.Unit) {
		if o := q.jobs[name]; o != nil && o != j && stops(o) {
			return false
		}
	}
	return true
}

func stops(j *Job) bool { return j.Type == transaction.Stop || j.Type == transaction.Restart }

// stopsLater reports whether j, whose unit is ordered after o's, need not wait
// for o: because j is a stop, which goes first, or o is nothing to wait for.
func stopsLater(j, o *Job) bool {
	return stops(j) || o.Type == transaction.Nop || o.IgnoreOrder
}

// Become turns a job into another type that has yet to run, such as a restart
// whose stop is done into a start.
func (q *Queue) Become(j *Job, t transaction.Type) { j.Type, j.Running = t, false }

// Finish takes a job out of the queue. When a start did not succeed, the
// starts of those that require the unit end with Dependency.
func (q *Queue) Finish(j *Job, r Result) {
	if j.over {
		return
	}
	j.over = true
	if q.jobs[j.Unit] == j {
		delete(q.jobs, j.Unit)
	}
	for _, f := range j.done {
		f(r)
	}
	if r == Done {
		return
	}
	switch j.Type {
	case transaction.Start, transaction.VerifyActive, transaction.ReloadOrStart:
		q.failStarts(q.graph.FailWith(j.Unit))
	case transaction.Stop:
		// What was to start in place of this unit cannot.
		q.failStarts(q.graph.By(j.Unit, unit.Conflicts))
	}
}

// Absent ends the starts of units that need the named one to be active
// already (Requisite=), after its start was skipped.
func (q *Queue) Absent(name string) {
	q.failStarts(q.graph.By(name, unit.Requisite))
}

func (q *Queue) failStarts(names []string) {
	for _, name := range names {
		if o := q.jobs[name]; o != nil && (o.Type == transaction.Start || o.Type == transaction.VerifyActive) {
			q.Finish(o, Dependency)
			if q.Dependent != nil {
				q.Dependent(o)
			}
		}
	}
}
