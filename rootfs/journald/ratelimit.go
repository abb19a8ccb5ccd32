package journald

import "time"

// limiter counts records of each unit and class of priority in intervals, as
// systemd does: the first burst of an interval pass, the rest are counted.
type limiter struct {
	interval time.Duration
	burst    int
	pools    map[poolKey]*pool
}

type poolKey struct {
	unit  string
	class int
}

type pool struct {
	begin      time.Time
	passed     int
	suppressed int
}

// maxPools bounds the memory for units.
const maxPools = 2048

// classes of priorities have pools of their own, so that debug lines cannot
// hide an error.
var classes = [8]int{0, 0, 0, 1, 2, 3, 3, 4}

func newLimiter(interval time.Duration, burst int) *limiter {
	return &limiter{interval: interval, burst: burst, pools: map[poolKey]*pool{}}
}

// allow reports whether a record may pass. suppressed is how many of the unit
// were dropped in the interval before, told once.
func (l *limiter) allow(unit string, priority int, now time.Time) (ok bool, suppressed int) {
	if l.interval <= 0 || l.burst <= 0 || unit == "" {
		return true, 0
	}
	key := poolKey{unit, classes[priority&7]}
	p := l.pools[key]
	if p == nil {
		if len(l.pools) >= maxPools {
			l.expire(now, nil)
		}
		if len(l.pools) >= maxPools {
			return true, 0
		}
		p = &pool{begin: now}
		l.pools[key] = p
	}
	if now.Sub(p.begin) >= l.interval {
		suppressed = p.suppressed
		*p = pool{begin: now}
	}
	if p.passed >= l.burst {
		p.suppressed++
		return false, suppressed
	}
	p.passed++
	return true, suppressed
}

// expire forgets intervals that are over and tells what they suppressed.
func (l *limiter) expire(now time.Time, tell func(unit string, suppressed int)) {
	for key, p := range l.pools {
		if now.Sub(p.begin) < l.interval {
			continue
		}
		if p.suppressed > 0 {
			if tell == nil {
				continue
			}
			tell(key.unit, p.suppressed)
		}
		delete(l.pools, key)
	}
}
