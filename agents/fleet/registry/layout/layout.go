// Package layout is how the scheduler's data lies in etcd: keys and JSON
// values, both ways. It is for package registry and its mirror; there is no
// network here.
//
// Keys, under a prefix that is fleet's by default:
//
//	unit/<sha1>                  content of a unit, written once per content
//	job/<name>                   one unit: which content, what it is wanted to be
//	schedule/<machine>/<unit>    a placement: the machine's right and duty to run the unit
//	machines/<id>/object         a machine, with its lease
//	machines/<id>/metadata/<key> metadata that people patched; plain text, "" hides the machine's own
//	machines/<id>/drain          no units here
//	states/<machine>/<unit>      what the machine's init says, with the machine's lease
//	lease/engine-leader          who decides, with that engine's lease
//	engine/version               the newest engine that ever decided
//
// This is not the layout of fleet itself (several keys and TTLs for each unit):
// the two never share a cluster, and one key per unit makes a change one write.
package layout

import (
	"strings"
)

// DefaultPrefix is fleet's own.
const DefaultPrefix = "/_coreos.com/fleet/"

// Keys makes and reads the keys under one prefix.
type Keys struct {
	Prefix string // ends in a slash
}

// NewKeys is for a prefix with or without slashes around it; "" is the default.
func NewKeys(prefix string) Keys {
	if prefix = strings.Trim(prefix, "/"); prefix == "" {
		return Keys{DefaultPrefix}
	}
	return Keys{"/" + prefix + "/"}
}

// Content is the key of the unit content with this hash.
func (k Keys) Content(hash string) string { return k.Prefix + "unit/" + hash }

// Job is the key of a unit.
func (k Keys) Job(name string) string { return k.Prefix + "job/" + name }

// Jobs is what the keys of all units begin with.
func (k Keys) Jobs() string { return k.Prefix + "job/" }

// Placement is the key of a unit's placement on a machine.
func (k Keys) Placement(machine, unit string) string { return k.Schedule(machine) + unit }

// Schedule is what the keys of a machine's placements begin with.
func (k Keys) Schedule(machine string) string { return k.Prefix + "schedule/" + machine + "/" }

// Machine is the key of a machine's object.
func (k Keys) Machine(id string) string { return k.Prefix + "machines/" + id + "/object" }

// Metadata is the key of one patched metadata entry.
func (k Keys) Metadata(id, key string) string {
	return k.Prefix + "machines/" + id + "/metadata/" + key
}

// Drain is the key of a machine's drain.
func (k Keys) Drain(id string) string { return k.Prefix + "machines/" + id + "/drain" }

// State is the key of a unit's state on a machine.
func (k Keys) State(machine, unit string) string { return k.Prefix + "states/" + machine + "/" + unit }

// Leader is the key of the engine that decides.
func (k Keys) Leader() string { return k.Prefix + "lease/engine-leader" }

// EngineVersion is the key of the newest engine's version.
func (k Keys) EngineVersion() string { return k.Prefix + "engine/version" }

// Kind is what a key is for.
type Kind int

// The kinds of keys; Unknown is none of ours.
const (
	Unknown Kind = iota
	Content
	Job
	Placement
	Machine
	Metadata
	Drain
	State
	Leader
	EngineVersion
)

// Name is what a key names: the first is a hash, a unit or a machine, the
// second a unit or a metadata key, as the kind has it.
type Name struct{ First, Second string }

// Parse says what a key is for.
func (k Keys) Parse(key string) (Kind, Name) {
	rest, ok := strings.CutPrefix(key, k.Prefix)
	if !ok {
		return Unknown, Name{}
	}
	parts := strings.Split(rest, "/")
	for _, p := range parts {
		if p == "" {
			return Unknown, Name{}
		}
	}
	switch {
	case rest == "lease/engine-leader":
		return Leader, Name{}
	case rest == "engine/version":
		return EngineVersion, Name{}
	case len(parts) == 2 && parts[0] == "unit":
		return Content, Name{First: parts[1]}
	case len(parts) == 2 && parts[0] == "job":
		return Job, Name{First: parts[1]}
	case len(parts) == 3 && parts[0] == "schedule":
		return Placement, Name{parts[1], parts[2]}
	case len(parts) == 3 && parts[0] == "states":
		return State, Name{parts[1], parts[2]}
	case len(parts) == 3 && parts[0] == "machines" && parts[2] == "object":
		return Machine, Name{First: parts[1]}
	case len(parts) == 3 && parts[0] == "machines" && parts[2] == "drain":
		return Drain, Name{First: parts[1]}
	case len(parts) == 4 && parts[0] == "machines" && parts[2] == "metadata":
		return Metadata, Name{parts[1], parts[3]}
	}
	return Unknown, Name{}
}
