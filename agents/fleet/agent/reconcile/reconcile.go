// Package reconcile compares what a machine is to run with what its PID 1 says
// and tells what to do next, with reasons. It is pure: the agent carries the
// steps out, and calls it again whenever something has changed. Nothing here
// waits: a unit that is stopping gets its next step when it has stopped.
//
// The order is fleet's (contract, section 6): unload, load, one daemon-reload
// if any unit was loaded or unloaded, stop, start; by name within each. What
// differs: a unit is unloaded only once it is down, so that its token goes only
// after its last process, and new content comes only after the old has been
// stopped.
package reconcile

import (
	"maps"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/agents/fleet"
)

// Want is one unit that the machine has a token for.
type Want struct {
	Unit  string
	Hash  string         // content to run
	State fleet.JobState // Loaded or Launched; Inactive is released
	// Down says that the unit must not run for now, for the reason Why.
	Down bool
	Why  string
}

// Have is what there is of one unit.
type Have struct {
	Unit   string
	File   string // hash of the file that is linked for PID 1; "" is none
	Active string // PID 1's word: active, activating, ...; "" is a unit that it does not know
	// Began is the hash of the content that this agent has started since the
	// machine booted and not stopped since; "" is none. A unit that ended by
	// itself keeps it: it is not started again.
	Began string
}

// up tells whether something of the unit runs or is about to.
func (h Have) up() bool { return h.Active != "" && h.Active != "inactive" && h.Active != "failed" }

// Kind is what is to be done.
type Kind string

// The kinds, in the order in which they are done.
const (
	Unload Kind = "UnloadUnit"         // unlink and remove the file, reset-failed
	Load   Kind = "LoadUnit"           // write the file, link and enable it
	Reload Kind = "ReloadUnitFiles"    // daemon-reload, once
	Stop   Kind = "StopUnit"           //
	Start  Kind = "StartUnit"          //
	Forget Kind = "RemoveFromSchedule" // give the token back
)

// Step is one thing to do.
type Step struct {
	Kind   Kind
	Unit   string // "" for Reload
	Hash   string // for Load and Start
	Reason string // for people
}

// String is the step as the log has it.
func (s Step) String() string {
	if s.Unit == "" {
		return string(s.Kind) + ": " + s.Reason
	}
	return string(s.Kind) + " " + s.Unit + ": " + s.Reason
}

// Plan tells the steps from have to want. A unit that is in neither list does
// not exist; each may come once in a list.
func Plan(want []Want, have []Have) []Step {
	wants, haves := map[string]Want{}, map[string]Have{}
	for _, w := range want {
		wants[w.Unit] = w
	}
	for _, h := range have {
		haves[h.Unit] = h
		if _, ok := wants[h.Unit]; !ok {
			wants[h.Unit] = Want{Unit: h.Unit}
		}
	}
	byKind := map[Kind][]Step{}
	for _, name := range slices.Sorted(maps.Keys(wants)) {
		for _, s := range unit(wants[name], haves[name]) {
			byKind[s.Kind] = append(byKind[s.Kind], s)
		}
	}
	if len(byKind[Load])+len(byKind[Unload]) > 0 {
		byKind[Reload] = []Step{{Kind: Reload, Reason: "unit files have changed"}}
	}
	return slices.Concat(byKind[Unload], byKind[Load], byKind[Reload], byKind[Stop], byKind[Start], byKind[Forget])
}

// unit tells the steps for one unit, of which the zero Want is not placed here.
func unit(w Want, h Have) []Step {
	step := func(k Kind, reason string) Step { return Step{Kind: k, Unit: w.Unit, Hash: w.Hash, Reason: reason} }
	stop := func(reason string) []Step {
		if h.Active == "deactivating" {
			return nil // it is on its way
		}
		return []Step{step(Stop, reason)}
	}
	switch {
	case w.State != fleet.Loaded && w.State != fleet.Launched:
		return leave(w, h, step, stop)
	case w.Down:
		if h.up() {
			return stop(w.Why)
		}
		return nil
	case h.File != "" && h.File != w.Hash:
		if h.up() {
			return stop("its content has changed")
		}
		return append([]Step{step(Unload, "its content has changed")}, begin(w, step, step(Load, "its content has changed"))...)
	case h.File == "":
		if h.up() && h.Began != "" && h.Began != w.Hash {
			return stop("its file is gone and its content has changed")
		}
		// A unit of the machine itself with the name goes on running, as it did
		// with fleet; it takes on the new content when it is started again.
		if h.Began == w.Hash {
			return []Step{step(Load, "its file is gone")}
		}
		return begin(w, step, step(Load, "it is scheduled here but not loaded"))
	case w.State == fleet.Launched && h.Began != w.Hash:
		return []Step{step(Start, "it is loaded here but to be launched")}
	case w.State == fleet.Loaded && h.Began != "" && h.up():
		return stop("it is launched here but to be loaded only")
	}
	return nil
}

// begin adds the start to a load.
func begin(w Want, step func(Kind, string) Step, load Step) []Step {
	if w.State == fleet.Launched {
		return []Step{load, step(Start, "it is to be launched")}
	}
	return []Step{load}
}

// leave takes a unit off this machine. One that was never placed and has no
// file of ours is none of our business, even if it runs.
func leave(w Want, h Have, step func(Kind, string) Step, stop func(string) []Step) []Step {
	released := w.State == fleet.Inactive
	reason := "it is not scheduled here"
	if released {
		reason = "it was released from here"
	}
	switch {
	case h.up() && (h.File != "" || h.Began != ""):
		return stop(reason)
	case h.File != "" && released:
		return []Step{step(Unload, reason), step(Forget, reason)}
	case h.File != "":
		return []Step{step(Unload, reason)}
	case released || h.Began != "":
		return []Step{step(Forget, reason)}
	}
	return nil
}

// Describe lists steps one after another, for logs and tests.
func Describe(steps []Step) string {
	lines := make([]string, len(steps))
	for i, s := range steps {
		lines[i] = s.String()
	}
	return strings.Join(lines, "\n")
}
