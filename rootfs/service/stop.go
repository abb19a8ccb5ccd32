package service

import (
	"math"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// Stop ends the service; it will not restart by itself. A service that is down
// or on its way down is left to that.
func (m *Machine) Stop() {
	m.forbidRestart = true
	switch m.state {
	case Dead, Failed, Stop, StopWatchdog, StopSigterm, StopSigkill, StopPost, FinalWatchdog, FinalSigterm, FinalSigkill:
	case AutoRestart:
		m.set(Dead)
	case Running, Exited:
		m.enterStop(Success)
	default:
		m.enterSignal(StopSigterm, Success)
	}
}

func (m *Machine) enterStop(r Result) {
	m.fail(r)
	if len(m.cfg.ExecStop) == 0 {
		m.enterSignal(StopSigterm, Success)
		return
	}
	m.begin(Stop, ExecStop, m.cfg.ExecStop)
}

// enterSignal signals what is left of the service and waits for its end in
// state s; when nothing is left it goes on at once.
func (m *Machine) enterSignal(s State, r Result) {
	m.fail(r)
	if m.kill(s) {
		m.set(s)
		limit := m.cfg.TimeoutStop
		if s == StopWatchdog || s == FinalWatchdog {
			limit = m.cfg.TimeoutAbort
		}
		m.arm(limit)
		return
	}
	switch {
	case (s == StopWatchdog || s == StopSigterm) && m.cfg.SendSIGKILL:
		m.enterSignal(StopSigkill, Success)
	case s == StopWatchdog || s == StopSigterm || s == StopSigkill:
		m.enterStopPost(Success)
	case (s == FinalWatchdog || s == FinalSigterm) && m.cfg.SendSIGKILL:
		m.enterSignal(FinalSigkill, Success)
	default:
		m.enterDead(Success, true)
	}
}

// kill sends the signal of state s to those whom KillMode= names and reports
// whether there was anyone whose end can be waited for.
func (m *Machine) kill(s State) bool {
	if m.cfg.KillMode == unit.KillNone {
		return false
	}
	sig, final := m.cfg.KillSignal, false
	if m.host.Restarting() {
		sig = m.cfg.RestartKillSignal
	}
	switch s {
	case StopWatchdog, FinalWatchdog:
		sig = m.cfg.WatchdogSignal
	case StopSigkill, FinalSigkill:
		sig, final = m.cfg.FinalKillSignal, true
	}
	wait := false
	var told []int
	for _, pid := range []int{m.main, m.control} {
		if pid > 0 && m.host.Kill(pid, int(sig)) {
			wait = true
			told = append(told, pid)
			m.wake(sig, final, func(sig syscall.Signal) { m.host.Kill(pid, int(sig)) })
		}
	}
	if m.cfg.KillMode == unit.KillControlGroup || m.cfg.KillMode == unit.KillMixed && final {
		if m.host.KillGroup(int(sig), told...) > 0 {
			wait = true
			m.wake(sig, final, func(sig syscall.Signal) { m.host.KillGroup(int(sig), told...) })
		}
	}
	return wait
}

// wake sends what follows a terminating signal: SIGCONT, so that a stopped
// process sees it, and SIGHUP where asked for.
func (m *Machine) wake(sig syscall.Signal, final bool, send func(syscall.Signal)) {
	if sig != unix.SIGKILL && sig != unix.SIGCONT {
		send(unix.SIGCONT)
	}
	if m.cfg.SendSIGHUP && !final && sig != unix.SIGHUP {
		send(unix.SIGHUP)
	}
}

func (m *Machine) enterStopPost(r Result) {
	m.fail(r)
	m.main = 0
	if len(m.cfg.ExecStopPost) == 0 {
		m.enterSignal(FinalSigterm, Success)
		return
	}
	m.begin(StopPost, ExecStopPost, m.cfg.ExecStopPost)
}

// enterDead ends the run: down, failed, or waiting to start again.
func (m *Machine) enterDead(r Result, mayRestart bool) {
	m.fail(r)
	end := Failed
	if m.result == Success || m.result == SkipCondition {
		end = Dead
	}
	m.main, m.control = 0, 0
	switch m.result {
	case Success:
		m.host.Log("Deactivated successfully.")
	case SkipCondition:
		m.host.Log("Skipped due to '%s'.", m.result)
	default:
		m.host.Log("Failed with result '%s'.", m.result)
	}
	m.willRestart = mayRestart && m.restartWanted()
	m.host.Ended(m.willRestart)
	m.set(end)
	if m.willRestart {
		m.set(AutoRestart)
		after := m.pause()
		if after <= 0 { // a timer that elapses at once, not one that is cleared
			after = time.Microsecond
		}
		m.arm(after)
	}
	m.forbidRestart = false
}

// pause is how long to wait before the next restart: RestartSec=, or with
// RestartSteps= longer each time until it is RestartMaxDelaySec=, as systemd 254
// and later have it.
func (m *Machine) pause() time.Duration {
	low, high, steps := m.cfg.RestartSec, m.cfg.RestartMaxDelay, m.cfg.RestartSteps
	switch n := m.restarts; { // those before the next one
	case n < 1 || steps < 1 || low <= 0 || high == timespan.Infinity || low >= high:
		return low
	case n >= steps:
		return high
	default:
		return time.Duration(float64(low) * math.Pow(float64(high)/float64(low), float64(n)/float64(steps)))
	}
}

// restartWanted applies Restart= and the exit statuses around it.
func (m *Machine) restartWanted() bool {
	if m.forbidRestart {
		return false
	}
	if m.mainExited && contains(m.cfg.RestartPreventExitStatus, m.mainExit) {
		return false
	}
	if m.mainExited && contains(m.cfg.RestartForceExitStatus, m.mainExit) {
		return true
	}
	clean := m.result == Success || m.result == SkipCondition
	switch m.cfg.Restart {
	case unit.RestartAlways:
		return m.result != SkipCondition
	case unit.RestartOnSuccess:
		return m.result == Success
	case unit.RestartOnFailure:
		return !clean
	case unit.RestartOnAbnormal:
		return !clean && m.result != ExitCode
	case unit.RestartOnAbort:
		return m.result == Signal || m.result == CoreDump
	case unit.RestartOnWatchdog:
		return m.result == Watchdog
	default:
		return false
	}
}

// signalName returns a signal's name without SIG, as $EXIT_STATUS has it.
func signalName(s syscall.Signal) string {
	return strings.TrimPrefix(unix.SignalName(s), "SIG")
}
