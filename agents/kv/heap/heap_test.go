package heap

import (
	"context"
	"runtime/debug"
	"testing"
)

func TestDecide(t *testing.T) {
	const mib = 1 << 20
	s := Begin()
	for i, step := range []struct {
		allocated, live uint64
		percent         int
		release         bool
	}{
		{mib / 2, 4 * mib, 40, false},
		{3 * mib, 4 * mib, 40, false}, // neither busy nor quiet: as it was
		{100 * mib, 4 * mib, 800, false},
		{100 * mib, 10 * mib, 300, false},
		{100 * mib, 1000 * mib, 100, false},
		{2 * mib, 1000 * mib, 100, false},
		{4 * mib, 0, 800, false},
	} {
		var release bool
		s.Live = step.live
		if s, release = Decide(s, step.allocated); s.Percent != step.percent || release != step.release {
			t.Errorf("step %d: GOGC=%d release %t, want %d %t", i, s.Percent, release, step.percent, step.release)
		}
	}
	for i := range 2 * patience {
		var release bool
		if s, release = Decide(s, 0); release != (i == patience-1) || s.Busy != (i < patience-1) {
			t.Errorf("quiet for %d: busy %t, release %t", i+1, s.Busy, release)
		}
	}
}

// TestRun sets an idle process's GOGC, and ends.
func TestRun(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(upstream))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	Run(ctx)
	if got := debug.SetGCPercent(upstream); got != idlePercent {
		t.Errorf("GOGC is %d, want %d", got, idlePercent)
	}
}
