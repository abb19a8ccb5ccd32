// Package transaction plans what must happen when a unit is to be started,
// stopped or restarted: which other units are started and stopped with it, why,
// and in which order. It serves PID 1, which carries the plan out.
//
// It is pure: loaded units, their states and the queued jobs in, a plan or an
// error out. It follows what systemd 252 does with a transaction: jobs that
// matter to the request and jobs that do not, merging, dropping of redundant
// ones, cycles broken by dropping a job that does not matter.
//
// Conditions, timeouts and the running of jobs are PID 1's.
package transaction

import (
	"github.com/coracle-os/coracle/rootfs/unit/graph"
)

// Type is what a job does to its unit.
type Type string

// The types of job. TryRestart, ReloadOrStart and TryReload are only asked
// for: a plan holds what they mean for the unit's state. A planned ReloadOrStart
// is the merge of two jobs and means a reload or a start when the job runs.
const (
	Start         Type = "start"
	VerifyActive  Type = "verify-active"
	Stop          Type = "stop"
	Reload        Type = "reload"
	Restart       Type = "restart"
	Nop           Type = "nop"
	TryRestart    Type = "try-restart"
	TryReload     Type = "try-reload"
	ReloadOrStart Type = "reload-or-start"
)

// State is the active state of a unit, in systemctl's words.
type State string

// The active states.
const (
	Inactive     State = "inactive"
	Activating   State = "activating"
	Active       State = "active"
	Reloading    State = "reloading"
	Deactivating State = "deactivating"
	Failed       State = "failed"
)

// Mode says what becomes of queued jobs that contradict the request.
type Mode string

// The modes; "" is Replace.
const (
	Replace             Mode = "replace"
	ReplaceIrreversibly Mode = "replace-irreversibly"
	Fail                Mode = "fail"
	Isolate             Mode = "isolate"
	Flush               Mode = "flush"      // all other queued jobs are cancelled
	Triggering          Mode = "triggering" // a stop stops what triggers the unit, too
	IgnoreDependencies  Mode = "ignore-dependencies"
	IgnoreRequirements  Mode = "ignore-requirements"
)

// Request is one wish. Unit is any name of a unit in the graph.
type Request struct {
	Type Type
	Unit string
	Mode Mode
}

// Job is something to do to one unit; there is at most one per unit, both in
// a plan and in the queue.
type Job struct {
	Unit         string
	Type         Type
	Reason       string // for people: "requested", "required by a.service", ...
	Running      bool   // queued jobs only: it has begun
	Irreversible bool   // a later job cannot replace it
	IgnoreOrder  bool
}

// World is what a plan starts from.
type World struct {
	Graph *graph.Graph
	// State returns the state of a unit; nil means all are inactive.
	State func(name string) State
	// Queued holds the jobs in the queue by canonical unit name.
	Queued map[string]Job
}

// Plan is the answer to a request.
type Plan struct {
	// Anchor is the canonical name of the requested unit. Its job is missing
	// from Jobs only if Request.Type turned out to be nothing to do.
	Anchor string
	// Jobs are to be put into the queue, in an order in which they can run. A
	// queued job of the same unit is replaced by the one here; see Merges.
	Jobs []Job
	// Cancel names units whose queued job is to be cancelled first: it
	// contradicts a new job, or Isolate drops it.
	Cancel []string
	// Warnings name broken cycles and wanted units that cannot be started.
	Warnings []string
}
