package supervisor

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// handleShow answers show, one response for each unit. What a file of the
// root user's alone says of secrets, only root is shown.
func (s *Supervisor) handleShow(ctx context.Context, peer control.Peer, req control.Request, send func(control.Response) error) error {
	if len(req.Units) == 0 {
		return s.once(ctx, send, func() (control.Response, error) {
			return control.Response{Units: []control.Unit{{Properties: s.ownProperties()}}}, nil
		})
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ctx = context.WithoutCancel(ctx) // all or nothing
	for _, name := range req.Units {
		err := s.once(ctx, send, func() (control.Response, error) {
			l := s.require(name)
			s.collect = true
			u := s.brief(l)
			u.Properties = s.unitProperties(l)
			if peer.UID != 0 {
				hideSecrets(u.Properties)
			}
			return control.Response{Units: []control.Unit{u}}, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// hideSecrets replaces an environment that has a token or a password in it.
func hideSecrets(p map[string]string) {
	for _, secret := range []string{"TOKEN=", "PASSWORD=", "SECRET="} {
		if strings.Contains(p["Environment"], secret) {
			p["Environment"] = "[for root only: it has a secret]"
		}
	}
}

// unitProperties returns what systemctl show prints of a unit.
func (s *Supervisor) unitProperties(l *live) map[string]string {
	p := s.cfg.Properties(l.u, s.graph)
	set := func(name, value string) { p[name] = value }
	a, sub := l.d.state()
	set("ActiveState", string(a))
	set("SubState", sub)
	switch l.u.Kind {
	case unit.KindTarget, unit.KindSlice, unit.KindDevice:
	default:
		set("Result", l.d.result())
	}
	set("InvocationID", l.invocation)
	set("ConditionResult", yes(l.condition))
	set("AssertResult", yes(l.assert))
	set("CanStart", yes(l.u.LoadState == unit.Loaded && !l.u.RefuseManualStart))
	set("CanStop", yes(l.u.LoadState == unit.Loaded && !l.u.RefuseManualStop))
	set("CanReload", yes(l.d.canReload()))
	set("NeedDaemonReload", yes(s.outdated(l)))
	stamp := func(name string, t time.Time) {
		set(name+"Timestamp", stampText(t))
		set(name+"TimestampMonotonic", s.monotonic(t))
	}
	stamp("StateChange", l.changed)
	stamp("InactiveExit", l.inactiveExit)
	stamp("ActiveEnter", l.activeEnter)
	stamp("ActiveExit", l.activeExit)
	stamp("InactiveEnter", l.inactiveEnter)
	stamp("Condition", l.conditionAt)
	stamp("Assert", l.assertAt)
	if j := s.queue.Of(l.u.Name); j != nil {
		set("Job", strconv.Itoa(j.ID))
	}
	l.d.properties(set)
	if d, ok := l.d.(*serviceDriver); ok {
		for phase := range d.runs {
			p[string(phase)] = d.runs.describe(phase, p[string(phase)])
		}
	}
	if p["TasksMax"] == "15%" && s.cfg.Tasks > 0 {
		p["TasksMax"] = strconv.FormatUint(uint64(s.cfg.Tasks)*15/100, 10)
	}
	return p
}

// outdated reports whether a unit's files were changed after they were read. New
// drop-ins are not looked for, as systemd does not either.
func (s *Supervisor) outdated(l *live) bool {
	if l.changedAt.IsZero() || l.u.FragmentPath == "" || l.u.LoadState == unit.NotFound {
		return false
	}
	paths := append([]string{l.u.FragmentPath}, l.u.DropIns...)
	for _, p := range paths {
		if info, err := os.Stat(p); err != nil || info.ModTime().After(l.changedAt) {
			return true
		}
	}
	return false
}

// newest is when the latest of a unit's files was changed. The clock has no part
// in it: it may have been wrong when they were read.
func newest(u *unit.Unit) (at time.Time) {
	for _, p := range append([]string{u.FragmentPath}, u.DropIns...) {
		if info, err := os.Stat(p); err == nil && info.ModTime().After(at) {
			at = info.ModTime()
		}
	}
	return at
}

// unitPath is where unit files are, the most important first.
func (s *Supervisor) unitPath() []string {
	return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"}
}

// monotonic renders a time as microseconds since the kernel started.
func (s *Supervisor) monotonic(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt((s.cfg.Uptime + t.Sub(s.started)).Microseconds(), 10)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// sinceBoot renders a time as a span since the kernel started.
func (s *Supervisor) sinceBoot(t time.Time) string {
	return timespan.Format((s.cfg.Uptime + t.Sub(s.started)).Truncate(time.Microsecond))
}

// ownProperties are those of the manager itself.
func (s *Supervisor) ownProperties() map[string]string {
	failed := 0
	for _, l := range s.units {
		if l.active() == transaction.Failed {
			failed++
		}
	}
	return map[string]string{
		"Environment": strings.Join(append([]string{"LANG=C.UTF-8", "PATH=" + unit.DefaultPATH}, s.environment...), "\n"),
		"Version":     "252 (coracle)", "Virtualization": "", "Architecture": "x86-64", "SystemState": s.systemState(),
		"NNames": strconv.Itoa(len(s.units)), "NFailedUnits": strconv.Itoa(failed), "NJobs": strconv.Itoa(s.queue.Len()),
		"UnitPath":                    strings.Join(s.unitPath(), " "),
		"UserspaceTimestamp":          stampText(s.started),
		"FinishTimestamp":             stampText(s.finishedAt),
		"FinishTimestampMonotonic":    s.monotonic(s.finishedAt),
		"UserspaceTimestampMonotonic": s.monotonic(s.started),
	}
}
