// Package window is the maintenance window of locksmith: when a machine may
// reboot by itself. It is for locksmithd; the settings are REBOOT_WINDOW_START
// and REBOOT_WINDOW_LENGTH of /etc/coreos/update.conf.
//
// A window is periodic, daily or weekly, and may span midnight or the end of
// the week. Times are UTC, as the machines' clocks are: there is no daylight
// saving time, so that each window is exactly as long as it says. Everything
// here is computed from its arguments.
package window

import (
	"fmt"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// Window is a periodic span of time. The zero value is always open.
type Window struct {
	start  time.Duration // since the beginning of the period, Sunday or 00:00
	length time.Duration
	period time.Duration // day or week
}

// days are the names that START may begin with, as locksmith has them.
var days = map[string]time.Weekday{"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}

// Parse reads a window. start is "HH:MM" or "Thu HH:MM" with a day name of
// three letters; length is a Go duration such as "1h30m". Both are empty for
// none; only one of them is an error.
func Parse(start, length string) (Window, error) {
	start, length = strings.TrimSpace(start), strings.TrimSpace(length)
	switch {
	case start == "" && length == "":
		return Window{}, nil
	case start == "":
		return Window{}, fmt.Errorf("parse reboot window: REBOOT_WINDOW_LENGTH=%s is set without REBOOT_WINDOW_START: set both or none", length)
	case length == "":
		return Window{}, fmt.Errorf("parse reboot window: REBOOT_WINDOW_START=%s is set without REBOOT_WINDOW_LENGTH: set both or none", start)
	}
	w := Window{period: day}
	clock := start
	if name, rest, ok := strings.Cut(start, " "); ok {
		weekday, known := days[strings.ToLower(name)]
		if !known {
			return Window{}, fmt.Errorf("parse reboot window: start %q: %q is not a day: use Sun, Mon, Tue, Wed, Thu, Fri or Sat", start, name)
		}
		w.period, w.start, clock = week, time.Duration(weekday)*day, strings.TrimSpace(rest)
	}
	t, err := time.Parse("15:04", clock)
	if err != nil {
		return Window{}, fmt.Errorf("parse reboot window: start %q: write HH:MM or Thu HH:MM, with hours from 00 to 23", start)
	}
	w.start += time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	if w.length, err = time.ParseDuration(length); err != nil {
		return Window{}, fmt.Errorf("parse reboot window: length %q: write a duration such as 1h or 90m", length)
	}
	if w.length <= 0 || w.length > w.period {
		return Window{}, fmt.Errorf("parse reboot window: length %q: use more than 0 and at most %s", length, w.period)
	}
	return w, nil
}

// Always tells if the window never closes.
func (w Window) Always() bool { return w.length == w.period }

// Until returns how long to wait from now until the window is open: 0 when it
// is.
func (w Window) Until(now time.Time) time.Duration {
	if w.Always() {
		return 0
	}
	since := w.since(now)
	if since < w.length {
		return 0
	}
	return w.period - since
}

// since is the time since the window last opened, in [0, period).
func (w Window) since(now time.Time) time.Duration {
	now = now.UTC()
	at := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute())*time.Minute +
		time.Duration(now.Second())*time.Second + time.Duration(now.Nanosecond())
	if w.period == week {
		at += time.Duration(now.Weekday()) * day
	}
	return (at - w.start + w.period) % w.period
}

// String is the window for people.
func (w Window) String() string {
	if w.period == 0 || w.Always() {
		return "always"
	}
	at := time.Unix(0, 0).UTC().Add(w.start % day).Format("15:04")
	if w.period == week {
		at = time.Weekday(w.start / day).String()[:3] + " " + at
	}
	return fmt.Sprintf("%s UTC for %s", at, w.length)
}
