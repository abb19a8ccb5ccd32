package cloudconfig

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/unit/envfile"
	"github.com/google/go-cmp/cmp"
)

// lines returns plan steps and messages, for comparing.
func lines(data string) (steps, messages []string) {
	doc := Parse([]byte(data))
	compiled := Compile(doc.Config, Facts{Hostname: "old"})
	for _, s := range compiled.Steps {
		if text := s.Action.String(); !strings.HasPrefix(text, "unmask") && text != "daemon-reload" {
			steps = append(steps, text)
		}
	}
	for _, r := range []plan.Report{doc.Report, doc.Salvage, compiled.Problems} {
		for _, e := range r {
			if !e.Formal {
				messages = append(messages, e.String())
			}
		}
	}
	return steps, messages
}

func TestBadValuesCostOnlyThemselves(t *testing.T) {
	tests := []struct {
		name, data      string
		steps, messages []string
	}{
		{"undecodable file", `#cloud-config
hostname: a
write_files:
  - path: /bad
    encoding: base64
    content: "***"
  - path: /good
    content: x
`, []string{"set hostname a", "write /good (1 bytes, root, mode 0644)"}, []string{
			`line 6: error: content cannot be decoded as "base64"`,
			`line 6: error: write_files[0].content: decode base64: illegal base64 data at input byte 0; /bad is not written`,
		}},
		{"permissions, path, setuid", `#cloud-config
write_files:
  - path: /secret
    permissions: "rw"
  - path: relative
  - path: /bin/su
    permissions: 4755
    owner: bin:bin
`, []string{"write /secret (0 bytes, root, mode 0600)", "write /bin/su (0 bytes, bin:bin, mode 4755)"}, []string{
			`line 4: error: invalid value rw`,
			`line 4: error: write_files[0].permissions: "rw" is not an octal mode like 0644; /secret is written with 0600`,
			`line 5: error: write_files[1].path: "relative" is not an absolute path of a file; it is not written`,
		}},
		{"unit command and names", `#cloud-config
coreos:
  units:
    - name: a.service
      command: begin
      enable: on
    - name: ../../etc/passwd
      content: x
    - name: b.service
      command: start
      drop-ins:
        - name: a.txt
          content: x
        - content: y
`, []string{"enable a.service runtime=false", "dropin /etc/systemd/system/b.service.d/a.txt", "start b.service"}, []string{
			`line 5: error: invalid value begin`,
			`line 5: error: coreos.units[0].command: "begin" is not a command of a unit; it is not run`,
			`line 7: error: coreos.units[1].name: "../../etc/passwd" is not a unit name like "hello.service"; it is left out`,
			`line 12: warning: coreos.units[2].drop_ins: "a.txt" does not end in .conf and will not be read`,
			`line 14: error: coreos.units[2].drop_ins: name and content are needed; "" is left out`,
		}},
		{"update and hosts", `#cloud-config
manage_etc_hosts: localhost
coreos:
  update:
    reboot-strategy: false
    group: beta
`, []string{
			"write /etc/coreos/update.conf (11 bytes, root, mode 0644)", "write /etc/hosts (48 bytes, root, mode 0644)",
			"restart update-engine.service",
		}, []string{
			`line 5: error: invalid value false`,
			`line 5: error: coreos.update.reboot_strategy: "false" is not one of etcd-lock, reboot, off, best-effort; it is not set`,
		}},
		{"same key twice", "#cloud-config\nhostname: a\nhostname: b\n",
			[]string{"set hostname b"}, []string{`line 3: warning: key "hostname" is given again (line 2 does not apply)`}},
		{"bad host name", "#cloud-config\nhostname: a b\n",
			nil, []string{`line 2: error: hostname: "a b" is not a host name (letters, digits, "-" and ".", at most 64); it is not set`}},
		{"option with a line break", "#cloud-config\ncoreos:\n  etcd2:\n    name: \"a\\nExecStart=x\"\n    proxy: maybe\n",
			[]string{"dropin /run/systemd/system/etcd2.service.d/20-cloudinit.conf"}, []string{
				"line 5: error: invalid value maybe",
				"line 4: error: coreos.etcd2.name: the value has a line break; it is not set",
			}},
		{"numbers in quotes are none", "#cloud-config\ncoreos:\n  etcd2:\n    name: 007\n    snapshot_count: \"600\"\n    max_wals: 0x10\n  fleet:\n    engine_reconcile_interval: 10\n    etcd_request_timeout: \"5.5\"\n",
			[]string{"dropin /run/systemd/system/etcd2.service.d/20-cloudinit.conf", "dropin /run/systemd/system/fleet.service.d/20-cloudinit.conf"},
			[]string{`line 5: warning: incorrect type for "snapshot_count" (want int)`, `line 9: warning: incorrect type for "etcd_request_timeout" (want float64)`}},
		{"whole numbers written as others", "#cloud-config\ncoreos:\n  etcd2:\n    max_wals: 3.0\n    max_snapshots: 1.5\n    heartbeat_interval: .inf\n    election_timeout: 1e99\n",
			[]string{"dropin /run/systemd/system/etcd2.service.d/20-cloudinit.conf"},
			[]string{`line 4: warning: incorrect type for "max_wals" (want int)`, `line 5: warning: incorrect type for "max_snapshots" (want int)`,
				`line 6: warning: incorrect type for "heartbeat_interval" (want int)`, `line 7: warning: incorrect type for "election_timeout" (want int)`}},
		{"merge keys and aliases", "#cloud-config\nusers:\n  - &a {name: a, shell: /bin/sh}\n  - {<<: *a, name: b}\nhostname: *a\n",
			[]string{"user a", "user b"}, []string{`line 5: warning: incorrect type for "hostname" (want string)`}},
		{"a list", "#cloud-config\n- a\n", nil, []string{`line 2: warning: incorrect type for "" (want struct)`}},
		{"only comments", "#cloud-config\n# nothing\n", nil, nil},
		{"null section", "#cloud-config\ncoreos:\nhostname: a\n", []string{"set hostname a"},
			[]string{`line 2: warning: incorrect type for "coreos" (want struct)`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steps, messages := lines(tt.data)
			if diff := cmp.Diff(tt.steps, steps); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.messages, messages); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSyntaxErrorsCostOnlyTheirSection(t *testing.T) {
	tests := []struct {
		name, data      string
		steps, messages []string
	}{
		{"unit text without indentation", `#cloud-config
ssh_authorized_keys:
  - ssh-ed25519 AAAA me
coreos:
  etcd2:
    name: n
  units:
    - name: good.service
      command: start
    - name: hello.service
      command: start
      content: |
[Unit]
Description=Hello: world
hostname: h
`, []string{
			"set hostname h", "authorize 1 keys for core",
			"dropin /run/systemd/system/etcd2.service.d/20-cloudinit.conf", "start good.service",
		}, []string{
			`line 14: error: could not find expected ':'`,
			`line 10: error: "units[1]" (lines 10 to 14) can not be read and is not applied`,
		}},
		{"open quote", "#cloud-config\nhostname: \"h\nusers:\n  - name: u\n",
			[]string{"user u"}, []string{
				`line 3: error: found unexpected end of stream`,
				`line 2: error: "hostname" (lines 2 to 2) can not be read and is not applied`,
			}},
		{"not UTF-8", "#cloud-config\nhostname: h\xff\nssh_authorized_keys: [k]\n",
			[]string{"authorize 1 keys for core"}, []string{
				`line 1: error: invalid leading UTF-8 octet`,
				`line 2: error: "hostname" (lines 2 to 2) can not be read and is not applied`,
			}},
		{"half a file entry", "#cloud-config\nwrite_files:\n- path: /key\n  permissions: [\n- path: /other\n",
			[]string{"write /other (0 bytes, root, mode 0644)"}, []string{
				`line 5: error: did not find expected node content`,
				`line 3: error: "write_files[0]" (lines 3 to 4) can not be read and is not applied`,
			}},
		{"a tab before a key", "#cloud-config\nhostname: h\n\tusers:\n",
			nil, []string{
				`line 3: error: found character that cannot start any token`,
				`line 2: error: "hostname" (lines 2 to 3) can not be read and is not applied`,
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steps, messages := lines(tt.data)
			if diff := cmp.Diff(tt.steps, steps); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			// The parser's own words for the error are not ours to fix.
			if len(messages) == 0 || !strings.Contains(messages[0], ": error: ") {
				t.Fatalf("no syntax error in %q", messages)
			}
			if diff := cmp.Diff(tt.messages[1:], messages[1:]); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKinds(t *testing.T) {
	tests := []struct {
		data string
		kind Kind
		hint string
	}{
		{"", KindEmpty, ""},
		{"#cloud-config", KindCloudConfig, ""},
		{"#cloud-config \r\nhostname: a", KindCloudConfig, ""},
		{"#!/bin/sh\r\n", KindScript, ""},
		{`{"ignitionVersion": 1}`, KindIgnition, ""},
		{`{"ignition": {"version": "3.4.0"}}`, KindIgnition, ""},
		{`{"ignition": {"version": 3}}`, KindUnknown, "put"},
		{"\n#cloud-config\n", KindUnknown, "empty lines before"},
		{"\ufeff#cloud-config\n", KindUnknown, "byte-order mark"},
		{"#cloud-config v1\n", KindUnknown, "exactly"},
		{"Content-Type: multipart/mixed; boundary=x\n", KindUnknown, "MIME"},
		{"MIME-Version: 1.0\r\ncontent-type: Multipart/mixed;\r\n boundary=x\r\n\r\n--x\r\n\r\n#!", KindMultipart, ""},
		{"Content-Type: text/plain\n\n", KindUnknown, "put"},
		{"\x00\x01\x02", KindUnknown, "put"},
	}
	for _, tt := range tests {
		if got := Detect([]byte(tt.data)); got != tt.kind {
			t.Errorf("Detect(%q) = %q, want %q", tt.data, got, tt.kind)
		}
		if tt.kind == KindUnknown {
			if hint := UnknownHint([]byte(tt.data)); !strings.Contains(hint, tt.hint) {
				t.Errorf("UnknownHint(%q) = %q, want %q in it", tt.data, hint, tt.hint)
			}
		}
	}
}

func TestSubstitute(t *testing.T) {
	a := Addresses{PublicIPv4: "1.2.3.4", PrivateIPv4: "10.0.0.1"}
	tests := []struct{ in, want string }{
		{"$private_ipv4:4001 $public_ipv4", "10.0.0.1:4001 1.2.3.4"},
		{`\$private_ipv4`, "$private_ipv4"},
		{"${private_ipv4}", "${private_ipv4}"},
		{"$private_ipv4b", "10.0.0.1b"},
		{"$private_ipv4$private_ipv4", "10.0.0.1$private_ipv4"},
		{"$private_ipv4$public_ipv4", "10.0.0.11.2.3.4"},
		{"<$private_ipv6>", "<>"},
		{"\n$private_ipv4\n$private_ipv4\n", "\n10.0.0.1\n10.0.0.1\n"},
	}
	for _, tt := range tests {
		if got := string(Substitute([]byte(tt.in), a)); got != tt.want {
			t.Errorf("Substitute(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestGunzip(t *testing.T) {
	pack := func(data []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(data)
		w.Close()
		return b.Bytes()
	}
	packed := pack([]byte("#cloud-config\n"))
	if got, err := Gunzip(packed); err != nil || string(got) != "#cloud-config\n" {
		t.Errorf("Gunzip = %q, %v", got, err)
	}
	if _, err := Gunzip(packed[:len(packed)-6]); err == nil {
		t.Error("Gunzip of a cut stream: no error")
	}
	if _, err := Gunzip(pack(make([]byte, MaxSize+1))); err == nil {
		t.Error("Gunzip of more than MaxSize: no error")
	}
}

func TestMergeLines(t *testing.T) {
	base := "A=1\r\nCOREOS_PUBLIC_IPV4=old\n# note\nB=2"
	got := string(plan.MergeLines([]byte(base), map[string]string{"COREOS_PUBLIC_IPV4": "new", "COREOS_PRIVATE_IPV4": "x"}))
	want := "A=1\nCOREOS_PUBLIC_IPV4=new\n# note\nB=2\nCOREOS_PRIVATE_IPV4=x\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := string(plan.MergeLines([]byte(got), map[string]string{"COREOS_PUBLIC_IPV4": "new"})); again != got {
		t.Errorf("merged again: %q", again)
	}
}

// TestLargeDocuments: 5 MB of file content is applied; 5 MB of list entries,
// which would take a gigabyte to read, are refused at once.
func TestLargeDocuments(t *testing.T) {
	const size = 5 << 20
	content := strings.Repeat("    0123456789abcde\n", size/20)
	doc := Parse([]byte("#cloud-config\nwrite_files:\n- path: /a\n  content: |\n" + content))
	if len(doc.Report) != 0 || len(doc.Config.WriteFiles) != 1 || len(doc.Config.WriteFiles[0].Content) != size/20*16 {
		t.Errorf("large file: %v, %d files", doc.Report, len(doc.Config.WriteFiles))
	}
	doc = Parse([]byte("#cloud-config\nusers: [" + strings.Repeat("a,", size/2) + "]\n"))
	if len(doc.Report) != 1 || !strings.Contains(doc.Report[0].Text, "too many parts") {
		t.Errorf("large list: %v", doc.Report)
	}
}

// TestLoops: a document that takes itself in, or the same part over and over,
// costs neither the machine its memory nor the owner the rest.
func TestLoops(t *testing.T) {
	bomb := "#cloud-config\nhostname: h\nx0: &x0 {a: 1}\n"
	for i := 1; i < 30; i++ {
		bomb += fmt.Sprintf("x%d: &x%d {<<: [*x%d, *x%d]}\n", i, i, i-1, i-1)
	}
	for name, data := range map[string]string{
		"itself":     "#cloud-config\nhostname: h\ncoreos: &a {<<: *a}\n",
		"in a list":  "#cloud-config\nhostname: h\nusers: &a [*a]\n",
		"many times": bomb + "coreos: *x29\n",
	} {
		steps, messages := lines(data)
		if len(steps) != 1 || steps[0] != "set hostname h" || len(messages) == 0 {
			t.Errorf("%s: %q, %.3q", name, steps, messages)
		}
	}
}

// lineEnds makes LF of what YAML takes for the end of a line.
var lineEnds = strings.NewReplacer("\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// FuzzParse checks that no document makes Parse or Compile panic, that every
// message is about a line of the document, and that a plan holds no path that
// is not absolute.
func FuzzParse(f *testing.F) {
	cases, err := readSeeds()
	if err != nil {
		f.Fatal(err)
	}
	for _, data := range cases {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = append([]byte("#cloud-config\n"), data...)
		count := 1 + strings.Count(lineEnds.Replace(string(data)), "\n")
		doc := Parse(data)
		compiled := Compile(doc.Config, Facts{})
		for _, r := range []plan.Report{doc.Report, doc.Salvage, compiled.Problems} {
			for _, e := range r {
				if e.Line < 0 || e.Line > count+1 {
					t.Errorf("%s: the document has %d lines", e, count)
				}
			}
		}
		for _, s := range compiled.Steps {
			switch a := s.Action.(type) {
			case plan.WriteFile:
				if !strings.HasPrefix(a.Path, "/") {
					t.Errorf("path %q", a.Path)
				}
			case plan.PlaceUnit:
				if !strings.HasPrefix(a.Path, "/etc/systemd/") && !strings.HasPrefix(a.Path, "/run/systemd/") {
					t.Errorf("path %q", a.Path)
				}
			}
		}
	})
}

// TestNetworkAndNames: the keys that the original does not have; the JSON
// reaches flanneld as it was written.
func TestNetworkAndNames(t *testing.T) {
	doc := Parse([]byte("#cloud-config\ncoreos:\n  flannel:\n    network: '{\"Network\": \"10.1.0.0/16\", \"Backend\": {\"Type\": \"vxlan\"}}'\n  names:\n    domain: cluster.internal\n    public-ip: 192.0.2.1\n"))
	for _, e := range slices.Concat(doc.Report, doc.Salvage) {
		t.Error(e)
	}
	got := map[string]map[string]string{}
	for _, s := range Compile(doc.Config, Facts{}).Steps {
		if file, ok := s.Action.(plan.WriteFile); ok {
			got[file.Path] = envfile.Map(file.Content)
		}
	}
	want := map[string]map[string]string{
		"/run/flannel/options.env": {"FLANNELD_DEFAULT_NETWORK": `{"Network": "10.1.0.0/16", "Backend": {"Type": "vxlan"}}`},
		"/run/coracle/names.env":   {"NAMES_DOMAIN": "cluster.internal", "NAMES_PUBLIC_IP": "192.0.2.1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
