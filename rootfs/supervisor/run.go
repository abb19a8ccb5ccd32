package supervisor

import (
	"errors"
	"slices"
	"time"

	"github.com/coracle-os/coracle/rootfs/jobs"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/condition"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// enqueue plans a request and queues the plan's jobs. It returns the job of
// the requested unit, or nil when nothing is to be done.
func (s *Supervisor) enqueue(req transaction.Request) (*jobs.Job, error) {
	l := s.require(req.Unit)
	req.Unit = l.u.Name
	plan, err := transaction.Build(transaction.World{Graph: s.graph, State: s.stateOf, Queued: s.queue.Planned()}, req)
	for _, w := range plan.Warnings {
		s.log(4, req.Unit, "%s", w)
	}
	if err != nil {
		return nil, err
	}
	for _, name := range plan.Cancel {
		if j := s.queue.Of(name); j != nil {
			s.finish(j, jobs.Canceled)
		}
	}
	var anchor *jobs.Job
	for _, n := range plan.Jobs {
		j := s.queue.Add(n)
		s.limitJob(j)
		if n.Unit == plan.Anchor {
			anchor = j
		}
	}
	s.dirty = true
	return anchor, nil
}

// knownMode tells if a request may have the mode.
func knownMode(m transaction.Mode) bool {
	return slices.Contains([]transaction.Mode{"", transaction.Replace, transaction.Fail, transaction.ReplaceIrreversibly, transaction.Isolate,
		transaction.Flush, transaction.IgnoreDependencies, transaction.IgnoreRequirements, transaction.Triggering}, m)
}

// limitJob applies JobTimeoutSec= to a job that was queued.
func (s *Supervisor) limitJob(j *jobs.Job) {
	if l := s.units[j.Unit]; l != nil && limited(l.u.JobTimeout) {
		s.armJob(l, j, l.u.JobTimeout)
	}
}

// limitRunning applies JobRunningTimeoutSec= to a job that begins to run; the
// limit that elapses first counts.
func (s *Supervisor) limitRunning(l *live, j *jobs.Job) {
	d := l.u.JobRunningTimeout
	if limited(d) && (l.jobTimer == nil || time.Until(l.jobLimit) > d) {
		s.armJob(l, j, d)
	}
}

func limited(d time.Duration) bool { return d > 0 && d != timespan.Infinity }

// armJob ends a job after the limit.
func (s *Supervisor) armJob(l *live, j *jobs.Job, limit time.Duration) {
	if l.jobTimer != nil {
		l.jobTimer.Stop()
	}
	l.jobLimit = time.Now().Add(limit)
	l.jobTimer = s.after(limit, func() {
		if !j.Over() {
			s.log(4, j.Unit, "Job %s/%s timed out.", j.Unit, j.Type)
			s.finish(j, jobs.Timeout)
			s.act(l, "JobTimeoutAction", l.u.JobTimeoutAction)
		}
	})
}

// dispatch runs every job that may run.
func (s *Supervisor) dispatch() {
	tried := map[*jobs.Job]bool{}
	for j := s.queue.Next(tried); j != nil; j = s.queue.Next(tried) {
		tried[j] = true
		l := s.units[j.Unit]
		if l == nil {
			s.finish(j, jobs.Invalid)
			continue
		}
		if !j.Running {
			s.limitRunning(l, j)
		}
		j.Running = true
		s.guard(l, func() { s.perform(l, j) })
	}
}

// errWait says that a job has to wait for its unit's present change to end.
var errWait = errors.New("wait")

// perform begins what the job asks for. The job ends at once, or when the unit
// gets to where the job wants it.
func (s *Supervisor) perform(l *live, j *jobs.Job) {
	switch j.Type {
	case transaction.Start:
		s.performStart(l, j)
	case transaction.VerifyActive:
		s.performVerify(l, j)
	case transaction.Stop, transaction.Restart:
		s.performStop(l, j)
	case transaction.Reload, transaction.ReloadOrStart:
		s.performReload(l, j)
	default:
		s.finish(j, jobs.Done)
	}
}

func (s *Supervisor) performStart(l *live, j *jobs.Job) {
	result, err := s.start(l)
	switch {
	case errors.Is(err, errWait):
		j.Running = l.active() == transaction.Activating
	case err != nil:
		s.log(4, l.u.Name, "%s: %v", l.u.Name, err)
		s.finish(j, result)
	case result != "":
		s.end(j, result) // there was nothing to do, so nothing to tell
	}
}

func (s *Supervisor) performVerify(l *live, j *jobs.Job) {
	switch a := l.active(); {
	case up(a):
		s.finish(j, jobs.Done)
	case a == transaction.Activating:
	default:
		s.finish(j, jobs.Skipped)
	}
}

func (s *Supervisor) performStop(l *live, j *jobs.Job) {
	_, sub := l.d.state()
	waiting := sub == "auto-restart" && j.Type == transaction.Restart
	if waiting || down(l.active()) {
		s.stopped(j, s.end)
		return
	}
	s.announce(l, j, "Stopping")
	l.d.stop()
	if !j.Over() && j.Running && down(l.active()) {
		s.stopped(j, s.finish)
	}
}

// stopped ends a stop, and turns a restart into a start.
func (s *Supervisor) stopped(j *jobs.Job, end func(*jobs.Job, jobs.Result)) {
	if j.Type == transaction.Restart {
		s.queue.Become(j, transaction.Start)
		s.dirty = true
		return
	}
	end(j, jobs.Done)
}

func (s *Supervisor) performReload(l *live, j *jobs.Job) {
	a := l.active()
	switch {
	case down(a) && j.Type == transaction.ReloadOrStart:
		s.queue.Become(j, transaction.Start)
		s.dirty = true
	case a == transaction.Reloading || a == transaction.Activating || a == transaction.Deactivating:
		j.Running = false // until it has settled
	case a != transaction.Active:
		s.finish(j, jobs.Invalid)
	default:
		if err := l.d.reload(); err != nil {
			s.log(4, l.u.Name, "Failed to reload: %v", err)
			s.finish(j, jobs.Failed)
		}
	}
}

// start brings the unit up. It returns the job's result when that is known at
// once, and errWait when the job has to go on waiting.
func (s *Supervisor) start(l *live) (jobs.Result, error) {
	if l.u.LoadState != unit.Loaded {
		return jobs.Invalid, errors.New(loadProblem(l.u))
	}
	a, sub := l.d.state()
	switch {
	case up(a):
		return jobs.Done, nil
	case a == transaction.Deactivating, a == transaction.Activating && sub != "auto-restart":
		return "", errWait
	}
	if !s.conditions(l) {
		s.queue.Absent(l.u.Name)
		return jobs.Done, nil
	}
	if text := s.asserts(l); text != "" {
		return jobs.Assert, errors.New(text)
	}
	if other := s.unbound(l); other != "" {
		return jobs.Dependency, errors.New("it is bound to " + other + ", which is not active")
	}
	if s.tooOften(l) {
		l.limitHit = true
		s.act(l, "StartLimitAction", l.u.StartLimit.Action)
		l.d.refuse()
		return jobs.Failed, errors.New("Start request repeated too quickly.")
	}
	l.limitHit = false
	l.settled = false
	l.invocation = newID()
	if l.u.Kind == unit.KindService {
		s.announceStart(l)
	}
	if err := l.d.start(); err != nil {
		if errors.Is(err, errUnsupported) {
			return jobs.Unsupported, err
		}
		return jobs.Failed, err
	}
	return "", nil
}

func loadProblem(u *unit.Unit) string {
	switch u.LoadState {
	case unit.NotFound:
		return "Unit " + u.Name + " not found."
	case unit.Masked:
		return "Unit " + u.Name + " is masked."
	default:
		return "Unit " + u.Name + " has a bad unit file setting: " + u.LoadError
	}
}

// conditions checks Condition...=.
func (s *Supervisor) conditions(l *live) bool {
	l.conditionAt = time.Now()
	r := condition.Test(l.u.Conditions, s.cfg.System)
	l.condition = r.OK
	if !r.OK {
		s.log(6, l.u.Name, "%s was %s.", l.u.Description, r)
	}
	return r.OK
}

// asserts checks Assert...= and returns what did not hold, or "".
func (s *Supervisor) asserts(l *live) string {
	l.assertAt = time.Now()
	r := condition.Test(l.u.Asserts, s.cfg.System)
	l.assert = r.OK
	if r.OK {
		return ""
	}
	return "Starting requested but asserts failed: Assert" + r.Failed.String()
}

// unbound returns a unit that this one is bound to and ordered after and that
// is not active, or "".
func (s *Supervisor) unbound(l *live) string {
	after := s.graph.After(l.u.Name)
	for _, other := range s.graph.Of(l.u.Name, unit.BindsTo) {
		for _, a := range after {
			if a == other && !up(s.stateOf(other)) {
				return other
			}
		}
	}
	return ""
}

// tooOften counts a start and reports whether it is over the start limit.
func (s *Supervisor) tooOften(l *live) bool {
	lim := l.u.StartLimit
	if lim.Interval <= 0 || lim.Burst <= 0 {
		return false
	}
	now := time.Now()
	if len(l.starts) > 0 && now.Sub(l.starts[0]) > lim.Interval {
		l.starts = nil
	}
	if len(l.starts) >= lim.Burst {
		return true
	}
	l.starts = append(l.starts, now)
	return false
}

// finish ends a job, says so, and lets others run.
func (s *Supervisor) finish(j *jobs.Job, r jobs.Result) {
	if l := s.units[j.Unit]; l != nil {
		s.report(l, j, r)
	}
	s.end(j, r)
}

// dependent is told of a job that ended because of another's end.
func (s *Supervisor) dependent(j *jobs.Job) {
	l := s.units[j.Unit]
	if l == nil {
		return
	}
	if l.jobTimer != nil {
		l.jobTimer.Stop()
		l.jobTimer = nil
	}
	s.report(l, j, jobs.Dependency)
	s.startAll(l, unit.OnFailure)
	s.needless(l)
}

// end ends a job and lets others run.
func (s *Supervisor) end(j *jobs.Job, r jobs.Result) {
	if l := s.units[j.Unit]; l != nil {
		if l.jobTimer != nil {
			l.jobTimer.Stop()
			l.jobTimer = nil
		}
	}
	s.queue.Finish(j, r)
	if l := s.units[j.Unit]; l != nil {
		if r == jobs.Timeout || r == jobs.Dependency {
			s.startAll(l, unit.OnFailure) // Failed is the unit's own state to tell
		}
		s.needless(l)
	}
	if l := s.units[j.Unit]; l != nil && down(l.active()) {
		s.triggered(l, l.active()) // its state did not change if a condition was false
	}
	s.dirty, s.collect, s.worked = true, true, true
}
