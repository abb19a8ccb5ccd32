package service

import (
	"fmt"
	"strconv"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// Start begins a run. It reports an error when the service is neither down nor
// waiting to be restarted; the caller has checked conditions and limits. again
// tells that the machine itself asked for it, after RestartSec=.
func (m *Machine) Start(again bool) error {
	switch m.state {
	case Dead, Failed, AutoRestart:
	default:
		return fmt.Errorf("start %s: it is %s", m.name, m.state)
	}
	m.result, m.reloadResult = Success, Success
	m.forbidRestart, m.willRestart, m.notified, m.stopping = false, false, false, false
	m.main, m.control, m.mainKnown, m.mainExited = 0, 0, false, false
	m.mainCommands, m.status, m.errno = nil, "", 0
	m.watchdog = m.cfg.Watchdog
	if again {
		m.restarts++
	} else {
		m.restarts = 0
	}
	m.warnLeftovers()
	m.enterCondition()
	return nil
}

// RefuseStart makes the service fail without having run, because of r. again is
// as for Start.
func (m *Machine) RefuseStart(again bool, r Result) {
	if again {
		m.restarts++
	}
	m.fail(r)
	m.enterDead(r, false)
}

// warnLeftovers says when processes of an earlier run, or of a helper that
// ended, still live.
func (m *Machine) warnLeftovers() {
	if m.host.Populated() {
		m.host.Log("Found left-over processes in control group while starting unit. Ignoring.")
	}
}

func (m *Machine) enterCondition() {
	if len(m.cfg.ExecCondition) == 0 {
		m.enterStartPre()
		return
	}
	m.control = 0
	m.begin(Condition, ExecCondition, m.cfg.ExecCondition)
}

func (m *Machine) enterStartPre() {
	if len(m.cfg.ExecStartPre) == 0 {
		m.enterStart()
		return
	}
	m.begin(StartPre, ExecStartPre, m.cfg.ExecStartPre)
}

// begin enters a state that runs the commands of a phase one after the other.
func (m *Machine) begin(s State, p Phase, commands []unit.Command) {
	m.phase, m.commands, m.next = p, commands, 0
	m.set(s)
	m.runNext()
}

// runNext starts the next command of the present phase as the control process.
func (m *Machine) runNext() {
	c := m.commands[m.next]
	m.next++
	m.arm(m.limit())
	pid, err := m.host.Spawn(Process{Phase: m.phase, Command: c, Env: m.environment()})
	if err != nil {
		m.host.Log("Failed to run '%s' task: %v", m.phaseWord(), err)
		m.spawnFailed()
		return
	}
	m.control = pid
}

// spawnFailed goes on after a process could not be made.
func (m *Machine) spawnFailed() {
	switch m.state {
	case Reload:
		m.reloadResult = Resources
		m.enterRunning(Success)
	case Stop:
		m.enterSignal(StopSigterm, Resources)
	case StopPost:
		m.enterSignal(FinalSigterm, Resources)
	default:
		m.enterSignal(StopSigterm, Resources)
	}
}

func (m *Machine) phaseWord() string {
	words := map[Phase]string{ExecCondition: "condition", ExecStartPre: "start-pre", ExecStart: "start",
		ExecStartPost: "start-post", ExecReload: "reload", ExecStop: "stop", ExecStopPost: "stop-post"}
	return words[m.phase]
}

func (m *Machine) enterStart() {
	if m.phase == ExecStartPre {
		m.warnLeftovers()
	}
	m.phase = ExecStart
	commands := m.cfg.ExecStart
	if len(commands) == 0 { // a oneshot that only stops something
		m.set(Start)
		m.enterStartPost()
		return
	}
	if m.cfg.Type == unit.Forking {
		m.mainKnown = false
		m.begin(Start, ExecStart, commands)
		return
	}
	if m.cfg.Type != unit.Simple && m.cfg.Type != unit.Idle {
		m.set(Start)
	}
	if m.startMain(commands) && (m.cfg.Type == unit.Simple || m.cfg.Type == unit.Idle) {
		m.enterStartPost()
	}
}

// startMain spawns the first of the commands as the main process and keeps the
// others for when it has ended. It reports whether that worked.
func (m *Machine) startMain(commands []unit.Command) bool {
	switch m.cfg.Type {
	case unit.Simple, unit.Idle:
		m.arm(0)
	default:
		m.arm(m.cfg.TimeoutStart)
	}
	m.mainIgnoreFail, m.mainCommands = commands[0].IgnoreFailure, commands[1:]
	m.mainExited, m.mainKnown = false, true
	pid, err := m.host.Spawn(Process{Phase: ExecStart, Command: commands[0], Main: true, Env: m.environment()})
	if err != nil {
		m.host.Log("Failed to run 'start' task: %v", err)
		m.enterSignal(StopSigterm, Resources)
		return false
	}
	m.main = pid
	if m.state == Start && m.watchdog > 0 {
		m.host.Arm(WatchdogTimer, 0)
	}
	return true
}

func (m *Machine) enterStartPost() {
	if m.watchdog > 0 {
		m.host.Arm(WatchdogTimer, m.watchdog)
	}
	if len(m.cfg.ExecStartPost) == 0 {
		m.enterRunning(Success)
		return
	}
	m.begin(StartPost, ExecStartPost, m.cfg.ExecStartPost)
}

// enterRunning goes to where the service now belongs: running while there is
// something that runs, exited, or down.
func (m *Machine) enterRunning(r Result) {
	m.fail(r)
	m.control, m.commands = 0, nil
	switch {
	case m.result != Success:
		m.enterSignal(StopSigterm, r)
	case m.good() && m.stopping:
		m.set(StopSigterm)
		m.arm(m.cfg.TimeoutStop)
	case m.good():
		m.set(Running)
		m.arm(m.cfg.RuntimeMax)
	case m.cfg.RemainAfterExit:
		m.set(Exited)
	default:
		m.enterStop(Success)
	}
}

// good reports whether the service still has what makes it run.
func (m *Machine) good() bool {
	if m.main > 0 {
		return true
	}
	if m.mainKnown && !m.cfg.ExitOfGroup {
		return false
	}
	return (m.cfg.Type == unit.Forking || m.cfg.ExitOfGroup) && m.host.Populated()
}

// environment returns the variables that come from the machine's state.
func (m *Machine) environment() []string {
	var env []string
	if m.main > 0 && m.phase != ExecStart {
		env = append(env, "MAINPID="+strconv.Itoa(m.main))
	}
	if m.phase != ExecStop && m.phase != ExecStopPost {
		return env
	}
	return append(env, m.Outcome()...)
}

// Outcome returns the variables that tell ExecStop= and others how the service
// ended: SERVICE_RESULT, and EXIT_CODE and EXIT_STATUS of its main process.
func (m *Machine) Outcome() []string {
	env := []string{"SERVICE_RESULT=" + string(m.result)}
	if m.mainExited {
		code, status := "exited", strconv.Itoa(m.mainExit.Status)
		if m.mainExit.Signal != 0 {
			code, status = "killed", signalName(m.mainExit.Signal)
			if m.mainExit.Core {
				code = "dumped"
			}
		}
		env = append(env, "EXIT_CODE="+code, "EXIT_STATUS="+status)
	}
	return env
}

// Reload runs ExecReload=. It reports an error when the service has none or
// does not run.
func (m *Machine) Reload() error {
	if m.state != Running && m.state != Exited {
		return fmt.Errorf("reload %s: it is %s", m.name, m.state)
	}
	if len(m.cfg.ExecReload) == 0 {
		return fmt.Errorf("reload %s: the unit has no ExecReload=", m.name)
	}
	m.reloadResult = Success
	m.begin(Reload, ExecReload, m.cfg.ExecReload)
	return nil
}
