package supervisor

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// handleShow answers show, one response for each unit. What a file of the
// root user's alone says of secrets, only root is shown.
func (s *Supervisor) handleShow(ctx context.Context, peer control.Peer, req control.Request, send func(control.Response) error) error {
	if len(req.Units) == 0 {
		return s.once(ctx, send, func() (control.Response, error) {
			return control.Response{Units: []control.Unit{{Properties: s.ownProperties()}}}, nil
		})
	}
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
	set("Result", l.d.result())
	set("InvocationID", l.invocation)
	set("ConditionResult", yes(l.condition))
	set("AssertResult", yes(l.assert))
	set("CanStart", yes(l.u.LoadState == unit.Loaded && !l.u.RefuseManualStart))
	set("CanStop", yes(l.u.LoadState == unit.Loaded && !l.u.RefuseManualStop))
	set("CanReload", yes(l.d.canReload()))
	set("NeedDaemonReload", "no")
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
	return p
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

// ownProperties are those of the manager itself.
func (s *Supervisor) ownProperties() map[string]string {
	failed := 0
	for _, l := range s.units {
		if l.active() == transaction.Failed {
			failed++
		}
	}
	return map[string]string{
		"Version": "coracle", "Architecture": "x86-64", "SystemState": s.systemState(),
		"NNames": strconv.Itoa(len(s.units)), "NFailedUnits": strconv.Itoa(failed), "NJobs": strconv.Itoa(s.queue.Len()),
		"UnitPath":                    strings.Join([]string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"}, " "),
		"UserspaceTimestamp":          stampText(s.started),
		"FinishTimestamp":             stampText(s.finishedAt),
		"FinishTimestampMonotonic":    s.monotonic(s.finishedAt),
		"UserspaceTimestampMonotonic": s.monotonic(s.started),
	}
}
