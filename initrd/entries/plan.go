package entries

import (
	"errors"
	"fmt"
	"slices"

	"github.com/coracle-os/coracle/image/release"
)

// A File is an entry on the EFI system partition.
type File struct {
	Name Name
	File string // its name as it stands there; may differ from Name.String in leading zeros
	Size int64  // in bytes
	// RootHash is that of the system that it starts, from its command line;
	// "" when the file cannot be read as a UKI.
	RootHash string
}

// A Listing is what is in Directory.
type Listing struct {
	Files []File
	Temps []string // leftovers of half-done writes
	Free  int64    // bytes that a new file may have
}

// StepKind is what a Step does.
type StepKind string

// Kinds of steps. Every plan's steps are in the order of durability: Sync means
// that all before it is on the disk before anything after it is begun.
const (
	Remove StepKind = "remove" // File
	Write  StepKind = "write"  // the new entry's content to File, synced before it is closed
	Rename StepKind = "rename" // File to To
	Sync   StepKind = "sync"   // the directory and the whole file system
)

// A Step is one change of the directory.
type Step struct {
	Kind   StepKind
	File   string
	To     string // of a Rename
	Reason string // why, for people
}

// String is the step in words.
func (s Step) String() string {
	switch s.Kind {
	case Rename:
		return fmt.Sprintf("rename %s to %s (%s)", s.File, s.To, s.Reason)
	case Sync:
		return "sync"
	}
	return fmt.Sprintf("%s %s (%s)", s.Kind, s.File, s.Reason)
}

// ErrRunning says that a plan would have touched the running system's entry.
var ErrRunning = errors.New("the running system's boot entry is never removed or replaced")

// ErrOnTrial says that the running system was not marked good yet, so that the
// other slot may hold the only good one.
var ErrOnTrial = errors.New("the running system is on trial, and the other slot may be the only good one")

// ErrFull says that the EFI system partition has no room for a new entry.
var ErrFull = errors.New("the EFI system partition is full")

// PlanClean removes leftovers of half-done writes. It is safe at any time.
func PlanClean(l Listing) []Step {
	var steps []Step
	for _, t := range l.Temps {
		steps = append(steps, Step{Kind: Remove, File: t, Reason: "left by an interrupted update"})
	}
	return synced(steps)
}

// PlanDisarm removes every entry that does not start the running system, so
// that the slot that is not running can be written: what it holds will no
// longer be whole. It fails when the running system's own entry is not there
// or is still on trial, because then nothing good would remain.
func PlanDisarm(l Listing, running string) ([]Step, error) {
	own, ok := find(l, running)
	if !ok {
		return nil, fmt.Errorf("plan disarm: no boot entry starts the running system (root hash %s); put its UKI back into %s first", running, Directory)
	}
	otherGood := slices.ContainsFunc(l.Files, func(f File) bool { return f.RootHash != running && f.Name.Good() })
	if onTrial := !own.Name.Good() && !own.Name.Bad(); onTrial || (own.Name.Bad() && otherGood) {
		return nil, fmt.Errorf("plan disarm: %w (%s); wait until it is marked good", ErrOnTrial, own.File)
	}
	var steps []Step
	for _, f := range l.Files {
		if f.RootHash != running {
			steps = append(steps, Step{Kind: Remove, File: f.File, Reason: "its slot is about to be written"})
		}
	}
	return synced(steps), nil
}

// PlanArm puts a new entry of size bytes for a release of that version and root
// hash beside the running system's. In a downgrade, where the loader would
// prefer the running system by its higher version, the running one is marked
// as spent: it then comes after the new one and still before a new one that
// failed.
func PlanArm(l Listing, running, ver, rootHash string, size int64) ([]Step, error) {
	if err := CheckVersion(ver); err != nil {
		return nil, fmt.Errorf("plan arm: %w", err)
	}
	own, ok := find(l, running)
	if !ok {
		return nil, fmt.Errorf("plan arm: no boot entry starts the running system (root hash %s); put its UKI back into %s first", running, Directory)
	}
	if rootHash == running || own.Name.Version == ver {
		return nil, fmt.Errorf("plan arm: version %s is the running one: %w", ver, ErrRunning)
	}
	if size > l.Free {
		return nil, fmt.Errorf("plan arm: the boot entry has %d bytes, %d are free: %w; remove other files from it", size, l.Free, ErrFull)
	}
	next := Name{Version: ver, Counted: true, Left: Tries}
	steps := []Step{
		{Kind: Write, File: next.Temp(), Reason: "new release " + ver},
		{Kind: Sync},
		{Kind: Rename, File: next.Temp(), To: next.String(), Reason: "armed with " + fmt.Sprint(Tries) + " tries"},
		{Kind: Sync},
	}
	for _, f := range l.Files { // twins of another count would confuse the loader
		if f.Name.Version == ver && f.File != next.String() {
			steps = append([]Step{{Kind: Remove, File: f.File, Reason: "an older entry of the same version"}, {Kind: Sync}}, steps...)
		}
	}
	return append(steps, prefer(own, ver)...), nil
}

// PlanRollback makes the loader prefer the other, complete system: its entry
// gets fresh tries and the running one comes after it.
func PlanRollback(l Listing, running, target string) ([]Step, error) {
	own, ok := find(l, running)
	if !ok {
		return nil, fmt.Errorf("plan rollback: no boot entry starts the running system (root hash %s)", running)
	}
	other, ok := find(l, target)
	if !ok || target == running {
		return nil, fmt.Errorf("plan rollback: no boot entry starts root hash %s; there is nothing to go back to", target)
	}
	armed := Name{Version: other.Name.Version, Counted: true, Left: Tries}
	var steps []Step
	if other.File != armed.String() {
		steps = append(steps, Step{Kind: Rename, File: other.File, To: armed.String(), Reason: "fresh tries"}, Step{Kind: Sync})
	}
	return append(steps, prefer(own, other.Name.Version)...), nil
}

// prefer makes the loader take version ver before the running entry own.
func prefer(own File, ver string) []Step {
	if release.CompareVersions(ver, own.Name.Version) > 0 || own.Name.Bad() {
		return nil
	}
	spent := Name{Version: own.Name.Version, Counted: true}
	return []Step{{Kind: Rename, File: own.File, To: spent.String(), Reason: "comes after the older version from now on"}, {Kind: Sync}}
}

// PlanGood marks the running system's entry good: the counters leave its name.
// Twins of the same version, with and without counters, become one.
func PlanGood(l Listing, running string) ([]Step, error) {
	own, ok := find(l, running)
	if !ok {
		return nil, fmt.Errorf("plan mark good: no boot entry starts the running system (root hash %s); put its UKI back into %s", running, Directory)
	}
	good := Name{Version: own.Name.Version}
	var steps []Step
	for _, f := range l.Files {
		if f.Name.Version == own.Name.Version && f.File != own.File {
			steps = append(steps, Step{Kind: Remove, File: f.File, Reason: "a second entry of the same version"})
		}
	}
	if own.File != good.String() {
		steps = append(steps, Step{Kind: Rename, File: own.File, To: good.String(), Reason: "marked good"})
	}
	return synced(steps), nil
}

// PlanGiveUp makes the loader take another system than the running one, which
// was marked good and does not last any more: its entry gets a name without
// tries left. usable tells if the system of a root hash is whole on this disk.
// The plan is empty when the loader counts the running one's tries itself, or
// when there is no other system to take.
func PlanGiveUp(l Listing, running string, usable func(rootHash string) bool) []Step {
	own, ok := find(l, running)
	other := slices.ContainsFunc(l.Files, func(f File) bool {
		return f.RootHash != running && f.RootHash != "" && !f.Name.Bad() && usable(f.RootHash)
	})
	if !ok || !own.Name.Good() || !other {
		return nil
	}
	spent := Name{Version: own.Name.Version, Counted: true, Done: Tries}
	return synced([]Step{{Kind: Rename, File: own.File, To: spent.String(), Reason: "it does not last any more"}})
}

// find returns the entry that starts root hash; of several a good one, then
// the one with most tries left.
func find(l Listing, rootHash string) (File, bool) {
	var all []File
	for _, f := range l.Files {
		if f.RootHash == rootHash && rootHash != "" {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return File{}, false
	}
	return slices.MaxFunc(all, func(a, b File) int { return rank(a.Name) - rank(b.Name) }), true
}

func rank(n Name) int {
	if n.Good() {
		return 1 << 30
	}
	return n.Left
}

// Find returns the entry that starts the system with this root hash.
func (l Listing) Find(rootHash string) (File, bool) { return find(l, rootHash) }

func synced(steps []Step) []Step {
	if len(steps) == 0 {
		return nil
	}
	return append(steps, Step{Kind: Sync})
}
