// Package engine is update-engine.service: it follows the machine's channel and
// installs what the state machine of package update decides. It is the edge:
// timer, control socket, disk, EFI system partition, network and memory of
// earlier updates are here and nowhere else.
//
// One goroutine does all work; the socket only hands it requests and reads a
// copy of the status. Without servers or trusted root metadata the engine does
// nothing but say so. It never reboots: it leaves a file that locksmithd acts on.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/update"
	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/agents/update/store"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/rootfs/updatectl"
)

// Deps are the engine's ways to the machine; a test gives others.
type Deps struct {
	Root      string // of all files of settings; "/" on a machine
	Environ   []string
	MachineID string
	Running   update.Target
	Slot      string
	Store     *store.Store
	// Forgetful is true when Store is not the machine's own, which is closed.
	Forgetful bool
	// TrustDir keeps the signed metadata; SpareDir stands in when it is full.
	TrustDir, SpareDir string
	// NeedReboot is the file that asks locksmithd for a reboot.
	NeedReboot string
	// Disk opens the disk; the caller closes it.
	Disk func() (slots.Disk, func() error, error)
	// ESP calls f with the directory of the boot entries.
	ESP func(f func(entries.Dir) error) error
	Now func() time.Time
	Log *slog.Logger
}

// An Engine is the running service.
type Engine struct {
	Deps
	requests chan job

	mu     sync.Mutex // guards what the socket reads
	state  update.State
	status updatectl.Status
}

// job is a request on its way to the working goroutine.
type job struct {
	request updatectl.Request
	say     func(string)
	done    chan error
}

// New returns an engine that has not started.
func New(d Deps) *Engine {
	return &Engine{Deps: d, requests: make(chan job), state: update.State{Phase: update.Idle}}
}

// Run works until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	e.start()
	wait := e.first()
	for {
		timer := time.NewTimer(wait)
		e.set(func(s *updatectl.Status) { s.NextCheck = e.Now().Add(wait) })
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case j := <-e.requests:
			timer.Stop()
			j.done <- e.serve(ctx, j)
		case <-timer.C:
			if err := e.checkAndInstall(ctx, false, false, func(string) {}); err != nil && ctx.Err() == nil {
				e.Log.Error("update", "error", err)
			}
		}
		wait = e.wait()
	}
}

// start finds out what an earlier engine or boot left, and cleans up.
func (e *Engine) start() {
	armed := update.Target{}
	fresh := false
	err := e.ESP(func(d entries.Dir) error {
		l, err := entries.List(d)
		if err != nil {
			return err
		}
		for _, f := range l.Files {
			if f.RootHash != "" && f.RootHash != e.Running.RootHash && f.Name.Counted && f.Name.Left > 0 {
				armed = update.Target{Version: f.Name.Version, RootHash: f.RootHash}
				fresh = f.Name.Done == 0
			}
		}
		return entries.Apply(d, entries.PlanClean(l), nil)
	})
	if err != nil {
		e.Log.Warn("boot entries cannot be read; updates will fail until this is mended", "error", err)
		e.state.Error = err.Error()
	}
	if err := e.event(update.Event{Kind: update.Started, Target: armed}); err != nil {
		e.Log.Error("start", "error", err)
	}
	if fresh {
		e.needReboot(armed)
	}
	c, err := ReadConfig(e.Root, e.Environ)
	switch {
	case err != nil:
		e.Log.Error("settings", "error", err)
	case c.Why() != "":
		e.Log.Info("no updates: " + c.Why())
		e.set(func(s *updatectl.Status) { s.Note = c.Why() })
	default:
		e.Log.Info("following channel", "channel", c.Channel, "servers", c.Servers, "running", e.Running.Version)
	}
}

// event moves the state machine. The writes are the caller's.
func (e *Engine) event(ev update.Event) error {
	next, _, err := update.Step(e.state, ev)
	if err != nil {
		return err
	}
	e.to(next)
	return nil
}

func (e *Engine) to(next update.State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = next
	e.status.Phase, e.status.Armed, e.status.Target, e.status.Error = string(next.Phase), next.Armed.Version, next.Target.Version, next.Error
	if next.Target == (update.Target{}) {
		e.status.Percent = 0
	}
}

func (e *Engine) set(change func(*updatectl.Status)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(&e.status)
}

// first is the time to the first check: machines that boot together do not ask
// together.
func (e *Engine) first() time.Duration {
	return rand.N(min(5*time.Minute, e.interval()/4) + 1)
}

// wait is the time to the next check: the interval, a quarter more or less;
// shorter after a failure, growing to the interval.
func (e *Engine) wait() time.Duration {
	interval := e.interval()
	if n := e.state.Failures; n > 0 {
		interval = min(interval, time.Minute<<min(n-1, 10))
	}
	return interval*3/4 + rand.N(interval/2+1)
}

func (e *Engine) interval() time.Duration {
	c, err := ReadConfig(e.Root, e.Environ)
	if err != nil {
		return time.Hour
	}
	return c.Interval
}

// Status is the state for people.
func (e *Engine) Status() updatectl.Status {
	e.mu.Lock()
	s := e.status
	e.mu.Unlock()
	s.Version, s.RootHash, s.Slot = e.Running.Version, e.Running.RootHash, e.Slot
	if c, err := ReadConfig(e.Root, e.Environ); err != nil {
		s.Error = err.Error()
	} else {
		s.Channel, s.Servers = c.Channel, c.Servers
	}
	s.Floor, _ = e.Store.Floor()
	contact, _ := e.Store.Value("last-contact")
	s.LastContact, _ = time.Parse(time.RFC3339, contact)
	all, err := e.Store.AllQuarantined()
	if err != nil && s.Error == "" {
		s.Error = err.Error()
	}
	for _, q := range all {
		s.Quarantine = append(s.Quarantine, fmt.Sprintf("%s %s: %s", q.Version, q.RootHash, q.Reason))
	}
	return s
}

// needReboot asks for a reboot into the armed release.
func (e *Engine) needReboot(t update.Target) {
	err := os.MkdirAll(filepath.Dir(e.NeedReboot), 0o755)
	if err == nil {
		err = os.WriteFile(e.NeedReboot, []byte(t.Version+" "+t.RootHash+"\n"), 0o644)
	}
	if err != nil {
		e.Log.Warn("cannot ask for the reboot; reboot by hand", "error", err)
	}
}

func (e *Engine) noReboot() error {
	if err := os.Remove(e.NeedReboot); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("hold back the reboot: %w", err)
	}
	return nil
}

// record adds to the history. A state partition that is full or broken does not
// stop an update.
func (e *Engine) record(r store.Record) {
	r.Time = e.Now().UTC()
	if err := e.Store.Add(r); err != nil {
		e.Log.Warn("the history is not complete", "error", err)
	}
}
