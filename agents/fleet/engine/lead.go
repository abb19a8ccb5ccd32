package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/mirror"
)

// Between two passes there is a pause as long as a pass, so that deciding takes
// at most half a processor; changes meanwhile are decided on together.
const (
	shortestPause = 20 * time.Millisecond
	longestPause  = time.Second
)

// errOutdated ends the rule of an engine when a newer one came.
var errOutdated = errors.New("a newer engine takes part")

// reign is one engine's time as leader.
type reign struct {
	*engine
	registry.Leadership
	mirror *mirror.Mirror
	last   *fleet.Snapshot      // that was decided on; nil if it is to be decided on again
	again  time.Time            // when time alone makes a difference; zero is never
	unused map[string]time.Time // contents since they are so
	broken map[string]string    // units that decide cannot bear, with their hashes
	losses losses
	most   bool // of the machines are waited for
}

// lead decides and writes until ctx ends or the leadership does.
func (e *engine) lead(ctx context.Context, l registry.Leadership) error {
	r := reign{
		engine: e, Leadership: l, unused: map[string]time.Time{}, broken: map[string]string{}, losses: losses{notice: notice, wait: e.TTL / 2},
		mirror: mirror.New(e.Registry.Client, mirror.Options{Prefix: e.Registry.Keys.Prefix, Log: e.Log, Now: e.Now}),
	}
	defer r.mirror.Close()
	after, pause := l.Revision, firstPause
	collect := time.NewTicker(max(e.Collect/4, time.Millisecond))
	defer collect.Stop()
	for {
		view, err := r.mirror.At(ctx, after)
		if err != nil {
			return err
		}
		if view.Newest() > e.Version {
			return errOutdated
		}
		start := time.Now()
		revision, err := r.pass(ctx, view)
		switch {
		case errors.Is(err, registry.ErrNotLeader) || ctx.Err() != nil:
			return err
		case err != nil:
			e.Log.Warn("The engine cannot write what it decided; trying again", "error", err, "pause", pause)
			r.last = nil
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			pause = min(2*pause, lastPause)
			continue
		}
		after, pause = max(after, revision), firstPause
		if err := sleep(ctx, min(max(time.Since(start), shortestPause), longestPause)); err != nil {
			return err
		}
		if err := r.quiet(ctx, view, collect.C); err != nil {
			return err
		}
	}
}

// quiet waits for a change, or for the time at which one is due.
func (r *reign) quiet(ctx context.Context, view *mirror.View, collect <-chan time.Time) error {
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	if !r.again.IsZero() {
		due.Reset(max(r.again.Sub(r.Now()), 0))
	}
	select {
	case <-view.Changed:
	case <-due.C:
		r.last = nil
	case <-collect:
		r.collect(ctx, view)
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// pass decides on a view and writes that. The revision is that of the last
// write, 0 if there was none.
func (r *reign) pass(ctx context.Context, view *mirror.View) (int64, error) {
	if r.last != nil && !matters(r.last, view.Snapshot) {
		return 0, nil
	}
	start := time.Now()
	result, err := r.think(view.Snapshot)
	r.last = view.Snapshot
	if err != nil {
		r.Log.Error("The engine cannot decide on this state of the cluster; it tries again when that changes. This is a defect: please report it", "revision", view.Revision, "error", err)
		r.Metrics.failures.WithLabelValues("decide").Inc()
		return 0, nil
	}
	r.again = result.Again
	if d := view.DrainEnds(); !d.IsZero() && (r.again.IsZero() || d.Before(r.again)) {
		r.again = d
	}
	result.Tasks = r.patient(view.Snapshot, result.Tasks)
	r.Metrics.saw(view.Snapshot, len(result.Unplaced))
	if len(result.Tasks) == 0 {
		r.Metrics.passed(time.Since(start))
		return 0, nil
	}
	applied, err := r.Registry.Apply(ctx, r.Leadership, result.Tasks)
	for _, t := range applied.Done {
		r.completed(ctx, t)
	}
	for _, t := range applied.Skipped {
		r.Metrics.skipped.WithLabelValues(kind(t.Kind)).Inc()
		r.Log.Debug("A task was out of date", "task", describe(t))
	}
	if err != nil {
		r.Metrics.failures.WithLabelValues("write").Inc()
		return applied.Revision, err
	}
	took := time.Since(start)
	r.Metrics.passed(took)
	r.Log.Info(fmt.Sprintf("Engine completed reconciliation in %s", took.Round(time.Microsecond)), "tasks", len(applied.Done))
	return applied.Revision, nil
}

// patient leaves out what is done only if machines do not come back, and sees to
// it that this is looked at again.
func (r *reign) patient(s *fleet.Snapshot, tasks []fleet.Task) []fleet.Task {
	waitFor, again, most := r.losses.hold(s, r.Now())
	if waitFor != nil && (r.again.IsZero() || again.Before(r.again)) {
		r.again = again
	}
	if most && !r.most {
		r.Log.Warn("Most machines are lost at one time; waiting for them before their units start elsewhere", "lost", len(waitFor), "left", len(s.Machines), "seconds", r.losses.wait.Seconds())
	}
	r.most = most
	return spare(tasks, waitFor)
}

// matters tells if a snapshot may give other tasks than the one before: states
// count for rollouts only, and there are many of them.
func matters(before, now *fleet.Snapshot) bool {
	if !shared(before.Units, now.Units) || !shared(before.Machines, now.Machines) || !shared(before.Placements, now.Placements) {
		return true
	}
	if shared(before.States, now.States) {
		return false
	}
	for i := range now.Units {
		if now.Units[i].Rollout != nil {
			return true
		}
	}
	return false
}

// shared tells if two slices of the mirror are one: it shares what is unchanged.
func shared[V any](a, b []V) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// collect removes contents that were unused for long enough.
func (r *reign) collect(ctx context.Context, view *mirror.View) {
	now := r.Now()
	unused := map[string]time.Time{}
	var old []string
	for _, h := range view.Unused() {
		since, known := r.unused[h]
		if !known {
			since = now
		}
		unused[h] = since
		if now.Sub(since) >= r.Collect {
			old = append(old, h)
		}
	}
	r.unused = unused
	if len(old) == 0 {
		return
	}
	switch removed, err := r.Registry.Collect(ctx, r.Leadership, old, view.Revision); {
	case err != nil:
		r.Log.Warn("Contents that no unit has were not removed; trying again later", "error", err)
	case removed:
		r.Log.Info("Contents that no unit has were removed", "number", len(old))
	}
}

// completed logs a task as fleet does.
func (r *reign) completed(ctx context.Context, t fleet.Task) {
	r.Metrics.tasks.WithLabelValues(kind(t.Kind)).Inc()
	if !r.Log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	switch p := t.Placement; t.Kind {
	case fleet.Place:
		r.Log.Info(fmt.Sprintf("Scheduled Unit(%s) to Machine(%s)", p.Unit, p.Machine))
	case fleet.Release, fleet.Remove:
		r.Log.Info(fmt.Sprintf("Unscheduled Job(%s) from Machine(%s)", p.Unit, p.Machine))
	}
	r.Log.Info("EngineReconciler completed task: " + describe(t))
}

func describe(t fleet.Task) string {
	return fmt.Sprintf("{Type: %s, JobName: %s, MachineID: %s, Reason: %q}", kind(t.Kind), t.Placement.Unit, t.Placement.Machine, t.Reason)
}

// kind is fleet's word for a task's; fleet had no word for Change.
func kind(k fleet.TaskKind) string {
	switch k {
	case fleet.Place:
		return "AttemptScheduleUnit"
	case fleet.Release, fleet.Remove:
		return "UnscheduleUnit"
	}
	return string(k) + "Unit"
}
