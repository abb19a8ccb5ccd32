package journalctl

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestZones is apart: systemd 252 refuses other zones than its own, against
// systemd.time(7), and later versions take them.
func TestZones(t *testing.T) {
	now := time.Date(2026, 11, 21, 15, 4, 5, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-11-21 12:00 Asia/Tokyo":         "2026-11-21 03:00:00",
		"2026-07-21 12:00 America/New_York":   "2026-07-21 16:00:00",
		"Sat 2026-11-21 12:00 Asia/Tokyo":     "2026-11-21 03:00:00",
		"2026-11-21T01:02:03+01:00":           "2026-11-21 00:02:03",
		"2026-11-21T01:02:03":                 "2026-11-21 01:02:03",
		"2026-11-21 12:00:00.25 Europe/Paris": "2026-11-21 11:00:00",
	} {
		if got, err := parseTime(text, now); err != nil || got.UTC().Format(time.DateTime) != want {
			t.Errorf("parseTime(%q) = %v, %v; want %s", text, got, err, want)
		}
	}
}

// TestTimeAgainstSystemd asks "systemd-analyze timestamp" of this machine about
// each form of systemd.time(7).
func TestTimeAgainstSystemd(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"2026-11-21", "2026-1-2", "26-11-21", "70-01-02", "2026-11-21 1:2", "2026-11-21 01:02", "2026-11-21 01:02:03", "2026-11-21 01:02:03.5",
		"2026-11-21 01:02:03.123456", "2026-11-21 01:02:03.1234567", "2026-07-01 12:00", "2026-07-01 12:00 UTC", "2026-11-21 UTC", "Sat 2026-11-21",
		"Saturday 2026-11-21 10:00", "sat 2026-11-21", "Sun 2026-11-21", "Foo 2026-11-21", "2026-02-29", "2026-02-30", "2026-02-32", "2026-13-01", "2026-00-01",
		"2026-11-21 24:00", "2026-11-21 23:60", "2026-11-21 23:59:60", "2026-11-21 23:59:61",
		"2026-11-21 12:00 Foo/Bar", "2026-07-01 12:00 CEST", "@1795000000", "@1795000000.5", "@-5", "@", "@x", "@5min",
		"", " ", "foo", "12", "12:", ":30", "2026", "2026-11", " 2026-11-21", "2026-11-21  01:02", "now UTC x", "5min", "1969-12-31", "2026-03-29 02:30", "2026-10-25 02:30",
	} {
		cmd := exec.Command("systemd-analyze", "timestamp", "--", text)
		cmd.Env = []string{"TZ=Europe/Berlin", "LANG=C", "PATH=/usr/bin:/bin"}
		out, _ := cmd.Output() // it fails for what is no time
		want := "error"
		for line := range strings.Lines(string(out)) {
			if seconds, ok := strings.CutPrefix(strings.TrimSpace(line), "UNIX seconds: @"); ok {
				want = strings.TrimSpace(seconds)
			}
		}
		got := "error"
		if at, err := parseTime(text, time.Date(2026, 11, 21, 15, 4, 5, 0, berlin)); err == nil {
			got = fmt.Sprint(at.Unix())
			if micro := at.Nanosecond() / 1000; micro != 0 {
				got = fmt.Sprintf("%s.%s", got, strings.TrimRight(fmt.Sprintf("%06d", micro), "0"))
			}
		}
		want = strings.TrimRight(strings.TrimSuffix(want, ".000000"), " ")
		if strings.Contains(want, ".") {
			want = strings.TrimRight(want, "0")
		}
		if got != want {
			t.Errorf("%q: %s, systemd says %s", text, got, want)
		}
	}
}
