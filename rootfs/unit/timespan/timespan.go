// Package timespan reads time spans and sizes as unit files write them:
// "1h 30min", "2", "infinity", "512M"; systemd.time(7), "Parsing time spans".
//
// time.ParseDuration knows neither these units nor "m" against "M", so this is
// code of our own.
package timespan

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Infinity stands for no limit.
const Infinity time.Duration = math.MaxInt64

const (
	day  = 24 * time.Hour
	year = 31557600 * time.Second // 365.25 days
)

var units = map[string]time.Duration{
	"usec": time.Microsecond, "us": time.Microsecond, "µs": time.Microsecond, "μs": time.Microsecond,
	"msec": time.Millisecond, "ms": time.Millisecond,
	"seconds": time.Second, "second": time.Second, "sec": time.Second, "s": time.Second,
	"minutes": time.Minute, "minute": time.Minute, "min": time.Minute, "m": time.Minute,
	"hours": time.Hour, "hour": time.Hour, "hr": time.Hour, "h": time.Hour,
	"days": day, "day": day, "d": day,
	"weeks": 7 * day, "week": 7 * day, "w": 7 * day,
	"months": year / 12, "month": year / 12, "M": year / 12,
	"years": year, "year": year, "y": year,
}

// Parse reads a time span; numbers without a unit are of the unit def. What
// is longer than a time.Duration (292 years) becomes Infinity.
func Parse(s string, def time.Duration) (time.Duration, error) {
	rest := strings.TrimSpace(s)
	if rest == "infinity" {
		return Infinity, nil
	}
	if rest == "" {
		return 0, fmt.Errorf("parse time span: it is empty: write for example %q, or %q for no limit", "1min 30s", "infinity")
	}
	var total time.Duration
	for rest != "" {
		part, left, err := one(rest, def)
		if err != nil {
			return 0, fmt.Errorf("parse time span %q: %w", s, err)
		}
		if total > Infinity-part {
			total = Infinity
		} else {
			total += part
		}
		rest = strings.TrimLeft(left, " \t\n\r")
	}
	return total, nil
}

// one reads one number with its unit.
func one(s string, def time.Duration) (time.Duration, string, error) {
	if s[0] == '+' {
		s = s[1:]
	}
	whole, s := digits(s)
	var fraction string
	hasPoint := strings.HasPrefix(s, ".")
	if hasPoint {
		fraction, s = digits(s[1:])
	}
	if whole == "" && fraction == "" || hasPoint && fraction == "" {
		return 0, "", fmt.Errorf("expected a number at %q", s)
	}
	s = strings.TrimLeft(s, " \t\n\r")
	n := strings.IndexAny(s, "0123456789 \t\n\r.+-")
	if n < 0 {
		n = len(s)
	}
	unit := def
	if name := s[:n]; name != "" {
		u, ok := units[name]
		if !ok {
			return 0, "", fmt.Errorf("unknown unit %q: use us, ms, s, min, h, d, w, month or y", name)
		}
		unit = u
	}
	return scale(whole, fraction, unit), s[n:], nil
}

// scale multiplies a decimal number with a unit, cutting what is below a
// microsecond.
func scale(whole, fraction string, unit time.Duration) time.Duration {
	w := uint64(0)
	if whole != "" {
		var err error
		if w, err = strconv.ParseUint(whole, 10, 64); err != nil {
			return Infinity
		}
	}
	hi, lo := bits.Mul64(w, uint64(unit))
	if hi != 0 || lo > math.MaxInt64 {
		return Infinity
	}
	total := time.Duration(lo)
	part := unit
	for _, c := range []byte(fraction) {
		part /= 10
		more := part * time.Duration(c-'0')
		if total > Infinity-more {
			return Infinity
		}
		total += more
	}
	if total == Infinity {
		return total
	}
	return total.Truncate(time.Microsecond)
}

func digits(s string) (string, string) {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return s[:n], s[n:]
}

// Format writes a time span as systemctl shows it: "1min 30s", "1.500000s",
// "infinity".
func Format(d time.Duration) string {
	if d == Infinity {
		return "infinity"
	}
	if d < time.Microsecond {
		return "0"
	}
	steps := []struct {
		name     string
		unit     time.Duration
		decimals int
	}{{"y", year, 0}, {"month", year / 12, 0}, {"w", 7 * day, 0}, {"d", day, 0}, {"h", time.Hour, 0}, {"min", time.Minute, 0},
		{"s", time.Second, 6}, {"ms", time.Millisecond, 3}, {"us", time.Microsecond, 0}}
	var parts []string
	for _, s := range steps {
		n, rest := d/s.unit, d%s.unit/time.Microsecond
		if n == 0 {
			continue
		}
		text := strconv.FormatInt(int64(n), 10)
		d -= n * s.unit
		if s.decimals > 0 && rest > 0 {
			text += fmt.Sprintf(".%0*d", s.decimals, rest)
			d = 0
		}
		parts = append(parts, text+s.name)
	}
	return strings.Join(parts, " ")
}
