package service

import (
	"strconv"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// Notify takes in a message that a process of the service sent to
// $NOTIFY_SOCKET (sd_notify(3)), as NAME and value pairs in their order.
// Messages from processes that NotifyAccess= does not name are ignored.
func (m *Machine) Notify(pid int, fields [][2]string) {
	if !m.hears(pid) {
		return
	}
	for _, f := range fields {
		switch f[0] {
		case "MAINPID":
			if n, err := strconv.Atoi(f[1]); err == nil && n > 1 && n != m.main && m.host.Kill(n, 0) {
				m.adopt(n)
			}
		case "STATUS":
			m.status = f[1]
		case "ERRNO":
			if n, err := strconv.Atoi(f[1]); err == nil && n >= 0 && n <= 4095 {
				m.errno = n
			}
		case "RELOADING":
			if f[1] == "1" {
				m.announceReload()
			}
		case "WATCHDOG":
			m.pet(f[1])
		case "WATCHDOG_USEC":
			if us, err := strconv.ParseInt(f[1], 10, 64); err == nil && us > 0 {
				m.watchdog = time.Duration(us) * time.Microsecond
				m.pet("1")
			}
		case "EXTEND_TIMEOUT_USEC":
			m.extend(f[1])
		case "READY":
			if f[1] == "1" {
				m.ready()
			}
		case "STOPPING":
			if f[1] == "1" {
				m.announceStop()
			}
		}
	}
}

// hears applies NotifyAccess=.
func (m *Machine) hears(pid int) bool {
	switch m.cfg.NotifyAccess {
	case unit.NotifyAll:
		return true
	case unit.NotifyExec:
		return pid == m.main || pid == m.control
	case unit.NotifyMain:
		if pid == m.main {
			return true
		}
		if m.main > 0 {
			m.host.Log("Got notification message from PID %d, but reception only permitted for main PID %d", pid, m.main)
		}
	}
	return false
}

func (m *Machine) ready() {
	m.notified = true
	switch {
	case m.cfg.Type == unit.Notify && m.state == Start:
		m.enterStartPost()
	case m.state == Reload && m.control == 0: // it had announced it by itself
		m.enterRunning(Success)
	}
}

// announceReload is a service that reads its configuration again unasked.
func (m *Machine) announceReload() {
	if m.state == Running {
		m.set(Reload)
		m.arm(m.cfg.TimeoutStart)
	}
}

func (m *Machine) announceStop() {
	m.stopping = true
	if m.state == Running {
		m.set(StopSigterm)
		m.arm(m.cfg.TimeoutStop)
	}
}

// pet restarts the watchdog, or fires it when the service asks for that.
func (m *Machine) pet(value string) {
	if value == "trigger" {
		m.watchdogElapsed()
		return
	}
	switch m.state {
	case Start, StartPost, Running, Reload:
		if m.watchdog > 0 {
			m.host.Arm(WatchdogTimer, m.watchdog)
		}
	}
}

// extend prolongs the time limit of the present state.
func (m *Machine) extend(value string) {
	us, err := strconv.ParseInt(value, 10, 64)
	if err != nil || us <= 0 || us > int64(365*24*time.Hour/time.Microsecond) {
		return
	}
	switch m.state {
	case Dead, Failed, Exited, AutoRestart:
	case Running:
		if m.cfg.RuntimeMax > 0 {
			m.arm(time.Duration(us) * time.Microsecond)
		}
	default:
		m.arm(time.Duration(us) * time.Microsecond)
	}
}
