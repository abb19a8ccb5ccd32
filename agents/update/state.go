// Package update decides what an update does next: a state machine without
// clock, disk or network. A state and an event give the next state and the
// writes to be done, in the order of durability: each is on the disk before the
// next is begun. The engine performs them and comes back with the outcome.
//
// Whatever instant power fails at, the running slot and its boot entry were not
// touched, and the other slot either has no boot entry and no identity, or is
// complete and verified. Left out on purpose: health after the reboot, which is
// the health gate's.
package update

import (
	"fmt"
	"slices"
)

// Phase is where an update stands.
type Phase string

// The phases.
const (
	Idle          Phase = "idle"
	Checking      Phase = "checking"
	Downloading   Phase = "downloading"
	Verifying     Phase = "verifying"
	Writing       Phase = "writing"
	PendingReboot Phase = "pending-reboot"
)

// A Target is a release as this machine knows it.
type Target struct {
	Version  string `json:"version"`
	RootHash string `json:"rootHash"`
}

// State is all that the machine must know between two events.
type State struct {
	Phase Phase `json:"phase"`
	// Target is the release that is being installed.
	Target Target `json:"target,omitzero"`
	// Armed is the release that the next boot tries: complete, with an entry.
	Armed Target `json:"armed,omitzero"`
	// Error is why the last update or check was not finished; Failures counts
	// those in a row.
	Error    string `json:"error,omitempty"`
	Failures int    `json:"failures,omitempty"`
}

// EventKind is what happened.
type EventKind string

// The events.
const (
	Started  EventKind = "started"   // the engine; Target is what the ESP has armed, if anything
	CheckDue EventKind = "check due" // by the timer or the operator
	Nothing  EventKind = "nothing"   // the channel has no release for this machine now
	Found    EventKind = "found"     // Target is to be installed
	Fetched  EventKind = "fetched"
	Verified EventKind = "verified"
	Armed    EventKind = "armed"
	Failed   EventKind = "failed" // Reason says why
)

// An Event is one thing that happened.
type Event struct {
	Kind   EventKind
	Target Target
	Reason string
}

// A Write is one thing to do to the disk, done and durable before the next.
type Write string

// The writes of an update, in their order.
const (
	Clean      Write = "clean"      // half-written files off the ESP
	Check      Write = "check"      // sizes and space; nothing is changed
	Disarm     Write = "disarm"     // the boot entry of the inactive slot goes
	Invalidate Write = "invalidate" // the inactive slot's partition UUIDs go
	Tree       Write = "tree"       // hash tree into the inactive slot
	Blocks     Write = "blocks"     // root into the inactive slot
	Flush      Write = "flush"      // both are on the disk
	ReadBack   Write = "read back"  // the slot is checked against the root hash
	Identify   Write = "identify"   // partition UUIDs from the root hash
	Arm        Write = "arm"        // UKI under a temporary name, synced, renamed
	Record     Write = "record"     // history: installed
	RecordFail Write = "record failure"
)

// Step is the state machine. An event that cannot happen in the state is an
// error and changes nothing.
func Step(s State, e Event) (State, []Write, error) {
	if e.Kind == Started {
		next := State{Phase: Idle, Armed: e.Target, Error: s.Error, Failures: s.Failures}
		if e.Target != (Target{}) {
			next.Phase = PendingReboot
		}
		return next, []Write{Clean}, nil
	}
	from := map[EventKind][]Phase{
		CheckDue: {Idle, PendingReboot},
		Nothing:  {Checking},
		Found:    {Checking},
		Fetched:  {Downloading},
		Verified: {Verifying},
		Armed:    {Writing},
		Failed:   {Checking, Downloading, Verifying, Writing},
	}
	if !slices.Contains(from[e.Kind], s.Phase) {
		return s, nil, fmt.Errorf("update: event %q cannot happen in phase %q", e.Kind, s.Phase)
	}
	next, writes := step(s, e)
	return next, writes, nil
}

func step(s State, e Event) (State, []Write) {
	switch e.Kind {
	case CheckDue:
		s.Phase = Checking
		return s, nil
	case Nothing:
		return State{Phase: rest(s.Armed), Armed: s.Armed}, nil
	case Found:
		if e.Target == s.Armed {
			return State{Phase: PendingReboot, Armed: s.Armed}, nil
		}
		return State{Phase: Downloading, Target: e.Target, Armed: s.Armed}, []Write{Check, Disarm, Invalidate, Tree, Blocks}
	case Fetched:
		// The entry of an earlier armed release is gone since Disarm.
		return State{Phase: Verifying, Target: s.Target}, []Write{Flush, ReadBack}
	case Verified:
		return State{Phase: Writing, Target: s.Target}, []Write{Identify, Arm}
	case Armed:
		return State{Phase: PendingReboot, Armed: s.Target}, []Write{Record}
	}
	next := State{Phase: rest(s.Armed), Armed: s.Armed, Error: e.Reason, Failures: s.Failures + 1}
	return next, []Write{RecordFail}
}

func rest(armed Target) Phase {
	if armed == (Target{}) {
		return Idle
	}
	return PendingReboot
}
