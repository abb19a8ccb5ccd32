package systemctl

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// stampLayout is how PID 1 writes times in properties.
const stampLayout = "Mon 2006-01-02 15:04:05 MST"

// timerRow is one timer; times may be zero.
type timerRow struct {
	next, last      time.Time
	unit, activates string
}

// listTimers prints the timers, those that elapse first first.
func (t *tool) listTimers() error {
	t.o.types = []string{"timer"}
	list, err := t.fetchUnits()
	if err != nil {
		return err
	}
	var names []string
	for _, u := range list {
		names = append(names, u.Name)
	}
	now := time.Now()
	var rows []timerRow
	if len(names) > 0 {
		r, err := t.collect(control.Request{Verb: control.Show, Units: names})
		if err != nil {
			return err
		}
		for _, u := range r.Units {
			rows = append(rows, t.timerRow(u, now))
		}
	}
	sort.SliceStable(rows, func(i, j int) bool {
		a, b := rows[i].next, rows[j].next
		if a.IsZero() || b.IsZero() {
			return !a.IsZero() && b.IsZero()
		}
		return a.Before(b)
	})
	if t.inJSON() {
		return t.printTimersJSON(rows, now)
	}
	t.printTimers(rows, now)
	return nil
}

func (t *tool) timerRow(u control.Unit, now time.Time) timerRow {
	p := u.Properties
	row := timerRow{unit: u.Name, activates: p["Triggers"]}
	row.last, _ = time.Parse(stampLayout, p["LastTriggerUSec"])
	row.next, _ = time.Parse(stampLayout, p["NextElapseUSecRealtime"])
	if d, err := timespan.Parse(p["NextElapseUSecMonotonic"], time.Second); err == nil && d != timespan.Infinity {
		if at := now.Add(d - t.Monotonic()); row.next.IsZero() || at.Before(row.next) {
			row.next = at
		}
	}
	return row
}

// printTimersJSON writes times as microseconds, 0 for none.
func (t *tool) printTimersJSON(rows []timerRow, now time.Time) error {
	micros := func(at time.Time) any {
		if at.IsZero() {
			return 0
		}
		return at.UnixMicro()
	}
	span := func(at time.Time) any {
		if at.IsZero() {
			return 0
		}
		return at.Sub(now).Abs().Microseconds()
	}
	var lines [][]any
	for _, r := range rows {
		lines = append(lines, []any{micros(r.next), span(r.next), micros(r.last), span(r.last), r.unit, r.activates})
	}
	return t.printJSON([]string{"next", "left", "last", "passed", "unit", "activates"}, lines)
}

func (t *tool) printTimers(rows []timerRow, now time.Time) {
	cells := func(at time.Time) []string {
		if at.IsZero() {
			return []string{"-", "-"}
		}
		return []string{at.UTC().Format(stampLayout), timespan.Relative(at.Sub(now))}
	}
	var lines [][]string
	for _, r := range rows {
		line := append(cells(r.next), cells(r.last)...)
		lines = append(lines, append(line, r.unit, strings.ReplaceAll(r.activates, " ", ",")))
	}
	var header []string
	if t.o.legend {
		header = []string{"NEXT", "LEFT", "LAST", "PASSED", "UNIT", "ACTIVATES"}
	}
	table(t.Out, header, lines)
	if t.o.legend {
		fmt.Fprintf(t.Out, "\n%d timers listed.\n", len(rows))
		if !t.o.all {
			fmt.Fprintln(t.Out, "Pass --all to see loaded but inactive timers, too.")
		}
	}
}
