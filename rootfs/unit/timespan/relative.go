package timespan

import (
	"fmt"
	"time"
)

// Relative writes how far a time is from now, as systemctl and systemd-analyze
// do: "14h left", "1 month 22 days ago". A negative d is in the past.
func Relative(d time.Duration) string {
	word := "left"
	if d < 0 {
		d, word = -d, "ago"
	}
	if d < time.Microsecond {
		return "now"
	}
	const week, month = 7 * day, year / 12
	count := func(n time.Duration, name string) string {
		if n == 1 {
			return "1 " + name
		}
		return fmt.Sprintf("%d %ss", n, name)
	}
	s := ""
	switch {
	case d >= year:
		s = count(d/year, "year") + " " + count(d%year/month, "month")
	case d >= month:
		s = count(d/month, "month") + " " + count(d%month/day, "day")
	case d >= week:
		s = count(d/week, "week") + " " + count(d%week/day, "day")
	case d >= 2*day:
		s = count(d/day, "day")
	case d >= 25*time.Hour:
		s = fmt.Sprintf("1 day %dh", d%day/time.Hour)
	case d >= 6*time.Hour:
		s = fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Hour:
		s = fmt.Sprintf("%dh %dmin", d/time.Hour, d%time.Hour/time.Minute)
	case d >= 5*time.Minute:
		s = fmt.Sprintf("%dmin", d/time.Minute)
	case d >= time.Minute:
		s = fmt.Sprintf("%dmin %ds", d/time.Minute, d%time.Minute/time.Second)
	case d >= time.Second:
		s = fmt.Sprintf("%ds", d/time.Second)
	case d >= time.Millisecond:
		s = fmt.Sprintf("%dms", d/time.Millisecond)
	default:
		s = fmt.Sprintf("%dus", d/time.Microsecond)
	}
	return s + " " + word
}

// Millis writes a time span to the millisecond: "1min 2.345s".
func Millis(d time.Duration) string {
	whole := d.Truncate(time.Minute)
	rest := (d - whole).Truncate(time.Millisecond)
	s := ""
	if whole > 0 {
		s = Format(whole) + " "
	}
	if rest%time.Second == 0 || rest < time.Second {
		if rest == 0 && whole > 0 {
			return Format(whole)
		}
		return s + Format(rest)
	}
	return s + fmt.Sprintf("%d.%03ds", rest/time.Second, rest%time.Second/time.Millisecond)
}
