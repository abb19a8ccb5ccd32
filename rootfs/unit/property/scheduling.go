package property

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// scheduling writes the settings, or what the kernel gives to a process that has
// none.
func (p props) scheduling(s *unit.Scheduling) {
	s = cmp.Or(s, &unit.Scheduling{})
	number := func(n *int, def int) string {
		if n == nil {
			return strconv.Itoa(def)
		}
		return strconv.Itoa(*n)
	}
	p["CPUSchedulingPolicy"], p["CPUSchedulingPriority"] = number(s.Policy, 0), strconv.Itoa(s.Priority)
	p.yes("CPUSchedulingResetOnFork", s.ResetOnFork)
	p["IOSchedulingClass"], p["IOSchedulingPriority"] = number(s.IOClass, 2), number(s.IOPriority, 4)
	p["CPUAffinity"] = ranges(s.CPUs)
	p["TimerSlackNSec"], p["CoredumpFilter"] = "50000", "0x33"
	if s.TimerSlack != nil {
		p["TimerSlackNSec"] = strconv.FormatInt(*s.TimerSlack, 10)
	}
	if s.CoreDump != nil {
		p["CoredumpFilter"] = fmt.Sprintf("0x%x", *s.CoreDump)
	}
}

// ranges writes sorted numbers, neighbours as FIRST-LAST.
func ranges(list []int) string {
	var words []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		w := strconv.Itoa(list[i])
		if j > i {
			w += "-" + strconv.Itoa(list[j])
		}
		words = append(words, w)
		i = j + 1
	}
	return strings.Join(words, " ")
}

// timer writes the settings of a timer; PID 1 knows when it elapses next.
func (p props) timer(t *unit.Timer) {
	p.yes("Persistent", t.Persistent)
	p.yes("OnClockChange", t.OnClockChange)
	p.yes("OnTimezoneChange", false)
	p.yes("WakeSystem", false)
	p.yes("RemainAfterElapse", t.RemainAfterEnd)
	p.yes("FixedRandomDelay", t.FixedRandomDelay)
	var lines []string
	for _, s := range []struct {
		name string
		list []time.Duration
	}{{"OnUnitInactiveUSec", t.OnUnitInactive}, {"OnStartupUSec", t.OnStartup}, {"OnBootUSec", t.OnBoot}, {"OnUnitActiveUSec", t.OnUnitActive}, {"OnActiveUSec", t.OnActive}} {
		for _, d := range s.list {
			lines = append(lines, fmt.Sprintf("{ %s=%s ; next_elapse=n/a }", s.name, timespan.Format(d)))
		}
	}
	p["TimersMonotonic"] = strings.Join(lines, "\n")
}
