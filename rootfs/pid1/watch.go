package pid1

import (
	"context"
	"os"
	"sync/atomic"
	"time"

	"github.com/coracle-os/coracle/initrd/attempts"
	"github.com/coracle-os/coracle/rootfs/supervisor"
)

// How long things may take before PID 1 is held to hang and the watchdogs
// are left alone: one turn of the service manager, which is also the limit for
// everything before the first, and the end of the machine after the last.
const (
	turnLimit = 2 * time.Minute
	endLimit  = 5 * time.Minute
)

// alive is until when PID 1 need not take another turn, in nanoseconds since it
// began.
type alive struct{ until atomic.Int64 }

// expect sets the limit of what begins now.
func (a *alive) expect(now, limit time.Duration) { a.until.Store(int64(now + limit)) }

// hangs tells if the limit is over.
func (a *alive) hangs(now time.Duration) bool { return int64(now) > a.until.Load() }

// keepAlive pings the watchdogs as long as the service manager takes its turns:
// a PID 1 that hangs resets the machine.
func (p *process) keepAlive() {
	p.alive.expect(time.Since(p.begun), turnLimit)
	for _, w := range p.boot.Watchdogs {
		f, err := os.OpenFile(w.Device, os.O_WRONLY, 0)
		if err != nil {
			p.warn(err)
			continue
		}
		every := 15 * time.Second
		if t := time.Duration(w.TimeoutSeconds) * time.Second; t > 0 {
			every = min(every, t/3)
		}
		go p.ping(f, every)
	}
}

// ping writes to an armed watchdog until the machine ends or PID 1 hangs.
func (p *process) ping(dog *os.File, every time.Duration) {
	for told := false; ; time.Sleep(every) {
		if !p.alive.hangs(time.Since(p.begun)) {
			_, _ = dog.Write([]byte{0})
			told = false
			continue
		}
		if !told {
			told = true
			go p.say(0, "PID 1 hangs; the watchdog will reset the machine.")
		}
	}
}

// takeTurns notes that the service manager takes its turns, until ctx ends.
func (p *process) takeTurns(ctx context.Context, s *supervisor.Supervisor) {
	for ctx.Err() == nil {
		if s.Call(ctx, func() { p.alive.expect(time.Since(p.begun), turnLimit) }) != nil {
			p.alive.expect(time.Since(p.begun), endLimit)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
	}
}

// lasts forgets the starts that stage 1 counts, once this one has lasted.
func (p *process) lasts(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(attempts.Lasting):
		p.forgetStarts()
	}
}

func (p *process) forgetStarts() {
	if p.container {
		return
	}
	p.warn(attempts.Forget("/var"))
}

// Files of a boot on trial: the boot loader's word that it counts the tries, and
// the health gate's that it is done.
const (
	countedVariable = "/sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	judgedFile      = "/run/coracle/health-judged"
)

// trialLimit is how long a boot on trial may take to be judged. It is above all
// the deadlines of the gate itself.
const trialLimit = 70 * time.Minute

// watchTrial reboots a machine that runs a release on trial and where nobody
// has judged it in time: whatever keeps the health gate from running is the
// release's fault.
func (p *process) watchTrial(ctx context.Context, s *supervisor.Supervisor) {
	if _, err := os.Stat(countedVariable); err != nil {
		return
	}
	select {
	case <-ctx.Done():
		return
	case <-time.After(trialLimit):
	}
	if _, err := os.Stat(judgedFile); err == nil {
		return
	}
	p.say(1, "The release on trial was not judged within %s; rebooting. See \"journalctl -u coracle-health\".", trialLimit)
	s.Force(supervisor.Reboot)
}
