package service

import (
	"cmp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// Exited tells that a process of the service has ended. Processes that are
// neither the main one nor the present helper are ignored.
func (m *Machine) Exited(e reap.Exit) {
	switch {
	case e.PID != 0 && e.PID == m.main:
		m.mainEnded(e)
	case e.PID != 0 && e.PID == m.control:
		m.controlEnded(e)
	}
}

// judge returns what an exit means. Ends by the four usual signals are clean
// for what runs until it is told to end, not for a command.
func (m *Machine) judge(e reap.Exit, command bool) Result {
	if e.Signal == 0 && e.Status == 0 || contains(m.cfg.SuccessExitStatus, e) {
		return Success
	}
	clean := []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE}
	switch {
	case e.Signal == 0:
		return ExitCode
	case !command && slices.Contains(clean, e.Signal):
		return Success
	case e.Core:
		return CoreDump
	default:
		return Signal
	}
}

func contains(set unit.ExitStatuses, e reap.Exit) bool {
	if e.Signal != 0 {
		return slices.Contains(set.Signals, e.Signal)
	}
	return slices.Contains(set.Codes, e.Status)
}

func (m *Machine) mainEnded(e reap.Exit) {
	m.main, m.mainExit, m.mainExited = 0, e, true
	r := m.judge(e, m.cfg.Type == unit.Oneshot)
	if m.mainIgnoreFail {
		r = Success
	}
	m.logExit("Main", e, r)
	m.fail(r)
	if len(m.mainCommands) > 0 && r == Success && m.state == Start {
		m.startMain(m.mainCommands)
		return
	}
	m.mainCommands = nil
	idle := m.control == 0
	if m.cfg.ExitOfGroup && m.state == Running && m.host.Populated() {
		return // GroupEmpty goes on
	}
	switch m.state {
	case StartPost, Reload, Stop:
		if idle {
			m.enterStop(r)
		}
	case Start:
		m.mainEndedInStart(r)
	case Running:
		m.enterRunning(r)
	case StopWatchdog, StopSigterm, StopSigkill:
		if idle {
			m.enterStopPost(r)
		}
	case StopPost:
		if idle {
			m.enterSignal(FinalSigterm, r)
		}
	case FinalWatchdog, FinalSigterm, FinalSigkill:
		if idle {
			m.enterDead(r, true)
		}
	}
}

func (m *Machine) mainEndedInStart(r Result) {
	switch {
	case m.cfg.Type == unit.Oneshot && r == Success:
		m.enterStartPost()
	case m.cfg.Type == unit.Oneshot, m.cfg.Type == unit.Notify && r != Success:
		m.enterSignal(StopSigterm, r)
	case m.cfg.Type == unit.Notify:
		if !m.cfg.RemainAfterExit || m.cfg.NotifyAccess == unit.NotifyMain {
			m.enterSignal(StopSigterm, Protocol)
		}
	default:
		m.enterRunning(r)
	}
}

// logExit records an end that is not clean.
func (m *Machine) logExit(who string, e reap.Exit, r Result) {
	if r == Success {
		return
	}
	code, status := "exited", strconv.Itoa(e.Status)+"/"+cmp.Or(StatusName(e.Status), "n/a")
	if e.Signal != 0 {
		code, status = "killed", strconv.Itoa(int(e.Signal))+"/"+signalName(e.Signal)
		if e.Core {
			code = "dumped"
		}
	}
	m.host.Log("%s process exited, code=%s, status=%s", who, code, status)
}

func (m *Machine) controlEnded(e reap.Exit) {
	m.control = 0
	command := m.commands[m.next-1]
	r := m.judge(e, true)
	if command.IgnoreFailure {
		r = Success
	}
	who := "Control"
	if m.state == Condition {
		who = "Condition check"
		if r == ExitCode && e.Status < 255 {
			r = SkipCondition
		}
	}
	if r != SkipCondition {
		m.logExit(who, e, r)
	}
	if m.state == Reload {
		m.reloadResult = r
	} else {
		m.fail(r)
	}
	if m.next < len(m.commands) && r == Success {
		m.runNext()
		return
	}
	m.phaseEnded(r)
}

// phaseEnded goes on after the last command of a phase, or its first failure.
func (m *Machine) phaseEnded(r Result) {
	m.commands = nil
	switch m.state {
	case Condition:
		m.after(r, m.enterStartPre)
	case StartPre:
		m.after(r, m.enterStart)
	case Start:
		m.after(r, m.forked)
	case StartPost:
		m.after(r, func() { m.enterRunning(Success) })
	case Reload:
		m.enterRunning(Success)
	case Stop:
		m.enterSignal(StopSigterm, r)
	case StopWatchdog, StopSigterm, StopSigkill:
		if m.main == 0 {
			m.enterStopPost(r)
		}
	case StopPost:
		m.enterSignal(FinalSigterm, r)
	case FinalWatchdog, FinalSigterm, FinalSigkill:
		if m.main == 0 {
			m.enterDead(r, true)
		}
	}
}

// after goes on when the phase was good and takes the service down otherwise.
func (m *Machine) after(r Result, next func()) {
	if r == Success {
		next()
		return
	}
	m.enterSignal(StopSigterm, r)
}

// forked goes on after the first process of a forking service ended well.
func (m *Machine) forked() {
	if m.cfg.PIDFile != "" {
		if !m.loadPIDFile() {
			m.host.WatchPIDFile(true)
			m.PIDFileChanged() // it may have come in between
		}
		return
	}
	if m.cfg.GuessMainPID {
		if pid := m.host.GuessMain(); pid > 0 {
			m.adopt(pid)
		}
	}
	m.enterStartPost()
}

// loadPIDFile takes the main process from the PID file and goes on; false when
// there is none yet.
func (m *Machine) loadPIDFile() bool {
	pid := m.host.ReadPIDFile()
	if pid <= 0 {
		return false
	}
	m.adopt(pid)
	m.enterStartPost()
	return true
}

func (m *Machine) adopt(pid int) {
	m.main, m.mainKnown, m.mainExited, m.mainIgnoreFail = pid, true, false, false
	m.host.Adopt(pid)
}

// PIDFileChanged tells that the PID file may be there now.
func (m *Machine) PIDFileChanged() {
	if m.state == Start && m.cfg.Type == unit.Forking && m.control == 0 {
		m.loadPIDFile()
	}
}

// Ran tells that the program of a Type=exec service runs.
func (m *Machine) Ran(pid int) {
	if m.state == Start && m.cfg.Type == unit.Exec && pid == m.main {
		m.enterStartPost()
	}
}

// GroupEmpty tells that no process is left in the unit's control group.
func (m *Machine) GroupEmpty() {
	if m.main > 0 || m.control > 0 {
		return // the exit itself is on its way and says more
	}
	switch m.state {
	case Start:
		if m.cfg.Type == unit.Notify || m.cfg.PIDFile != "" {
			m.enterSignal(StopSigterm, Protocol)
		}
	case StartPost:
		if m.cfg.PIDFile != "" {
			m.enterSignal(StopSigterm, Protocol)
		}
	case Running:
		m.enterRunning(Success)
	case StopWatchdog, StopSigterm, StopSigkill:
		m.enterStopPost(Success)
	case StopPost, FinalWatchdog, FinalSigterm, FinalSigkill:
		m.enterDead(Success, true)
	}
}

// Elapsed tells that a timer ran out.
func (m *Machine) Elapsed(t Timer) {
	if t == WatchdogTimer {
		m.watchdogElapsed()
		return
	}
	switch m.state {
	case Condition, StartPre, Start, StartPost:
		m.host.Log("%s operation timed out. Terminating.", m.state)
		m.enterSignal(late(m.cfg.TimeoutStartFailure), Timeout)
	case Running:
		m.host.Log("Service reached runtime time limit. Stopping.")
		m.enterStop(Timeout)
	case Reload:
		m.host.Log("Reload operation timed out. Killing reload process.")
		if m.control > 0 {
			m.host.Kill(m.control, int(unix.SIGKILL))
		}
		m.control, m.reloadResult = 0, Timeout
		m.enterRunning(Success)
	case Stop:
		m.host.Log("Stopping timed out. Terminating.")
		m.enterSignal(late(m.cfg.TimeoutStopFailure), Timeout)
	case StopSigterm:
		if m.cfg.TimeoutStopFailure == "abort" {
			m.host.Log("State '%s' timed out. Aborting.", m.state)
			m.enterSignal(StopWatchdog, Timeout)
			return
		}
		m.killLate(StopSigkill, func() { m.enterStopPost(Timeout) })
	case StopWatchdog:
		m.killLate(StopSigkill, func() { m.enterStopPost(Timeout) })
	case StopSigkill:
		m.host.Log("Processes still around after SIGKILL. Ignoring.")
		m.enterStopPost(Timeout)
	case StopPost:
		m.host.Log("Stop-post timed out. Terminating.")
		m.enterSignal(FinalSigterm, Timeout)
	case FinalWatchdog, FinalSigterm:
		m.killLate(FinalSigkill, func() { m.enterDead(Timeout, false) })
	case FinalSigkill:
		m.host.Log("Processes still around after final SIGKILL. Entering failed mode.")
		m.enterDead(Timeout, true)
	}
}

// late is how a command ends that takes too long.
func late(mode string) State {
	switch mode {
	case "abort":
		return StopWatchdog
	case "kill":
		return StopSigkill
	}
	return StopSigterm
}

// killLate kills what did not end in time, unless the unit forbids it.
func (m *Machine) killLate(s State, otherwise func()) {
	if m.cfg.SendSIGKILL {
		m.host.Log("State '%s' timed out. Killing.", m.state)
		m.enterSignal(s, Timeout)
		return
	}
	m.host.Log("State '%s' timed out. Skipping SIGKILL.", m.state)
	otherwise()
}

func (m *Machine) watchdogElapsed() {
	switch m.state {
	case Start, StartPost, Running, Reload:
		m.host.Log("Watchdog timeout (limit %s)!", m.watchdog)
		m.enterSignal(StopWatchdog, Watchdog)
	}
}

// OutOfMemory tells that the kernel killed a process of the unit for want of
// memory.
func (m *Machine) OutOfMemory() {
	if m.cfg.OOMPolicy == "continue" {
		return
	}
	switch m.state {
	case Condition, StartPre, Start, StartPost, Stop, StopPost:
		m.enterSignal(StopSigterm, OOMKill)
	case Running, Exited:
		m.enterStop(OOMKill)
	case StopWatchdog, StopSigterm:
		m.enterSignal(StopSigkill, OOMKill)
	case FinalWatchdog, FinalSigterm:
		m.enterSignal(FinalSigkill, OOMKill)
	}
}

// limit returns the time limit of the commands of the present state.
func (m *Machine) limit() time.Duration {
	switch m.state {
	case Stop, StopPost:
		return m.cfg.TimeoutStop
	default:
		return m.cfg.TimeoutStart
	}
}
