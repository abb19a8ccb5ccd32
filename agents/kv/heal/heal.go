// Package heal decides what the leader of an etcd cluster does to keep it at
// its size: which dead member is removed, which machine that asks is added as
// a learner, which learner gets its vote. The decision is a pure function from
// what is known to one task with its reason; the member of the leader carries
// it out and decides anew.
//
// No task is decided on that could cost the quorum: members are only changed
// while a majority lives and a majority of what remains lives too. A dead
// member is kept, however long it is dead, while nobody is there to take its
// place and removing it alone would not let the cluster survive more losses:
// it may still come back with its data.
//
// Left out on purpose: making a cluster smaller, and starting anew from a
// minority, which loses acknowledged writes and is the owner's to decide.
package heal

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Member is a member as the leader knows it.
type Member struct {
	ID       uint64
	Name     string
	PeerURLs []string
	Learner  bool
	Started  bool          // has been seen by the cluster
	Alive    bool          // answers now
	DeadFor  time.Duration // since when it does not, as far as this leader has seen
}

// Candidate is a machine without a member's data that asks to join.
type Candidate struct {
	Name     string
	PeerURLs []string
}

// Settings are the owner's.
type Settings struct {
	On    bool // dead members are replaced
	Delay time.Duration
	Size  int // wanted number of voting members
}

// Do is what a task does.
type Do string

// The tasks.
const (
	Nothing Do = ""
	Remove  Do = "remove"
	Add     Do = "add as a learner"
	Promote Do = "promote"
)

// Task is what to do next.
type Task struct {
	Do        Do
	ID        uint64    // of the member to remove or promote
	Candidate Candidate // the machine to add
	Reason    string    // also why nothing is done, empty when all is well
}

// grace is how long a member must have been silent before a machine with its
// address and without its data is believed to be it.
const grace = 5 * time.Second

// learnerDelay is how long a learner may be dead: it has no vote to lose.
const learnerDelay = 2 * time.Minute

// Decide gives the next task.
func Decide(members []Member, candidates []Candidate, s Settings) Task {
	candidates = slices.SortedFunc(slices.Values(candidates), func(a, b Candidate) int { return cmp.Compare(a.Name, b.Name) })
	c := newCount(members)
	if c.alive < quorum(c.voters) {
		return Task{Reason: fmt.Sprintf("%d of %d voting members live: nothing is changed without a majority", c.alive, c.voters)}
	}
	if t := learners(members, candidates, s); t.Do != Nothing || t.Reason != "" {
		return t
	}
	if t := returned(members, candidates, c); t.Do != Nothing {
		return t
	}
	ready := slices.DeleteFunc(slices.Clone(candidates), func(x Candidate) bool { ok, _ := Acceptable(members, x); return !ok })
	waits := Task{}
	if s.On {
		t := dead(members, ready, s, c)
		if t.Do != Nothing {
			return t
		}
		waits = t
	}
	if len(ready) == 0 || c.voters >= s.Size {
		return waits
	}
	if c.voters > 1 && c.alive < quorum(c.voters+1) { // etcd refuses it too
		return Task{Reason: fmt.Sprintf("%q waits: with one more voting member %d living ones would be no majority of %d", ready[0].Name, c.alive, c.voters+1)}
	}
	return Task{Do: Add, Candidate: ready[0], Reason: fmt.Sprintf("the cluster has %d of %d members and %q asks to join", c.voters, s.Size, ready[0].Name)}
}

// Acceptable says whether a candidate can become a new member: its name and
// its addresses must be nobody's.
func Acceptable(members []Member, c Candidate) (ok bool, reason string) {
	for _, m := range members {
		switch {
		case shares(m, c) && m.Alive && m.Started:
			return false, fmt.Sprintf("the address %v belongs to the member %q (%x), which lives: two machines cannot share an address", c.PeerURLs, m.Name, m.ID)
		case shares(m, c):
			return false, fmt.Sprintf("the address %v belongs to the member %x, which is not removed yet", c.PeerURLs, m.ID)
		case m.Name == c.Name && m.Alive:
			return false, fmt.Sprintf("the name %q belongs to the member %x at %v, which lives: two machines of one name; give this one another name", c.Name, m.ID, m.PeerURLs)
		case m.Name == c.Name:
			return false, fmt.Sprintf("the name %q belongs to the member %x, which is dead for %v and not removed yet", c.Name, m.ID, m.DeadFor.Round(time.Second))
		}
	}
	return true, ""
}

// learners brings the one learner on before anything else is begun.
func learners(members []Member, candidates []Candidate, s Settings) Task {
	for _, m := range members {
		if !m.Learner {
			continue
		}
		again := slices.ContainsFunc(candidates, func(c Candidate) bool { return shares(m, c) })
		switch {
		case m.Alive && m.Started:
			return Task{Do: Promote, ID: m.ID, Reason: fmt.Sprintf("the learner %q lives", m.Name)}
		case m.Started && again && m.DeadFor >= grace:
			return Task{Do: Remove, ID: m.ID, Reason: fmt.Sprintf("the machine of the learner %q asks to join anew, without its data", m.Name)}
		case m.DeadFor >= min(s.Delay, learnerDelay) && !again && (s.On || !m.Started):
			return Task{Do: Remove, ID: m.ID, Reason: fmt.Sprintf("the learner %q at %v has not come for %v; it has no vote", m.Name, m.PeerURLs, m.DeadFor.Round(time.Second))}
		}
		return Task{Reason: fmt.Sprintf("the learner at %v is awaited", m.PeerURLs)}
	}
	return Task{}
}

// returned finds dead members whose machines ask to join anew: they have lost
// their data and cannot come back as who they were.
func returned(members []Member, candidates []Candidate, c count) Task {
	for _, m := range members {
		if m.Learner || m.Alive || !m.Started || m.DeadFor < grace {
			continue
		}
		if slices.ContainsFunc(candidates, func(x Candidate) bool { return shares(m, x) }) && c.safe() {
			return Task{Do: Remove, ID: m.ID, Reason: fmt.Sprintf("the machine of the member %q asks to join anew, without its data", m.Name)}
		}
	}
	return Task{}
}

// dead finds the member that is dead for the longest time, longer than the
// delay, and can be removed.
func dead(members []Member, ready []Candidate, s Settings, c count) Task {
	var long []Member
	for _, m := range members {
		if !m.Learner && !m.Alive && m.DeadFor >= s.Delay {
			long = append(long, m)
		}
	}
	if len(long) == 0 {
		return Task{}
	}
	slices.SortFunc(long, func(a, b Member) int { return cmp.Compare(b.DeadFor, a.DeadFor) })
	m := long[0]
	said := fmt.Sprintf("the member %q (%x) is dead for %v, longer than %v", m.Name, m.ID, m.DeadFor.Round(time.Second), s.Delay)
	more := c.alive - quorum(c.voters-len(long))
	switch {
	case !c.safe():
		return Task{Reason: said + fmt.Sprintf("; it stays, because %d living members would be no majority without it", c.alive)}
	case len(ready) > 0:
		return Task{Do: Remove, ID: m.ID, Reason: said + fmt.Sprintf("; %q takes its place", ready[0].Name)}
	case more > c.alive-quorum(c.voters):
		return Task{Do: Remove, ID: m.ID, Reason: said + fmt.Sprintf("; without the dead members the cluster survives %d more losses", more)}
	}
	return Task{Reason: said + "; it stays until a machine asks to take its place: removing it alone would not let the cluster survive more losses"}
}

// count is the voting members and those of them that live.
type count struct{ voters, alive int }

func newCount(members []Member) count {
	var c count
	for _, m := range members {
		if m.Learner {
			continue
		}
		c.voters++
		if m.Alive {
			c.alive++
		}
	}
	return c
}

// safe says whether one dead member can be removed.
func (c count) safe() bool {
	return c.alive >= quorum(c.voters) && c.alive >= quorum(c.voters-1) && c.alive >= 1
}

func quorum(n int) int { return n/2 + 1 }

func shares(m Member, c Candidate) bool {
	return slices.ContainsFunc(c.PeerURLs, func(u string) bool { return slices.Contains(m.PeerURLs, u) })
}
