// Package heap keeps the garbage of etcd's process small while nobody uses it,
// and collects it seldom while somebody does: an idle member's memory is mostly
// what collections leave behind, and a busy member of some MiB would spend a
// sixth of its time on them. It is for `etcd` in coracled.
//
// The Go runtime has one setting for both, GOGC, which upstream leaves at 100.
// Decide is pure: how much is allocated in, the setting out. Left out on
// purpose is a limit of the memory (GOMEMLIMIT), which is the owner's.
package heap

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// idlePercent is GOGC of a member that nobody uses. Its heap is a few MiB,
	// so that collecting more often costs little.
	idlePercent = 40
	// room is how much garbage a busy member may have before it is collected,
	// in bytes, where that is more than upstream's GOGC gives.
	room = 32 << 20
	// upstream is GOGC of a program that does not set it.
	upstream = 100
	// most is the largest GOGC.
	most = 800
	// busy and quiet are the bytes allocated in a second from which on a
	// member is in use, and below which it is not.
	busy, quiet = 4 << 20, 1 << 20
	// Every is the time between two looks.
	Every = time.Second
	// patience is how many looks in a row find it quiet before it is idle.
	patience = 10
)

// State is what is known of the process.
type State struct {
	Busy    bool
	Quiet   int    // looks in a row that found it quiet
	Percent int    // GOGC
	Live    uint64 // bytes that the last collection left
}

// Begin is the state of a process that has not been used.
func Begin() State { return State{Percent: idlePercent} }

// Decide gives the state after a second in which so many bytes were allocated.
// Release says that the process has become idle and can give memory back.
func Decide(s State, allocated uint64) (next State, release bool) {
	switch {
	case allocated >= busy:
		s.Busy, s.Quiet = true, 0
	case allocated < quiet:
		s.Quiet++
	default:
		s.Quiet = 0
	}
	if s.Busy && s.Quiet >= patience {
		s.Busy, release = false, true
	}
	s.Percent = idlePercent
	if s.Busy {
		percent := room / (max(s.Live, 1<<20) / 100)
		s.Percent = int(max(upstream, min(most, percent/upstream*upstream)))
	}
	return s, release
}

// Run sets GOGC of this process until ctx ends.
func Run(ctx context.Context) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	ticker := time.NewTicker(Every)
	defer ticker.Stop()
	state := Begin()
	debug.SetGCPercent(state.Percent)
	metrics.Read(samples)
	for last := samples[0].Value.Uint64(); ; last = samples[0].Value.Uint64() {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(samples)
		state.Live = samples[1].Value.Uint64()
		next, release := Decide(state, samples[0].Value.Uint64()-last)
		if next.Percent != state.Percent {
			debug.SetGCPercent(next.Percent)
		}
		if state = next; release {
			debug.FreeOSMemory()
		}
	}
}
