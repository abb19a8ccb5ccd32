package qemutests

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/qemu-tests/machine"
)

// userData is the example that users start from, as published, plus what the
// checks look at.
const userData = `#cloud-config
hostname: boat
ssh_authorized_keys:
  - $KEY
users:
  - name: alice
    groups: [docker]
    ssh_authorized_keys:
      - $KEY
write_files:
  - path: /etc/docker/daemon.json
    content: '%s'
  - path: /opt/secret
    permissions: "0600"
    owner: core:core
    encoding: base64
    content: aGVsbG8=
  - path: /etc/addresses
    content: "private=$private_ipv4"
coreos:
  etcd:
    addr: $private_ipv4:4001
    peer-addr: $private_ipv4:7001
  units:
    - name: etcd.service
      command: start
    - name: hello1.service
      command: start
      content: |
        [Unit]
        Description=My Service
        After=docker.service
        [Service]
        TimeoutStartSec=0
        Restart=always
        RestartSec=30s
        ExecStartPre=-/usr/bin/docker kill hello
        ExecStartPre=-/usr/bin/docker rm hello
        ExecStart=/usr/bin/docker run --name hello busybox /bin/sh -c "while true; do echo Hello World; sleep 1; done"
        ExecStop=/usr/bin/docker stop hello
    - name: crash.service
      command: start
      content: |
        [Service]
        Restart=always
        RestartSec=0
        StartLimitBurst=4
        ExecStart=/bin/sh -c "echo crashing; kill -SEGV $$$$"
    - name: wanted.service
      enable: true
      content: |
        [Service]
        Type=oneshot
        RemainAfterExit=yes
        Environment=GREETING=hi
        ExecStart=/bin/sh -c "echo $GREETING from %%n on %%H"
        [Install]
        WantedBy=multi-user.target
    - name: tree.service
      content: |
        [Service]
        ExecStart=/bin/sh -c "sleep 1000 & setsid sleep 1001 & trap '' TERM; while true; do sleep 1; done"
        TimeoutStopSec=2s
        Color=blue
`

// TestMachine boots once, checks what a user would look at, reboots, and
// switches off.
func TestMachine(t *testing.T) {
	t.Parallel()
	port := serveRegistry(t)
	m := machine.Boot(t, machine.Options{
		UserData: fmt.Sprintf(userData, mirrorConfig(port)) + networkUnits(t),
		DiskSize: 8 << 30,
		Forwards: []int{2379, 4001, 8080},
	})
	m.Dial("core")
	m.Eventually("systemctl is-active multi-user.target", "active\n", 3*time.Minute)

	t.Run("provisioned", func(t *testing.T) { checkProvisioned(t, m.In(t)) })
	t.Run("network", func(t *testing.T) { checkNetwork(t, m.In(t)) })
	t.Run("system", func(t *testing.T) { checkSystem(t, m.In(t)) })
	t.Run("units", func(t *testing.T) { checkUnits(t, m.In(t)) })
	t.Run("journal", func(t *testing.T) { checkJournal(t, m.In(t)) })
	t.Run("kv", func(t *testing.T) { checkKV(t, m.In(t)) })
	t.Run("containers", func(t *testing.T) { checkContainers(t, m.In(t)) })
	t.Run("limits", func(t *testing.T) { checkLimits(t, m.In(t)) })
	t.Run("forks", func(t *testing.T) { checkForks(t, m.In(t)) })
	t.Run("killed", func(t *testing.T) { checkKilled(t, m.In(t)) })
	t.Run("config", func(t *testing.T) { checkConfig(t, m.In(t)); beginTry(m.In(t)) })
	t.Run("reboot", func(t *testing.T) { checkReboot(t, m.In(t)) })
	t.Run("taken back", func(t *testing.T) { checkTakenBack(t, m.In(t)) })
	t.Run("poweroff", func(t *testing.T) { checkPowerOff(t, m.In(t)) })
}

func checkProvisioned(t *testing.T, m *machine.Machine) {
	for command, want := range map[string]string{
		"hostname":                       "boat",
		"cat /etc/hostname":              "boat",
		"cat /opt/secret":                "hello",
		"stat -c '%a %U:%G' /opt/secret": "600 core:core",
		"cat /etc/addresses":             "private=10.0.2.15",
		"id -un":                         "core",
		"id -u":                          "500",
		"sudo id -u":                     "0",
		"sudo -i id -u":                  "0",
		"bash -c 'echo $((6*7))'":        "42",
		"sh -c 'for i in 1 2; do echo -n $i; done'": "12",
		"systemctl is-active wanted.service":        "active",
	} {
		if got := m.Run(command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	if r := m.Exec("alice", "id -Gn"); !strings.Contains(r.Out, "docker") {
		t.Errorf("alice is in %q, want docker among them", r.Out)
	}
	if got := m.Run("cat /run/systemd/system/etcd.service.d/20-cloudinit.conf"); !strings.Contains(got, `ETCD_ADDR=10.0.2.15:4001`) {
		t.Errorf("etcd's drop-in is\n%s", got)
	}
}

func checkSystem(t *testing.T, m *machine.Machine) {
	if r := m.Exec("core", "sudo touch /usr/x"); r.Code == 0 || !strings.Contains(r.Err, "ead-only") {
		t.Errorf("writing to /usr: exit %d, %q; want a read-only file system", r.Code, r.Err)
	}
	if got := m.Run("cat /proc/mounts"); !regexp.MustCompile(`(?m)^/dev/(dm-0|mapper/root) / erofs ro`).MatchString(got) {
		t.Errorf("the root is not the verified EROFS:\n%s", got)
	}
	var boot struct {
		RootHash      string
		VolatileState bool
	}
	if err := json.Unmarshal([]byte(m.Run("cat /run/coracle/boot.json")), &boot); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.Run("cat /proc/cmdline"), "roothash="+boot.RootHash) || boot.VolatileState {
		t.Errorf("boot.json says %+v", boot)
	}
	size := m.Run("df -k /var | tail -1 | awk '{print $2}'")
	if len(size) < 7 {
		t.Errorf("/var has %s KiB on a disk of 8 GiB: it did not grow", size)
	}
	if id := m.Run("cat /etc/machine-id"); !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
		t.Errorf("machine-id is %q", id)
	}
}

func checkUnits(t *testing.T, m *machine.Machine) {
	m.Run("sudo systemctl start tree.service")
	if got := m.Run("systemctl is-active tree.service"); got != "active" {
		t.Errorf("tree.service is %q after start", got)
	}
	m.Eventually("pgrep -fc '^sleep 100[01]'", "2", 10*time.Second)
	m.Run("sudo systemctl stop tree.service")
	m.Run("sudo systemctl reset-failed tree.service") // its shell had to be killed
	if got := m.Exec("core", "pgrep -f '^sleep 100[01]'"); got.Out != "" {
		t.Errorf("stopping tree.service left processes %q", got.Out)
	}
	if r := m.Exec("core", "systemctl is-active tree.service"); r.Code != 3 {
		t.Errorf("is-active of a stopped unit: exit %d, want 3", r.Code)
	}
	// PID 1 hands over to a new copy of itself, the watchdog with it; nothing stops.
	pids := "systemctl show -p MainPID etcd.service sshd.service systemd-journald.service"
	before := m.Run(pids)
	m.Run("sudo systemctl daemon-reexec")
	if after := m.Run(pids); after != before {
		t.Errorf("after daemon-reexec the processes are\n%s\nwere\n%s", after, before)
	}
	m.Run("sudo systemctl restart wanted.service")
	if got := m.Run("systemctl status wanted.service"); !strings.Contains(got, "Active: active (exited)") {
		t.Errorf("status:\n%s", got)
	}
	if r := m.Exec("core", "systemctl status crash.service"); r.Code != 3 || !strings.Contains(r.Out, "failed") {
		t.Errorf("status of a crashed unit: exit %d\n%s", r.Code, r.Out)
	}
	if r := m.Exec("core", "systemctl start none.service"); r.Code == 0 {
		t.Error("a user without rights started a unit")
	}
	if r := m.Exec("core", "sudo systemctl start none.service"); r.Code != 5 {
		t.Errorf("start of a unit that is not there: exit %d, want 5", r.Code)
	}
	if got := m.Run("systemctl list-units --no-pager"); !strings.Contains(got, "etcd.service") || !strings.Contains(got, "UNIT") {
		t.Errorf("list-units:\n%s", got)
	}
	if got := m.Run("systemctl cat hello1.service"); !strings.Contains(got, "# /etc/systemd/system/hello1.service") {
		t.Errorf("cat:\n%s", got)
	}
	if r := m.Exec("core", "systemctl list-units --failed --no-legend"); strings.Count(strings.TrimSpace(r.Out), "\n") != 0 || !strings.Contains(r.Out, "crash.service") {
		t.Errorf("only crash.service may have failed:\n%s", r.Out)
	}
}

func checkJournal(t *testing.T, m *machine.Machine) {
	if got := m.Run("journalctl -u wanted.service -n 5 --no-pager"); !strings.Contains(got, "hi from wanted.service on boat") {
		t.Errorf("journal of wanted.service:\n%s", got)
	}
	line := m.Run("journalctl -b -u crash.service -o json -n 1")
	record := map[string]any{}
	if err := json.Unmarshal([]byte(line), &record); err != nil {
		t.Fatalf("journalctl -o json: %v in %q", err, line)
	}
	for _, field := range []string{"MESSAGE", "__REALTIME_TIMESTAMP", "_BOOT_ID"} {
		if record[field] == nil {
			t.Errorf("a record has no %s: %s", field, line)
		}
	}
	if got := m.Run("journalctl -k -n 1000 --no-pager"); !strings.Contains(got, "Linux version") {
		t.Error("the journal does not hold the kernel's messages")
	}
	for command, want := range map[string]string{
		"journalctl -u wanted -o cat -g 'hi FROM' --case-sensitive=no -n 1":                                       "hi from wanted.service on boat",
		"journalctl -b -u wanted.service _TRANSPORT=stdout -o cat --output-fields=_TRANSPORT,_RUNTIME_SCOPE -n 1": "stdout\nsystem",
		"journalctl -F _TRANSPORT | grep -c kernel":                                                               "1",
		"journalctl -b -k -r -n 1 -o short-monotonic | cut -c1":                                                   "[",
		"journalctl --since '2020-01-01 00:00:00 UTC' -n 1 -o cat -k | cut -c1-13":                                "Linux version",
		"journalctl -b nosuch 2>&1; echo $?":                                                                      "Failed to add match 'nosuch': Invalid argument\n1",
		"journalctl -b -t forgotten --show-cursor >/dev/null; echo $?":                                            "1",
	} {
		if got := m.Run(command); got != strings.TrimSpace(want) {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	checkForwarding(t, m)
	if got := m.Run("journalctl -u tree.service --no-pager; journalctl -b --no-pager"); !strings.Contains(got, "Color") {
		t.Error("the unknown key Color= is not warned of")
	}
}

// checkForwarding has the journal sent to this machine, beginning with what the
// kernel said before there was a network.
func checkForwarding(t *testing.T, m *machine.Machine) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.TCPListener).SetDeadline(time.Now().Add(3 * time.Minute))
	m.Run("sudo mkdir -p /etc/systemd/journald.conf.d")
	m.Run("printf '[Journal]\\nForwardToRemote=tcp+json://10.0.2.2:" + port + "\\n' | sudo tee /etc/systemd/journald.conf.d/remote.conf")
	m.Run("sudo systemctl restart systemd-journald")
	conn, err := listener.Accept()
	if err != nil {
		t.Fatalf("the machine does not connect: %v", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(3 * time.Minute))
	m.Run("sudo systemd-run --unit=forwarded.service /bin/echo and there")
	early := false
	for decoder := json.NewDecoder(conn); ; {
		record := map[string]any{}
		if err := decoder.Decode(&record); err != nil {
			t.Fatalf("the record does not come: %v", err)
		}
		text, _ := record["MESSAGE"].(string)
		early = early || strings.HasPrefix(text, "Linux version")
		if record["_SYSTEMD_UNIT"] == "forwarded.service" && text == "and there" {
			break
		}
	}
	if !early {
		t.Error("what was logged before the network came does not come")
	}
	m.Run("sudo rm /etc/systemd/journald.conf.d/remote.conf; sudo systemctl restart systemd-journald")
}

func checkKV(t *testing.T, m *machine.Machine) {
	m.Eventually("etcdctl endpoint health", "", time.Minute)
	m.Run("etcdctl put message Hello")
	if got := m.Run("etcdctl --endpoints=http://127.0.0.1:4001 get message --print-value-only"); got != "Hello" {
		t.Errorf("get message: %q", got)
	}
	put, err := http.NewRequest(http.MethodPut, fmt.Sprintf("http://127.0.0.1:%d/v2/keys/old/message?value=Hi", m.Port(4001)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := http.DefaultClient.Do(put); err != nil || answer.StatusCode != http.StatusCreated {
		t.Errorf("a client of the API v2 puts a key: %+v, %v", answer, err)
	}
	if got := m.Run("etcdctl get /old/message --print-value-only"); got != "Hi" {
		t.Errorf("a client of the API v3 reads %q, want what v2 has put", got)
	}
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/version", m.Port(4001)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), `"etcdserver":"3.7`) {
		t.Errorf("/version on 4001 says %s", body)
	}
}

func checkContainers(t *testing.T, m *machine.Machine) {
	m.Eventually("docker logs hello", "Hello World", 3*time.Minute)
	m.Run("docker run -d --name web -p 8080:80 -v /srv/web:/www busybox sh -c 'echo served > /www/index.html; httpd -f -h /www'")
	m.Eventually("wget -O - http://127.0.0.1:8080/index.html", "served", time.Minute)
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/index.html", m.Port(8080)))
	if err != nil {
		t.Error(err)
	} else {
		resp.Body.Close()
	}
	if got := m.Run("cat /srv/web/index.html; docker exec web cat /www/index.html"); got != "served\nserved" {
		t.Errorf("the volume holds %q", got)
	}
	m.Run("docker run -d --name phoenix --restart=always busybox sh -c 'sleep 1; exit 1'")
	m.Eventually("docker inspect -f 'restarts={{.RestartCount}}.' phoenix", "restarts=2.", time.Minute)
	m.Run("docker rm -f phoenix web")
	if got := m.Run("docker info -f '{{.CgroupVersion}} {{.Driver}}'"); !strings.HasPrefix(got, "2 over") {
		t.Errorf("docker runs with %q", got)
	}
	m.Run("sudo ctr --namespace moby containers ls")
	m.Run("sudo systemctl stop hello1.service")
	if got := m.Run("docker ps -q -f name=hello"); got != "" {
		t.Errorf("container hello still runs after its unit was stopped")
	}
}

func checkReboot(t *testing.T, m *machine.Machine) {
	id, boot := m.Run("cat /etc/machine-id"), m.Run("cat /proc/sys/kernel/random/boot_id")
	hostKey := m.Run("cat /etc/ssh/ssh_host_ed25519_key.pub")
	m.Run("echo kept > /home/core/file; sync")
	from := len(m.Console())
	m.Exec("core", "sudo systemctl reboot")
	m.WaitConsole(`Linux version`, from, time.Minute)
	if got := m.Run("cat /proc/sys/kernel/random/boot_id"); got == boot {
		t.Fatal("the machine did not reboot")
	}
	for command, want := range map[string]string{
		"cat /etc/machine-id": id, "cat /home/core/file": "kept",
		"cat /etc/ssh/ssh_host_ed25519_key.pub": hostKey,
	} {
		if got := m.Run(command); got != want {
			t.Errorf("after a reboot, %s: %q, want %q", command, got, want)
		}
	}
	m.Eventually("etcdctl get message --print-value-only", "Hello", time.Minute)
	if got := m.Run("journalctl --list-boots --no-pager | tail -n 2 | wc -l"); got != "2" {
		t.Errorf("the journal knows %s boots, want 2", got)
	}
}

func checkPowerOff(t *testing.T, m *machine.Machine) {
	from := len(m.Console())
	m.Exec("core", "sudo systemctl poweroff")
	m.WaitEnd(90 * time.Second)
	console := m.Console()[from:]
	stopped, unmounted := strings.Index(console, "Stopped"), strings.Index(console, "nmount")
	if stopped < 0 || unmounted < stopped {
		t.Errorf("the shutdown is not orderly: want units stopped, then file systems unmounted:\n%s", console)
	}
}
