// Package schema is the JSON of the scheduler's HTTP API: fleet's API v1
// (github.com/coreos/fleet, Documentation/api-v1.md) with Coracle's additions,
// which are all optional fields and further resources, so that fleet's own
// clients work unchanged. It is for the server (package api) and for its
// clients (package client). It has no behaviour.
package schema

import "github.com/coracle-os/coracle/agents/fleet/unitfile"

// Prefixes are the beginnings of every path of the API; the second is the name
// that the first one had in fleet 0.3.
const (
	Prefix      = "/fleet/v1"
	AlphaPrefix = "/v1-alpha"
)

// Option is one line of a unit file.
type Option = unitfile.Option

// Unit is a unit of the cluster, as it is wanted and as it is.
type Unit struct {
	Name         string   `json:"name"`
	Options      []Option `json:"options,omitempty"`
	DesiredState string   `json:"desiredState,omitempty"`
	CurrentState string   `json:"currentState,omitempty"` // fleet.JobState; always inactive for global units
	MachineID    string   `json:"machineID,omitempty"`    // where it is; "" for units with several copies or none

	// Additions.
	Reason   string    `json:"reason,omitempty"`   // why it, or a copy of it, is on no machine, or its rollout stands still
	Template string    `json:"template,omitempty"` // the unit whose Replicas= makes this one; such a unit is in no list
	Replicas *Replicas `json:"replicas,omitempty"` // for units with Replicas=
	Rollout  *Rollout  `json:"rollout,omitempty"`
}

// Replicas tells of the copies of a unit.
type Replicas struct {
	Wanted   int      `json:"wanted"`             // by Replicas=
	Placed   int      `json:"placed"`             // on a machine
	Active   int      `json:"active"`             // whose init says active
	Machines []string `json:"machines,omitempty"` // ids, one for each copy that is placed
}

// Rollout is the wish to replace running copies step by step, and on reading
// also how far it has come.
type Rollout struct {
	Parallel           int `json:"parallel"`           // copies at a time, at least 1
	WaitHealthySeconds int `json:"waitHealthySeconds"` // how long a copy is active before the next one
	// Previous is the hash of the content before, Updated the number of copies
	// that have the new one; both are ignored on writing.
	Previous string `json:"previous,omitempty"`
	Updated  int    `json:"updated,omitempty"`
}

// UnitPage is the answer of GET /units.
type UnitPage struct {
	Units         []Unit `json:"units,omitempty"`
	NextPageToken string `json:"nextPageToken,omitempty"`
}

// UnitState is what the init of a machine says of a unit.
type UnitState struct {
	Name               string `json:"name"`
	Hash               string `json:"hash"`
	MachineID          string `json:"machineID"`
	SystemdLoadState   string `json:"systemdLoadState"`
	SystemdActiveState string `json:"systemdActiveState"`
	SystemdSubState    string `json:"systemdSubState"`

	// Since is an addition: when it came to be in that active state, RFC 3339.
	Since string `json:"since,omitempty"`
}

// UnitStatePage is the answer of GET /state.
type UnitStatePage struct {
	States        []UnitState `json:"states,omitempty"`
	NextPageToken string      `json:"nextPageToken,omitempty"`
}

// Machine is a machine of the cluster.
type Machine struct {
	ID        string            `json:"id"`
	PrimaryIP string            `json:"primaryIP,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`

	// Additions. CPU is in thousandths of a processor, Memory in bytes; what is
	// used is what the units there ask for.
	Version    string `json:"version,omitempty"`
	Draining   string `json:"draining,omitempty"` // why; "" if units may be there
	CPU        int64  `json:"cpu,omitempty"`
	CPUUsed    int64  `json:"cpuUsed,omitempty"`
	Memory     int64  `json:"memory,omitempty"`
	MemoryUsed int64  `json:"memoryUsed,omitempty"`
	Units      int    `json:"units,omitempty"` // that it has, those that it is to give up too
}

// MachinePage is the answer of GET /machines.
type MachinePage struct {
	Machines      []Machine `json:"machines,omitempty"`
	NextPageToken string    `json:"nextPageToken,omitempty"`
}

// Drain is the body of PUT /machines/ID/drain: no unit may be there until the
// drain is deleted or, with UntilReboot, the machine has started again.
type Drain struct {
	Reason      string `json:"reason"`
	UntilReboot bool   `json:"untilReboot"`
}

// PlanRequest is the body of POST /plan: what if these units were there too?
type PlanRequest struct {
	Units []Unit `json:"units"` // DesiredState "" means launched
}

// Plan is the answer of POST /plan and of POST /rebalance.
type Plan struct {
	Tasks []Task `json:"tasks,omitempty"`
	// Unplaced says of each unit that stays without a machine why.
	Unplaced map[string]string `json:"unplaced,omitempty"`
}

// Task is one step of a plan; see fleet.Task.
type Task struct {
	Kind      string `json:"kind"`
	Unit      string `json:"unit"`
	MachineID string `json:"machineID"`
	State     string `json:"state,omitempty"`
	Hash      string `json:"hash,omitempty"`
	Reason    string `json:"reason"`
}

// ErrorBody is the body of every answer that is an error.
type ErrorBody struct {
	Error Error `json:"error"`
}

// Error is the error in it.
type Error struct {
	Code    int    `json:"code"` // the HTTP status
	Message string `json:"message"`
}
