package provision

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
	"github.com/coracle-os/coracle/rootfs/userdata"
)

// machine records commands; every one succeeds.
type machine struct{ calls *[]string }

func (m machine) do(call string) error                         { *m.calls = append(*m.calls, call); return nil }
func (m machine) Hostname() (string, error)                    { return "localhost", nil }
func (m machine) SetHostname(name string) error                { return m.do("hostname " + name) }
func (m machine) Reload(context.Context) error                 { return m.do("reload") }
func (m machine) Active(context.Context, string) (bool, error) { return false, nil }
func (m machine) Start(_ context.Context, u string) error      { return m.do("begin " + u) }
func (m machine) Command(_ context.Context, v, u string) error { return m.do(v + " " + u) }

// world is a machine whose network comes up when it is waited for.
type world struct {
	*Provisioner
	root   string
	events []string // what happened, in order
}

func newWorld(t testing.TB, network []Interface, sources ...userdata.Source) *world {
	t.Helper()
	w := &world{root: t.TempDir()}
	write(t, w.root, "/etc/passwd", "root:x:0:0::/root:/bin/sh\ncore:x:500:500::/home/core:/bin/sh\n")
	write(t, w.root, "/etc/group", "root:x:0:\ncore:x:500:\n")
	write(t, w.root, "/etc/shadow", "root:*:1::::::\ncore:*:1::::::\n")
	write(t, w.root, "/etc/gshadow", "")
	var up []Interface
	w.Provisioner = &Provisioner{
		Root: w.root, Sources: sources,
		Interfaces: func() []Interface { return up },
		WaitNetwork: func(context.Context, func() bool) {
			w.events = append(w.events, "wait")
			if _, err := os.Stat(filepath.Join(w.root, "home/core/.ssh/authorized_keys.d/k")); err == nil {
				w.events = append(w.events, "core can log in")
			}
			up = network
		},
		Fetch:    func(context.Context, string) ([]byte, error) { return nil, errors.New("connection refused") },
		Hostname: func() string { return "localhost" },
		Say:      func(line string) { w.events = append(w.events, line) },
	}
	w.Executor = &apply.Executor{
		Root: w.root, Machine: machine{&w.events}, Now: time.Now, KeyName: "k", Workspace: "/var/lib/w",
		Host: func() specifier.Host { return specifier.Host{} },
	}
	return w
}

func write(t testing.TB, root, path, content string) {
	t.Helper()
	full := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (w *world) file(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (w *world) mustSay(t *testing.T, texts ...string) {
	t.Helper()
	all := strings.Join(w.events, "\n")
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("%q is not said:\n%s", text, all)
		}
	}
}

func links(prefixes ...string) []Interface {
	i := Interface{Name: "eth0", HasGateway: true}
	for _, p := range prefixes {
		i.Addresses = append(i.Addresses, netip.MustParsePrefix(p))
	}
	return []Interface{i}
}

// TestServices has the machine's services begin when the last source is
// written and not before, and only if they would have to wait.
func TestServices(t *testing.T) {
	command := func(name, unit string) userdata.Source {
		return userdata.Source{Name: name, Data: []byte("#cloud-config\ncoreos: {units: [{name: " + unit + ", command: start}]}\n")}
	}
	w := newWorld(t, nil, command("oem", "a.service"), command("fw_cfg", "b.service"))
	w.Services = "services.target"
	w.Run(context.Background())
	want := []string{
		"start a.service", "oem: cloud-config applied: 5 steps, 1 changed something",
		"begin services.target", "start b.service", "fw_cfg: cloud-config applied: 5 steps, 1 changed something",
	}
	if diff := cmp.Diff(want, w.events); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestIntroduction is the example that users start from.
func TestIntroduction(t *testing.T) {
	w := newWorld(t, links("10.0.2.15/24"), userdata.Source{Name: "fw_cfg", Data: []byte(`#cloud-config
ssh_authorized_keys: [ssh-ed25519 AAAA me]
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
`)})
	w.Services = "services.target"
	summary := w.Run(context.Background())
	if summary.Failed() {
		t.Errorf("failed: %+v", summary)
	}
	want := []string{
		"fw_cfg: waiting for the network, it names the machine's addresses",
		"wait", "core can log in",
		"reload", "begin services.target", "start etcd.service", "start hello1.service",
		"fw_cfg: cloud-config applied: 11 steps, 6 changed something",
	}
	if diff := cmp.Diff(want, w.events); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	dropIn := w.file(t, "/run/systemd/system/etcd.service.d/20-cloudinit.conf")
	if want := "[Service]\nEnvironment=\"ETCD_ADDR=10.0.2.15:4001\"\nEnvironment=\"ETCD_PEER_ADDR=10.0.2.15:7001\"\n"; dropIn != want {
		t.Errorf("drop-in %q, want %q", dropIn, want)
	}
	if !strings.Contains(w.file(t, "/etc/systemd/system/hello1.service"), "ExecStop=/usr/bin/docker stop hello\n") {
		t.Error("hello1.service is not whole")
	}
}

func TestOrderAndMetadata(t *testing.T) {
	w := newWorld(t, nil,
		userdata.Source{Name: "oem", Data: []byte("#cloud-config\nhostname: oem\nwrite_files:\n- {path: /a, content: oem}\n- {path: /b, content: oem}\n")},
		userdata.Source{
			Name: "drive", Data: []byte("#cloud-config\nwrite_files: [{path: /a, content: user}]\n"),
			Metadata: cloudconfig.Metadata{Hostname: "meta", SSHKeys: []string{"ssh-ed25519 AAAA"}}, Notes: []string{"a note"},
		})
	if w.Run(context.Background()).Failed() {
		t.Error("failed")
	}
	if a, b := w.file(t, "/a"), w.file(t, "/b"); a != "user" || b != "oem" {
		t.Errorf("a %q, b %q", a, b)
	}
	if name := w.file(t, "/etc/hostname"); name != "meta\n" {
		t.Errorf("hostname %q", name)
	}
	w.mustSay(t, "drive: warning: a note")
	for _, event := range w.events {
		if event == "wait" {
			t.Error("waits for the network, which nothing needs")
		}
	}
}

func TestBadUserDataLetsTheOwnerIn(t *testing.T) {
	keys := cloudconfig.Metadata{SSHKeys: []string{"ssh-ed25519 AAAA"}}
	tests := []struct {
		name, data string
		says       []string
	}{
		{"syntax", "#cloud-config\nssh_authorized_keys: [k]\ncoreos:\n  units: [\n", []string{"s: line 4: error:", `"units" (lines 4 to 4) can not be read`, "2 errors in the document"}},
		{"header", "\n#cloud-config\n", []string{`line 1: error: must be "#cloud-config"`, "empty lines before"}},
		{"gzip", "\x1f\x8bnot gzip", []string{"decompress gzip"}},
		{"file", "#cloud-config\nwrite_files: [{path: /etc/passwd/x, content: y}]\n", []string{"s: line 2: error: write /etc/passwd/x", "1 FAILED"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil, userdata.Source{Name: "s", Data: []byte(tt.data), Metadata: keys})
			if !w.Run(context.Background()).Failed() {
				t.Error("is said to be well")
			}
			w.mustSay(t, tt.says...)
			if !strings.Contains(w.file(t, "/home/core/.ssh/authorized_keys.d/k"), "ssh-ed25519 AAAA") {
				t.Error("the key of the metadata is not authorized")
			}
		})
	}
}

func TestEachMistakeIsSaidOnce(t *testing.T) {
	w := newWorld(t, nil, userdata.Source{Name: "s", Data: []byte(`#cloud-config
coreos:
  etcd2: {proxy: maybe}
  update: {reboot-strategy: sometimes}
  units: [{name: a.service, command: begin, colour: red}]
write_files: [{path: /a, encoding: b64, content: "?"}]
`)})
	w.Run(context.Background())
	want := []string{
		"s: line 3: error: invalid value maybe; it must be one of on, off, readonly",
		`s: line 4: error: coreos.update.reboot_strategy: "sometimes" is not one of etcd-lock, reboot, off, best-effort; it is not set`,
		`s: line 5: warning: unrecognized key "colour"; it is ignored`,
		`s: line 5: error: coreos.units[0].command: "begin" is not a command of a unit; it is not run`,
		`s: line 6: error: write_files[0].content: decode base64: illegal base64 data at input byte 0; /a is not written`,
		"reload",
		"s: cloud-config applied: 6 steps, 2 changed something, 4 errors in the document",
	}
	if diff := cmp.Diff(want, w.events); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestURLThatDoesNotAnswer(t *testing.T) {
	w := newWorld(t, nil)
	w.URL = "http://10.0.2.2/config"
	if !w.Run(context.Background()).Failed() {
		t.Error("is said to be well")
	}
	w.mustSay(t, "wait", "http://10.0.2.2/config: error: connection refused")
}

func TestFetchBy(t *testing.T) {
	tests := []struct{ script, out, err string }{
		{`echo "#cloud-config for $0"`, "#cloud-config for http://x/\n", ""},
		{`echo 'fetch "http://x/": 404 Not Found: no such document' >&2; exit 4`, "", "404 Not Found"},
		{`exit 1`, "", "exit status 1"},
		{`exec sleep 60`, "", "no answer in time"},
	}
	for _, tt := range tests {
		timeout := time.Minute
		if strings.Contains(tt.err, "in time") {
			timeout = 50 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		out, err := fetchBy("/bin/sh", "-c", tt.script)(ctx, "http://x/")
		cancel()
		if string(out) != tt.out || (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %q, %v; want %q, %q", tt.script, out, err, tt.out, tt.err)
		}
	}
	if _, err := fetchBy("/nonexistent")(context.Background(), "http://x/"); err == nil {
		t.Error("no error from a program that is not there")
	}
}

func TestScriptIsSubstituted(t *testing.T) {
	w := newWorld(t, links("192.0.2.1/24"), userdata.Source{Name: "s", Data: []byte("#!/bin/sh\necho $public_ipv4\n")})
	if w.Run(context.Background()).Failed() {
		t.Error("failed")
	}
	name := strings.TrimSuffix(strings.TrimPrefix(w.file(t, "/var/lib/w/scripts/unit-name"), "coreos-cloudinit-"), ".service")
	if script := w.file(t, "/var/lib/w/scripts/"+name); script != "#!/bin/sh\necho 192.0.2.1\n" {
		t.Errorf("script %q", script)
	}
}

func TestAddresses(t *testing.T) {
	tests := []struct {
		name        string
		interfaces  []Interface
		environment string
		want        cloudconfig.Addresses
	}{
		{"none", nil, "COREOS_PRIVATE_IPV4=10.0.0.9\n", cloudconfig.Addresses{}},
		{"one private", links("10.0.2.15/24"), "", cloudconfig.Addresses{PublicIPv4: "10.0.2.15", PrivateIPv4: "10.0.2.15"}},
		{"both, link-local and loopback left out", links("169.254.1.1/16", "203.0.113.7/24", "192.168.1.2/24", "fe80::1/64", "127.0.0.1/8"), "",
			cloudconfig.Addresses{PublicIPv4: "203.0.113.7", PrivateIPv4: "192.168.1.2"}},
		{"gateway first", []Interface{
			{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}},
			{Name: "eth1", HasGateway: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.2.0.1/24")}},
		}, "", cloudconfig.Addresses{PublicIPv4: "10.2.0.1", PrivateIPv4: "10.2.0.1"}},
		{"chosen", []Interface{
			{Name: "eth0", HasGateway: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24")}},
			{Name: "eth1", Addresses: []netip.Prefix{netip.MustParsePrefix("172.17.8.101/24")}},
		}, "COREOS_PRIVATE_IPV4=172.17.8.101\nCOREOS_PUBLIC_IPV4=10.9.9.9\n", cloudconfig.Addresses{PublicIPv4: "10.0.2.15", PrivateIPv4: "172.17.8.101"}},
		{"IPv6", links("2001:db8::5/64", "fd00::5/64"), "", cloudconfig.Addresses{PublicIPv6: "2001:db8::5", PrivateIPv6: "fd00::5"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := chosenAddresses(tt.environment, tt.interfaces).Or(addressesOf(tt.interfaces))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFromState(t *testing.T) {
	found := fromState(state.State{Interfaces: []state.Interface{
		{Name: "eth0", Addresses: []string{"10.0.2.15/24", "bad"}, Gateway: "10.0.2.2"},
	}})
	if diff := cmp.Diff(links("10.0.2.15/24"), found, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "good", "#cloud-config\nhostname: box\n")
	write(t, dir, "bad", "#cloud-config\nhostnam: box\n")
	write(t, dir, "parts", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n#cloud-config\nhostnam: a\n--b\n\n#!/bin/sh\n--b--\n")
	tests := []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"--validate", "--from-file", dir + "/good"}, 0, ""},
		{[]string{"-validate", "-from-file=" + dir + "/bad"}, 1, "line 2: warning: unrecognized key \"hostnam\"\n"},
		{[]string{"--validate", "--from-file", dir + "/parts"}, 1, "line 6: warning: part 1: unrecognized key \"hostnam\"\n"},
		{[]string{"--dry-run", "--from-file", dir + "/parts"}, 0, "run script \"#!/bin/sh\" (part 2 is a script, line 9): runs"},
		{[]string{"--dry-run", "--from-file", dir + "/good"}, 0, "  1 set hostname box (hostname, line 2, column 1): differs, "},
		{[]string{"--dry-run", "--from-file", "-"}, 1, "standard input: line 1: error: must be"},
		{[]string{"--dry-run", "--ignore-failure", "--from-file", "-"}, 0, ""},
		{[]string{"--from-file", dir + "/none"}, 1, ""},
		{[]string{"--nonsense"}, 2, ""},
		{[]string{"extra"}, 2, ""},
		{[]string{"--help"}, 0, ""},
	}
	for _, tt := range tests {
		var out, errs bytes.Buffer
		code := Main(context.Background(), append([]string{"coreos-cloudinit"}, tt.args...),
			program.Stdio{In: strings.NewReader("text"), Out: &out, Err: &errs})
		if code != tt.code || !strings.Contains(out.String(), tt.out) {
			t.Errorf("%q: exit %d, want %d; output %q, %q", tt.args, code, tt.code, &out, &errs)
		}
	}
}

func TestSummaryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "provision.json")
	if err := writeSummary(path, Summary{Sources: []SourceSummary{{Name: "s", Kind: "script"}}, Millis: 3}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(data), `"kind": "script"`) {
		t.Errorf("%s, %v", data, err)
	}
}
