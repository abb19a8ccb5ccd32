package qemutests

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/qemu-tests/machine"
)

// checkLimits runs what of the contract's cases (cgroup-*) needs the kernel's
// controllers, which a name space of the machine that tests may not have.
func checkLimits(t *testing.T, m *machine.Machine) {
	for settings, want := range map[string]string{
		"-p MemoryLimit=64M -p MemoryMax=96M -p CPUQuota=20%": "100663296\n20000 100000",
		"-p MemoryMax=64M -p CPUQuota=150%":                   "67108864\n150000 100000",
	} {
		got := m.Run("sudo systemd-run -q --unit=limits " + settings + ` sleep 1003
			cat /sys/fs/cgroup/system.slice/limits.service/memory.max /sys/fs/cgroup/system.slice/limits.service/cpu.max
			sudo systemctl stop limits`)
		if got != want {
			t.Errorf("%s: %q, want %q", settings, got, want)
		}
	}
}

// checkForks has a unit that forks without end, and is started again as often
// as it dies of it: its limit holds, PID 1 answers and stays small, and a stop
// leaves nothing.
func checkForks(t *testing.T, m *machine.Machine) {
	put(m, "/tmp/forks.service", `[Unit]
StartLimitIntervalSec=0
[Service]
TasksMax=60
Restart=always
RestartSec=0
ExecStart=/bin/sh -c "while true; do sleep 1002 & done"
`)
	m.Run("sudo cp /tmp/forks.service /run/systemd/system/ && sudo systemctl daemon-reload && sudo systemctl start forks")
	m.Eventually("grep '^max [1-9]' /sys/fs/cgroup/system.slice/forks.service/pids.events", "max", time.Minute)
	if got := m.Run("cat /sys/fs/cgroup/system.slice/forks.service/pids.max; systemctl is-active sshd.service"); got != "60\nactive" {
		t.Errorf("while a unit forks, its limit and the state of sshd: %q", got)
	}
	resident := m.Run("awk '/^VmRSS/ {print $2}' /proc/1/status")
	if kB, err := strconv.Atoi(resident); err != nil || kB > 30<<10 {
		t.Errorf("PID 1 has %s kB in memory while a unit forks", resident)
	}
	m.Run("sudo systemctl stop forks && sudo rm /run/systemd/system/forks.service && sudo systemctl daemon-reload")
	if left := m.Exec("core", "pgrep -f '^sleep 1002'"); left.Out != "" {
		t.Errorf("the stop left processes %q", left.Out)
	}
}

// services are what checkKilled finds again, as new processes.
var services = strings.Fields("sshd systemd-journald systemd-networkd etcd containerd docker update-engine locksmithd")

// checkKilled kills every process but PID 1, twice: each time the machine is
// whole again by itself, with what was stored.
func checkKilled(t *testing.T, m *machine.Machine) {
	pids := "systemctl show --value -p MainPID " + strings.Join(services, " ")
	active := "systemctl is-active " + strings.Join(services, " ")
	m.Run("sudo systemctl reset-failed; etcdctl put killed no; sync")
	for range 2 {
		before := strings.Fields(m.Run(pids))
		m.Exec("core", "sudo kill -9 -1") // the session with it
		m.Eventually(active+" && etcdctl get killed --print-value-only && docker ps", "no\n", 2*time.Minute)
		after := strings.Fields(m.Run(pids))
		for i, service := range services {
			if len(after) != len(before) || after[i] == "0" || after[i] == before[i] {
				t.Errorf("after every process was killed, %s has process %v, before %v", service, after, before)
			}
		}
		if got := m.Exec("core", "systemctl list-units --failed --no-legend"); strings.TrimSpace(got.Out) != "" {
			t.Errorf("after every process was killed, these have failed:\n%s", got.Out)
		}
	}
	if got := m.Run("sudo systemd-run -q --wait --unit=heard echo found; journalctl -u heard -o cat"); !strings.Contains(got, "found") {
		t.Errorf("the journal does not take records any more: %q", got)
	}
}
