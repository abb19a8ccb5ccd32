// Package fleet is the vocabulary of the scheduler: what machines, units,
// placements and states are. Everything else of the scheduler speaks in these
// words: decide (pure), registry (etcd), engine, agent, api and ctl.
//
// The meaning of names and options is fleet's (github.com/coreos/fleet, 0.10
// to 1.0), with what Coracle adds: resources, replicas, spreading, draining,
// rolling replacement and fencing. Nothing here does anything; there is no
// clock, network or file.
package fleet

import (
	"slices"
	"strings"
	"time"
)

// JobState is what a unit is wanted to be, or is, in the cluster.
type JobState string

// The states, in the order in which a unit passes them.
const (
	Inactive JobState = "inactive" // known, on no machine
	Loaded   JobState = "loaded"   // on a machine, known to its init, not started
	Launched JobState = "launched" // started by the machine's init
)

// Valid tells whether s is one of the three states.
func (s JobState) Valid() bool {
	return s == Inactive || s == Loaded || s == Launched
}

// Requirements is what a unit's [X-Fleet] section says, specifiers expanded.
type Requirements struct {
	MachineID string              // full id or its first 8 characters; "" is any machine
	MachineOf []string            // names of units that must be on the same machine
	Metadata  map[string][]string // key to allowed values: AND over keys, OR over values
	Conflicts []string            // globs over unit names (path.Match), looked at both ways
	Replaces  []string            // globs over unit names
	Global    bool                // one copy on every machine that fits

	CPU           int64  // thousandths of a processor that the unit counts for; 0 is none
	Memory        int64  // bytes that the unit counts for; 0 is none
	Replicas      int    // copies: of a plain unit on as many machines, of a template as instances 1..N; 0 is not given
	SpreadOver    string // metadata key over whose values the copies are spread evenly; "" is none
	MaxPerMachine int    // instances of one template on one machine; 0 is no bound
	NoFence       bool   // Fence=no: may start elsewhere before a machine that is cut off has stopped it

	Unknown []string // names of options that nobody knows, in order, for warnings
}

// Unit is a unit as people gave it to the cluster.
type Unit struct {
	Name         string
	Hash         string // SHA-1 of the serialised file, 40 hex digits
	Desired      JobState
	Requirements Requirements
	Rollout      *Rollout // how placements move from an older hash; nil is all at once
	// Template is the template that this unit is a copy of by Replicas=; such
	// a unit is derived, not stored. "" is a unit of its own.
	Template string
}

// Rollout is the wish to replace the content of running copies step by step.
type Rollout struct {
	Parallel    int           // copies that may be away or not yet healthy at one time, at least 1
	WaitHealthy time.Duration // how long a new copy must be active before the next one; 0 is at once
	Previous    string        // hash to go back to
}

// Machine is a machine that takes part: its lease lives.
type Machine struct {
	ID       string            // /etc/machine-id, 32 hex digits
	BootID   string            // of this start of the machine
	PublicIP string            // "" if it has none
	Metadata map[string]string // the configuration's, with what was patched over it
	Version  string            // of the agent
	CPU      int64             // thousandths of a processor that units may use
	Memory   int64             // bytes that units may use
	Draining string            // why no unit may be here; "" if units may
}

// Placement is the right of a machine to run a unit, and the duty. It is
// written by the engine and ends in one of two ways: the engine releases it
// and the machine, having stopped the unit, removes it; or the machine's lease
// ends and the engine removes it. While it exists no other machine gets the
// unit (but for Global, Replicas and NoFence).
type Placement struct {
	Unit    string
	Machine string   // id
	Hash    string   // content to run
	State   JobState // Loaded or Launched; Inactive is released: stop and remove
}

// UnitState is what a machine's init says of a unit.
type UnitState struct {
	Unit    string
	Machine string // id
	Hash    string
	Load    string    // systemd's words: loaded, not-found, ...
	Active  string    // active, inactive, failed, ...
	Sub     string    // running, dead, ...
	Since   time.Time // when it came to be Active, by the machine's clock
}

// Snapshot is the cluster at one moment. All slices are sorted: Units by
// Name, Machines by ID, Placements and States by Unit and then Machine.
type Snapshot struct {
	Revision   int64 // of the KV
	Now        time.Time
	Units      []Unit
	Machines   []Machine
	Placements []Placement
	States     []UnitState
}

// TaskKind is what is to be done.
type TaskKind string

// The kinds.
const (
	Place   TaskKind = "Place"   // write a placement where none is
	Change  TaskKind = "Change"  // give a placement another hash or state
	Release TaskKind = "Release" // set a placement's state to Inactive: the machine stops the unit and removes it
	Remove  TaskKind = "Remove"  // remove a placement of a machine that is gone
)

// Task is one step from a snapshot towards what is wanted.
type Task struct {
	Kind      TaskKind
	Placement Placement // as it is to be; for Remove as it was
	Reason    string    // for people
}

// SplitName takes a unit name apart: the part before "@", the instance, and
// the suffix with its dot. A name without "@" has neither instance nor
// template; "web@.service" is a template with an empty instance.
func SplitName(name string) (prefix, instance, suffix string, templated bool) {
	if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
		name, suffix = name[:dot], name[dot:]
	}
	prefix, instance, templated = strings.Cut(name, "@")
	return prefix, instance, suffix, templated
}

// IsTemplate tells whether name is a template's: an "@" and an empty instance.
func IsTemplate(name string) bool {
	_, instance, _, templated := SplitName(name)
	return templated && instance == ""
}

// TemplateOf is the name of the template of an instance; "" if name is none.
func TemplateOf(name string) string {
	prefix, instance, suffix, templated := SplitName(name)
	if !templated || instance == "" {
		return ""
	}
	return prefix + "@" + suffix
}

// Machine finds a machine by its id; nil if it is not there.
func (s *Snapshot) Machine(id string) *Machine {
	i, ok := slices.BinarySearchFunc(s.Machines, id, func(m Machine, id string) int { return strings.Compare(m.ID, id) })
	if !ok {
		return nil
	}
	return &s.Machines[i]
}

// Unit finds a unit by its name; nil if it is not there.
func (s *Snapshot) Unit(name string) *Unit {
	i, ok := slices.BinarySearchFunc(s.Units, name, func(u Unit, name string) int { return strings.Compare(u.Name, name) })
	if !ok {
		return nil
	}
	return &s.Units[i]
}

// Version is the version of fleet whose words and behaviour these are, as
// programs of its time ask for it.
const Version = "1.0.0"
