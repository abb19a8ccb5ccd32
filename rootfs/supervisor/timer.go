package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/timer"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/calendar"
)

// stampDirectory has a file for each timer with Persistent=; its modification
// time is when the timer last elapsed.
const stampDirectory = "/var/lib/systemd/timers"

// timerDriver is one timer unit: it starts its unit when the time has come.
type timerDriver struct {
	s   *Supervisor
	l   *live
	cfg *unit.Timer

	activity  // "dead", "waiting", "running", "elapsed", "failed"
	calendars []*calendar.Expression
	activated time.Time
	triggered time.Time
	earlier   bool // triggered is of an earlier boot
	next      timer.Next
	armed     *time.Timer
	due       time.Time // when it elapses, with the random delay
}

func (s *Supervisor) newTimer(l *live) *timerDriver {
	return &timerDriver{s: s, l: l, cfg: l.u.Timer, activity: activity{"dead", "success"}}
}

func (d *timerDriver) set(sub string) {
	from, _ := d.state()
	if sub != "waiting" && d.armed != nil {
		d.armed.Stop()
		d.armed = nil
	}
	if sub == "dead" || sub == "failed" {
		d.next = timer.Next{}
	}
	d.sub = sub
	to, _ := d.state()
	d.s.changed(d.l, change{from: from, to: to})
}

func (d *timerDriver) start() error {
	if err := d.s.canTrigger(d.cfg.Unit); err != nil {
		return err
	}
	d.outcome, d.activated = "success", time.Now()
	d.triggered, d.earlier = time.Time{}, false
	d.readCalendars()
	if d.cfg.Persistent {
		d.readStamp()
	}
	d.wait()
	return nil
}

// canTrigger reports why a unit cannot be started by another.
func (s *Supervisor) canTrigger(name string) error {
	if t := s.find(name); t == nil || t.u.LoadState != unit.Loaded {
		return fmt.Errorf("the unit %s to trigger is not loaded: write it, or name another one with Unit=", name)
	}
	return nil
}

func (d *timerDriver) readCalendars() {
	zones := calendar.System()
	d.calendars = nil
	for _, text := range d.cfg.OnCalendar {
		if e, err := calendar.Parse(text, zones); err == nil {
			d.calendars = append(d.calendars, e)
		}
	}
}

func (d *timerDriver) stamp() string { return filepath.Join(stampDirectory, "stamp-"+d.l.u.Name) }

// readStamp learns when the timer elapsed before this boot. One that never did
// gets its file now, so that it counts from here.
func (d *timerDriver) readStamp() {
	info, err := os.Stat(d.stamp())
	switch {
	case err == nil && info.ModTime().Before(time.Now()):
		d.triggered, d.earlier = info.ModTime(), true
	case errors.Is(err, os.ErrNotExist):
		d.writeStamp()
	}
}

func (d *timerDriver) writeStamp() {
	err := os.MkdirAll(stampDirectory, 0o755)
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(d.stamp(), os.O_WRONLY|os.O_CREATE, 0o644); err == nil {
			f.Close()
			now := time.Now()
			err = os.Chtimes(d.stamp(), now, now)
		}
	}
	if err != nil {
		d.s.log(4, d.l.u.Name, "Failed to note when the timer elapsed, a missed run will not be caught up: %v", err)
	}
}

// history tells what the timer counts from.
func (d *timerDriver) history() timer.History {
	h := timer.History{Boot: d.s.started.Add(-d.s.cfg.Uptime), Startup: d.s.started, Activated: d.activated,
		Triggered: d.triggered, Earlier: d.earlier}
	if t := d.s.find(d.cfg.Unit); t != nil {
		h.UnitActive, h.UnitInactive = t.inactiveExit, t.inactiveEnter
	}
	return h
}

// wait arms the timer for its next time, or ends it when there is none.
func (d *timerDriver) wait() {
	now := time.Now()
	d.next = timer.Compute(d.cfg, d.calendars, d.history(), now)
	at, ok := d.next.At()
	switch {
	case ok:
		d.arm(at.Add(timer.Delay(d.cfg, d.s.cfg.System.Host().MachineID, d.l.u.Name, rand.Int64N)))
		d.set("waiting")
	case d.cfg.OnClockChange:
		d.set("waiting")
	case d.cfg.RemainAfterEnd || d.next.Repeats:
		d.set("elapsed")
	default:
		d.set("dead")
	}
}

// longest is how far ahead a timer is set: Go's timers do not count the time
// that the machine sleeps, so a calendar is looked at from time to time.
const longest = time.Hour

// arm calls elapsed at the time, which may be by the clock on the wall.
func (d *timerDriver) arm(at time.Time) {
	d.due = at
	if d.armed != nil {
		d.armed.Stop()
	}
	var t *time.Timer
	t = d.s.after(min(max(time.Until(at), 0), longest), func() {
		switch {
		case d.armed != t || d.sub != "waiting":
		case time.Until(at) > 0:
			d.s.guard(d.l, func() { d.arm(at) })
		default:
			d.s.guard(d.l, d.elapsed)
		}
	})
	d.armed = t
}

// elapsed starts the unit.
func (d *timerDriver) elapsed() {
	if j := d.s.queue.Of(d.l.u.Name); j != nil && j.Type == transaction.Stop {
		return
	}
	d.triggered, d.earlier = time.Now(), false
	if d.cfg.Persistent {
		d.writeStamp()
	}
	if t := d.s.find(d.cfg.Unit); t != nil && down(t.active()) {
		t.details = []string{"TRIGGER_UNIT=" + d.l.u.Name, "TRIGGER_TIMER_REALTIME_USEC=" + strconv.FormatInt(d.triggered.UnixMicro(), 10),
			"TRIGGER_TIMER_MONOTONIC_USEC=" + d.s.monotonic(d.triggered)}
	}
	if _, err := d.s.enqueue(transaction.Request{Type: transaction.Start, Unit: d.cfg.Unit}); err != nil {
		d.s.log(4, d.l.u.Name, "Failed to start %s: %v", d.cfg.Unit, err)
		d.fail("resources")
		return
	}
	d.set("running")
	if t := d.s.find(d.cfg.Unit); t != nil && up(t.active()) && d.s.queue.Of(d.cfg.Unit) == nil {
		d.triggerChanged(t, t.active()) // it runs already, so nothing will change
	}
}

func (d *timerDriver) fail(result string) {
	if d.outcome == "success" {
		d.outcome = result
	}
	d.s.log(4, d.l.u.Name, "%s: Failed with result '%s'.", d.l.u.Name, d.outcome)
	d.set("failed")
}

// triggerChanged is called when the unit that this timer starts has come up or
// gone down.
func (d *timerDriver) triggerChanged(t *live, to transaction.State) {
	switch d.sub {
	case "waiting", "elapsed":
		if d.next.Repeats {
			d.wait()
		}
	case "running":
		if down(to) {
			d.wait()
		}
	}
}

// clockChanged is called when somebody has set the clock.
func (d *timerDriver) clockChanged() {
	switch {
	case d.sub != "waiting":
	case d.cfg.OnClockChange:
		d.elapsed()
	case len(d.calendars) > 0:
		d.wait()
	}
}

func (d *timerDriver) stop()         { d.set("dead") }
func (d *timerDriver) reload() error { return errors.New("a timer cannot be reloaded") }
func (d *timerDriver) refuse()       { d.fail("start-limit-hit") }

func (d *timerDriver) reset() {
	d.outcome = "success"
	if d.sub == "failed" {
		d.set("dead")
	}
}

func (d *timerDriver) configure(u *unit.Unit) {
	if u.Timer == nil {
		return
	}
	d.cfg = u.Timer
	d.readCalendars()
	if d.sub == "waiting" || d.sub == "elapsed" {
		d.wait()
	}
}

type timerState struct {
	Sub, Outcome         string
	Activated, Triggered moment
	Earlier              bool
	NextReal             time.Time
	NextMonotonic        moment
	Repeats              bool
	Due                  moment
}

func (d *timerDriver) save() any {
	m := d.s.moment
	return timerState{d.sub, d.outcome, m(d.activated), m(d.triggered), d.earlier, d.next.Real, m(d.next.Monotonic), d.next.Repeats, m(d.due)}
}

func (d *timerDriver) restore(b []byte) error {
	var st timerState
	if err := json.Unmarshal(b, &st); err != nil {
		return err
	}
	t := d.s.time
	d.sub, d.outcome, d.activated, d.triggered, d.earlier = st.Sub, st.Outcome, t(st.Activated), t(st.Triggered), st.Earlier
	d.next = timer.Next{Real: st.NextReal, Monotonic: t(st.NextMonotonic), Repeats: st.Repeats}
	d.readCalendars()
	if d.sub == "waiting" && st.Due != 0 {
		d.arm(t(st.Due))
	}
	return nil
}

func (d *timerDriver) properties(set func(name, value string)) {
	set("Result", d.outcome)
	set("NextElapseUSecRealtime", stampText(d.next.Real))
	set("NextElapseUSecMonotonic", "infinity")
	if !d.next.Monotonic.IsZero() {
		set("NextElapseUSecMonotonic", d.s.sinceBoot(d.next.Monotonic))
	}
	set("LastTriggerUSec", stampText(d.triggered))
	set("LastTriggerUSecMonotonic", "0")
	if !d.triggered.IsZero() && !d.earlier {
		set("LastTriggerUSecMonotonic", d.s.sinceBoot(d.triggered))
	}
	var lines []string
	for _, c := range slices.Backward(d.calendars) { // as systemd shows them
		lines = append(lines, fmt.Sprintf("{ OnCalendar=%s ; next_elapse=%s }", c, orNone(stampText(d.next.Real))))
	}
	if len(lines) > 0 {
		set("TimersCalendar", strings.Join(lines, "\n"))
	}
}

func orNone(s string) string {
	if s == "" {
		return "n/a"
	}
	return s
}

// WatchClock tells timers when somebody sets the clock, until watching fails.
func (s *Supervisor) WatchClock() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch the clock: %w", err)
	}
	f := os.NewFile(uintptr(fd), "clock")
	defer f.Close()
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: 1<<62 - 1}}
	for {
		if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil {
			return fmt.Errorf("watch the clock: %w", err)
		}
		if _, err := f.Read(make([]byte, 8)); err != nil && !errors.Is(err, unix.ECANCELED) {
			return fmt.Errorf("watch the clock: %w", err)
		}
		s.Post(func() {
			for _, l := range s.units {
				if d, ok := l.d.(*timerDriver); ok {
					s.guard(l, d.clockChanged)
				}
			}
		})
	}
}
