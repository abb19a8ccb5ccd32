package locksmith

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/fleet/api/client"
	"github.com/coracle-os/coracle/rootfs/control"
)

// Waits of a drain.
const (
	drainFor   = 2 * time.Minute // then the machine reboots with the units that are left
	drainEvery = time.Second
	drainUndo  = 5 * time.Second
	// drainReason is what people see of a machine that is drained.
	drainReason = "it reboots into a new release"
)

// scheduler is what of the scheduler a drain needs: client.Client is one.
type scheduler interface {
	Drain(ctx context.Context, machine, reason string, untilReboot bool) error
	EndDrain(ctx context.Context, machine string) error
	Left(ctx context.Context, machine string) ([]string, error)
}

// drainer moves the cluster's units to other machines before this one reboots,
// so that they are not away while it does. The drain ends by itself when the
// machine comes back with another boot id. Nothing that goes wrong with it
// keeps the machine from rebooting for longer than limit.
type drainer struct {
	scheduler scheduler
	id        string                     // of the machine
	running   func(context.Context) bool // tells if the machine takes part in the scheduler
	limit     time.Duration              // 0 is not to drain
	now       func() time.Time
	sleep     func(context.Context, time.Duration) error
	say       func(format string, args ...any)
}

// drain waits until the units are gone, or until it may not wait any more. The
// error is only ever that ctx ended. undo, if it is not nil, must be called
// when the machine does not reboot after all.
func (d *drainer) drain(ctx context.Context) (undo func(), err error) {
	if d.limit <= 0 || !d.running(ctx) {
		return nil, nil
	}
	begin := d.now()
	drained, told := false, ""
	tell := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != told {
			told = text
			d.say("%s", text)
		}
	}
	undo = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainUndo)
		defer cancel()
		if err := d.scheduler.EndDrain(ctx, d.id); err != nil {
			d.say("cannot let units come to this machine again: %v; use fleetctl undrain", err)
		}
	}
	for {
		left, err := d.step(ctx, &drained)
		switch {
		case ctx.Err() != nil:
			undo()
			return nil, ctx.Err()
		case client.IsNotFound(err):
			return nil, nil // the scheduler does not know this machine: nothing can be here
		case err != nil:
			tell("waiting for the scheduler to drain this machine: %v", err)
		case len(left) == 0:
			d.say("the scheduler's units are gone from this machine")
			return undo, nil
		default:
			tell("waiting for %d units to leave this machine: %s", len(left), strings.Join(left[:min(len(left), 10)], " "))
		}
		if d.now().Sub(begin) >= d.limit {
			d.say("rebooting with the units that are left after %s", d.limit)
			return undo, nil
		}
		if err := d.sleep(ctx, drainEvery); err != nil {
			undo()
			return nil, err
		}
	}
}

// step asks for the drain until that is taken, and then for what is left.
func (d *drainer) step(ctx context.Context, drained *bool) ([]string, error) {
	if !*drained {
		if err := d.scheduler.Drain(ctx, d.id, drainReason, true); err != nil {
			return nil, err
		}
		*drained = true
		d.say("the scheduler moves its units from this machine")
	}
	left, err := d.scheduler.Left(ctx, d.id)
	slices.Sort(left)
	return left, err
}

// newDrainer drains the machine that this program runs on.
func newDrainer(id string, limit time.Duration, say func(string, ...any)) (*drainer, error) {
	c, err := client.New(client.Options{Timeout: callTimeout})
	if err != nil {
		return nil, err
	}
	return &drainer{scheduler: c, id: id, running: schedulerActive, limit: limit, now: time.Now, sleep: sleep, say: say}, nil
}

// schedulerActive tells if fleetd runs here. Its socket is not asked: that
// would start it.
func schedulerActive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := control.Client{}.Collect(ctx, control.Request{Verb: control.ListUnits, Units: []string{"fleet.service"}})
	return err == nil && slices.ContainsFunc(resp.Units, func(u control.Unit) bool { return u.Active == "active" })
}
