// Package service is the life of one .service unit as a state machine: it is
// told what happened (start and stop requests, exits, notifications, elapsed
// timers) and says what to do (spawn, kill, arm a timer) through the narrow
// interface Host. It has no clock, process or file of its own, so its
// scenarios run in a test in microseconds.
//
// It follows systemd.service(5) and systemd.kill(5) with the details recorded
// from systemd 252: which failure a unit's result keeps, when ExecStop= is
// skipped, what a timeout does in each state. Left out on purpose: Type=dbus,
// and bus names.
package service

import (
	"time"

	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// State is the detailed state of a service; the words are systemctl's
// SubState.
type State string

// The states of a service.
const (
	Dead          State = "dead"
	Condition     State = "condition"
	StartPre      State = "start-pre"
	Start         State = "start"
	StartPost     State = "start-post"
	Running       State = "running"
	Exited        State = "exited"
	Reload        State = "reload"
	Stop          State = "stop"
	StopWatchdog  State = "stop-watchdog"
	StopSigterm   State = "stop-sigterm"
	StopSigkill   State = "stop-sigkill"
	StopPost      State = "stop-post"
	FinalWatchdog State = "final-watchdog"
	FinalSigterm  State = "final-sigterm"
	FinalSigkill  State = "final-sigkill"
	Failed        State = "failed"
	AutoRestart   State = "auto-restart"
)

// Result is why a service ended; the words are systemctl's.
type Result string

// The results of a service.
const (
	Success       Result = "success"
	Resources     Result = "resources"
	Protocol      Result = "protocol"
	Timeout       Result = "timeout"
	ExitCode      Result = "exit-code"
	Signal        Result = "signal"
	CoreDump      Result = "core-dump"
	Watchdog      Result = "watchdog"
	StartLimitHit Result = "start-limit-hit"
	OOMKill       Result = "oom-kill"
	SkipCondition Result = "exec-condition"
)

// Active returns systemctl's ActiveState of a state.
func (s State) Active() string {
	switch s {
	case Dead:
		return "inactive"
	case Failed:
		return "failed"
	case Running, Exited:
		return "active"
	case Reload:
		return "reloading"
	case Condition, StartPre, Start, StartPost, AutoRestart:
		return "activating"
	default:
		return "deactivating"
	}
}

// Phase is the setting that a command comes from.
type Phase string

// The phases of a service.
const (
	ExecCondition Phase = "ExecCondition"
	ExecStartPre  Phase = "ExecStartPre"
	ExecStart     Phase = "ExecStart"
	ExecStartPost Phase = "ExecStartPost"
	ExecReload    Phase = "ExecReload"
	ExecStop      Phase = "ExecStop"
	ExecStopPost  Phase = "ExecStopPost"
)

// Timer names one of the two timers of a service.
type Timer string

// The timers.
const (
	StateTimer    Timer = "state"    // bounds the present state, or ends auto-restart
	WatchdogTimer Timer = "watchdog" // elapses when the service did not send WATCHDOG=1
)

// Process describes what to spawn.
type Process struct {
	Phase   Phase
	Command unit.Command
	Main    bool     // the service's main process, not a helper of it
	Env     []string // variables that only the machine knows: MAINPID, SERVICE_RESULT, ...
}

// Host is what a Machine acts upon. Its methods must not call the Machine,
// except that Changed may read it.
type Host interface {
	// Spawn starts a process. An error means that the process could not be
	// made; a program that cannot run is an exit with status 200 and up,
	// reported later through Machine.Exited. With Type=exec the host reports
	// the program's start through Machine.Ran.
	Spawn(Process) (pid int, err error)
	// Kill signals one process, and reports false when it is not there.
	Kill(pid int, sig int) bool
	// KillGroup signals the processes of the unit's control group except the
	// named, and returns how many there were.
	KillGroup(sig int, except ...int) int
	// Populated reports whether the unit's control group holds a process.
	Populated() bool
	// Arm sets a timer, replacing its earlier setting; zero clears it.
	Arm(t Timer, after time.Duration)
	// ReadPIDFile returns the process id in the unit's PIDFile=, or 0 while
	// there is no such file or no such process.
	ReadPIDFile() int
	// GuessMain returns the one process of the control group that can be the
	// main process of a forking service, or 0.
	GuessMain() int
	// Adopt asks for the exit of a process that the host did not spawn.
	Adopt(pid int)
	// WatchPIDFile asks for Machine.PIDFileChanged when the file appears.
	WatchPIDFile(on bool)
	// Changed is called after each change of state.
	Changed(from, to State)
	// Ended is called when the service is down, before Changed, to remove
	// what was there for this run, such as the runtime directory.
	// restarting tells that it will be started again by itself.
	Ended(restarting bool)
	// Restarting reports whether somebody has asked for a restart, of which
	// the present stop is the first half.
	Restarting() bool
	// Log records what people should know.
	Log(format string, args ...any)
}

// Machine is one service. Make it with New.
type Machine struct {
	name string
	cfg  *unit.Service
	host Host

	state         State
	result        Result
	reloadResult  Result
	forbidRestart bool
	willRestart   bool
	notified      bool // READY=1 was received
	stopping      bool // STOPPING=1 was received

	commands []unit.Command // of the present phase
	phase    Phase
	next     int // index of the command after the running one

	main, control  int // process ids, 0 when there is none
	mainKnown      bool
	mainIgnoreFail bool
	mainCommands   []unit.Command // of a oneshot: those after the running one
	mainExit       reap.Exit
	mainExited     bool
	watchdog       time.Duration
	status         string
	errno          int
	restarts       int
}

// New returns the machine of the service called name, in state Dead.
func New(name string, cfg *unit.Service, host Host) *Machine {
	return &Machine{name: name, cfg: cfg, host: host, state: Dead, result: Success, reloadResult: Success}
}

// Reconfigure replaces the settings, after the unit's files were read again.
// What runs goes on as it was started.
func (m *Machine) Reconfigure(cfg *unit.Service) { m.cfg = cfg }

// State returns the present state.
func (m *Machine) State() State { return m.state }

// Result returns why the last run ended, Success while it goes on well.
func (m *Machine) Result() Result { return m.result }

// ReloadResult returns how the last reload went.
func (m *Machine) ReloadResult() Result { return m.reloadResult }

// MainPID returns the main process, or 0.
func (m *Machine) MainPID() int { return m.main }

// ControlPID returns the helper process that runs now, or 0.
func (m *Machine) ControlPID() int { return m.control }

// MainExit returns how the main process last ended; false if it has not.
func (m *Machine) MainExit() (reap.Exit, bool) { return m.mainExit, m.mainExited }

// StatusText returns the STATUS= that the service last sent.
func (m *Machine) StatusText() string { return m.status }

// Errno returns the ERRNO= that the service last sent, or 0.
func (m *Machine) Errno() int { return m.errno }

// Restarts returns how often the service was restarted by itself since it was
// last started by request.
func (m *Machine) Restarts() int { return m.restarts }

// WillRestart reports whether the machine, just gone down, starts by itself.
func (m *Machine) WillRestart() bool { return m.willRestart }

// WatchdogEvery returns the interval in which the service must send
// WATCHDOG=1, or 0.
func (m *Machine) WatchdogEvery() time.Duration { return m.watchdog }

// Reset makes a failed service inactive.
func (m *Machine) Reset() {
	m.result, m.reloadResult, m.restarts = Success, Success, 0
	if m.state == Failed {
		m.set(Dead)
	}
}

// set changes the state; states without a time limit clear the timer.
func (m *Machine) set(s State) {
	from := m.state
	m.state = s
	switch s {
	case Dead, Failed, Running, Exited:
		m.arm(0)
		m.control, m.commands = 0, nil
	}
	switch s {
	case Start, StartPost, Running, Reload:
	default:
		m.host.Arm(WatchdogTimer, 0)
	}
	if s != Start && s != StartPost && m.cfg.PIDFile != "" {
		m.host.WatchPIDFile(false)
	}
	m.host.Changed(from, s)
}

// arm sets the state's time limit; infinity and zero mean none.
func (m *Machine) arm(d time.Duration) {
	if d == timespan.Infinity {
		d = 0
	}
	m.host.Arm(StateTimer, d)
}

// fail keeps the first failure of a run.
func (m *Machine) fail(r Result) {
	if m.result == Success {
		m.result = r
	}
}
