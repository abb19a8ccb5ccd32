package service

import (
	"time"

	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// Snapshot is everything that a Machine knows apart from its settings. A new
// copy of PID 1 gets it from the old one, as JSON.
type Snapshot struct {
	State                State
	Result, ReloadResult Result
	ForbidRestart        bool
	WillRestart          bool
	Notified, Stopping   bool

	Commands []unit.Command `json:",omitempty"`
	Phase    Phase
	Next     int

	Main, Control  int
	MainKnown      bool
	MainIgnoreFail bool
	MainCommands   []unit.Command `json:",omitempty"`
	MainExit       reap.Exit
	MainExited     bool
	Watchdog       time.Duration
	Status         string
	Errno          int
	Restarts       int
}

// Save returns the machine's snapshot.
func (m *Machine) Save() Snapshot {
	return Snapshot{State: m.state, Result: m.result, ReloadResult: m.reloadResult, ForbidRestart: m.forbidRestart,
		WillRestart: m.willRestart, Notified: m.notified, Stopping: m.stopping, Commands: m.commands, Phase: m.phase,
		Next: m.next, Main: m.main, Control: m.control, MainKnown: m.mainKnown, MainIgnoreFail: m.mainIgnoreFail,
		MainCommands: m.mainCommands, MainExit: m.mainExit, MainExited: m.mainExited, Watchdog: m.watchdog,
		Status: m.status, Errno: m.errno, Restarts: m.restarts}
}

// Restore makes the machine go on where another one was. It asks nothing of the
// host, which has to know the timers and processes by itself.
func (m *Machine) Restore(s Snapshot) {
	m.state, m.result, m.reloadResult, m.forbidRestart = s.State, s.Result, s.ReloadResult, s.ForbidRestart
	m.willRestart, m.notified, m.stopping, m.commands, m.phase = s.WillRestart, s.Notified, s.Stopping, s.Commands, s.Phase
	m.next, m.main, m.control, m.mainKnown, m.mainIgnoreFail = s.Next, s.Main, s.Control, s.MainKnown, s.MainIgnoreFail
	m.mainCommands, m.mainExit, m.mainExited, m.watchdog = s.MainCommands, s.MainExit, s.MainExited, s.Watchdog
	m.status, m.errno, m.restarts = s.Status, s.Errno, s.Restarts
}
