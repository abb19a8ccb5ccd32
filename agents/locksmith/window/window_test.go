package window

import (
	"strings"
	"testing"
	"time"
)

func TestUntil(t *testing.T) {
	// 2026-11-19 is a Thursday.
	for _, tt := range []struct {
		start, length, now string
		want               time.Duration
	}{
		{"", "", "2026-11-19T12:00:00Z", 0},
		{"04:00", "1h", "2026-11-19T03:00:00Z", time.Hour},
		{"04:00", "1h", "2026-11-19T04:00:00Z", 0},
		{"04:00", "1h", "2026-11-19T04:59:59Z", 0},
		{"04:00", "1h", "2026-11-19T05:00:00Z", 23 * time.Hour},
		{"Thu 04:00", "1h", "2026-11-19T04:30:00Z", 0},
		{"thu 04:00", "1h", "2026-11-19T05:00:00Z", 7*24*time.Hour - time.Hour},
		{"Fri 04:00", "1h", "2026-11-19T04:00:00Z", 24 * time.Hour},
		// midnight
		{"23:30", "1h", "2026-11-19T23:29:00Z", time.Minute},
		{"23:30", "1h", "2026-11-20T00:10:00Z", 0},
		{"23:30", "1h", "2026-11-20T00:30:00Z", 23 * time.Hour},
		// the end of the week, and a window of more than a day
		{"Sat 23:00", "2h", "2026-11-22T00:30:00Z", 0},
		{"Fri 12:00", "48h", "2026-11-22T11:00:00Z", 0},
		{"Fri 12:00", "48h", "2026-11-22T12:00:00Z", 5 * 24 * time.Hour},
		// whole periods never close
		{"04:00", "24h", "2026-11-19T12:00:00Z", 0},
		{"Mon 00:00", "168h", "2026-11-19T12:00:00Z", 0},
		// a clock change elsewhere moves nothing: 02:30 in Berlin does not exist on 2026-03-29
		{"Sun 01:00", "1h", "2026-03-29T03:30:00+02:00", 0},
	} {
		w, err := Parse(tt.start, tt.length)
		if err != nil {
			t.Errorf("Parse(%q, %q): %v", tt.start, tt.length, err)
			continue
		}
		now, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Until(now); got != tt.want {
			t.Errorf("%s: Until(%s) = %s, want %s", w, tt.now, got, tt.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ start, length, want string }{
		{"04:00", "", "without REBOOT_WINDOW_LENGTH"},
		{"", "1h", "without REBOOT_WINDOW_START"},
		{"Thursday 04:00", "1h", `"Thursday" is not a day`},
		{"24:00", "1h", "write HH:MM"},
		{"Thu", "1h", "write HH:MM"},
		{"Thu 4", "1h", "write HH:MM"},
		{"04:00", "1", "write a duration"},
		{"04:00", "-1h", "more than 0"},
		{"04:00", "25h", "at most 24h0m0s"},
		{"Thu 04:00", "169h", "at most 168h0m0s"},
	} {
		if _, err := Parse(tt.start, tt.length); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Parse(%q, %q): %v, want %q", tt.start, tt.length, err, tt.want)
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add("Thu 04:00", "1h", int64(1795000000))
	f.Add("23:59", "90m", int64(0))
	f.Fuzz(func(t *testing.T, start, length string, unix int64) {
		w, err := Parse(start, length)
		if err != nil {
			return
		}
		now := time.Unix(unix%(1<<36), 0)
		wait := w.Until(now)
		if wait < 0 || wait > w.period {
			t.Fatalf("wait of %s in a period of %s", wait, w.period)
		}
		if left := w.Until(now.Add(wait)); left != 0 {
			t.Fatalf("%s: after a wait of %s from %s it is not open but in %s", w, wait, now, left)
		}
	})
}
