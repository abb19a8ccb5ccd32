package calendar

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func utc() Zones { return Zones{Local: time.UTC, Load: time.LoadLocation} }

// show is what systemd-analyze calendar says of an expression: its normal form
// and the next times, or "error".
func show(text string, zones Zones, base time.Time, times int) []string {
	e, err := Parse(text, zones)
	if err != nil {
		return []string{"error"}
	}
	out := []string{e.String()}
	for range times {
		next, ok := e.Next(base)
		if !ok {
			if len(out) == 1 {
				out = append(out, "never")
			}
			break
		}
		out = append(out, next.In(zones.Local).Format("Mon 2006-01-02 15:04:05 MST"))
		base = next
	}
	return out
}

// ask runs systemd-analyze on many expressions.
func ask(t *testing.T, zone string, base time.Time, times int, list []string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, text := range list {
		out[text] = []string{"error"}
	}
	args := []string{"calendar", "--iterations", fmt.Sprint(times), "--base-time", base.UTC().Format("2006-01-02 15:04:05 UTC"), "--"}
	cmd := exec.Command("systemd-analyze", append(args, list...)...)
	cmd.Env = append(cmd.Environ(), "TZ="+zone, "LANG=C.UTF-8")
	var faults strings.Builder
	cmd.Stderr = &faults
	text, err := cmd.Output() // fails if one of them is wrong
	if len(text) == 0 {
		t.Fatalf("systemd-analyze: %v: install the Debian package systemd", err)
	}
	// Around changes of the clock systemd 252 gives up on some that are right.
	for _, line := range strings.Split(faults.String(), "\n") {
		if rest, ok := strings.CutPrefix(line, "Failed to determine next elapse for '"); ok {
			delete(out, rest[:strings.LastIndexByte(rest, '\'')])
		}
	}
	for _, block := range strings.Split(string(text), "\n\n") {
		var about string
		var said []string
		for _, line := range strings.Split(block, "\n") {
			key, value, _ := strings.Cut(strings.TrimLeft(line, " "), ": ")
			switch {
			case key == "Original form":
				about = value
			case key == "Normalized form":
				said, about = append(said, value), strings.TrimSpace(about)
			case key == "Next elapse" || strings.HasPrefix(key, "Iter"):
				said = append(said, value)
			}
		}
		if len(said) == 0 {
			continue
		}
		if about == "" || out[about] == nil { // a word of which only the normal form is shown
			about = said[0]
		}
		if out[about] != nil {
			out[about] = said
		}
	}
	return out
}

func compare(t *testing.T, zone string, base time.Time, list []string) {
	t.Helper()
	zones := utc()
	var err error
	if zones.Local, err = time.LoadLocation(zone); err != nil {
		t.Fatal(err)
	}
	const times = 4
	bad := 0
	for text, want := range ask(t, zone, base, times, list) {
		if d := cmp.Diff(want, show(text, zones, base, times)); d != "" {
			if bad++; bad < 10 {
				t.Errorf("%q in %s after %s (-systemd +ours):\n%s", text, zone, base, d)
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d differ", bad, len(list))
	}
}

// generator makes expressions, most of them right.
type generator struct{ *rand.Rand }

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g generator) number(low, high, width int) string {
	n := low + g.IntN(high-low+1)
	if g.chance(1) {
		n = high + 1 + g.IntN(70)
	}
	if g.chance(60) {
		return fmt.Sprintf("%0*d", width, n)
	}
	return fmt.Sprint(n)
}

func (g generator) part(low, high, width int, decimals bool) string {
	if g.chance(35) {
		return "*"
	}
	var list []string
	for more := true; more; more = g.chance(25) {
		one := func(low, high int) string {
			s := g.number(low, high, width)
			if decimals && g.chance(15) {
				s += fmt.Sprintf(".%0*d", 1+g.IntN(8), g.IntN(1000))
			}
			return s
		}
		middle := low + (high-low)/2
		s := one(low, high)
		if g.chance(30) {
			s = one(low, middle) + ".." + one(middle, high)
		}
		if g.chance(30) {
			s += "/" + one(1, max(1, (high-low)/3))
		}
		list = append(list, s)
	}
	return strings.Join(list, ",")
}

func (g generator) weekdays() string {
	var list []string
	for more := true; more; more = g.chance(30) {
		name := func() string {
			n := weekdayNames[g.IntN(7)]
			if g.chance(60) {
				n = n[:3]
			}
			if g.chance(20) {
				n = strings.ToLower(n)
			}
			return n
		}
		s := name()
		if g.chance(30) {
			s += []string{"..", "..", "..", "-"}[g.IntN(4)] + name()
		}
		list = append(list, s)
	}
	return strings.Join(list, ",")
}

func (g generator) expression() string {
	var list []string
	if g.chance(35) {
		list = append(list, g.weekdays())
	}
	if g.chance(75) || list == nil {
		dash := "-"
		last := g.part(1, 31, 2, false)
		if g.chance(15) {
			dash, last = "~", g.part(1, 28, 2, false)
		}
		d := g.part(1, 12, 2, false) + dash + last
		if g.chance(65) {
			years := g.part(2024, 2035, 4, false)
			if g.chance(10) {
				years = g.part(0, 99, 2, false)
			}
			d = years + "-" + d
		}
		list = append(list, d)
	}
	if g.chance(75) {
		s := g.part(0, 23, 2, false) + ":" + g.part(0, 59, 2, false)
		if g.chance(60) {
			s += ":" + g.part(0, 59, 2, true)
		}
		list = append(list, s)
	}
	if g.chance(20) {
		list = append(list, []string{"UTC", "utc", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Nowhere/Land"}[g.IntN(7)])
	}
	s := strings.Join(list, " ")
	if g.chance(4) && len(s) > 1 { // break it somewhere
		i := g.IntN(len(s))
		s = s[:i] + string("*/.-~:, 9aT"[g.IntN(11)]) + s[i+g.IntN(2):]
	}
	if g.chance(2) {
		for w := range words {
			return w
		}
	}
	return s
}

// TestAgainstSystemd compares generated expressions with systemd-analyze: the
// normal form and the next four times, in zones with and without summer time
// and around the changes of their clocks.
func TestAgainstSystemd(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(252, 39))}
	for _, c := range []struct{ zone, base string }{
		{"UTC", "2026-11-21T08:49:09Z"}, {"UTC", "2024-02-28T23:59:30Z"}, {"Europe/Berlin", "2026-03-28T20:00:00Z"},
		{"America/New_York", "2026-10-31T20:00:00Z"}, {"Asia/Kolkata", "2025-12-31T18:00:00Z"},
	} {
		base, err := time.Parse(time.RFC3339, c.base)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for range 500 {
			if e := strings.TrimSpace(g.expression()); e != "" && !strings.HasPrefix(e, "-") {
				list = append(list, e)
			}
		}
		compare(t, c.zone, base, list)
	}
}

// TestNamed asks systemd about expressions that the generator does not make.
func TestNamed(t *testing.T) {
	base := time.Date(2026, 9, 28, 12, 0, 0, 0, time.UTC)
	compare(t, "Europe/Berlin", base, []string{"10:00 CEST", "Tue 10:00 cest", "@1900000000", "@0", "*:*:0/7.5", "*-*-* *:*:*",
		"Mon..Fri,Sun", "Mon,", "Mon..", "Sat..Mon", "Mon...Fri", "7", "10-15", "*:0/15", "*", "*-*", "*-*-*", "2016-02-30", "2-29",
		"Fri *-02-29", "*-02~03", "12,14,13,12:20,10,30", "00:00,06:00", "05:40:23.4200004/3.1700005", "24:00", "*-13-1", "*-0-1",
		"70-1-1", "2200-1-1", "*:*/5", "1..5", "9..11,13:00,30", "Thu,Fri 2031-*-1,5 11:12:13", "weekly Europe/London",
		"hourly UTC", "Hourly", "daily utc", "2031-06-01  10:00", "mon 10:00 ", "10:00:00.5", "10:00:61", "1:2:3:4", "Monday-friday"})
}

func TestErrors(t *testing.T) {
	for text, want := range map[string]string{"": "it is empty", "7": "expected a time", "Sat..Mon": "backwards", "25:00": "hour 25 is not in 0 to 23",
		"*-*-*~5": "expected a date", "*:0/0": "every 0", "10:00:99999999999": "expected a number"} {
		_, err := Parse(text, utc())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): %v, want an error about %q", text, err, want)
		}
	}
}

// FuzzParse checks that what is read is written and read as the same, and that
// looking for the next time ends and goes forward.
func FuzzParse(f *testing.F) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	for range 50 {
		f.Add(g.expression())
	}
	for w := range words {
		f.Add(w)
	}
	base := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text, utc())
		if err != nil {
			return
		}
		if next, ok := e.Next(base); ok && !next.After(base) {
			t.Fatalf("Parse(%q).Next(%s) = %s", text, base, next)
		}
		if again, err := Parse(e.String(), utc()); err != nil || again.String() != e.String() {
			t.Fatalf("Parse(%q) = %s, which is read as %s, %v", text, e, again, err)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	e, err := Parse("Mon *-02-29 *:0/7 Europe/Berlin", utc())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		e.Next(time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC))
	}
}
