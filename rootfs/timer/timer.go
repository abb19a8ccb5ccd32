// Package timer decides when a timer unit elapses next; systemd.timer(5). PID 1
// asks it whenever the timer, or the unit that it starts, changes.
//
// It is pure: what happened and what time it is are arguments. AccuracySec= is
// not here: a timer elapses at the beginning of its window, which every window
// allows.
package timer

import (
	"hash/fnv"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/calendar"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// History is what a timer counts from. A zero time has not been yet.
type History struct {
	Boot    time.Time // of the kernel
	Startup time.Time // of PID 1
	// Activated is when the timer unit was started.
	Activated time.Time
	// Triggered is when it last elapsed; with Persistent= that may have been
	// in an earlier boot, which Earlier tells.
	Triggered time.Time
	Earlier   bool
	// UnitActive and UnitInactive are when the unit that it starts last began
	// to start and was down again.
	UnitActive, UnitInactive time.Time
}

// Next is when a timer elapses. Each of the times may be zero.
type Next struct {
	Real      time.Time // by the calendar
	Monotonic time.Time // by time spans
	// Repeats tells that it counts from the unit that it starts, so that it may
	// elapse again even if there is no time for that now.
	Repeats bool
}

// At returns the earlier one, and false if the timer does not elapse.
func (n Next) At() (time.Time, bool) {
	switch {
	case n.Real.IsZero():
		return n.Monotonic, !n.Monotonic.IsZero()
	case n.Monotonic.IsZero() || n.Real.Before(n.Monotonic):
		return n.Real, true
	}
	return n.Monotonic, true
}

// Compute returns when the timer elapses next. now is the present time;
// calendars are t's expressions as parsed.
func Compute(t *unit.Timer, calendars []*calendar.Expression, h History, now time.Time) Next {
	var n Next
	add := func(base time.Time, spans []time.Duration, once bool) {
		for _, d := range spans {
			if base.IsZero() || d == timespan.Infinity {
				continue
			}
			at := base.Add(d)
			if once && !h.Triggered.IsZero() && !h.Earlier && !at.After(now) {
				continue // it has had its turn
			}
			if n.Monotonic.IsZero() || at.Before(n.Monotonic) {
				n.Monotonic = at
			}
		}
	}
	add(h.Activated, t.OnActive, true)
	add(h.Boot, t.OnBoot, true)
	add(h.Startup, t.OnStartup, true)
	triggered := h.Triggered
	if h.Earlier {
		triggered = time.Time{}
	}
	add(latest(h.UnitActive, triggered), t.OnUnitActive, false)
	add(latest(h.UnitInactive, triggered), t.OnUnitInactive, false)
	n.Repeats = len(t.OnUnitActive)+len(t.OnUnitInactive) > 0
	n.Real = fromCalendars(calendars, h, now)
	return n
}

// fromCalendars counts from when the timer last elapsed, so that nothing that
// passed meanwhile is left out; what passed before PID 1 started is due at its
// start, for the random delay to spread it.
func fromCalendars(calendars []*calendar.Expression, h History, now time.Time) time.Time {
	base := now
	switch {
	case !h.Triggered.IsZero():
		base = h.Triggered
	case !h.Activated.IsZero():
		base = h.Activated
	}
	var first time.Time
	for _, c := range calendars {
		at, ok := c.Next(base)
		if !ok {
			continue
		}
		if at.Before(h.Startup) {
			at = h.Startup
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// Delay returns the part of RandomizedDelaySec= that this machine waits. random
// returns a number below its argument. With FixedRandomDelay= it is always the
// same for a machine and a unit.
func Delay(t *unit.Timer, machineID, unitName string, random func(int64) int64) time.Duration {
	switch {
	case t.RandomizedDelay <= 0:
		return 0
	case t.FixedRandomDelay:
		h := fnv.New64a()
		h.Write([]byte(machineID + "\x00" + unitName))
		return time.Duration(h.Sum64() % uint64(t.RandomizedDelay))
	}
	return time.Duration(random(int64(t.RandomizedDelay)))
}
