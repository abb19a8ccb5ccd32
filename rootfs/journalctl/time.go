package journalctl

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// Forms of a date and of a time of day, as systemd.time(7) has them. Like
// strptime, which systemd calls, they take numbers without leading zeros.
var (
	dateForm  = regexp.MustCompile(`^(\d{1,4})-(\d{1,2})-(\d{1,2})$`)
	clockForm = regexp.MustCompile(`^(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d+))?)?$`)
)

// parseTime reads a timestamp of systemd.time(7), "Parsing timestamps": a date
// and time with or without weekday and zone, today, yesterday, tomorrow, now,
// @seconds, a span with + or -, "span ago" or "span left". RFC 3339 is read
// too, as newer systemd does.
func parseTime(s string, now time.Time) (time.Time, error) {
	text := strings.TrimSpace(s)
	if t, ok := relative(text, now); ok {
		return t, nil
	}
	if rest, ok := strings.CutPrefix(text, "@"); ok {
		if span, err := timespan.Parse(rest, time.Second); err == nil && !strings.ContainsAny(rest, "+-") {
			return time.Unix(0, 0).Add(span), nil
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	text, location := cutZone(text, now.Location())
	if t, ok := absolute(text, now.In(location)); ok {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("Failed to parse timestamp: %s", s)
}

// cutZone takes the name of a time zone off the end.
func cutZone(text string, local *time.Location) (string, *time.Location) {
	i := strings.LastIndexByte(text, ' ')
	if i < 0 {
		return text, local
	}
	name := text[i+1:]
	switch {
	case name == "UTC":
		return text[:i], time.UTC
	case name == "" || name == "Local" || !strings.ContainsAny(name, "/ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
		return text, local
	}
	if zone, err := time.LoadLocation(name); err == nil {
		return text[:i], zone
	}
	for _, month := range []time.Month{1, 7} { // winter and summer, either way round
		if short, _ := time.Date(2026, month, 1, 0, 0, 0, 0, local).Zone(); short == name {
			return text[:i], local
		}
	}
	return text, local
}

// absolute reads words and dates in the zone of now.
func absolute(text string, now time.Time) (time.Time, bool) {
	day := func(add int) time.Time {
		return time.Date(now.Year(), now.Month(), now.Day()+add, 0, 0, 0, 0, now.Location())
	}
	switch text {
	case "now":
		return now, true
	case "today":
		return day(0), true
	case "yesterday":
		return day(-1), true
	case "tomorrow":
		return day(1), true
	}
	words := strings.Fields(text)
	weekday := -1
	if len(words) > 1 {
		if weekday = weekdayOf(words[0]); weekday >= 0 {
			words = words[1:]
		}
	}
	if len(words) == 1 { // "2026-11-21T01:02:03", as newer systemd reads it
		if date, clock, ok := strings.Cut(words[0], "T"); ok && clock != "" {
			words = []string{date, clock}
		}
	}
	t, ok := dateAndClock(words, day(0))
	return t, ok && (weekday < 0 || int(t.Weekday()) == weekday)
}

// dateAndClock reads "date", "date time" or "time" of the day today.
func dateAndClock(words []string, today time.Time) (time.Time, bool) {
	year, month, date := today.Date()
	if len(words) > 0 {
		if m := dateForm.FindStringSubmatch(words[0]); m != nil {
			year, month, date = number(m[1]), time.Month(number(m[2])), number(m[3])
			switch {
			case len(m[1]) <= 2 && year < 69:
				year += 2000
			case len(m[1]) <= 2:
				year += 1900
			}
			if month < 1 || month > 12 || date < 1 || date > 31 || year < 1970 {
				return time.Time{}, false
			}
			if words = words[1:]; len(words) == 0 {
				return time.Date(year, month, date, 0, 0, 0, 0, today.Location()), true
			}
		}
	}
	if len(words) != 1 {
		return time.Time{}, false
	}
	m := clockForm.FindStringSubmatch(words[0])
	if m == nil {
		return time.Time{}, false
	}
	hour, minute, second := number(m[1]), number(m[2]), number(m[3])
	if hour > 23 || minute > 59 || second > 61 {
		return time.Time{}, false
	}
	micro := (number((m[4] + "0000000")[:7]) + 5) / 10
	return time.Date(year, month, date, hour, minute, second, micro*1000, today.Location()), true
}

// number reads digits; none are 0.
func number(digits string) int {
	n, _ := strconv.Atoi(digits) // at most seven digits by the forms above
	return n
}

// weekdayOf reads a weekday's name, whole or of three letters; -1 = none.
func weekdayOf(word string) int {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if name := day.String(); strings.EqualFold(word, name) || strings.EqualFold(word, name[:3]) {
			return int(day)
		}
	}
	return -1
}

func relative(text string, now time.Time) (time.Time, bool) {
	sign := time.Duration(0)
	switch {
	case strings.HasPrefix(text, "+"):
		sign, text = 1, text[1:]
	case strings.HasPrefix(text, "-"):
		sign, text = -1, text[1:]
	case strings.HasSuffix(text, " ago"):
		sign, text = -1, strings.TrimSuffix(text, " ago")
	case strings.HasSuffix(text, " left"):
		sign, text = 1, strings.TrimSuffix(text, " left")
	}
	if sign == 0 {
		return time.Time{}, false
	}
	span, err := timespan.Parse(text, time.Second)
	return now.Add(sign * span), err == nil
}
