package settings

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
)

var serviceSettings = map[string]setting{
	"Type":                     serviceType,
	"RemainAfterExit":          boolean(func(u *unit.Unit) *bool { return &u.Service.RemainAfterExit }),
	"GuessMainPID":             boolean(func(u *unit.Unit) *bool { return &u.Service.GuessMainPID }),
	"PIDFile":                  pidFile,
	"NotifyAccess":             oneOf(func(u *unit.Unit) *unit.NotifyAccess { return &u.Service.NotifyAccess }, unit.NotifyNone, unit.NotifyMain, unit.NotifyExec, unit.NotifyAll),
	"ExecCondition":            commands(func(u *unit.Unit) *[]unit.Command { return &u.Service.ExecCondition }),
	"ExecStartPre":             commands(func(u *unit.Unit) *[]unit.Command { return &u.Service.ExecStartPre }),
	"ExecStart":                commands(func(u *unit.Unit) *[]unit.Command { return &u.Service.ExecStart }),
	"ExecStartPost":            commands(func(u *unit.Unit) *[]unit.Command { return &u.Service.ExecStartPost }),
	"ExecReload":               commands(func(u *unit.Unit) *[]unit.Command { return &u.Service.ExecReload }),
	"ExecStop":                 commands(func(u *unit.Unit) *[]unit.Command { return &u.Service.ExecStop }),
	"ExecStopPost":             commands(func(u *unit.Unit) *[]unit.Command { return &u.Service.ExecStopPost }),
	"Restart":                  oneOf(func(u *unit.Unit) *unit.Restart { return &u.Service.Restart }, unit.RestartNo, unit.RestartOnSuccess, unit.RestartOnFailure, unit.RestartOnAbnormal, unit.RestartOnAbort, unit.RestartOnWatchdog, unit.RestartAlways),
	"RestartSec":               span(func(u *unit.Unit) *time.Duration { return &u.Service.RestartSec }),
	"RestartSteps":             number(func(u *unit.Unit) *int { return &u.Service.RestartSteps }, 0, 1<<31-1),
	"RestartMaxDelaySec":       limit(func(u *unit.Unit) *time.Duration { return &u.Service.RestartMaxDelay }),
	"TimeoutSec":               limit(timeoutStart, timeoutStop),
	"TimeoutStartSec":          limit(timeoutStart),
	"TimeoutStopSec":           limit(timeoutStop),
	"TimeoutAbortSec":          limit(func(u *unit.Unit) *time.Duration { return &u.Service.TimeoutAbort }),
	"TimeoutStartFailureMode":  oneOf(func(u *unit.Unit) *string { return &u.Service.TimeoutStartFailure }, "terminate", "abort", "kill"),
	"TimeoutStopFailureMode":   oneOf(func(u *unit.Unit) *string { return &u.Service.TimeoutStopFailure }, "terminate", "abort", "kill"),
	"RuntimeMaxSec":            limit(func(u *unit.Unit) *time.Duration { return &u.Service.RuntimeMax }),
	"WatchdogSec":              span(func(u *unit.Unit) *time.Duration { return &u.Service.Watchdog }),
	"SuccessExitStatus":        statuses(func(u *unit.Unit) *unit.ExitStatuses { return &u.Service.SuccessExitStatus }),
	"RestartPreventExitStatus": statuses(func(u *unit.Unit) *unit.ExitStatuses { return &u.Service.RestartPreventExitStatus }),
	"RestartForceExitStatus":   statuses(func(u *unit.Unit) *unit.ExitStatuses { return &u.Service.RestartForceExitStatus }),
	"RootDirectoryStartOnly":   boolean(func(u *unit.Unit) *bool { return &u.Service.RootDirectoryStartOnly }),
	"PermissionsStartOnly":     boolean(func(u *unit.Unit) *bool { return &u.Service.PermissionsStartOnly }),
	"NonBlocking":              boolean(func(u *unit.Unit) *bool { return &u.Service.NonBlocking }),
	"FileDescriptorStoreMax":   number(func(u *unit.Unit) *int { return &u.Service.FileDescriptorStoreMax }, 0, 1<<20),
	"OOMPolicy":                oneOf(func(u *unit.Unit) *string { return &u.Service.OOMPolicy }, "stop", "continue", "kill"),
	"ExitType":                 exitType,
	"Sockets":                  sockets,
	"StartLimitInterval":       limitInterval,
	"StartLimitBurst":          limitBurst,
	"StartLimitAction":         limitAction,
	"FailureAction":            failureAction,
	"SysVStartPriority":        ignore,
}

func timeoutStart(u *unit.Unit) *time.Duration { return &u.Service.TimeoutStart }
func timeoutStop(u *unit.Unit) *time.Duration  { return &u.Service.TimeoutStop }

func exitType(p *pass, value string) error {
	var word string
	err := oneOf(func(*unit.Unit) *string { return &word }, "main", "cgroup")(p, value)
	if err == nil {
		p.u.Service.ExitOfGroup = word == "cgroup"
	}
	return err
}

// serviceType refuses what cannot be supervised here instead of supervising it
// wrongly.
func serviceType(p *pass, value string) error {
	switch value {
	case "dbus", "notify-reload":
		return &refusal{fmt.Errorf("services of type %s are not supported by Coracle: use Type=notify, or Type=simple", value)}
	}
	return oneOf(func(u *unit.Unit) *unit.ServiceType { return &u.Service.Type },
		unit.Simple, unit.Exec, unit.Oneshot, unit.Notify, unit.Forking, unit.Idle)(p, value)
}

// pidFile takes a path; a relative one is below /run.
func pidFile(p *pass, value string) error {
	v, err := p.x.Expand(value)
	if err == nil && v != "" {
		if !strings.HasPrefix(v, "/") {
			v = "/run/" + v
		}
		v = path.Clean(v)
		if rest, ok := strings.CutPrefix(v, "/var/run/"); ok {
			v = "/run/" + rest
		}
	}
	if err == nil {
		p.u.Service.PIDFile = v
	}
	return err
}

func sockets(p *pass, value string) error {
	return p.each(value, func(w string) error {
		w = Instantiate(w, p.u.Name)
		if !strings.HasSuffix(w, ".socket") {
			return fmt.Errorf("Unit name %s is not of type socket, ignoring", w)
		}
		p.u.Service.Sockets = append(p.u.Service.Sockets, w)
		p.u.Deps.Add(unit.Wants, w)
		p.u.Deps.Add(unit.After, w)
		return nil
	})
}

// killModes are the values of KillMode=; systemd.kill(5) is part of
// execSettings, because the same units have both.
var killModes = []unit.KillMode{unit.KillControlGroup, unit.KillMixed, unit.KillProcess, unit.KillNone}
