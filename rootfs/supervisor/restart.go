package supervisor

import (
	"time"

	"github.com/coracle-os/coracle/rootfs/jobs"
	"github.com/coracle-os/coracle/rootfs/service"
	"github.com/coracle-os/coracle/rootfs/transaction"
)

// accuracy is how late a service may be restarted, so that restarts of several
// services share a wake-up and one that fails at once uses up its start limit
// no faster than under systemd.
const accuracy = 250 * time.Millisecond

// coalesce prolongs a delay to the next multiple of accuracy.
func coalesce(after time.Duration) time.Duration {
	if after < time.Millisecond {
		return after
	}
	end := time.Now().Add(after)
	return after + end.Truncate(accuracy).Add(accuracy).Sub(end)
}

// restart starts the service again by itself, with those that require it.
func (d *serviceDriver) restart() {
	if j := d.s.queue.Of(d.l.u.Name); j != nil {
		return // somebody else decides what becomes of it
	}
	d.again = true
	d.Log("Scheduled restart job, restart counter is at %d.", d.m.Restarts()+1)
	j, err := d.s.enqueue(transaction.Request{Type: transaction.Restart, Unit: d.l.u.Name})
	if err != nil {
		d.Log("Failed to schedule restart job: %v", err)
		d.m.Stop()
		return
	}
	j.Notify(func(r jobs.Result) {
		if r != jobs.Done {
			d.s.later(func() { d.s.guard(d.l, d.wontRestart) })
		}
	})
}

// wontRestart ends the wait of a service whose restart failed because of
// another unit: nothing else would.
func (d *serviceDriver) wontRestart() {
	waits := d.timers[service.StateTimer] != nil // it failed by itself and tries again
	if d.m.State() == service.AutoRestart && !waits && d.s.queue.Of(d.l.u.Name) == nil {
		d.m.Stop()
	}
}
