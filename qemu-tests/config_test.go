package qemutests

import (
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/qemu-tests/machine"
)

// checkConfig changes the running machine with coracled config: keeps one
// change, and cuts its own network with another, which is taken back.
func checkConfig(t *testing.T, m *machine.Machine) {
	put(m, "/tmp/kept.yaml", `#cloud-config
users: [{name: alice}, {name: dave}]
write_files: [{path: /etc/kept, content: "kept\n"}]
coreos: {units: [{name: tried.service, command: start, content: "[Service]\nExecStart=/bin/sleep infinity\n"}]}
`)
	if r := m.Exec("core", "sudo coracled config diff /tmp/kept.yaml"); r.Code != 1 || !strings.Contains(r.Out, "+kept\n") {
		t.Errorf("diff: exit %d\n%s%s", r.Code, r.Out, r.Err)
	}
	if got := m.Run("sudo coracled config apply /tmp/kept.yaml --try 20m 2>&1"); !strings.Contains(got, "coracled config confirm") {
		t.Errorf("apply --try says\n%s", got)
	}
	// Both ends of this connection are watched.
	if got := m.Run("sudo cat /run/coracle/config-try.log"); !strings.Contains(got, "watching: the default route, the way to 10.0.2.2, the SSH server at 10.0.2.15:22") {
		t.Errorf("the guard says\n%s", got)
	}
	for command, want := range map[string]string{
		"cat /etc/kept": "kept", "id -u dave": "1001", "systemctl is-active tried.service": "active",
	} {
		if got := m.Run(command); got != want {
			t.Errorf("while it is tried, %s: %q, want %q", command, got, want)
		}
	}
	m.Run("sudo coracled config confirm")

	put(m, "/tmp/cut.yaml", `#cloud-config
users: [{name: alice}, {name: dave}]
write_files: [{path: /etc/kept, content: "cut\n"}]
coreos: {units: [{name: 00-cut.network, content: "[Match]\nName=e*\n[Network]\nAddress=198.51.100.9/24\nGateway=198.51.100.1\n"}]}
`)
	// As a unit, for the end of the session ends what runs in it.
	m.Run(`sudo systemd-run --unit=cut --setenv=SSH_CONNECTION="$SSH_CONNECTION" /usr/bin/coracled config apply /tmp/cut.yaml --try 20m`)
	m.Eventually("sudo cat /run/coracle/config-try.log || sudo systemctl status cut", "cut.yaml is taken back", 4*time.Minute)
	if log := m.Run("sudo cat /run/coracle/config-try.log"); !strings.Contains(log, "the machine can not be reached") {
		t.Errorf("the guard says\n%s", log)
	}
	for command, want := range map[string]string{
		"cat /etc/kept": "kept", "ls /etc/systemd/network/00-cut.network 2>/dev/null | wc -l": "0", "sudo coracled config status": "nothing is being tried",
	} {
		if got := m.Run(command); got != want {
			t.Errorf("after it was taken back, %s: %q, want %q", command, got, want)
		}
	}
}

// beginTry leaves a change unconfirmed, for the next boot to take back.
func beginTry(m *machine.Machine) {
	put(m, "/tmp/later.yaml", "#cloud-config\nusers: [{name: alice}, {name: dave}]\nwrite_files: [{path: /etc/kept, content: \"later\\n\"}]\n")
	m.Run("sudo coracled config apply /tmp/later.yaml --try 2h && grep later /etc/kept")
}

func checkTakenBack(t *testing.T, m *machine.Machine) {
	if got := m.Run("cat /etc/kept"); got != "kept" {
		t.Errorf("after a boot in the middle of a try, /etc/kept is %q", got)
	}
	if got := m.Run("sudo coracled config status"); got != "nothing is being tried" {
		t.Errorf("status: %q", got)
	}
}

func put(m *machine.Machine, path, content string) {
	m.Run("cat > " + path + " <<'END'\n" + content + "END\n")
}
