package locksmith

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/agents/locksmith/semaphore"
)

// Files in /run/update-engine.
const (
	// NeedReboot is there when a release waits for the reboot: the update
	// engine writes it, or "locksmithctl send-need-reboot".
	NeedReboot = "/run/update-engine/reboot-needed"
	// Coordinator tells other tools what locksmithd does.
	Coordinator = "/run/update-engine/coordinator.conf"
)

// Waits of the daemon.
const (
	lookEvery    = 5 * time.Second
	retryFirst   = 5 * time.Second
	retryMost    = 5 * time.Minute
	peopleWait   = 5 * time.Minute
	judgedWithin = time.Hour
)

// lock is the semaphore and the health of the store.
type lock interface {
	Lock(ctx context.Context, id string) error
	Unlock(ctx context.Context, id string) error
	Members(ctx context.Context) ([]Member, error)
}

// daemon waits for a release and reboots when the machine may. All that it
// touches is in its fields.
type daemon struct {
	config Config
	id     string // machine id
	lock   lock
	log    io.Writer

	now   func() time.Time
	sleep func(context.Context, time.Duration) error // ends early with ctx
	// pending tells if a release waits; judged if this boot's own release has
	// been found good or bad; active if the machine's own store runs.
	pending, judged func() bool
	active          func(context.Context) bool
	people          func() bool // somebody is logged in
	broadcast       func(text string)
	drain           func(context.Context) (undo func(), err error)
	prepare         func(context.Context) // what must be noted before a reboot
	reboot          func(context.Context) error
	state           func(string) // for Coordinator

	told string // the last reason to wait, to be told once
}

// run ends with nil when there is nothing to coordinate (off), when the reboot
// was asked for, or with ctx.
func (d *daemon) run(ctx context.Context) error {
	if d.config.Strategy == Off {
		d.say("REBOOT_STRATEGY=off: this machine does not reboot by itself")
		d.state("off")
		return nil
	}
	d.say("strategy %s, window %s", d.config.Strategy, d.config.Window)
	d.state("starting")
	if err := d.release(ctx); err != nil {
		return err
	}
	for {
		d.state("running")
		for !d.pending() {
			if err := d.sleep(ctx, lookEvery); err != nil {
				return err
			}
		}
		d.state("waiting")
		d.say("a new release waits for the reboot")
		if err := d.permission(ctx); err != nil {
			return err
		}
		if gone, err := d.leave(ctx); gone || err != nil {
			return err
		}
		// The update engine began with a newer release, and takes this one
		// apart: not now.
		d.say("the release does not wait any more")
		if err := d.release(ctx); err != nil {
			return err
		}
	}
}

// release gives back the place that this machine held over its reboot. It is
// kept until the release that was booted is judged: a bad one must not reach
// the next machine meanwhile.
func (d *daemon) release(ctx context.Context) error {
	if !d.locks(ctx) {
		return nil
	}
	limit := d.now().Add(judgedWithin)
	for !d.judged() && d.now().Before(limit) {
		if err := d.sleep(ctx, lookEvery); err != nil {
			return err
		}
	}
	return d.retry(ctx, func() error {
		err := d.lock.Unlock(ctx, d.id)
		switch {
		case errors.Is(err, semaphore.ErrNotHolder):
			return nil
		case err == nil:
			d.say("gave the reboot lock back")
		}
		return err
	})
}

// locks tells if the strategy is, for this machine, that with the lock.
func (d *daemon) locks(ctx context.Context) bool {
	switch d.config.Strategy {
	case EtcdLock:
		return true
	case BestEffort:
		return d.active(ctx)
	}
	return false
}

// permission returns nil when the machine may reboot now: inside the window,
// with the lock if the strategy wants one.
func (d *daemon) permission(ctx context.Context) error {
	return d.retry(ctx, func() error {
		for {
			wait := d.config.Window.Until(d.now())
			if wait == 0 {
				break
			}
			d.waitsFor(fmt.Errorf("the reboot window (%s) opens in %s", d.config.Window, wait.Round(time.Second)))
			// In steps: a clock that is set meanwhile counts at once.
			if err := d.sleep(ctx, min(wait, time.Minute)); err != nil {
				return err
			}
		}
		if !d.locks(ctx) {
			return nil
		}
		return d.take(ctx)
	})
}

// take takes the lock, if the store can do without this machine.
func (d *daemon) take(ctx context.Context) error {
	members, err := d.lock.Members(ctx)
	if err != nil {
		return err
	}
	if err := GuardQuorum(members); err != nil {
		return err
	}
	err = d.lock.Lock(ctx, d.id)
	if errors.Is(err, semaphore.ErrHolds) {
		return nil
	}
	if err != nil {
		return err
	}
	d.say("took the reboot lock")
	// Another machine may have gone down between the look and the lock; now
	// that the lock is ours no more than max-1 others can.
	if members, err = d.lock.Members(ctx); err == nil {
		err = GuardQuorum(members)
	}
	if err != nil {
		return errors.Join(err, d.lock.Unlock(ctx, d.id))
	}
	return nil
}

// leave reboots, after a warning when somebody is logged in and after the
// scheduler's units have left. It returns false when no release waits any more.
func (d *daemon) leave(ctx context.Context) (bool, error) {
	if d.pending() && d.people() {
		d.broadcast(fmt.Sprintf("This machine reboots into a new release in %s.", peopleWait))
		d.say("somebody is logged in; rebooting in %s", peopleWait)
		if err := d.sleep(ctx, peopleWait); err != nil {
			return false, err
		}
	}
	if !d.pending() {
		return false, nil
	}
	d.state("draining")
	undo, err := d.drain(ctx)
	if err != nil {
		return false, err
	}
	if !d.pending() {
		if undo != nil {
			undo()
		}
		return false, nil
	}
	d.broadcast("This machine reboots into a new release now.")
	d.state("rebooting")
	d.prepare(ctx)
	return true, d.retry(ctx, func() error { return d.reboot(ctx) })
}

// retry calls f until it succeeds or ctx ends, with growing waits.
func (d *daemon) retry(ctx context.Context, f func() error) error {
	wait := retryFirst
	for {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		d.waitsFor(err)
		if err := d.sleep(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, retryMost)
	}
}

// waitsFor tells the reason to wait when it is another than before.
func (d *daemon) waitsFor(reason error) {
	if text := reason.Error(); text != d.told {
		d.told = text
		d.say("waiting: %s", text)
	}
}

func (d *daemon) say(format string, args ...any) {
	fmt.Fprintf(d.log, "locksmithd: "+format+"\n", args...)
}

// writeState replaces the coordinator's file.
func writeState(path string, strategy Strategy, state string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("tell the state: %w", err)
	}
	text := fmt.Sprintf("NAME=locksmithd\nSTRATEGY=%s\nSTATE=%s\n", strategy, state)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return fmt.Errorf("tell the state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("tell the state: %w", err)
	}
	return nil
}
