package care

import (
	"strings"
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := Config{Interval: 6 * time.Hour, Keep: 3, Dir: "/snapshots"}
	base := State{Now: now, Members: 3, Revision: 10, Size: 20 << 20, InUse: 15 << 20, Free: 1 << 30,
		LastSnapshot: now.Add(-time.Hour), SnapshotRevision: 9}
	change := func(f func(*State)) State { s := base; f(&s); return s }
	for _, test := range []struct {
		name string
		s    State
		c    Config
		want string // kinds
	}{
		{"all well", base, c, ""},
		{"no snapshot yet", change(func(s *State) { s.LastSnapshot = time.Time{} }), c, "snapshot"},
		{"an old snapshot", change(func(s *State) { s.LastSnapshot = now.Add(-7 * time.Hour) }), c, "snapshot"},
		{"an old snapshot of the same revision", change(func(s *State) { s.LastSnapshot, s.SnapshotRevision = now.Add(-7*time.Hour), 10 }), c, ""},
		{"a snapshot from the future", change(func(s *State) { s.LastSnapshot = now.Add(time.Hour) }), c, "snapshot"},
		{"no room", change(func(s *State) { s.LastSnapshot, s.Free = time.Time{}, 30<<20 }), c, ""},
		{"snapshots are off", change(func(s *State) { s.LastSnapshot = time.Time{} }), Config{}, ""},
		{"half empty and small", change(func(s *State) { s.InUse = 1 << 20 }), c, ""},
		{"half empty", change(func(s *State) { s.Size, s.InUse = 200<<20, 90<<20 }), c, "defragment"},
		{"the leader is half empty", change(func(s *State) { s.Size, s.InUse, s.Leader = 200<<20, 90<<20, true }), c, "hand over leadership, defragment"},
		{"the only member is half empty", change(func(s *State) { s.Size, s.InUse, s.Leader, s.Members = 200<<20, 90<<20, true, 1 }), c, "defragment"},
		{"done an hour ago", change(func(s *State) { s.Size, s.InUse, s.LastDefragment = 200<<20, 90<<20, now.Add(-time.Hour) }), c, ""},
		{"less than half is empty", change(func(s *State) { s.Size, s.InUse = 200<<20, 110<<20 }), c, ""},
	} {
		var kinds []string
		for _, task := range Decide(test.c, test.s) {
			if task.Reason == "" {
				t.Errorf("%s: %s without a reason", test.name, task.Kind)
			}
			kinds = append(kinds, string(task.Kind))
		}
		if got := strings.Join(kinds, ", "); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestWords(t *testing.T) {
	c := Config{Interval: time.Hour, Dir: "/snapshots"}
	s := State{Members: 3, Leader: true, Revision: 7, Size: 2e6, InUse: 1e6, Quota: 2e9, Free: 1e9}
	if got, want := Words(c, s), "leader of 3, revision 7, 1.0 MB in use"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for want, change := range map[string]func(*State){
		"Alarm: NOSPACE on member m1: the store is at its quota": func(s *State) { s.Alarms = []Alarm{{"NOSPACE", "m1"}} },
		"Alarm: ODD on member m1: see `etcdctl alarm list`":      func(s *State) { s.Alarms = []Alarm{{"ODD", "m1"}} },
		"Alarm: 1700.0 MB of the quota of 2000.0 MB are used":    func(s *State) { s.InUse = 17e8 },
		"Alarm: no snapshots: 3.0 MB are free in /snapshots":     func(s *State) { s.Free = 3e6 },
	} {
		s := s
		change(&s)
		if got := Words(c, s); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want it to begin with %q", got, want)
		}
	}
}
