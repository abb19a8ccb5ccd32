package engine

import (
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
)

// notice is how long a machine that vanished is waited for in any case. A member
// of the KV that led it, was frozen and goes on, can end leases that its
// successor had renewed (etcd 3.7; a suspended virtual machine is enough). Their
// machines live, see it, and are back within this time; nothing has moved then.
const notice = 400 * time.Millisecond

// losses holds the engine's hand for a moment when machines vanish, and longer
// when most of them do at one time, which is the KV's doing far more often than
// the machines'.
type losses struct {
	notice, wait time.Duration        // for any machine; for most of them
	since        map[string]time.Time // machines with placements and without a lease
}

// hold tells which machines are to be waited for at now, and when to look again;
// nil is none. most tells that it is most of them.
func (l *losses) hold(s *fleet.Snapshot, now time.Time) (waitFor map[string]bool, again time.Time, most bool) {
	since := map[string]time.Time{}
	var newest time.Time
	for _, p := range s.Placements {
		if _, seen := since[p.Machine]; seen || s.Machine(p.Machine) != nil {
			continue
		}
		t, known := l.since[p.Machine]
		if !known {
			t = now
		}
		since[p.Machine] = t
		if t.After(newest) {
			newest = t
		}
	}
	l.since = since
	most = len(since) > 1 && len(since) > len(s.Machines) && now.Before(newest.Add(l.wait))
	for id, t := range since {
		until := t.Add(l.notice)
		if most {
			until = newest.Add(l.wait)
		}
		if !now.Before(until) {
			continue
		}
		if waitFor == nil {
			waitFor = map[string]bool{}
		}
		waitFor[id] = true
		if again.IsZero() || until.Before(again) {
			again = until
		}
	}
	return waitFor, again, most
}

// spare leaves out what would take units from the machines that are waited for.
func spare(tasks []fleet.Task, waitFor map[string]bool) []fleet.Task {
	if len(waitFor) == 0 {
		return tasks
	}
	held := map[string]bool{}
	for _, t := range tasks {
		if t.Kind == fleet.Remove && waitFor[t.Placement.Machine] {
			held[t.Placement.Unit] = true
		}
	}
	var kept []fleet.Task
	for _, t := range tasks {
		if waitFor[t.Placement.Machine] || t.Kind == fleet.Place && held[t.Placement.Unit] {
			continue
		}
		kept = append(kept, t)
	}
	return kept
}
