package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/jobs"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// moment is a time as nanoseconds since the kernel started, which a new copy of
// PID 1 understands whatever was done to the clock; 0 is no time.
type moment int64

func (s *Supervisor) moment(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return moment(s.cfg.Uptime + t.Sub(s.started))
}

func (s *Supervisor) time(m moment) time.Time {
	if m == 0 {
		return time.Time{}
	}
	return s.started.Add(time.Duration(m) - s.cfg.Uptime)
}

func (s *Supervisor) moments(list []time.Time) (out []moment) {
	for _, t := range list {
		out = append(out, s.moment(t))
	}
	return out
}

func (s *Supervisor) times(list []moment) (out []time.Time) {
	for _, m := range list {
		out = append(out, s.time(m))
	}
	return out
}

// handover is what one copy of PID 1 tells the next.
type handover struct {
	Started, FinishedAt moment
	Phase               string
	Finished            bool
	Never               int
	Environment         []string // what systemctl set-environment has set
	Units               []unitState
	Jobs                []jobs.Job
	NextJob             int
	Results             map[int]control.Result
}

// unitState is one unit of a handover.
type unitState struct {
	Name string
	// Unit is the unit's text as it is in force, for one whose files are gone;
	// only units that are not down have it.
	Unit *unit.Unit `json:",omitempty"`
	Kind string     // of the driver
	Data json.RawMessage

	InactiveExit, ActiveEnter, ActiveExit, InactiveEnter moment
	Changed, ConditionAt, AssertAt                       moment
	Condition, Assert, LimitHit, Settled                 bool
	Starts                                               []moment
	Invocation                                           string
	JobLimit                                             moment
}

// reexecLimit is how long what the kernel is asked for, such as a mounting, may
// take before the new execution is given up.
const reexecLimit = time.Minute

// reexecute lets Run return with Reexecute as soon as nothing is under way that
// cannot be handed over. It runs in the loop.
func (s *Supervisor) reexecute() error {
	switch {
	case s.cfg.Quiesce == nil:
		return control.Errorf(control.NotApplicable, "This init cannot be executed anew.")
	case s.stopping:
		return control.Errorf(control.ShuttingDown, "The machine is going down.")
	case s.reexec.Swap(true):
		return nil // it is about to be
	}
	s.log(5, "", "Reexecuting.")
	begun := time.Now()
	var try func()
	try = func() {
		switch {
		case s.stopping:
			s.Awake()
		case s.busy() && time.Since(begun) > reexecLimit:
			s.log(3, "", "PID 1 is not executed anew: the kernel has been mounting for %s.", reexecLimit)
			s.Awake()
		case s.busy():
			s.after(20*time.Millisecond, try)
		case !s.events.empty() || s.dirty:
			s.later(try)
		default:
			s.outcome = Reexecute
		}
	}
	go func() {
		s.cfg.Quiesce()
		s.later(try)
	}()
	return nil
}

// Awake undoes reexecute: what was stopped for it begins again.
func (s *Supervisor) Awake() {
	s.outcome = ""
	s.reexec.Store(false)
	go s.cfg.Resume()
}

func (s *Supervisor) busy() bool {
	for _, l := range s.units {
		if d, ok := l.d.(*mountDriver); ok && d.busy() {
			return true
		}
	}
	return false
}

// Save returns the state for a new copy of PID 1, after Run returned Reexecute,
// and the descriptors in it, which must stay open under their numbers.
func (s *Supervisor) Save() (state []byte, keep []int, err error) {
	s.keepOpen = nil
	h := handover{Started: s.moment(s.started), FinishedAt: s.moment(s.finishedAt), Phase: s.phase, Finished: s.finished,
		Never: s.never, Environment: s.environment, NextJob: s.queue.NextID(), Results: s.results}
	for _, l := range s.units {
		u, err := s.saveUnit(l)
		if err != nil {
			return nil, nil, fmt.Errorf("save the state of %s: %w", l.u.Name, err)
		}
		h.Units = append(h.Units, u)
	}
	for _, j := range s.queue.All() {
		h.Jobs = append(h.Jobs, *j)
	}
	state, err = json.Marshal(h)
	return state, s.keepOpen, err
}

func (s *Supervisor) saveUnit(l *live) (unitState, error) {
	data, err := json.Marshal(l.d.save())
	if err != nil {
		return unitState{}, err
	}
	u := unitState{Name: l.u.Name, Kind: fmt.Sprintf("%T", l.d), Data: data,
		InactiveExit: s.moment(l.inactiveExit), ActiveEnter: s.moment(l.activeEnter), ActiveExit: s.moment(l.activeExit),
		InactiveEnter: s.moment(l.inactiveEnter), Changed: s.moment(l.changed), ConditionAt: s.moment(l.conditionAt),
		AssertAt: s.moment(l.assertAt), Condition: l.condition, Assert: l.assert, LimitHit: l.limitHit, Settled: l.settled,
		Starts: s.moments(l.starts), Invocation: l.invocation}
	if l.jobTimer != nil {
		u.JobLimit = s.moment(l.jobLimit)
	}
	if !down(l.active()) || s.leftovers(l) {
		u.Unit = l.u
	}
	return u, nil
}

// Restore takes in what the copy of PID 1 before this one saved. It must be
// called before Run and before anything brings events. Errors are about single
// units; the others go on.
func (s *Supervisor) Restore(state []byte) error {
	var h handover
	if err := json.Unmarshal(state, &h); err != nil {
		return fmt.Errorf("restore the state of PID 1: %w", err)
	}
	s.finishedAt, s.phase, s.finished, s.never = s.time(h.FinishedAt), h.Phase, h.Finished, h.Never
	for id, r := range h.Results {
		s.results[id] = r
	}
	var errs []error
	for _, u := range h.Units {
		s.restoreText(u)
	}
	for _, u := range h.Units {
		if err := s.restoreUnit(u); err != nil {
			errs = append(errs, fmt.Errorf("restore the state of %s: %w", u.Name, err))
		}
	}
	// From here on times are counted from where the first copy began.
	started := s.time(h.Started)
	s.environment = h.Environment
	s.started, s.cfg.Uptime = started, time.Duration(h.Started)
	s.restoreJobs(h)
	s.cfg.Console.Quiet(s.finished)
	s.dirty, s.collect = true, true
	return errors.Join(errs...)
}

// restoreText makes sure that a unit is there, with the text that it ran with if
// its files are gone.
func (s *Supervisor) restoreText(u unitState) {
	l := s.require(u.Name)
	if l.u.LoadState == unit.Loaded || u.Unit == nil {
		return
	}
	s.cfg.Units.Forget(l.u.Name)
	delete(s.units, l.u.Name)
	s.cfg.Units.Add(u.Unit)
	s.adopt()
}

func (s *Supervisor) restoreUnit(u unitState) error {
	l := s.find(u.Name)
	if l == nil || l.u.Name != u.Name {
		return nil // an alias of another by now
	}
	t := s.time
	l.inactiveExit, l.activeEnter, l.activeExit, l.inactiveEnter = t(u.InactiveExit), t(u.ActiveEnter), t(u.ActiveExit), t(u.InactiveEnter)
	l.changed, l.conditionAt, l.assertAt = t(u.Changed), t(u.ConditionAt), t(u.AssertAt)
	l.condition, l.assert, l.limitHit, l.settled = u.Condition, u.Assert, u.LimitHit, u.Settled
	l.starts, l.invocation = s.times(u.Starts), u.Invocation
	if kind := fmt.Sprintf("%T", l.d); kind != u.Kind {
		if u.Unit == nil {
			return nil // it was down
		}
		return fmt.Errorf("it is %s now and was %s", kind, u.Kind)
	}
	return l.d.restore(u.Data)
}

// restoreJobs queues the jobs again, with those who wait for them.
func (s *Supervisor) restoreJobs(h handover) {
	s.queue.Restore(h.Jobs, h.NextJob)
	for _, u := range h.Units {
		j, l := s.queue.Of(u.Name), s.find(u.Name)
		if j != nil && l != nil && u.JobLimit != 0 {
			s.armJob(l, j, max(time.Until(s.time(u.JobLimit)), 0))
		}
	}
	for _, j := range s.queue.All() {
		if _, asked := s.results[j.ID]; asked {
			s.noteResult(j)
		}
	}
	switch j := s.queue.Of(secondTarget); {
	case s.phase == phaseFirst:
		s.awaitFirst(s.queue.Of(firstTarget))
	case s.phase == phaseSecond && j != nil:
		j.Notify(s.bootDone)
	case s.phase == phaseSecond:
		s.later(func() { s.bootDone(jobs.Done) })
	}
	for name, l := range s.units {
		for _, other := range s.graph.Of(name, unit.Upholds) {
			if up(l.active()) && down(s.stateOf(other)) {
				s.uphold(name, other)
			}
		}
	}
}

// noteResult keeps the result of a job for an asker who comes again.
func (s *Supervisor) noteResult(j *jobs.Job) {
	r := s.results[j.ID]
	j.Notify(func(how jobs.Result) {
		r.Job = string(how)
		if l := s.units[j.Unit]; l != nil && how == jobs.Failed {
			r.Detail = l.d.result()
		}
		s.results[j.ID] = r
	})
}
