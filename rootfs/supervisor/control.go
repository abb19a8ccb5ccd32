package supervisor

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/jobs"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// Handle implements control.Handler.
func (s *Supervisor) Handle(ctx context.Context, peer control.Peer, req control.Request, send func(control.Response) error) error {
	switch req.Verb {
	case control.Show:
		return s.handleShow(ctx, peer, req, send)
	case control.ListUnits:
		return s.handleList(ctx, req, send)
	case control.Watch:
		return s.handleWatch(ctx, peer, req.Units, send)
	case control.ListJobs:
		return s.once(ctx, send, func() (control.Response, error) { return control.Response{Jobs: s.jobList()}, nil })
	case control.IsSystemRunning:
		return s.once(ctx, send, func() (control.Response, error) { return control.Response{State: s.systemState()}, nil })
	case control.Start, control.Stop, control.Restart, control.TryRestart, control.Reload, control.ReloadOrRestart,
		control.TryReloadRestart, control.Isolate:
		return s.handleJobs(ctx, req, send)
	case control.Kill:
		return s.once(ctx, send, func() (control.Response, error) { return control.Response{}, s.killUnits(req) })
	case control.ResetFailed:
		return s.once(ctx, send, func() (control.Response, error) { return control.Response{}, s.resetFailed(req.Units) })
	case control.Cancel:
		return s.once(ctx, send, func() (control.Response, error) { return control.Response{}, s.cancel(req.Units) })
	case control.DaemonReload:
		return s.once(ctx, send, func() (control.Response, error) { s.reload(); return control.Response{}, nil })
	case control.PowerOff, control.Reboot, control.Halt:
		return s.once(ctx, send, func() (control.Response, error) {
			return control.Response{}, s.shutdown(Outcome(req.Verb), req.Flags.Force)
		})
	}
	return control.Errorf(control.BadRequest, "Unknown request %q.", req.Verb)
}

// once answers with what f, run in the loop, returns.
func (s *Supervisor) once(ctx context.Context, send func(control.Response) error, f func() (control.Response, error)) error {
	var r control.Response
	var err error
	if cerr := s.Call(ctx, func() { r, err = f() }); cerr != nil {
		return cerr
	}
	if err != nil {
		return err
	}
	return send(r)
}

// handleJobs queues a job for each unit, each a transaction of its own, and
// waits for all of them to end.
func (s *Supervisor) handleJobs(ctx context.Context, req control.Request, send func(control.Response) error) error {
	results := make(chan control.Result, len(req.Units))
	err := error(nil)
	for _, name := range req.Units {
		if err = s.Call(ctx, func() { s.submit(req, name, results) }); err != nil {
			return err
		}
	}
	for range req.Units {
		select {
		case r := <-results:
			if err := send(control.Response{Results: []control.Result{r}}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
			return control.Errorf(control.ShuttingDown, "The machine is going down.")
		}
	}
	return nil
}

// submit queues the job for one unit; its result comes through results. It
// runs in the loop.
func (s *Supervisor) submit(req control.Request, name string, results chan<- control.Result) {
	fail := func(err error) { results <- control.Result{Unit: name, Error: asError(err)} }
	t, err := s.jobType(req, name)
	if err != nil {
		fail(err)
		return
	}
	mode := transaction.Mode(req.Flags.Mode)
	if req.Verb == control.Isolate {
		mode = transaction.Isolate
	}
	j, err := s.enqueue(transaction.Request{Type: t, Unit: name, Mode: mode})
	if err != nil {
		fail(err)
		return
	}
	switch {
	case j == nil:
		results <- control.Result{Unit: name, Job: string(jobs.Done)}
	case req.Flags.NoBlock:
		results <- control.Result{Unit: name, Job: "queued"}
	default:
		j.Notify(func(r jobs.Result) {
			out := control.Result{Unit: name, Job: string(r)}
			if l := s.units[j.Unit]; l != nil && r == jobs.Failed {
				out.Detail = l.d.result()
			}
			results <- out
		})
	}
}

// jobType checks a request against the unit and returns what job it means.
func (s *Supervisor) jobType(req control.Request, name string) (transaction.Type, error) {
	if s.stopping && req.Verb != control.Stop {
		return "", control.Errorf(control.ShuttingDown, "The machine is going down; %s is not started.", name)
	}
	l := s.require(name)
	s.collect = true
	if req.Verb == control.Stop {
		if l.u.LoadState == unit.NotFound && down(l.active()) {
			return "", control.Errorf(control.NotLoaded, "Unit %s not loaded.", name)
		}
		if l.u.RefuseManualStop {
			return "", control.Errorf(control.Refused, "Operation refused, unit %s may be requested by dependency only (it is configured to refuse manual start/stop).", name)
		}
		return transaction.Stop, nil
	}
	if err := loadError(l.u); err != nil {
		return "", err
	}
	if l.u.RefuseManualStart && req.Verb != control.Reload {
		return "", control.Errorf(control.Refused, "Operation refused, unit %s may be requested by dependency only (it is configured to refuse manual start/stop).", name)
	}
	if req.Verb == control.Isolate && !l.u.AllowIsolate {
		return "", control.Errorf(control.Refused, "Operation refused, unit may not be isolated: AllowIsolate= is not set in %s.", name)
	}
	return reloadType(req.Verb, l)
}

func reloadType(verb control.Verb, l *live) (transaction.Type, error) {
	can := l.d.canReload()
	switch verb {
	case control.Reload:
		if !can {
			return "", control.Errorf(control.NotApplicable, "Job type reload is not applicable for unit %s.", l.u.Name)
		}
		if !up(l.active()) {
			return "", control.Errorf(control.NotActive, "%s is not active, cannot reload.", l.u.Name)
		}
		return transaction.Reload, nil
	case control.ReloadOrRestart:
		if can {
			return transaction.ReloadOrStart, nil
		}
		return transaction.Restart, nil
	case control.TryReloadRestart:
		if can {
			return transaction.TryReload, nil
		}
		return transaction.TryRestart, nil
	case control.Restart:
		return transaction.Restart, nil
	case control.TryRestart:
		return transaction.TryRestart, nil
	default:
		return transaction.Start, nil
	}
}

func loadError(u *unit.Unit) error {
	switch u.LoadState {
	case unit.Loaded:
		return nil
	case unit.NotFound:
		return control.Errorf(control.NotFound, "Unit %s not found.", u.Name)
	case unit.Masked:
		return control.Errorf(control.Masked, "Unit %s is masked.", u.Name)
	case unit.BadSetting:
		return control.Errorf(control.BadSetting, "Unit %s has a bad unit file setting: %s", u.Name, u.LoadError)
	default:
		return control.Errorf(control.LoadError, "Unit %s failed to load: %s", u.Name, u.LoadError)
	}
}

// asError gives an error its code.
func asError(err error) *control.Error {
	if e := (*control.Error)(nil); errors.As(err, &e) {
		return e
	}
	if e := (*transaction.Error)(nil); errors.As(err, &e) {
		return &control.Error{Code: codeOf(e.Kind), Text: e.Text}
	}
	return control.Errorf(control.Internal, "%v", err)
}

func codeOf(k transaction.Kind) control.Code {
	switch k {
	case transaction.NotApplicable:
		return control.NotApplicable
	case transaction.Unmergeable, transaction.Destructive:
		return control.Conflict
	case transaction.Cyclic:
		return control.Cycle
	default: // the others have the same words
		return control.Code(k)
	}
}

// killUnits signals processes of units.
func (s *Supervisor) killUnits(req control.Request) error {
	sig, err := signalNumber(req.Flags.Signal)
	if err != nil {
		return err
	}
	whom := req.Flags.KillWhom
	if whom == "" {
		whom = "all"
	}
	var errs []string
	for _, name := range req.Units {
		l := s.find(name)
		if l == nil || l.u.LoadState == unit.NotFound && down(l.active()) {
			errs = append(errs, fmt.Sprintf("Unit %s not loaded.", name))
			continue
		}
		if l.d.kill(whom, int(sig)) == 0 && l.u.Kind == unit.KindService {
			errs = append(errs, fmt.Sprintf("Failed to kill unit %s: there is no such process.", name))
		}
	}
	if len(errs) > 0 {
		return control.Errorf(control.NotLoaded, "%s", strings.Join(errs, "\n"))
	}
	return nil
}

// signalNumber reads a signal's name, with or without SIG, or its number.
func signalNumber(text string) (unix.Signal, error) {
	if text == "" {
		return unix.SIGTERM, nil
	}
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 65 {
		return unix.Signal(n), nil
	}
	if sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")); sig != 0 {
		return sig, nil
	}
	return 0, control.Errorf(control.BadRequest, "Unknown signal %q.", text)
}

// resetFailed makes failed units inactive and forgets their start limits.
func (s *Supervisor) resetFailed(names []string) error {
	s.collect = true
	if len(names) == 0 {
		for name := range s.units {
			names = append(names, name)
		}
	}
	var missing []string
	for _, name := range names {
		l := s.find(name)
		if l == nil {
			missing = append(missing, name)
			continue
		}
		if b, ok := l.d.(*broken); ok {
			l.d = b.driver
		}
		l.starts, l.limitHit = nil, false
		s.touch(l.u.Name)
		if l.active() == transaction.Failed {
			s.guard(l, l.d.reset)
		}
	}
	if len(missing) > 0 {
		return control.Errorf(control.NotLoaded, "Unit %s not loaded.", strings.Join(missing, ", "))
	}
	return nil
}

// cancel cancels jobs by number, all when none is named.
func (s *Supervisor) cancel(ids []string) error {
	for _, j := range s.queue.All() {
		if len(ids) == 0 || slices.Contains(ids, strconv.Itoa(j.ID)) {
			s.finish(j, jobs.Canceled)
		}
	}
	return nil
}

func (s *Supervisor) jobList() []control.Job {
	var list []control.Job
	for _, j := range s.queue.All() {
		list = append(list, jobOf(j))
	}
	return list
}

func jobOf(j *jobs.Job) control.Job {
	state := "waiting"
	if j.Running {
		state = "running"
	}
	return control.Job{ID: j.ID, Unit: j.Unit, Type: string(j.Type), State: state}
}

// systemState is the answer to is-system-running.
func (s *Supervisor) systemState() string {
	switch {
	case s.stopping:
		return "stopping"
	case !s.finished:
		return "starting"
	}
	for _, l := range s.units {
		if l.active() == transaction.Failed {
			return "degraded"
		}
	}
	return "running"
}

// handleList answers list-units.
func (s *Supervisor) handleList(ctx context.Context, req control.Request, send func(control.Response) error) error {
	return s.once(ctx, send, func() (control.Response, error) {
		var out []control.Unit
		for _, name := range s.graph.Names() {
			l := s.units[name]
			if l == nil || !matches(req.Units, l.u) {
				continue
			}
			if !req.Flags.All && l.active() == transaction.Inactive && s.queue.Of(name) == nil {
				continue
			}
			out = append(out, s.brief(l))
		}
		return control.Response{Units: out}, nil
	})
}

func matches(patterns []string, u *unit.Unit) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		for _, n := range u.Names() {
			if ok, err := path.Match(p, n); err == nil && ok {
				return true
			}
		}
	}
	return false
}

func (s *Supervisor) brief(l *live) control.Unit {
	a, sub := l.d.state()
	u := control.Unit{Name: l.u.Name, Load: string(l.u.LoadState), Active: string(a), Sub: sub, Description: l.u.Description}
	if j := s.queue.Of(l.u.Name); j != nil {
		job := jobOf(j)
		u.Job = &job
	}
	return u
}
