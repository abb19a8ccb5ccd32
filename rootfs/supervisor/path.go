package supervisor

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/pathwatch"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// pathDriver is one path unit: it starts its unit when its paths are as it
// wants them, or when something happens to them.
type pathDriver struct {
	s   *Supervisor
	l   *live
	cfg *unit.Path

	activity // "dead", "waiting", "running", "failed"
	watch    *pathwatch.Watch
	there    map[string]bool // paths of edges that existed when last looked at
	triggers []time.Time
}

func (s *Supervisor) newPath(l *live) *pathDriver {
	return &pathDriver{s: s, l: l, cfg: l.u.Path, activity: activity{"dead", "success"}}
}

func (d *pathDriver) set(sub string) {
	from, _ := d.state()
	if sub != "waiting" {
		d.unwatch()
	}
	d.sub = sub
	to, _ := d.state()
	d.s.changed(d.l, change{from: from, to: to})
}

func (d *pathDriver) unwatch() {
	if d.watch != nil {
		d.watch.Close()
		d.watch = nil
	}
}

func (d *pathDriver) start() error {
	if err := d.s.canTrigger(d.cfg.Unit); err != nil {
		return err
	}
	if d.cfg.MakeDirectory {
		if err := pathwatch.Make(d.cfg.Watch, os.FileMode(d.cfg.DirectoryMode)); err != nil {
			d.s.log(4, d.l.u.Name, "%v", err)
		}
	}
	d.outcome, d.triggers, d.there = "success", nil, map[string]bool{}
	d.wait(true)
	return nil
}

// wait looks at the paths and waits for them to change. settled says that what
// happened to them so far does not count.
func (d *pathDriver) wait(settled bool) {
	if t := d.s.find(d.cfg.Unit); t != nil && !down(t.active()) {
		d.set("running")
		return
	}
	d.unwatch()
	var w *pathwatch.Watch
	w, err := pathwatch.Start(d.cfg.Watch, func(edge string) {
		d.s.Post(func() { d.s.guard(d.l, func() { d.happened(w, edge) }) })
	})
	if err != nil {
		d.s.log(3, d.l.u.Name, "%v", err)
		d.fail("resources")
		return
	}
	d.watch = w
	if path := d.good(settled); path != "" { // looked at after watching: nothing is missed
		d.trigger(path)
		return
	}
	d.set("waiting")
}

// good returns the first path that is as it should be, "" if there is none.
func (d *pathDriver) good(settled bool) string {
	found := ""
	for _, w := range d.cfg.Watch {
		path := ""
		if pathwatch.Edge(w) {
			there := pathwatch.Exists(w.Path)
			if !settled && there != d.there[w.Path] {
				path = w.Path
			}
			d.there[w.Path] = there
		} else {
			path = pathwatch.Holds(w)
		}
		found = cmp.Or(found, path)
	}
	return found
}

// happened is called when something was seen at the paths or above them.
func (d *pathDriver) happened(w *pathwatch.Watch, edge string) {
	if w != d.watch || d.sub != "waiting" {
		return
	}
	if edge != "" {
		d.good(true)
		d.trigger(edge)
		return
	}
	d.wait(false)
}

// trigger starts the unit.
func (d *pathDriver) trigger(path string) {
	now := time.Now()
	limit := d.cfg.TriggerLimit
	for len(d.triggers) > 0 && now.Sub(d.triggers[0]) > limit.Interval {
		d.triggers = d.triggers[1:]
	}
	if limit.Interval > 0 && limit.Burst > 0 && len(d.triggers) >= limit.Burst {
		d.s.log(3, d.l.u.Name, "%s: Trigger limit hit, refusing further activation.", d.l.u.Name)
		d.fail("trigger-limit-hit")
		return
	}
	d.triggers = append(d.triggers, now)
	if j := d.s.queue.Of(d.l.u.Name); j != nil && j.Type == transaction.Stop {
		return
	}
	if t := d.s.find(d.cfg.Unit); t != nil && down(t.active()) {
		t.details = []string{"TRIGGER_UNIT=" + d.l.u.Name, "TRIGGER_PATH=" + path}
	}
	if path != "" {
		d.s.log(7, d.l.u.Name, "Path %q is there, starting %s.", path, d.cfg.Unit)
	}
	if _, err := d.s.enqueue(transaction.Request{Type: transaction.Start, Unit: d.cfg.Unit}); err != nil {
		d.s.log(4, d.l.u.Name, "Failed to start %s: %v", d.cfg.Unit, err)
		d.fail("resources")
		return
	}
	d.set("running")
}

func (d *pathDriver) fail(result string) {
	if d.outcome == "success" {
		d.outcome = result
	}
	d.s.log(4, d.l.u.Name, "%s: Failed with result '%s'.", d.l.u.Name, d.outcome)
	d.set("failed")
}

// triggerChanged is called when the unit that this path starts has come up or
// gone down.
func (d *pathDriver) triggerChanged(t *live, to transaction.State) {
	switch {
	case d.sub != "waiting" && d.sub != "running":
	case t.limitHit && down(to):
		d.fail("unit-start-limit-hit")
	case d.sub == "running" && down(to):
		// Later, so that the step which is being handled is complete.
		d.s.later(func() {
			d.s.guard(d.l, func() {
				if d.sub == "running" && d.s.queue.Of(d.cfg.Unit) == nil {
					d.wait(true)
				}
			})
		})
	case d.sub == "waiting" && !down(to):
		d.set("running")
	}
}

func (d *pathDriver) stop()         { d.set("dead") }
func (d *pathDriver) reload() error { return errors.New("a path cannot be reloaded") }
func (d *pathDriver) refuse()       { d.fail("start-limit-hit") }

func (d *pathDriver) reset() {
	d.outcome = "success"
	if d.sub == "failed" {
		d.set("dead")
	}
}

func (d *pathDriver) configure(u *unit.Unit) {
	if u.Path == nil {
		return
	}
	d.cfg = u.Path
	if d.sub == "waiting" {
		d.wait(true)
	}
}

type pathState struct {
	Sub, Outcome string
	There        map[string]bool
	Edges        map[string]string // what the paths of edges looked like
	Triggers     []moment
}

func (d *pathDriver) save() any {
	st := pathState{Sub: d.sub, Outcome: d.outcome, There: d.there, Edges: map[string]string{}, Triggers: d.s.moments(d.triggers)}
	for _, w := range d.cfg.Watch {
		if pathwatch.Edge(w) {
			st.Edges[w.Path] = appearance(w.Path)
		}
	}
	return st
}

func (d *pathDriver) restore(b []byte) error {
	var st pathState
	if err := json.Unmarshal(b, &st); err != nil {
		return err
	}
	d.sub, d.outcome, d.there, d.triggers = st.Sub, st.Outcome, st.There, d.s.times(st.Triggers)
	if d.there == nil {
		d.there = map[string]bool{}
	}
	d.s.later(func() { d.s.guard(d.l, func() { d.resume(st.Edges) }) })
	return nil
}

// resume watches again, and triggers if something has happened meanwhile.
func (d *pathDriver) resume(edges map[string]string) {
	if d.sub != "waiting" {
		return
	}
	d.wait(false)
	for _, w := range d.cfg.Watch {
		if before, ok := edges[w.Path]; ok && d.sub == "waiting" && before != appearance(w.Path) {
			d.good(true)
			d.trigger(w.Path)
			return
		}
	}
}

// appearance tells one content of a file, or one set of entries of a directory,
// from the next.
func appearance(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ""
	}
	return fmt.Sprint(st.Dev, st.Ino, st.Size, st.Mtim.Nano())
}

func (d *pathDriver) properties(set func(name, value string)) {
	set("Result", d.outcome)
	set("MakeDirectory", yes(d.cfg.MakeDirectory))
	set("TriggerLimitIntervalUSec", timespan.Format(d.cfg.TriggerLimit.Interval))
	set("TriggerLimitBurst", strconv.Itoa(d.cfg.TriggerLimit.Burst))
	var lines []string
	for _, w := range d.cfg.Watch {
		lines = append(lines, w.Path+" ("+w.Kind+")")
	}
	set("Paths", strings.Join(lines, "\n"))
}
