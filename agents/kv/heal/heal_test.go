package heal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// m makes a member from a word: the name, then any of L (learner), D (dead for
// long), d (dead for a moment), N (not started).
func m(word string) Member {
	name, flags, _ := strings.Cut(word, ":")
	out := Member{ID: uint64(name[0]), Name: name, PeerURLs: []string{"http://" + name}, Started: true, Alive: true}
	for _, f := range flags {
		switch f {
		case 'L':
			out.Learner = true
		case 'D':
			out.Alive, out.DeadFor = false, time.Hour
		case 'd':
			out.Alive, out.DeadFor = false, 10*time.Second
		case 'N':
			out.Started, out.Name = false, ""
		}
	}
	return out
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		members    string
		candidates string // "name" at http://name, or "name@address"
		size       int
		off        bool
		do         Do
		id         byte
		reason     string
	}{
		{members: "a b c", size: 3, do: Nothing},
		{members: "a b c", candidates: "x", size: 3, do: Nothing},
		{members: "a b c", candidates: "x", size: 5, do: Add, reason: `3 of 5 members and "x" asks`},
		{members: "a", candidates: "x", size: 3, do: Add},
		{members: "a", candidates: "x", size: 3, off: true, do: Add, reason: "asks to join"},
		// A dead member.
		{members: "a b c:d", candidates: "x", size: 3, do: Nothing},
		{members: "a b c:D", candidates: "x", size: 3, do: Remove, id: 'c', reason: `dead for 1h0m0s, longer than 30m0s; "x" takes its place`},
		{members: "a b c:D", candidates: "x", size: 3, off: true, do: Nothing},
		{members: "a b c:D", size: 3, do: Nothing, reason: "stays until a machine asks to take its place"},
		{members: "a b c d:D e:D", size: 5, do: Remove, id: 'd', reason: "survives 1 more losses"},
		{members: "a b c e:D", size: 5, do: Remove, id: 'e', reason: "survives 1 more losses"},
		{members: "a b c d e:D", size: 5, do: Nothing, reason: "stays until"},
		{members: "a b c:ND", candidates: "x", size: 3, do: Remove, id: 'c'},
		// The quorum.
		{members: "a b:D c:D", candidates: "x", size: 3, do: Nothing, reason: "1 of 3 voting members live"},
		{members: "a b:D", candidates: "x", size: 3, do: Nothing, reason: "1 of 2 voting members live"},
		{members: "a b c:d d:d", candidates: "x", size: 5, do: Nothing, reason: "without a majority"},
		{members: "a b c d:d", candidates: "x", size: 5, do: Add},
		{members: "a b c:d", candidates: "x", size: 5, do: Nothing, reason: "would be no majority of 4"},
		// Learners come first, one at a time.
		{members: "a b c:L", candidates: "x", size: 3, do: Promote, id: 'c'},
		{members: "a b c:LNd", candidates: "x", size: 3, do: Nothing, reason: "is awaited"},
		{members: "a b c:LND", candidates: "x", size: 3, do: Remove, id: 'c', reason: "it has no vote"},
		{members: "a b c:LND", candidates: "c", size: 3, do: Nothing, reason: "is awaited"},
		{members: "a b c:Ld", candidates: "c", size: 3, do: Remove, id: 'c', reason: "without its data"},
		{members: "a b c:D d:Ld", candidates: "x", size: 3, do: Nothing, reason: "is awaited"},
		// A machine that lost its disk comes back.
		{members: "a b c:d", candidates: "c", size: 3, do: Remove, id: 'c', reason: "asks to join anew, without its data"},
		{members: "a b c:d", candidates: "c", size: 3, off: true, do: Remove, id: 'c'},
		{members: "a b:d c:D", candidates: "b", size: 3, do: Nothing, reason: "without a majority"},
		{members: "a b c", candidates: "c", size: 5, do: Nothing},
		// Names.
		{members: "a b c", candidates: "c@other", size: 5, do: Nothing},
		{members: "a b c:d", candidates: "c@other", size: 3, do: Nothing},
		{members: "a b", candidates: "a@other z", size: 3, do: Add, reason: `"z" asks`},
	} {
		t.Run(c.members+" "+c.candidates, func(t *testing.T) {
			var members []Member
			for _, word := range strings.Fields(c.members) {
				members = append(members, m(word))
			}
			var candidates []Candidate
			for _, word := range strings.Fields(c.candidates) {
				name, address, other := strings.Cut(word, "@")
				if !other {
					address = name
				}
				candidates = append(candidates, Candidate{name, []string{"http://" + address}})
			}
			got := Decide(members, candidates, Settings{On: !c.off, Delay: 30 * time.Minute, Size: c.size})
			if got.Do != c.do || got.ID != uint64(c.id) || !strings.Contains(got.Reason, c.reason) {
				t.Errorf("got %+v, want %q of %c because %q", got, c.do, c.id, c.reason)
			}
			if got.Do != Nothing && got.Reason == "" {
				t.Error("a task without a reason")
			}
		})
	}
}

// TestRandomLife kills, revives and offers machines at random: as long as a
// majority lived before a task, one lives after it, and with enough machines
// the cluster is at its size again in the end.
func TestRandomLife(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		size := 1 + 2*r.IntN(3)
		s := Settings{On: true, Delay: time.Minute, Size: size}
		members := []Member{{ID: 1, Name: "n1", PeerURLs: []string{"u1"}, Started: true, Alive: true}}
		next := uint64(2)
		var waiting []Candidate
		step := func() {
			task := Decide(members, waiting, s)
			before := newCount(members)
			switch task.Do {
			case Remove:
				members = slices.DeleteFunc(members, func(m Member) bool {
					if m.ID == task.ID && m.Alive {
						t.Fatalf("seed %d: removed a living member: %s", seed, task.Reason)
					}
					return m.ID == task.ID
				})
			case Promote:
				for i := range members {
					members[i].Learner = members[i].Learner && members[i].ID != task.ID
				}
			case Add:
				members = append(members, Member{ID: next, Name: task.Candidate.Name, PeerURLs: task.Candidate.PeerURLs, Learner: true, Started: true, Alive: true})
				waiting = slices.DeleteFunc(waiting, func(c Candidate) bool { return c.Name == task.Candidate.Name })
				next++
			}
			after := newCount(members)
			if task.Do != Nothing && (before.alive < quorum(before.voters) || after.alive < quorum(after.voters)) {
				t.Fatalf("seed %d: %+v: from %+v to %+v", seed, task, before, after)
			}
		}
		for range 200 {
			for i := range members {
				if !members[i].Alive {
					members[i].DeadFor += 10 * time.Second
				}
			}
			switch i := r.IntN(len(members)); r.IntN(6) {
			case 0:
				if c := newCount(members); members[i].Alive && (members[i].Learner || c.alive-1 >= quorum(c.voters)) {
					members[i].Alive, members[i].DeadFor = false, time.Second
				}
			case 1:
				members[i].Alive, members[i].DeadFor = true, 0
			case 2:
				if len(waiting) < 3 {
					waiting = append(waiting, Candidate{fmt.Sprintf("c%d", next), []string{fmt.Sprintf("u%d", next)}})
					next++
				}
			}
			step()
		}
		for i := range members {
			members[i].Alive, members[i].DeadFor = true, 0
		}
		for range 40 {
			waiting = append(waiting, Candidate{fmt.Sprintf("c%d", next), []string{fmt.Sprintf("u%d", next)}})
			next++
			step()
		}
		if c := newCount(members); c.voters < size {
			t.Errorf("seed %d: %d voting members in the end, want %d: %+v", seed, c.voters, size, members)
		}
	}
}
