package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/health/baseline"
	"github.com/coracle-os/coracle/agents/health/check"
	"github.com/coracle-os/coracle/agents/update/store"
	"github.com/coracle-os/coracle/initrd/attempts"
	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/initrd/entries"
)

// task is one thing that must be found good.
type task struct {
	name     string
	deadline time.Duration
	once     func(context.Context) error
}

// failure is the reason that a release is not healthy.
type failure struct {
	task string
	err  error
}

func (f failure) Error() string { return fmt.Sprintf("%s: %v", f.task, f.err) }
func (f failure) Unwrap() error { return f.err }

// attemptEvery is the time between two attempts of one check.
const attemptEvery = time.Second

// await tries all tasks, each until it succeeds or its deadline is over, and
// returns the first that did not make it, at once.
func await(ctx context.Context, tasks []task, every time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan error, len(tasks))
	for _, t := range tasks {
		go func() { results <- t.await(ctx, every) }()
	}
	for range tasks {
		if err := <-results; err != nil {
			return err
		}
	}
	return nil
}

func (t task) await(ctx context.Context, every time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, t.deadline)
	defer cancel()
	var last error
	for {
		// A check that does not heed its context is left behind.
		done := make(chan error, 1)
		go func() { done <- t.once(ctx) }()
		select {
		case err := <-done:
			if err == nil {
				return nil
			}
			if ctx.Err() == nil || last == nil {
				last = err
			}
		case <-ctx.Done():
			if last == nil {
				last = errors.New("it did not end")
			}
			return failure{t.name, fmt.Errorf("not good after %s: %w", t.deadline, last)}
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return failure{t.name, fmt.Errorf("not good after %s: %w", t.deadline, last)}
		}
	}
}

// fileTasks are the checks of health.d and its broken files. What was wrong
// before the update is only told.
func fileTasks(checks []check.Check, broken []check.Broken, base baseline.Baseline, edge check.Edge, say func(string, ...any)) []task {
	var tasks []task
	edge.Known = base.FailedUnits
	for _, c := range checks {
		tasks = append(tasks, task{c.String(), c.Deadline, func(ctx context.Context) error { return c.Once(ctx, edge) }})
	}
	for _, b := range broken {
		if sum, ok := base.BrokenFiles[b.Path]; ok && sum == b.SHA256 {
			say("not held against the release, as it was so before the update: %v", b.Err)
			continue
		}
		tasks = append(tasks, task{"read " + b.Path, time.Second, func(context.Context) error { return b.Err }})
	}
	return tasks
}

// baseTasks is what every machine must get to, apart from the units that
// /usr/lib/coracle/health.d names.
func baseTasks(info bootinfo.Info, units func(context.Context, []string) ([]check.Unit, error)) []task {
	return []task{
		{"PID 1 answers", 2 * time.Minute, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			_, err := units(ctx, []string{"basic.target"})
			return err
		}},
		{"provisioning has ended", 12 * time.Minute, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			list, err := units(ctx, []string{"coreos-cloudinit.service"})
			for _, u := range list {
				if u.Active == "activating" || u.Active == "reloading" {
					return fmt.Errorf("%s is %s", u.Name, u.Active)
				}
			}
			return err
		}},
		{"the state partition is in use", time.Second, func(context.Context) error {
			if info.VolatileState && info.Live == "" {
				return fmt.Errorf("/var is in memory: %s", strings.Join(info.Notices, "; "))
			}
			return nil
		}},
	}
}

// trial is what the boot entries say about the running system.
type trial struct {
	on      bool // it is on trial
	version string
	// hopeless is true when no tries are left and no other system could be
	// booted in its place: then a reboot helps nobody.
	hopeless bool
}

// judge reads the entries. counted is the name in the loader's own variable,
// "" when it booted an entry without a counter or says nothing.
func judge(l entries.Listing, rootHash, counted string) (t trial, notice string) {
	own, ok := l.Find(rootHash)
	if !ok {
		if counted == "" {
			return trial{}, "" // booted over the network, or by another loader
		}
		name, err := entries.ParseName(counted)
		if err != nil {
			return trial{}, fmt.Sprintf("the boot loader counts tries of %q, which is not ours", counted)
		}
		return trial{on: true, version: name.Version}, fmt.Sprintf("the boot loader counts tries of %q, but no boot entry starts root hash %s", counted, rootHash)
	}
	t = trial{on: own.Name.Counted, version: own.Name.Version}
	switch {
	case t.on && counted == "":
		notice = fmt.Sprintf("the boot entry %s counts tries, but the boot loader does not say so; the entry's name counts", own.File)
	case !t.on && counted != "":
		notice = fmt.Sprintf("the boot loader says it counts tries of %q, but the boot entry is %s; the entry's name counts", counted, own.File)
	}
	others := slices.ContainsFunc(l.Files, func(f entries.File) bool {
		return f.RootHash != rootHash && f.RootHash != "" && !f.Name.Bad()
	})
	t.hopeless = own.Name.Bad() && !others
	return t, notice
}

// failedReleases returns the releases that failed for good and were not noticed
// yet: their entries have no tries left after some were made, and another system
// runs. An entry with tries left was not tried to the end: somebody chose
// another one in the boot menu. The entries say it, not the history: it holds
// when the power went between arming and recording. history is newest first.
func failedReleases(l entries.Listing, history []store.Record, running string) []store.Record {
	var failed []store.Record
	for _, f := range l.Files {
		if !f.Name.Bad() || f.Name.Done == 0 || f.RootHash == running {
			continue
		}
		r := store.Record{Version: f.Name.Version, RootHash: f.RootHash}
		noticed := false
		for _, h := range history {
			if h.RootHash != r.RootHash && !(f.RootHash == "" && h.Version == r.Version) {
				continue
			}
			if h.Kind == store.KindInstalled || h.Kind == store.KindRollback || h.Kind == store.KindFallback {
				// A damaged file does not tell its root hash.
				r.RootHash, r.Channel, r.Time = h.RootHash, h.Channel, h.Time
				noticed = h.Kind == store.KindFallback
				break
			}
		}
		if !noticed && r.RootHash != "" {
			failed = append(failed, r)
		}
	}
	return failed
}

// failureReason is why the release failed: what its own boots recorded, or what
// follows from their having recorded nothing.
func failureReason(history []store.Record, a store.Record) string {
	for _, r := range history {
		if r.RootHash == a.RootHash && r.Kind == store.KindInstalled {
			break // what was before is of another attempt
		}
		if r.Kind == store.KindGood && r.RootHash == a.RootHash {
			return fmt.Sprintf("it was good, and then did not last %s in any of %d starts in a row: a damaged disk does that; stage 1 gave it up", attempts.Lasting, attempts.Most)
		}
		if r.Kind == store.KindFailed && r.RootHash == a.RootHash && r.Reason != "" {
			return r.Reason
		}
	}
	return "it did not reach the health checks in any of its tries: the firmware or the boot loader refused it, or it crashed or hung before"
}

// bounded runs f, and stops waiting for it after the limit.
func bounded(limit time.Duration, what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return fmt.Errorf("%s: not done after %s", what, limit)
	}
}
