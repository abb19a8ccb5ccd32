package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// instance is one process of a unit, by what it has written.
type instance struct {
	unit, machine, id string
	first, last       time.Duration // since boot: it surely ran from first to last
	stopped           bool          // it was told to end
}

func (i instance) String() string {
	return fmt.Sprintf("%s on %s, from %s to %s", i.unit, i.machine, i.first, i.last)
}

// now is the boot clock, which all machines of the lab share.
func now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// instances reads what all units wrote.
func (l *lab) instances() []instance {
	l.t.Helper()
	var list []instance
	for _, m := range l.machines {
		b, err := os.ReadFile(filepath.Join(m.dir, "records"))
		if err != nil && !os.IsNotExist(err) {
			l.t.Fatal(err)
		}
		at := map[string]int{}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) != 4 || !strings.HasSuffix(line, "\n") {
				continue // it was being written
			}
			n, err := strconv.ParseInt(f[3], 10, 64)
			must(l.t, err)
			i, ok := at[f[0]+f[1]]
			if !ok {
				i = len(list)
				at[f[0]+f[1]] = i
				list = append(list, instance{unit: f[0], machine: m.name, id: f[1], first: time.Duration(n)})
			}
			list[i].last = time.Duration(n)
			list[i].stopped = list[i].stopped || f[2] == "stop"
		}
	}
	slices.SortFunc(list, func(a, b instance) int { return int(a.first - b.first) })
	return list
}

// twice finds the longest time in which two processes of a unit ran at once; of
// a global unit, on one machine.
func twice(list []instance, global func(unit string) bool) (longest time.Duration, what string) {
	for i, a := range list {
		for _, b := range list[i+1:] {
			if a.unit != b.unit || global(a.unit) && a.machine != b.machine {
				continue
			}
			if both := min(a.last, b.last) - max(a.first, b.first); both > longest {
				longest, what = both, fmt.Sprintf("%v; and %v", a, b)
			}
		}
	}
	return longest, what
}

// stale is how long a unit has written nothing that does not run any more.
const stale = 300 * time.Millisecond

// running are the instances that run now.
func (l *lab) running() []instance {
	l.t.Helper()
	at := now() // before reading: there may be much to read
	return slices.DeleteFunc(l.instances(), func(i instance) bool { return i.stopped || i.last < at-stale })
}

func TestTwice(t *testing.T) {
	s := time.Second
	none := func(string) bool { return false }
	for _, test := range []struct {
		name   string
		list   []instance
		global bool
		want   time.Duration
	}{
		{"one", []instance{{unit: "a", machine: "1", last: 5 * s}}, false, 0},
		{"after another", []instance{{unit: "a", machine: "1", last: 5 * s}, {unit: "a", machine: "2", first: 5 * s, last: 9 * s}}, false, 0},
		{"overlap", []instance{{unit: "a", machine: "1", last: 5 * s}, {unit: "a", machine: "2", first: 3 * s, last: 9 * s}}, false, 2 * s},
		{"inside", []instance{{unit: "a", machine: "1", last: 9 * s}, {unit: "a", machine: "2", first: 3 * s, last: 4 * s}}, false, s},
		{"others", []instance{{unit: "a", machine: "1", last: 9 * s}, {unit: "b", machine: "2", first: 3 * s, last: 4 * s}}, false, 0},
		{"global", []instance{{unit: "a", machine: "1", last: 9 * s}, {unit: "a", machine: "2", first: 3 * s, last: 4 * s}}, true, 0},
		{"global on one machine", []instance{{unit: "a", machine: "1", last: 9 * s}, {unit: "a", machine: "1", first: 3 * s, last: 4 * s}}, true, s},
	} {
		f := none
		if test.global {
			f = func(string) bool { return true }
		}
		if got, what := twice(test.list, f); got != test.want {
			t.Errorf("%s: %s (%s), want %s", test.name, got, what, test.want)
		}
	}
}
