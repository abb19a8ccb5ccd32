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

// Handle implements control.Handler. Before PID 1 is executed anew ctx ends, and
// the peer is told to ask again.
func (s *Supervisor) Handle(ctx context.Context, peer control.Peer, req control.Request, send func(control.Response) error) error {
	err := s.handle(ctx, peer, req, send)
	if s.reexec.Load() && errors.Is(err, context.Canceled) {
		return control.Errorf(control.Again, "PID 1 is executed anew; ask again.")
	}
	return err
}

func (s *Supervisor) handle(ctx context.Context, peer control.Peer, req control.Request, send func(control.Response) error) error {
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
	case control.SetEnvironment, control.UnsetEnvironment:
		return s.once(ctx, send, func() (control.Response, error) { return control.Response{}, s.setEnvironment(req.Verb, req.Units) })
	case control.WaitJobs:
		return s.handleWait(ctx, req, send)
	case control.DaemonReexec:
		var err error
		if cerr := s.Call(context.WithoutCancel(ctx), func() { err = s.reexecute() }); cerr != nil || err != nil {
			return errors.Join(cerr, err)
		}
		<-ctx.Done()
		return ctx.Err()
	case control.PowerOff, control.Reboot, control.Halt:
		return s.once(ctx, send, func() (control.Response, error) {
			return control.Response{}, s.shutdown(Outcome(req.Verb), req.Flags.Force)
		})
	}
	return control.Errorf(control.BadRequest, "Unknown request %q.", req.Verb)
}

// once answers with what f, run in the loop, returns. f is not begun when ctx is
// over, and its answer is awaited once it is.
func (s *Supervisor) once(ctx context.Context, send func(control.Response) error, f func() (control.Response, error)) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var r control.Response
	var err error
	if cerr := s.Call(context.WithoutCancel(ctx), func() { r, err = f() }); cerr != nil {
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
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w, held := newWaiting(len(req.Units)), 0
	if len(req.Units) > 1 { // one look at the files for all of them
		if err := s.Call(context.WithoutCancel(ctx), func() { s.preload(req.Units); s.holding++ }); err != nil {
			return err
		}
		held = 1
	}
	for _, name := range req.Units {
		if err := s.Call(context.WithoutCancel(ctx), func() { s.submit(req, name, w) }); err != nil {
			return err
		}
	}
	s.Post(func() { s.holding -= held; s.collect = true })
	return s.await(ctx, w, send)
}

// handleWait goes on where handleJobs of the copy of PID 1 before this one
// stopped.
func (s *Supervisor) handleWait(ctx context.Context, req control.Request, send func(control.Response) error) error {
	w := newWaiting(len(req.Units))
	err := s.Call(context.WithoutCancel(ctx), func() {
		for _, text := range req.Units {
			id, _ := strconv.Atoi(text)
			r, known := s.results[id]
			delete(s.results, id)
			i := slices.IndexFunc(s.queue.All(), func(j *jobs.Job) bool { return j.ID == id })
			switch {
			case !known:
				w.results <- control.Result{Unit: text, Error: control.Errorf(control.BadRequest, "Nobody asked for job %s.", text)}
			case r.Job != "" || i < 0:
				w.results <- r
			default:
				s.wait(w, s.queue.All()[i], r.Unit)
			}
		}
	})
	if err != nil {
		return err
	}
	return s.await(ctx, w, send)
}

// waiting is a request that waits for jobs.
type waiting struct {
	n       int // results that have yet to be sent
	results chan control.Result
	jobs    map[*jobs.Job]string // those that have not ended, with the name that was asked for; the loop's
}

func newWaiting(n int) *waiting {
	return &waiting{n: n, results: make(chan control.Result, n), jobs: map[*jobs.Job]string{}}
}

// await sends results as they come. When PID 1 is to be executed anew it leaves
// the rest to the new copy and says which jobs those are.
func (s *Supervisor) await(ctx context.Context, w *waiting, send func(control.Response) error) error {
	for ; w.n > 0; w.n-- {
		select {
		case r := <-w.results:
			if err := send(control.Response{Results: []control.Result{r}}); err != nil {
				return err
			}
		case <-ctx.Done():
			if !s.reexec.Load() {
				return ctx.Err()
			}
			return s.handOver(ctx, w, send)
		case <-s.ended:
			return control.Errorf(control.ShuttingDown, "The machine is going down.")
		}
	}
	return nil
}

// handOver sends the results that are there and leaves the others to the next
// copy of PID 1.
func (s *Supervisor) handOver(ctx context.Context, w *waiting, send func(control.Response) error) error {
	var r control.Response
	err := s.Call(context.WithoutCancel(ctx), func() {
		for j, name := range w.jobs {
			s.results[j.ID] = control.Result{Unit: name}
			s.noteResult(j)
			r.Jobs = append(r.Jobs, jobOf(j))
		}
		close(w.results)
		w.jobs = nil
	})
	if err != nil {
		return err
	}
	for done := range w.results {
		if err := send(control.Response{Results: []control.Result{done}}); err != nil {
			return err
		}
	}
	if len(r.Jobs) == 0 {
		return nil
	}
	if err := send(r); err != nil {
		return err
	}
	return ctx.Err()
}

// submit queues the job for one unit; its result comes through w. It runs in
// the loop.
func (s *Supervisor) submit(req control.Request, name string, w *waiting) {
	fail := func(err error) { w.results <- control.Result{Unit: name, Error: asError(err)} }
	t, err := s.jobType(req, name)
	if err != nil {
		fail(err)
		return
	}
	mode := transaction.Mode(req.Flags.Mode)
	if !knownMode(mode) {
		fail(control.Errorf(control.BadRequest, "Job mode %s invalid", mode))
		return
	}
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
		w.results <- control.Result{Unit: name, Job: string(jobs.Done)}
	case req.Flags.NoBlock:
		w.results <- control.Result{Unit: name, Job: "queued"}
	default:
		s.wait(w, j, name)
	}
}

// wait sends the job's result to w, in the name that was asked for.
func (s *Supervisor) wait(w *waiting, j *jobs.Job, name string) {
	w.jobs[j] = name
	j.Notify(func(r jobs.Result) {
		if w.jobs == nil {
			return // handed over
		}
		delete(w.jobs, j)
		out := control.Result{Unit: name, Job: string(r)}
		if l := s.units[j.Unit]; l != nil && r == jobs.Failed {
			out.Detail = l.d.result()
		}
		w.results <- out
	})
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
	if req.Verb == control.Isolate && !l.u.AllowIsolate {
		return "", control.Errorf(control.Refused, "Operation refused, unit may not be isolated.")
	}
	if err := loadError(l.u); err != nil {
		return "", err
	}
	restarts := req.Verb == control.Restart || req.Verb == control.TryRestart || req.Verb == control.ReloadOrRestart || req.Verb == control.TryReloadRestart
	if l.u.RefuseManualStart && req.Verb != control.Reload || l.u.RefuseManualStop && restarts {
		return "", control.Errorf(control.Refused, "Operation refused, unit %s may be requested by dependency only (it is configured to refuse manual start/stop).", name)
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
	case transaction.Unmergeable:
		return control.Conflict
	case transaction.Destructive:
		return control.Refused
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
	if !slices.Contains([]string{"all", "main", "control", "all-fail", "main-fail", "control-fail"}, whom) {
		return control.Errorf(control.NotApplicable, "Invalid who argument %s", whom)
	}
	var errs []string
	for _, name := range req.Units {
		l := s.find(name)
		if l == nil || l.u.LoadState == unit.NotFound && down(l.active()) {
			errs = append(errs, fmt.Sprintf("Unit %s not loaded.", name))
			continue
		}
		if l.d.kill(whom, int(sig)) == 0 && l.u.Kind == unit.KindService {
			errs = append(errs, fmt.Sprintf("No %sprocess to kill", map[string]string{"main": "main ", "control": "control "}[whom]))
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
	return 0, control.Errorf(control.BadRequest, "Failed to parse signal string %q.", text)
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
	var missing []string
	for _, id := range ids {
		known := slices.ContainsFunc(s.queue.All(), func(j *jobs.Job) bool { return strconv.Itoa(j.ID) == id })
		if !known {
			missing = append(missing, fmt.Sprintf("Failed to cancel job %s: Job %s does not exist.", id, id))
		}
	}
	for _, j := range s.queue.All() {
		if len(ids) == 0 || slices.Contains(ids, strconv.Itoa(j.ID)) {
			s.finish(j, jobs.Canceled)
		}
	}
	if len(missing) > 0 {
		return control.Errorf(control.BadRequest, "%s", strings.Join(missing, "\n"))
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
