package timespan

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
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

// TestAgainstSystemd compares generated time spans with systemd-analyze: the
// microseconds and how they are written.
func TestAgainstSystemd(t *testing.T) {
	r := rand.New(rand.NewPCG(252, 39))
	names := []string{"", "bananas"}
	for n := range units {
		names = append(names, n)
	}
	slices.Sort(names)
	var list []string
	for range 2000 {
		var s strings.Builder
		for more := true; more; more = r.IntN(3) == 0 {
			fmt.Fprint(&s, r.IntN(1+[]int{9, 99, 9999}[r.IntN(3)]))
			if r.IntN(4) == 0 {
				fmt.Fprintf(&s, ".%0*d", 1+r.IntN(7), r.IntN(10))
			}
			s.WriteString([]string{"", " "}[r.IntN(2)] + names[r.IntN(len(names))] + []string{"", " "}[r.IntN(2)])
		}
		list = append(list, s.String())
	}
	said := map[string]string{}
	for rest := list; len(rest) > 0; {
		out, err := exec.Command("systemd-analyze", append([]string{"timespan", "--"}, rest...)...).Output()
		if errors.Is(err, exec.ErrNotFound) {
			t.Fatalf("%v: install the Debian package systemd", err)
		}
		n := 0
		for _, block := range strings.Split(strings.TrimRight(string(out), "\n"), "\n\n") {
			lines := strings.Split(block, "\n")
			if len(lines) < 3 {
				continue
			}
			_, micros, _ := strings.Cut(lines[1], ": ")
			_, human, _ := strings.Cut(lines[2], ": ")
			said[rest[n]] = micros + " " + human
			n++
		}
		rest = rest[min(n+1, len(rest)):] // it ends with one that is wrong
	}
	for _, text := range list {
		have := ""
		if d, err := Parse(text, time.Second); err == nil {
			have = fmt.Sprint(d.Microseconds(), " ", Format(d))
		}
		want := said[text]
		if d, err := strconv.ParseInt(strings.Fields(want + " 0")[0], 10, 64); err == nil && d > Infinity.Microseconds() {
			continue // longer than a time.Duration
		}
		if have != want {
			t.Errorf("Parse(%q) = %q, systemd says %q", text, have, want)
		}
	}
}

func TestFormat(t *testing.T) {
	for d, want := range map[time.Duration]string{
		Infinity: "infinity", 0: "0", 90 * time.Second: "1min 30s", 100 * time.Millisecond: "100ms",
		time.Hour + 2*time.Microsecond: "1h 2us", 1500 * time.Millisecond: "1.500000s", 36 * time.Hour: "1d 12h",
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
