package settings

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// unset marks a time span that no file gave.
const unset time.Duration = -1

// New makes a unit with the defaults of its kind, before any file is read.
func New(unitName string) *unit.Unit {
	u := &unit.Unit{
		Name: unitName, Kind: unit.Kind(name.Kind(unitName)), LoadState: unit.Loaded, Deps: unit.Deps{},
		DefaultDependencies: true, OnFailureJobMode: "replace", OnSuccessJobMode: "fail", CollectMode: "inactive", JobTimeout: timespan.Infinity, JobRunningTimeout: unset, JobTimeoutAction: "none",
		StartLimit:    unit.StartLimit{Interval: 10 * time.Second, Burst: 5, Action: "none"},
		SuccessAction: "none", FailureAction: "none",
	}
	switch u.Kind {
	case unit.KindService:
		u.Service = &unit.Service{
			GuessMainPID: true, NotifyAccess: unit.NotifyNone, Restart: unit.RestartNo, RestartSec: unit.DefaultRestartSec, RestartMaxDelay: timespan.Infinity,
			TimeoutStartFailure: "terminate", TimeoutStopFailure: "terminate",
			TimeoutStart: unset, TimeoutStop: unit.DefaultTimeout, TimeoutAbort: unset, RuntimeMax: timespan.Infinity,
			ExecContext: newExec(), Kill: newKill(),
		}
	case unit.KindSocket:
		u.Socket = &unit.Socket{
			SocketMode: 0o666, DirectoryMode: 0o755, MaxConnections: 64, BindIPv6Only: "default", Timeout: unit.DefaultTimeout,
			TriggerLimit: unit.StartLimit{Interval: 2 * time.Second, Burst: -1}, ExecContext: newExec(), Kill: newKill(),
		}
	case unit.KindMount:
		u.Mount = &unit.Mount{DirectoryMode: 0o755, Timeout: unit.DefaultTimeout, ExecContext: newExec(), Kill: newKill()}
	case unit.KindAutomount:
		u.Automount = &unit.Automount{DirectoryMode: 0o755}
	case unit.KindTimer:
		u.Timer = &unit.Timer{AccuracySec: time.Minute, RemainAfterEnd: true}
	case unit.KindPath:
		u.Path = &unit.Path{DirectoryMode: 0o755, TriggerLimit: unit.TriggerDefault}
	}
	switch u.Kind {
	case unit.KindMount, unit.KindAutomount, unit.KindSlice:
		u.IgnoreOnIsolate = true
	}
	u.Slice = defaultSlice(u)
	if Perpetual(unitName) {
		u.DefaultDependencies, u.IgnoreOnIsolate = false, true
	}
	return u
}

// Perpetual tells of the units that are always active and cannot be stopped.
func Perpetual(unitName string) bool {
	return unitName == "-.slice" || unitName == "system.slice" || unitName == "init.scope"
}

// defaultSlice returns where a unit's cgroup is unless Slice= says otherwise.
func defaultSlice(u *unit.Unit) string {
	switch u.Kind {
	case unit.KindService, unit.KindSocket, unit.KindMount, unit.KindSwap:
	default:
		return ""
	}
	if _, ok := name.Instance(u.Name); ok {
		return "system-" + name.Escape(name.Prefix(u.Name)) + ".slice"
	}
	return "system.slice"
}

func newExec() unit.ExecContext {
	return unit.ExecContext{
		UMask: 0o022, RuntimeDirectoryMode: 0o755, StateDirectoryMode: 0o755, CacheDirectoryMode: 0o755,
		LogsDirectoryMode: 0o755, ConfigurationMode: 0o755, RuntimeDirectoryPreserve: "no",
		StandardInput: unit.Stream{Kind: unit.StreamNull}, StandardOutput: unit.Stream{Kind: unit.StreamInherit},
		StandardError: unit.Stream{Kind: unit.StreamInherit},
		SyslogLevel:   6, SyslogFacility: 3, SyslogLevelPrefix: true, IgnoreSIGPIPE: true,
	}
}

func newKill() unit.Kill {
	return unit.Kill{KillMode: unit.KillControlGroup, KillSignal: syscall.SIGTERM, FinalKillSignal: syscall.SIGKILL,
		WatchdogSignal: syscall.SIGABRT, SendSIGKILL: true}
}

// Finish fills in what depends on several settings, once all files are read,
// and refuses a unit whose settings do not go together. Dependencies that
// follow from other settings are the loader's.
func Finish(u *unit.Unit) {
	if u.Description == "" {
		u.Description = u.Name
		switch {
		case u.Mount != nil && u.Mount.Where != "":
			u.Description = u.Mount.Where
		case u.Kind == unit.KindSlice:
			u.Description = sliceDescription(u.Name)
		}
	}
	if u.JobRunningTimeout == unset {
		u.JobRunningTimeout = u.JobTimeout
	}
	finishCgroup(&u.Cgroup)
	if e := execOf(u); e != nil {
		finishDynamicUser(e, u.Name)
		if k := killOf(u); k.RestartKillSignal == 0 {
			k.RestartKillSignal = k.KillSignal
		}
		if len(e.StandardInput.Data) > 0 && e.StandardInput.Kind == unit.StreamNull {
			e.StandardInput.Kind = unit.StreamData
		}
		finishOutput(e)
		for _, dirs := range [][]string{e.RuntimeDirectory, e.StateDirectory, e.CacheDirectory, e.LogsDirectory, e.ConfigurationDirectory} {
			slices.Sort(dirs) // also what $RUNTIME_DIRECTORY and its relatives say is sorted
		}
	}
	var err error
	switch u.Kind {
	case unit.KindService:
		if u.Service.OOMPolicy == "" {
			u.Service.OOMPolicy = "stop"
			if u.Cgroup.Delegate { // what happens below is the service's own affair
				u.Service.OOMPolicy = "continue"
			}
		}
		finishService(u.Service)
		err = verifyService(u)
	case unit.KindSocket:
		err = finishSocket(u)
	case unit.KindMount:
		err = finishMount(u)
	case unit.KindAutomount:
		u.Automount.Where, err = where(u.Name, u.Automount.Where)
	case unit.KindTimer:
		t := u.Timer
		if t.Unit == "" {
			t.Unit = name.WithKind(u.Name, "service")
		}
		if len(t.OnActive)+len(t.OnBoot)+len(t.OnStartup)+len(t.OnUnitActive)+len(t.OnUnitInactive)+len(t.OnCalendar) == 0 && !t.OnClockChange {
			err = errors.New("Timer unit lacks value setting. Refusing.")
		}
		t.Persistent = t.Persistent && len(t.OnCalendar) > 0
	case unit.KindPath:
		if u.Path.Unit == "" {
			u.Path.Unit = name.WithKind(u.Name, "service")
		}
		if len(u.Path.Watch) == 0 {
			err = errors.New("Path unit lacks path setting. Refusing.")
		}
	}
	if err != nil && u.LoadState == unit.Loaded {
		u.LoadState = unit.BadSetting
		u.LoadError = err.Error()
	}
}

// finishOutput sends standard output to the journal unless something is said, or
// standard input is something that can be written to as well.
func finishOutput(e *unit.ExecContext) {
	switch e.StandardInput.Kind {
	case unit.StreamTTY, unit.StreamTTYForce, unit.StreamTTYFail, unit.StreamSocket, unit.StreamFD:
		return
	}
	if e.StandardOutput.Kind == unit.StreamInherit {
		e.StandardOutput.Kind = unit.StreamJournal
	}
}

// sliceDescription is what a slice is called that has no description: the
// machine's root slice, or by its place in the tree.
func sliceDescription(unitName string) string {
	if unitName == "-.slice" {
		return "Root Slice"
	}
	var parts []string
	for part := range strings.SplitSeq(name.Base(unitName), "-") {
		if text, err := name.Unescape(part); err == nil {
			part = text
		}
		parts = append(parts, part)
	}
	return "Slice /" + strings.Join(parts, "/")
}

func finishService(s *unit.Service) {
	if s.Type == "" {
		s.Type = unit.Simple
		if len(s.ExecStart) == 0 {
			s.Type = unit.Oneshot
		}
	}
	if s.TimeoutStart == unset {
		s.TimeoutStart = unit.DefaultTimeout
		if s.Type == unit.Oneshot {
			s.TimeoutStart = timespan.Infinity
		}
	}
	if s.TimeoutAbort == unset {
		s.TimeoutAbort = s.TimeoutStop
	}
	if s.NotifyAccess == unit.NotifyNone && (s.Type == unit.Notify || s.Watchdog > 0 || s.FileDescriptorStoreMax > 0) {
		s.NotifyAccess = unit.NotifyMain
	}
}

// verifyService refuses what no service can be.
func verifyService(u *unit.Unit) error {
	s := u.Service
	none := len(s.ExecStart) == 0
	oneshot := s.Type == unit.Oneshot
	switch {
	case none && len(s.ExecStop) == 0 && u.SuccessAction == "none":
		return errors.New("Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing.")
	case none && !oneshot:
		return errors.New("Service has no ExecStart= setting, which is only allowed for Type=oneshot services. Refusing.")
	case none && !s.RemainAfterExit && u.SuccessAction == "none":
		return errors.New("Service has no ExecStart= and no SuccessAction= settings and does not have RemainAfterExit=yes set. Refusing.")
	case !oneshot && len(s.ExecStart) > 1:
		return errors.New("Service has more than one ExecStart= setting, which is only allowed for Type=oneshot services. Refusing.")
	case oneshot && (s.Restart == unit.RestartAlways || s.Restart == unit.RestartOnSuccess):
		return errors.New("Service has Restart= set to either always or on-success, which isn't allowed for Type=oneshot services. Refusing.")
	case oneshot && len(s.RestartForceExitStatus.Codes)+len(s.RestartForceExitStatus.Signals) > 0:
		return errors.New("Service has RestartForceExitStatus= set, which isn't allowed for Type=oneshot services. Refusing.")
	}
	return nil
}

func finishSocket(u *unit.Unit) error {
	s := u.Socket
	explicit := s.Service != ""
	if !explicit {
		s.Service = name.WithKind(u.Name, "service")
		if s.Accept {
			s.Service = name.Prefix(u.Name) + "@.service"
		}
	}
	if s.FileDescriptorName == "" {
		s.FileDescriptorName = u.Name
		if s.Accept {
			s.FileDescriptorName = "connection"
		}
	}
	if s.TriggerLimit.Burst < 0 {
		s.TriggerLimit.Burst = 20
		if s.Accept {
			s.TriggerLimit.Burst = 200
		}
	}
	switch {
	case len(s.Listen) == 0:
		return errors.New("Unit has no Listen setting (ListenStream=, ListenDatagram=, ListenFIFO=, ...). Refusing.")
	case s.Accept && explicit:
		return errors.New("Explicit service configuration for accepting socket units not supported. Refusing.")
	case s.Accept && s.MaxConnections <= 0:
		return errors.New("MaxConnection= setting too small. Refusing.")
	}
	for _, l := range s.Listen {
		if s.Accept && (l.Kind == unit.ListenFIFO || l.Kind == unit.ListenDatagram || l.Kind == unit.ListenSpecial) {
			return errors.New("Unit configured for accepting sockets, but sockets are non-accepting. Refusing.")
		}
	}
	return nil
}

func finishMount(u *unit.Unit) (err error) {
	if u.Mount.Where, err = where(u.Name, u.Mount.Where); err != nil {
		return err
	}
	if u.Mount.What == "" {
		return errors.New("What= setting is missing. Refusing.")
	}
	return nil
}

// where checks the path of a mount point against the name of its unit.
func where(unitName, path string) (string, error) {
	if path == "" {
		return name.UnescapePath(name.Base(unitName))
	}
	if e, err := name.EscapePath(path); err != nil || e != name.Base(unitName) {
		return path, errors.New("Where= setting doesn't match unit name. Refusing.")
	}
	return path, nil
}

// finishCgroup turns the old settings into those of cgroup v2, unless these
// are set.
func finishCgroup(c *unit.Cgroup) {
	scaled := func(v unit.Value, mul, div uint64) unit.Value {
		return unit.Value{Set: true, N: min(max(v.N*mul/div, 1), 10000)}
	}
	if c.CPUShares.Set && !c.CPUWeight.Set {
		c.CPUWeight = scaled(c.CPUShares, 100, 1024)
	}
	if c.BlockIOWeight.Set && !c.IOWeight.Set {
		c.IOWeight = scaled(c.BlockIOWeight, 100, 500)
	}
	if c.MemoryLimit.Set && !c.MemoryMax.Set {
		c.MemoryMax = c.MemoryLimit
	}
}
