// Package care looks after a member of the store: snapshots on a schedule,
// defragmentation when half of the file is empty, and alarms in words. It runs
// inside etcd.service on every member.
//
// Decide is pure: what a member is like and what time it is in, tasks with
// their reasons out. Keeper is the edge: it looks every Every and does the
// tasks, through the member's own API. Compaction is upstream's (its flag
// auto-compaction), and so are a snapshot on demand (`etcdctl snapshot save`)
// and a restore (`etcdutl snapshot restore`).
//
// Defragmenting stops a member for as long as it takes to copy what is in use.
// So members do it one after the other, under a lock in the store, and a leader
// hands its office over first. Left out on purpose: removing and replacing
// members, which is a matter of the cluster and not of a member.
package care

import (
	"fmt"
	"strings"
	"time"
)

// Config is what an owner can set.
type Config struct {
	Interval time.Duration // between snapshots; 0: none
	Keep     int           // snapshots that are kept
	Dir      string        // where they are
}

// Sizes and times that decide.
const (
	// worthDefragmenting is the smallest empty part of a file that is given
	// back, in bytes.
	worthDefragmenting = 64 << 20
	// defragmentAgain is the shortest time between two of a member.
	defragmentAgain = 6 * time.Hour
	// quotaWarning is the part of the quota from which on it is told, percent.
	quotaWarning = 80
)

// State is a member as it was looked at.
type State struct {
	Now                time.Time
	Members            int   // of the cluster
	Leader             bool  // this one leads
	Revision           int64 // of the store
	Size, InUse, Quota int64 // of the store's file, in bytes
	Free               int64 // bytes in the file system of the snapshots
	Alarms             []Alarm
	LastSnapshot       time.Time // zero: none
	SnapshotRevision   int64     // of the store when it was made
	LastDefragment     time.Time // by this process; zero: not yet
}

// Alarm is an alarm of the cluster.
type Alarm struct {
	Kind   string // NOSPACE, CORRUPT
	Member string // name, or identifier in hexadecimal
}

// Kind is what a task does.
type Kind string

// The tasks.
const (
	Snapshot   Kind = "snapshot"
	HandOver   Kind = "hand over leadership"
	Defragment Kind = "defragment"
)

// Task is one thing to do, and why.
type Task struct {
	Kind   Kind
	Reason string
}

// Decide says what is to be done now, in this order.
func Decide(c Config, s State) []Task {
	var tasks []Task
	if reason := snapshotDue(c, s); reason != "" {
		tasks = append(tasks, Task{Snapshot, reason})
	}
	empty := s.Size - s.InUse
	if empty < worthDefragmenting || empty < s.InUse || !s.LastDefragment.IsZero() && s.Now.Sub(s.LastDefragment) < defragmentAgain {
		return tasks
	}
	reason := fmt.Sprintf("%s of the file's %s are empty", megabytes(empty), megabytes(s.Size))
	if s.Leader && s.Members > 1 {
		tasks = append(tasks, Task{HandOver, "the leader must not stop, and " + reason})
	}
	return append(tasks, Task{Defragment, reason})
}

// snapshotDue says why a snapshot is due, or "".
func snapshotDue(c Config, s State) string {
	switch {
	case c.Interval <= 0, s.Revision == s.SnapshotRevision && !s.LastSnapshot.IsZero():
		return ""
	case s.Free < 2*s.Size:
		return "" // Words tells it
	case s.LastSnapshot.IsZero():
		return "there is none"
	case s.Now.Before(s.LastSnapshot): // the clock was set back
		return "the last one is from the future"
	case s.Now.Sub(s.LastSnapshot) >= c.Interval:
		return fmt.Sprintf("the last one is from %s", s.LastSnapshot.UTC().Format(time.RFC3339))
	}
	return ""
}

// alarmWords are what to do about an alarm.
var alarmWords = map[string]string{
	"NOSPACE": "the store is at its quota and takes no writes; delete keys, `etcdctl compact`, `etcdctl defrag`, then `etcdctl alarm disarm`",
	"CORRUPT": "its data differ from the other members'; remove the member, move its data directory away and add it again",
}

// Words is the state in one line, for the service manager. A line that starts
// with "Alarm" is shown at login.
func Words(c Config, s State) string {
	var alarms []string
	for _, a := range s.Alarms {
		words := alarmWords[a.Kind]
		if words == "" {
			words = "see `etcdctl alarm list`"
		}
		alarms = append(alarms, fmt.Sprintf("%s on member %s: %s", a.Kind, a.Member, words))
	}
	switch {
	case len(alarms) > 0:
		return "Alarm: " + strings.Join(alarms, "; ")
	case s.Quota > 0 && s.InUse > s.Quota/100*quotaWarning:
		return fmt.Sprintf("Alarm: %s of the quota of %s are used; delete keys or raise ETCD_QUOTA_BACKEND_BYTES", megabytes(s.InUse), megabytes(s.Quota))
	case c.Interval > 0 && s.Free < 2*s.Size:
		return fmt.Sprintf("Alarm: no snapshots: %s are free in %s, a snapshot needs %s and leaves as much", megabytes(s.Free), c.Dir, megabytes(s.Size))
	}
	role := "follower"
	if s.Leader {
		role = "leader"
	}
	return fmt.Sprintf("%s of %d, revision %d, %s in use", role, s.Members, s.Revision, megabytes(s.InUse))
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
