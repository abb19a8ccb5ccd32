package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/coracle-os/coracle/rootfs/autofs"
	"github.com/coracle-os/coracle/rootfs/mount"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// automountDriver is one automount unit: it starts its mount unit when somebody
// uses the mount point, and stops it when nobody has for a while.
type automountDriver struct {
	s   *Supervisor
	l   *live
	cfg *unit.Automount

	activity // "dead", "waiting", "running", "failed"
	point    *autofs.Point
	using    []uint32 // requests of those who wait for the mount
	idle     []uint32 // requests to unmount
	expiring bool     // the kernel is asked if it is idle, from time to time
}

func (s *Supervisor) newAutomount(l *live) *automountDriver {
	return &automountDriver{s: s, l: l, cfg: l.u.Automount, activity: activity{"dead", "success"}}
}

func (d *automountDriver) set(sub string) {
	from, _ := d.state()
	d.sub = sub
	if sub == "dead" || sub == "failed" {
		d.unmount()
	}
	to, _ := d.state()
	d.s.changed(d.l, change{from: from, to: to})
}

// unit is the mount unit.
func (d *automountDriver) unit() string {
	for _, n := range d.s.graph.Of(d.l.u.Name, unit.Triggers) {
		return n
	}
	return ""
}

func (d *automountDriver) start() error {
	if err := d.s.canTrigger(d.unit()); err != nil {
		return err
	}
	there := func(e mount.Entry) bool { return e.Where == d.cfg.Where }
	if slices.ContainsFunc(d.s.mounts(), there) {
		return fmt.Errorf("%s is a mount point already: unmount it first", d.cfg.Where)
	}
	d.outcome = "success"
	err := os.MkdirAll(d.cfg.Where, os.FileMode(d.cfg.DirectoryMode))
	if err == nil {
		d.point, err = autofs.Mount(d.cfg.Where, d.timeout())
	}
	if err != nil {
		d.s.log(3, d.l.u.Name, "%v: is the module autofs4 there?", err)
		d.fail("resources")
		return nil
	}
	d.listen()
	d.set("waiting")
	return nil
}

// timeout is TimeoutIdleSec=, 0 if there is none.
func (d *automountDriver) timeout() time.Duration {
	if d.cfg.TimeoutIdle == timespan.Infinity {
		return 0
	}
	return d.cfg.TimeoutIdle
}

// listen hands the kernel's requests to the loop.
func (d *automountDriver) listen() {
	p := d.point
	go func() {
		err := p.Run(func(r autofs.Request) {
			d.s.Post(func() { d.s.guard(d.l, func() { d.asked(p, r) }) })
		})
		d.s.Post(func() { d.s.guard(d.l, func() { d.lost(p, err) }) })
	}()
}

// lost is called when the kernel has nothing more to ask, because somebody
// unmounted the mount point.
func (d *automountDriver) lost(p *autofs.Point, err error) {
	if p == d.point && d.sub != "dead" && d.sub != "failed" {
		d.s.log(4, d.l.u.Name, "The mount point has gone: %v", err)
		d.fail("unmounted")
	}
}

// asked is called when somebody uses the mount point, or nobody does any more.
func (d *automountDriver) asked(p *autofs.Point, r autofs.Request) {
	if p != d.point {
		return
	}
	t := transaction.Start
	if r.Expire {
		t = transaction.Stop
		d.idle = append(d.idle, r.Token)
	} else {
		d.using = append(d.using, r.Token)
		d.s.log(7, d.l.u.Name, "Got automount request for %s, triggered by %d.", d.cfg.Where, r.PID)
		if m := d.s.find(d.unit()); m != nil && up(m.active()) {
			d.triggerChanged(m, m.active())
			return
		}
	}
	if _, err := d.s.enqueue(transaction.Request{Type: t, Unit: d.unit()}); err != nil {
		d.s.log(4, d.l.u.Name, "Failed to %s %s: %v", t, d.unit(), err)
		d.answer(&d.using, false)
		d.answer(&d.idle, false)
		if !r.Expire {
			d.fail("resources")
		}
		return
	}
	if !r.Expire {
		d.set("running")
	}
}

// answer lets those go on who wait.
func (d *automountDriver) answer(tokens *[]uint32, good bool) {
	for _, t := range *tokens {
		if good {
			_ = d.point.Ready(t)
		} else {
			_ = d.point.Fail(t)
		}
	}
	*tokens = nil
}

// triggerChanged is called when the mount has come up or gone down.
func (d *automountDriver) triggerChanged(m *live, to transaction.State) {
	if d.sub != "waiting" && d.sub != "running" {
		return
	}
	switch {
	case up(to):
		d.answer(&d.using, true)
		d.answer(&d.idle, false) // it could not be unmounted
		if d.sub == "waiting" {
			d.set("running")
		}
		d.expire()
	case down(to):
		d.answer(&d.using, false)
		d.answer(&d.idle, true)
		if m.limitHit {
			d.fail("mount-start-limit-hit")
		} else if d.sub == "running" {
			d.set("waiting")
		}
	}
}

// expire asks the kernel from time to time if the mount is idle, as long as it
// is there. The kernel waits for the answer to its request, so it is asked in a
// goroutine of its own.
func (d *automountDriver) expire() {
	idle, p := d.timeout(), d.point
	if idle <= 0 || d.expiring || p == nil {
		return
	}
	d.expiring = true
	d.s.after(max(idle/3, time.Second), func() {
		go func() {
			_, _ = p.Expire()
			d.s.Post(func() {
				d.expiring = false
				if d.point == p && d.sub == "running" {
					d.expire()
				}
			})
		}()
	})
}

func (d *automountDriver) unmount() {
	if d.point == nil {
		return
	}
	d.answer(&d.using, false)
	d.answer(&d.idle, false)
	if err := d.point.Unmount(); err != nil {
		d.s.log(4, d.l.u.Name, "%v", err)
	}
	d.point = nil
	d.s.later(d.s.mountsChanged) // what was mounted there has gone as well
}

func (d *automountDriver) fail(result string) {
	if d.outcome == "success" {
		d.outcome = result
	}
	d.set("failed")
}

func (d *automountDriver) stop()         { d.set("dead") }
func (d *automountDriver) reload() error { return errors.New("an automount cannot be reloaded") }
func (d *automountDriver) refuse()       { d.fail("start-limit-hit") }

func (d *automountDriver) reset() {
	d.outcome = "success"
	if d.sub == "failed" {
		d.set("dead")
	}
}

func (d *automountDriver) configure(u *unit.Unit) {
	if u.Automount != nil {
		d.cfg = u.Automount
	}
}

func (d *automountDriver) properties(set func(name, value string)) { set("Result", d.outcome) }

type automountState struct {
	Sub, Outcome string
	Pipe, Root   int
	Using, Idle  []uint32
}

func (d *automountDriver) save() any {
	st := automountState{Sub: d.sub, Outcome: d.outcome, Using: d.using, Idle: d.idle, Pipe: -1}
	if d.point != nil {
		st.Pipe, st.Root = d.point.FDs()
		d.s.keepOpen = append(d.s.keepOpen, st.Pipe, st.Root)
	}
	return st
}

func (d *automountDriver) restore(b []byte) error {
	var st automountState
	if err := json.Unmarshal(b, &st); err != nil {
		return err
	}
	d.sub, d.outcome, d.using, d.idle = st.Sub, st.Outcome, st.Using, st.Idle
	if st.Pipe >= 0 {
		d.point = autofs.Inherit(d.cfg.Where, st.Pipe, st.Root)
		d.listen()
		if d.sub == "running" {
			d.expire()
		}
	}
	return nil
}
