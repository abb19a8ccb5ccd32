package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/agents/update"
	"github.com/coracle-os/coracle/agents/update/fetch"
	"github.com/coracle-os/coracle/agents/update/install"
	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/agents/update/store"
	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/rootfs/updatectl"
)

// silence is how long a machine may be without contact before it says so.
const silence = 7 * 24 * time.Hour

// checkAndInstall asks the channel and installs what is for this machine. asked
// is true when the operator wants it now, force when in spite of a quarantine.
func (e *Engine) checkAndInstall(ctx context.Context, asked, force bool, say func(string)) error {
	c, err := ReadConfig(e.Root, e.Environ)
	if err != nil {
		return err
	}
	if why := c.Why(); why != "" {
		e.set(func(s *updatectl.Status) { s.Note = why })
		if asked {
			return errors.New(why)
		}
		return nil
	}
	mirrors, err := c.Mirrors()
	if err != nil {
		return err
	}
	return e.follow(ctx, c, mirrors, c.Channel, asked, force, say)
}

// follow does one check against these mirrors, and the update.
func (e *Engine) follow(ctx context.Context, c Config, mirrors []fetch.Mirror, channel string, asked, force bool, say func(string)) (err error) {
	if err := e.event(update.Event{Kind: update.CheckDue}); err != nil {
		return err
	}
	client := fetch.New(fetch.Options{Mirrors: mirrors, Root: c.Root, Dir: e.trustDir(), Now: e.Now, Rate: c.Rate, Log: e.Log})
	r, verdict, err := e.check(ctx, client, channel, asked, force)
	if err != nil {
		e.silent()
		return e.failed(ctx, "", err)
	}
	e.Log.Info("checked", "channel", channel, "install", verdict.Install, "reason", verdict.Reason)
	e.set(func(s *updatectl.Status) { s.Note = verdict.Reason })
	say(verdict.Reason)
	if !verdict.Install {
		return e.event(update.Event{Kind: update.Nothing})
	}
	return e.install(ctx, client, r, say)
}

// check asks the channel and decides.
func (e *Engine) check(ctx context.Context, client *fetch.Client, channel string, asked, force bool) (*fetch.Release, update.Verdict, error) {
	none := update.Verdict{}
	e.set(func(s *updatectl.Status) { s.LastCheck = e.Now() })
	r, err := client.Check(ctx, channel)
	if err != nil {
		return nil, none, err
	}
	if err := e.Store.SetValue("last-contact", e.Now().UTC().Format(time.RFC3339)); err != nil {
		e.Log.Warn("cannot remember the contact", "error", err)
	}
	m := update.Machine{ID: e.MachineID, Running: e.Running, Armed: e.state.Armed, Now: e.Now(), Forgetful: e.Forgetful, Asked: asked}
	if m.Floor, err = e.Store.Floor(); err != nil {
		return nil, none, err
	}
	verdict, err := e.decide(m, r, force)
	if err != nil || !verdict.Install {
		return r, verdict, err
	}
	if verdict.Via != "" {
		if r, err = client.Version(r, verdict.Via); err != nil {
			return nil, none, err
		}
		why := verdict.Reason
		if verdict, err = e.decide(m, r, force); err != nil || !verdict.Install {
			return r, verdict, err
		}
		if verdict.Via != "" {
			return nil, none, fmt.Errorf("stepping stone %s itself needs %s; the publisher must name the first", r.Info.Version, verdict.Via)
		}
		verdict.Reason = why
	}
	return r, verdict, e.onTrial(&verdict)
}

func (e *Engine) decide(m update.Machine, r *fetch.Release, force bool) (update.Verdict, error) {
	q, found, err := e.Store.Quarantined(r.Info.RootHash)
	if err != nil {
		return update.Verdict{}, err
	}
	if found && force {
		if err := e.Store.Release(r.Info.RootHash); err != nil {
			return update.Verdict{}, err
		}
		e.record(store.Record{Kind: store.KindNotice, Version: q.Version, RootHash: q.RootHash, Reason: "taken out of quarantine by the operator"})
	} else if found {
		m.Quarantined = q.Reason
	}
	return update.Decide(m, update.Offer{Channel: r.Channel, MinVersion: r.Info.MinVersion}), nil
}

// onTrial holds an update back while the running system was not marked good.
func (e *Engine) onTrial(v *update.Verdict) error {
	return e.ESP(func(d entries.Dir) error {
		l, err := entries.List(d)
		if err != nil {
			return err
		}
		if _, err := entries.PlanDisarm(l, e.Running.RootHash); errors.Is(err, entries.ErrOnTrial) {
			*v = update.Verdict{Reason: "waiting: " + err.Error()}
		} else if err != nil {
			return err
		}
		return nil
	})
}

// install brings a release into the inactive slot.
func (e *Engine) install(ctx context.Context, client *fetch.Client, r *fetch.Release, say func(string)) (err error) {
	target := update.Target{Version: r.Info.Version, RootHash: r.Info.RootHash}
	x, err := client.Index(r)
	if err != nil {
		return e.failed(ctx, target.Version, err)
	}
	disk, closeDisk, err := e.Disk()
	if err != nil {
		return e.failed(ctx, target.Version, err)
	}
	defer func() { err = errors.Join(err, closeDisk()) }()
	downgrade := ""
	if release.CompareVersions(target.Version, e.Running.Version) < 0 {
		downgrade = target.RootHash
	}
	in := &install.Install{
		Disk: disk, Running: e.Running.RootHash, Version: target.Version, Index: x, Log: e.Log,
		Range: func(ctx context.Context, want release.Range, check func([]byte) error) ([]byte, error) {
			return client.Range(ctx, r, want, check)
		},
		Progress: func(done, blocks int64) {
			e.set(func(s *updatectl.Status) { s.Percent = int(100 * done / blocks) })
		},
	}
	if err := e.walk(ctx, in, target, say); err != nil {
		return e.failed(ctx, target.Version, err)
	}
	if err := e.Store.SetValue("downgrade", downgrade); err != nil {
		e.Log.Warn("cannot remember the downgrade", "error", err)
	}
	e.record(store.Record{Kind: store.KindInstalled, Version: target.Version, RootHash: target.RootHash, Bytes: client.Received()})
	e.needReboot(target)
	say(fmt.Sprintf("version %s is in slot %s, %d bytes fetched; it starts at the next boot", target.Version, in.Slot(), client.Received()))
	e.Log.Info("installed", "version", target.Version, "slot", in.Slot(), "bytes", client.Received())
	return nil
}

// do performs one write. The EFI system partition is open only while it is
// needed, not through a long download.
func (e *Engine) do(ctx context.Context, in *install.Install, w update.Write) error {
	switch w {
	case update.Check, update.Disarm, update.Arm:
		return e.ESP(func(d entries.Dir) error {
			in.ESP = d
			return in.Do(ctx, w)
		})
	}
	return in.Do(ctx, w)
}

// walk takes the state machine from Found to Armed and does its writes.
func (e *Engine) walk(ctx context.Context, in *install.Install, target update.Target, say func(string)) error {
	for _, kind := range []update.EventKind{update.Found, update.Fetched, update.Verified, update.Armed} {
		next, writes, err := update.Step(e.state, update.Event{Kind: kind, Target: target})
		if err != nil {
			return err
		}
		e.to(next)
		say(fmt.Sprintf("%s %s", next.Phase, target.Version))
		for _, w := range writes {
			if w == update.Record {
				continue // after the last write, in the caller
			}
			if w == update.Disarm {
				if err := e.noReboot(); err != nil {
					return err
				}
			}
			if err := e.do(ctx, in, w); err != nil {
				return fmt.Errorf("%s: %w", w, err)
			}
			if w == update.Disarm { // an earlier armed release is no more
				e.state.Armed = update.Target{}
			}
		}
	}
	return nil
}

// failed ends an update or check; version is "" for a check.
func (e *Engine) failed(ctx context.Context, version string, err error) error {
	if ctx.Err() != nil { // the engine is being stopped; the next one goes on
		return err
	}
	if stepErr := e.event(update.Event{Kind: update.Failed, Reason: err.Error()}); stepErr != nil {
		return errors.Join(err, stepErr)
	}
	if version != "" {
		e.record(store.Record{Kind: store.KindFailed, Version: version, Reason: err.Error()})
	}
	return err
}

// silent warns when there was no contact for long.
func (e *Engine) silent() {
	text, err := e.Store.Value("last-contact")
	if err != nil || text == "" {
		return
	}
	if last, err := time.Parse(time.RFC3339, text); err == nil && e.Now().Sub(last) > silence {
		e.Log.Error("no contact with any update server for a long time; this machine gets no updates", "since", text)
	}
}

// trustDir is where metadata are kept. When the state partition cannot take
// them, a copy in memory serves until the next boot: a full disk is no reason to
// miss the update that may mend it.
func (e *Engine) trustDir() string {
	probe := filepath.Join(e.TrustDir, "probe")
	err := os.MkdirAll(e.TrustDir, 0o700)
	if err == nil {
		err = os.WriteFile(probe, make([]byte, 64<<10), 0o600)
		os.Remove(probe)
	}
	if err == nil {
		return e.TrustDir
	}
	e.Log.Warn("the state partition cannot keep the update metadata; using memory", "error", err)
	if err := os.MkdirAll(e.SpareDir, 0o700); err != nil {
		return e.TrustDir
	}
	for _, name := range []string{"anchor", "root.json", "timestamp.json", "snapshot.json", "targets.json"} {
		if _, err := os.Stat(filepath.Join(e.SpareDir, name)); err == nil {
			continue
		}
		if b, err := os.ReadFile(filepath.Join(e.TrustDir, name)); err == nil {
			_ = os.WriteFile(filepath.Join(e.SpareDir, name), b, 0o600)
		}
	}
	return e.SpareDir
}

// rollback makes the other slot's system the next boot's.
func (e *Engine) rollback(say func(string)) (err error) {
	disk, closeDisk, err := e.Disk()
	if err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	defer func() { err = errors.Join(err, closeDisk()) }()
	pair, err := disk.Find(e.Running.RootHash)
	if err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	return e.ESP(func(d entries.Dir) error {
		l, err := entries.List(d)
		if err != nil {
			return fmt.Errorf("roll back: %w", err)
		}
		target, err := other(l, pair.Inactive, e.Running.RootHash)
		if err != nil {
			return err
		}
		say(fmt.Sprintf("checking version %s in slot %s", target.Version, pair.Inactive.Letter))
		if err := disk.Verify(pair.Inactive, target.RootHash); err != nil {
			return fmt.Errorf("roll back: %w", err)
		}
		steps, err := entries.PlanRollback(l, e.Running.RootHash, target.RootHash)
		if err != nil {
			return err
		}
		if err := entries.Apply(d, steps, nil); err != nil {
			return fmt.Errorf("roll back: %w", err)
		}
		reason := "the operator went back to " + target.Version
		err = e.Store.Quarantine(store.Quarantined{RootHash: e.Running.RootHash, Version: e.Running.Version, Reason: reason, Time: e.Now().UTC()})
		if err != nil {
			e.Log.Warn("the version that runs now may be installed again", "error", err)
		}
		e.record(store.Record{Kind: store.KindRollback, Version: target.Version, RootHash: target.RootHash, Reason: "asked for by the operator"})
		e.to(update.State{Phase: update.PendingReboot, Armed: target})
		e.needReboot(target)
		say(fmt.Sprintf("version %s starts at the next boot", target.Version))
		return nil
	})
}

// other is the complete system in the slot that is not running.
func other(l entries.Listing, slot slots.Slot, running string) (update.Target, error) {
	for _, f := range l.Files {
		if f.RootHash == running || !slot.Holds(f.RootHash) {
			continue
		}
		if f.Name.Bad() && f.Name.Done > 0 {
			return update.Target{}, fmt.Errorf("roll back: version %s in slot %s failed its %d tries; there is nothing good to go back to", f.Name.Version, slot.Letter, f.Name.Done)
		}
		return update.Target{Version: f.Name.Version, RootHash: f.RootHash}, nil
	}
	return update.Target{}, fmt.Errorf("roll back: slot %s holds no system with a boot entry; there is nothing to go back to", slot.Letter)
}
