package journalctl

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// layouts are the forms of systemd.time(7) that --since and --until take.
var layouts = []string{"2006-01-02 15:04:05.999999", "2006-01-02 15:04:05", "2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02",
	"06-01-02 15:04:05", "06-01-02"}

// parseTime reads a timestamp of systemd.time(7): a date and time, today,
// yesterday, tomorrow, now, @seconds, a span with + or -, or "span ago".
func parseTime(s string, now time.Time) (time.Time, error) {
	text := strings.TrimSpace(s)
	day := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch text {
	case "now":
		return now, nil
	case "today":
		return day, nil
	case "yesterday":
		return day.AddDate(0, 0, -1), nil
	case "tomorrow":
		return day.AddDate(0, 0, 1), nil
	}
	if rest, ok := strings.CutPrefix(text, "@"); ok {
		seconds, err := strconv.ParseFloat(rest, 64)
		if err == nil {
			return time.UnixMicro(int64(seconds * 1e6)), nil
		}
	}
	if t, ok := relative(text, now); ok {
		return t, nil
	}
	location := now.Location()
	if rest, ok := strings.CutSuffix(text, " UTC"); ok {
		text, location = rest, time.UTC
	}
	if len(text) > 4 && text[3] == ' ' {
		for _, layout := range layouts { // a weekday in front
			if t, err := time.ParseInLocation("Mon "+layout, text, location); err == nil {
				return t, nil
			}
		}
	}
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, text, location); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"15:04:05.999999", "15:04:05", "15:04"} {
		if t, err := time.ParseInLocation(layout, text, location); err == nil {
			return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), location), nil
		}
	}
	return time.Time{}, fmt.Errorf("Failed to parse timestamp: %s", s)
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
