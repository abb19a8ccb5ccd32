// Package property writes a unit's settings as "systemctl show" prints them;
// the names and formats are systemd's, org.freedesktop.systemd1(5). PID 1 adds
// the run-time state. Settings that Coracle does not have are left out.
package property

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/graph"
	"github.com/coracle-os/coracle/rootfs/unit/signals"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// Of returns the properties of a unit; g may be nil.
func Of(u *unit.Unit, g *graph.Graph) map[string]string {
	p := props{}
	p["Id"] = u.Name
	p["Names"] = quoteAll(u.Names())
	p["Description"] = u.Description
	p["Documentation"] = quoteAll(u.Documentation)
	p["LoadState"] = string(u.LoadState)
	p["LoadError"] = loadError(u)
	p["FragmentPath"] = u.FragmentPath
	p["DropInPaths"] = strings.Join(u.DropIns, " ")
	p.dependencies(u, g)
	p["RequiresMountsFor"] = quoteAll(u.RequiresMountsFor)
	p.yes("DefaultDependencies", u.DefaultDependencies)
	p.yes("StopWhenUnneeded", u.StopWhenUnneeded)
	p.yes("RefuseManualStart", u.RefuseManualStart)
	p.yes("RefuseManualStop", u.RefuseManualStop)
	p.yes("AllowIsolate", u.AllowIsolate)
	p.yes("CanIsolate", u.AllowIsolate)
	p.yes("IgnoreOnIsolate", u.IgnoreOnIsolate)
	p["OnFailureJobMode"], p["OnSuccessJobMode"], p["CollectMode"] = u.OnFailureJobMode, u.OnSuccessJobMode, u.CollectMode
	p.span("JobTimeoutUSec", u.JobTimeout)
	p.span("JobRunningTimeoutUSec", u.JobRunningTimeout)
	p["JobTimeoutAction"] = u.JobTimeoutAction
	p.span("StartLimitIntervalUSec", u.StartLimit.Interval)
	p["StartLimitBurst"] = strconv.Itoa(u.StartLimit.Burst)
	p["StartLimitAction"] = u.StartLimit.Action
	p["SuccessAction"], p["FailureAction"] = u.SuccessAction, u.FailureAction
	if u.Slice != "" {
		p["Slice"] = u.Slice
	}
	if u.Slice != "" || u.Kind == unit.KindSlice {
		p.cgroup(u.Cgroup)
	}
	switch {
	case u.Service != nil:
		p.service(u.Service)
	case u.Socket != nil:
		p.socket(u.Socket)
	case u.Mount != nil:
		p["What"], p["Where"], p["Type"], p["Options"] = u.Mount.What, u.Mount.Where, u.Mount.FSType, u.Mount.Options
		p.mode("DirectoryMode", u.Mount.DirectoryMode)
		p.span("TimeoutUSec", u.Mount.Timeout)
		p.yes("SloppyOptions", u.Mount.SloppyOptions)
		p.yes("LazyUnmount", u.Mount.LazyUnmount)
		p.yes("ForceUnmount", u.Mount.ForceUnmount)
		p.yes("ReadWriteOnly", u.Mount.ReadWriteOnly)
		p.exec(&u.Mount.ExecContext, u.Mount.Kill)
	case u.Timer != nil:
		p["Unit"] = u.Timer.Unit
		p.timer(u.Timer)
		p.span("AccuracyUSec", u.Timer.AccuracySec)
		p.span("RandomizedDelayUSec", u.Timer.RandomizedDelay)
	case u.Path != nil:
		p["Unit"] = u.Path.Unit
		p.mode("DirectoryMode", u.Path.DirectoryMode)
	case u.Automount != nil:
		p["Where"] = u.Automount.Where
		p.span("TimeoutIdleUSec", u.Automount.TimeoutIdle)
		p.mode("DirectoryMode", u.Automount.DirectoryMode)
	case u.Kind == unit.KindSlice:
		for _, n := range u.Deps[unit.Requires] { // the only slice among them is the parent
			if strings.HasSuffix(n, ".slice") {
				p["Slice"] = n
			}
		}
	}
	return p
}

// loadError writes why a unit is not loaded as a D-Bus error.
func loadError(u *unit.Unit) string {
	if u.LoadError == "" {
		return ""
	}
	names := map[unit.LoadState]string{unit.NotFound: "NoSuchUnit", unit.Masked: "UnitMasked", unit.BadSetting: "BadUnitSetting"}
	return fmt.Sprintf("org.freedesktop.systemd1.%s %q", cmp.Or(names[u.LoadState], "LoadFailed"), u.LoadError)
}

type props map[string]string

func (p props) yes(name string, v bool) {
	p[name] = "no"
	if v {
		p[name] = "yes"
	}
}

func (p props) span(name string, d time.Duration) { p[name] = timespan.Format(d) }

func (p props) mode(name string, m int) { p[name] = fmt.Sprintf("%04o", m) }

// inverses are the names of dependencies seen from the other side.
var inverses = map[unit.Dep]string{unit.Requires: "RequiredBy", unit.Requisite: "RequisiteOf", unit.Wants: "WantedBy",
	unit.BindsTo: "BoundBy", unit.PartOf: "ConsistsOf", unit.Upholds: "UpheldBy", unit.Conflicts: "ConflictedBy",
	unit.Triggers: "TriggeredBy", unit.OnFailure: "OnFailureOf", unit.OnSuccess: "OnSuccessOf"}

// pairs are dependencies that either side may state.
var pairs = map[unit.Dep]unit.Dep{unit.PropagatesReloadTo: unit.ReloadPropagatedFrom, unit.ReloadPropagatedFrom: unit.PropagatesReloadTo,
	unit.PropagatesStopTo: unit.StopPropagatedFrom, unit.StopPropagatedFrom: unit.PropagatesStopTo, unit.JoinsNamespaceOf: unit.JoinsNamespaceOf}

func (p props) dependencies(u *unit.Unit, g *graph.Graph) {
	if g == nil {
		g = graph.New([]*unit.Unit{u})
	}
	for _, kind := range unit.AllDeps {
		list := g.Of(u.Name, kind)
		if other := pairs[kind]; other != "" {
			for _, n := range g.By(u.Name, other) {
				if !slices.Contains(list, n) {
					list = append(list, n)
				}
			}
		}
		p[string(kind)] = quoteAll(list)
		if inverse := inverses[kind]; inverse != "" {
			p[inverse] = quoteAll(g.By(u.Name, kind))
		}
	}
	p["Before"] = quoteAll(g.Before(u.Name))
	p["After"] = quoteAll(g.After(u.Name))
}

func (p props) service(s *unit.Service) {
	p["ExitType"] = "main"
	if s.ExitOfGroup {
		p["ExitType"] = "cgroup"
	}
	p.yes("NonBlocking", s.NonBlocking)
	p["Type"] = string(s.Type)
	p["Restart"] = string(s.Restart)
	p["NotifyAccess"] = string(s.NotifyAccess)
	p["PIDFile"] = s.PIDFile
	p.span("RestartUSec", s.RestartSec)
	p["RestartSteps"] = strconv.Itoa(s.RestartSteps)
	p.span("RestartMaxDelayUSec", s.RestartMaxDelay)
	p.span("TimeoutStartUSec", s.TimeoutStart)
	p.span("TimeoutStopUSec", s.TimeoutStop)
	p.span("TimeoutAbortUSec", s.TimeoutAbort)
	p["TimeoutStartFailureMode"], p["TimeoutStopFailureMode"] = s.TimeoutStartFailure, s.TimeoutStopFailure
	p.span("RuntimeMaxUSec", s.RuntimeMax)
	p.span("WatchdogUSec", s.Watchdog)
	if s.Watchdog == 0 {
		p["WatchdogUSec"] = "infinity"
	}
	p.yes("RemainAfterExit", s.RemainAfterExit)
	p.yes("GuessMainPID", s.GuessMainPID)
	p.yes("RootDirectoryStartOnly", s.RootDirectoryStartOnly)
	p.yes("PermissionsStartOnly", s.PermissionsStartOnly)
	p["OOMPolicy"] = s.OOMPolicy
	p["FileDescriptorStoreMax"] = strconv.Itoa(s.FileDescriptorStoreMax)
	p["SuccessExitStatus"] = statuses(s.SuccessExitStatus)
	p["RestartPreventExitStatus"] = statuses(s.RestartPreventExitStatus)
	p["RestartForceExitStatus"] = statuses(s.RestartForceExitStatus)
	for name, list := range map[string][]unit.Command{"ExecCondition": s.ExecCondition, "ExecStartPre": s.ExecStartPre,
		"ExecStart": s.ExecStart, "ExecStartPost": s.ExecStartPost, "ExecReload": s.ExecReload, "ExecStop": s.ExecStop,
		"ExecStopPost": s.ExecStopPost} {
		p[name] = commands(list)
	}
	p.exec(&s.ExecContext, s.Kill)
}

func statuses(e unit.ExitStatuses) string {
	var list []string
	for _, c := range e.Codes {
		list = append(list, strconv.Itoa(c))
	}
	for _, s := range e.Signals {
		list = append(list, signals.Name(s))
	}
	return strings.Join(list, " ")
}

// commands writes commands as systemctl does; several are on lines of their
// own, the first of which has the property's name.
func commands(list []unit.Command) string {
	var lines []string
	for _, c := range list {
		ignore := "no"
		if c.IgnoreFailure {
			ignore = "yes"
		}
		lines = append(lines, fmt.Sprintf("{ path=%s ; argv[]=%s ; ignore_errors=%s ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }",
			c.Path, strings.Join(c.Args, " "), ignore))
	}
	return strings.Join(lines, "\n")
}

// limits are the names of the limits in the order of their numbers.
var limits = []string{"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS",
	"SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"}

func (p props) exec(e *unit.ExecContext, k unit.Kill) {
	p["Environment"] = quoteAll(e.Environment)
	var files []string
	for _, f := range e.EnvironmentFiles {
		ignore := "no"
		if f.Optional {
			ignore = "yes"
		}
		files = append(files, fmt.Sprintf("%s (ignore_errors=%s)", f.Path, ignore))
	}
	p["EnvironmentFiles"] = strings.Join(files, "\n")
	p["PassEnvironment"] = strings.Join(e.PassEnvironment, " ")
	p["UnsetEnvironment"] = strings.Join(e.UnsetEnvironment, " ")
	p["User"], p["Group"] = e.User, e.Group
	if e.DynamicUser && e.Group == "" {
		p["Group"] = e.User
	}
	p["SupplementaryGroups"] = strings.Join(e.SupplementaryGroups, " ")
	p["WorkingDirectory"] = e.WorkingDirectory
	if e.WorkingDirectoryOptional {
		p["WorkingDirectory"] = "!" + e.WorkingDirectory
	}
	p["RootDirectory"] = e.RootDirectory
	p.mode("UMask", e.UMask)
	p.limits(e.Limits)
	p["Nice"], p["OOMScoreAdjust"] = "0", "0"
	if e.Nice != nil {
		p["Nice"] = strconv.Itoa(*e.Nice)
	}
	if e.OOMScoreAdjust != nil {
		p["OOMScoreAdjust"] = strconv.Itoa(*e.OOMScoreAdjust)
	}
	p.yes("NoNewPrivileges", e.NoNewPrivileges)
	p["ExecSearchPath"] = strings.Join(e.SearchPath, ":")
	p["StandardInputData"] = base64.StdEncoding.EncodeToString(e.StandardInput.Data)
	p.scheduling(e.Scheduling)
	p.sandbox(e)
	p.directories(e)
	p["StandardInput"], p["StandardOutput"], p["StandardError"] = stream(e.StandardInput), stream(e.StandardOutput), stream(e.StandardError)
	p["TTYPath"] = e.TTYPath
	p["SyslogIdentifier"] = e.SyslogIdentifier
	p["SyslogLevel"], p["SyslogFacility"] = strconv.Itoa(e.SyslogLevel), strconv.Itoa(e.SyslogFacility)
	p["SyslogPriority"] = strconv.Itoa(e.SyslogFacility<<3 | e.SyslogLevel)
	p.yes("SyslogLevelPrefix", e.SyslogLevelPrefix)
	p.yes("IgnoreSIGPIPE", e.IgnoreSIGPIPE)
	p["KillMode"] = string(k.KillMode)
	for name, s := range map[string]syscall.Signal{"KillSignal": k.KillSignal, "RestartKillSignal": k.RestartKillSignal, "FinalKillSignal": k.FinalKillSignal, "WatchdogSignal": k.WatchdogSignal} {
		p[name] = strconv.Itoa(int(s))
	}
	p.yes("SendSIGKILL", k.SendSIGKILL)
	p.yes("SendSIGHUP", k.SendSIGHUP)
}

func (p props) directories(e *unit.ExecContext) {
	for name, d := range map[string]struct {
		list []string
		mode int
	}{
		"RuntimeDirectory": {e.RuntimeDirectory, e.RuntimeDirectoryMode}, "StateDirectory": {e.StateDirectory, e.StateDirectoryMode},
		"CacheDirectory": {e.CacheDirectory, e.CacheDirectoryMode}, "LogsDirectory": {e.LogsDirectory, e.LogsDirectoryMode},
		"ConfigurationDirectory": {e.ConfigurationDirectory, e.ConfigurationMode},
	} {
		p[name] = strings.Join(d.list, " ")
		p.mode(name+"Mode", d.mode)
	}
	p["RuntimeDirectoryPreserve"] = e.RuntimeDirectoryPreserve
}

// limits writes the limits of the unit, and for the others those of this
// process, which is PID 1 when it matters.
func (p props) limits(list []unit.Limit) {
	for number, name := range limits {
		var r syscall.Rlimit
		i := slices.IndexFunc(list, func(l unit.Limit) bool { return l.Resource == number })
		if i >= 0 {
			r = syscall.Rlimit{Cur: list[i].Soft, Max: list[i].Hard}
		} else if err := syscall.Getrlimit(number, &r); err != nil {
			continue
		}
		p["Limit"+name], p["Limit"+name+"Soft"] = limit(r.Max), limit(r.Cur)
	}
}

func limit(n uint64) string {
	if n == unit.LimitInfinity {
		return "infinity"
	}
	return strconv.FormatUint(n, 10)
}

// stream leaves out the path and the name, as systemctl does.
func stream(s unit.Stream) string { return string(s.Kind) }

// quoteAll joins words, quoting those that need it.
func quoteAll(list []string) string {
	var out []string
	for _, w := range list {
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\$`") {
			w = "\"" + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "$", `\$`, "`", "\\`").Replace(w) + "\""
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

func (p props) cgroup(c unit.Cgroup) {
	weight := func(v, old unit.Value) string {
		if !v.Set || old.Set {
			return "[not set]"
		}
		return strconv.FormatUint(v.N, 10)
	}
	amount := func(v unit.Value, def string) string {
		switch {
		case !v.Set:
			return def
		case v.Infinity:
			return "infinity"
		case v.Permyriad:
			return fmt.Sprintf("%g%%", float64(v.N)/100)
		}
		return strconv.FormatUint(v.N, 10)
	}
	p["CPUWeight"], p["CPUShares"] = weight(c.CPUWeight, c.CPUShares), weight(c.CPUShares, unit.Value{})
	p["IOWeight"], p["BlockIOWeight"] = weight(c.IOWeight, c.BlockIOWeight), weight(c.BlockIOWeight, unit.Value{})
	p["MemoryMax"], p["MemoryLimit"] = amount(c.MemoryMax, "infinity"), amount(c.MemoryLimit, "infinity")
	p["MemoryHigh"], p["MemorySwapMax"] = amount(c.MemoryHigh, "infinity"), amount(c.MemorySwapMax, "infinity")
	p["MemoryLow"], p["MemoryMin"] = amount(c.MemoryLow, "0"), amount(c.MemoryMin, "0")
	p["TasksMax"] = amount(c.TasksMax, "15%")
	p["CPUQuotaPerSecUSec"] = "infinity"
	if c.CPUQuota.Set {
		p.span("CPUQuotaPerSecUSec", time.Duration(c.CPUQuota.N)*10*time.Microsecond)
	}
	p.yes("Delegate", c.Delegate)
}

func (p props) socket(s *unit.Socket) {
	var list []string
	for _, l := range s.Listen {
		address := l.Address
		if l.Network == "ip" {
			address = "[::]" + address
		}
		list = append(list, fmt.Sprintf("%s (%s)", address, l.Kind))
	}
	p["Listen"] = strings.Join(list, "\n")
	p["SocketUser"], p["SocketGroup"] = s.SocketUser, s.SocketGroup
	p.mode("SocketMode", s.SocketMode)
	p.mode("DirectoryMode", s.DirectoryMode)
	p.yes("Accept", s.Accept)
	p.yes("RemoveOnStop", s.RemoveOnStop)
	p.yes("FreeBind", s.FreeBind)
	for name, on := range map[string]bool{"KeepAlive": s.KeepAlive, "NoDelay": s.NoDelay, "ReusePort": s.ReusePort, "Transparent": s.Transparent,
		"Broadcast": s.Broadcast, "PassCredentials": s.PassCredentials, "PassSecurity": s.PassSecurity, "Writable": s.Writable, "FlushPending": s.FlushPending} {
		p.yes(name, on)
	}
	for name, n := range map[string]uint64{"ReceiveBuffer": s.ReceiveBuffer, "SendBuffer": s.SendBuffer, "PipeSize": s.PipeSize,
		"KeepAliveProbes": uint64(s.KeepAliveProbes), "MaxConnectionsPerSource": uint64(s.MaxConnectionsPer)} {
		p[name] = strconv.FormatUint(n, 10)
	}
	for name, n := range map[string]int{"IPTOS": s.IPTOS, "IPTTL": s.IPTTL, "Priority": s.Priority, "Mark": s.Mark} {
		p[name] = strconv.Itoa(cmp.Or(n, -1))
	}
	for name, d := range map[string]time.Duration{"DeferAcceptUSec": s.DeferAccept, "KeepAliveTimeUSec": s.KeepAliveTime, "KeepAliveIntervalUSec": s.KeepAliveInterval} {
		p.span(name, d)
	}
	p["TCPCongestion"], p["BindToDevice"], p["Symlinks"] = s.TCPCongestion, s.BindToDevice, strings.Join(s.Symlinks, " ")
	for name, list := range map[string][]unit.Command{"ExecStartPre": s.ExecStartPre, "ExecStartPost": s.ExecStartPost, "ExecStopPre": s.ExecStopPre, "ExecStopPost": s.ExecStopPost} {
		p[name] = commands(list)
	}
	p["BindIPv6Only"], p["FileDescriptorName"] = s.BindIPv6Only, s.FileDescriptorName
	p["MaxConnections"], p["Backlog"] = strconv.Itoa(s.MaxConnections), strconv.Itoa(cmp.Or(s.Backlog, math.MaxInt32))
	p.span("TimeoutUSec", s.Timeout)
	p.span("TriggerLimitIntervalUSec", s.TriggerLimit.Interval)
	p["TriggerLimitBurst"] = strconv.Itoa(s.TriggerLimit.Burst)
	p.exec(&s.ExecContext, s.Kill)
}
