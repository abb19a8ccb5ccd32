package timespan

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
	"time"
)

// TestRecorded checks against what systemd-analyze timespan said.
func TestRecorded(t *testing.T) {
	f, err := os.Open("testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var c struct {
			Name, Input string
			USec        uint64
			Error       bool
		}
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		d, err := Parse(c.Input, time.Second)
		switch {
		case (err != nil) != c.Error:
			t.Errorf("%s: Parse(%q): %v, want an error: %v", c.Name, c.Input, err, c.Error)
		case c.Error:
		case c.USec == ^uint64(0) && d != Infinity, c.USec != ^uint64(0) && d.Microseconds() != int64(c.USec):
			t.Errorf("%s: Parse(%q) = %v, want %d us", c.Name, c.Input, d, c.USec)
		}
	}
}

func TestFormat(t *testing.T) {
	for d, want := range map[time.Duration]string{
		Infinity: "infinity", 0: "0", 90 * time.Second: "1min 30s", 100 * time.Millisecond: "100ms",
		time.Hour + 2*time.Microsecond: "1h 2us", 36 * time.Hour: "1d 12h",
	} {
		if have := Format(d); have != want {
			t.Errorf("Format(%d) = %q, want %q", int64(d), have, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]uint64{"0": 0, "1024": 1024, "4K": 4096, "1.5M": 1536 << 10, "2G": 2 << 30, "1B": 1, " 3 K ": 3072} {
		if have, err := ParseSize(s); err != nil || have != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", s, have, err, want)
		}
	}
	for _, s := range []string{"", "K", "-1", "5X", "1KB", "99999999999999999999", "99999999999E", "infinity"} {
		if have, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", s, have)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"1h 30min", "infinity", "1.5s", "9999999999999999999y", "+3", "5 bananas", ".", "1µs"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := Parse(s, time.Second)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("Parse(%q) = %d", s, d)
		}
		// What is shown can be read again.
		again, err := Parse(Format(d), time.Second)
		if err != nil || again != d {
			t.Fatalf("Parse(Format(%d)) = %d, %v", d, again, err)
		}
	})
}
