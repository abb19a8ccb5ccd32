package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/program"
)

func TestConfig(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{
		"good.yaml":       "#cloud-config\nhostname: box\ncoreos:\n  etcd2:\n    name: $private_ipv4\n",
		"misspelt.yaml":   "#cloud-config\nhostnam: box\nrunkmd: []\nruncmd: []\nunits: []\ncoreos:\n  etcd2: {proxy: of}\n  units:\n    - name: a.service\n      comand: start\n      command: sart\n",
		"address.yaml":    "#cloud-config\ncoreos:\n  flannel:\n    interface: $public_ipv4\n",
		"net.ign":         "{\"ignition\": {\"version\": \"3.4.0\"},\n\"storage\": {\"files\": [{\"path\": \"/etc/systemd/network/a.network\",\n\"contents\": {\"source\": \"data:,%5BMatch%5D%0ANmae=e*\"}}]}}",
		"type.yaml":       "#cloud-config\nusers: core\n",
		"syntax.yaml":     "#cloud-config\nhostname: a\nusers: [\n",
		"outdated.yaml":   "#cloud-config\ncoreos: {etcd: {name: a}}\n",
		"script":          "#!/bin/sh\n",
		"unknown":         "hostname: a\n",
		"empty":           "",
		"not-utf8.yaml":   "#cloud-config\nhostname: \xff\nmanage_etc_hosts: localhost\n",
		"nul.yaml":        "#cloud-config\nhostname: a\x00b\n",
		"good.ign":        "{\"ignition\": {\"version\": \"3.4.0\"},\n\"systemd\": {\"units\": [{\"name\": \"a.service\", \"enabled\": true}]}}",
		"bad.ign":         "{\"ignition\": {\"version\": \"3.4.0\"},\n\"storage\": {\"files\": [{\"path\": \"relative\"}]}}",
		"ignition-2.json": `{"ignition":{"version":"2.2.0"}}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"validate", "good.yaml", "script"}, 0, "good.yaml: cloud-config, 8 steps, no mistakes\nscript: script, 6 steps, no mistakes\n"},
		{[]string{"validate", "-quiet", "good.yaml"}, 0, ""},
		{[]string{"validate", "-quiet", "misspelt.yaml"}, 1, `misspelt.yaml:2:1: warning: unrecognized key "hostnam"
	did you mean "hostname"? it is ignored
misspelt.yaml:3:1: warning: unrecognized key "runkmd"
	it is ignored
misspelt.yaml:4:1: warning: unrecognized key "runcmd"
	it is ignored; use a unit with "command: start", or a script
misspelt.yaml:5:1: warning: unrecognized key "units"
	it belongs below coreos; here it is ignored
misspelt.yaml:7:11: error: invalid value of
	it must be one of on, off, readonly
misspelt.yaml:10:7: warning: unrecognized key "comand"
	did you mean "command"? it is ignored
misspelt.yaml:11:7: error: coreos.units[0].command: "sart" is not a command of a unit; it is not run
`},
		{[]string{"validate", "-quiet", "type.yaml"}, 1, "type.yaml:2:1: warning: incorrect type for \"users\" (want []struct)\n"},
		{[]string{"validate", "outdated.yaml"}, 0, "outdated.yaml: cloud-config, 7 steps, no mistakes\n"},
		{[]string{"validate", "-strict", "-quiet", "outdated.yaml"}, 1, "outdated.yaml:2:10: warning: deprecated key \"etcd\" (etcd is no longer shipped in Container Linux)\n"},
		{[]string{"validate", "-quiet", "unknown"}, 1, "unknown:1: error: must be \"#cloud-config\" or begin with \"#!\": put \"#cloud-config\" or \"#!/bin/bash\" on its first line\n"},
		{[]string{"validate", "-quiet", "empty"}, 1, "empty: warning: the document is empty\n"},
		{[]string{"validate", "-quiet", "-"}, 0, ""},
		{[]string{"validate", "-quiet", "none"}, 1, ""},
		{[]string{"validate", "-quiet", "net.ign"}, 1, `net.ign:2:24: warning: a.network, line 2: Nmae= in [Match] is not supported; did you mean Name=?
net.ign:2:24: warning: a.network: no [Match] section with a known key: the file is for no interface
`},
		{[]string{"plan", "address.yaml"}, 0, `  1 unmask /run/systemd/system/etcd.service (coreos.etcd, address.yaml)
  2 unmask /run/systemd/system/etcd2.service (coreos.etcd2, address.yaml)
  3 unmask /run/systemd/system/fleet.service (coreos.fleet, address.yaml)
  4 unmask /run/systemd/system/locksmithd.service (coreos.locksmith, address.yaml)
`},
		{[]string{"validate"}, 2, ""},
		{[]string{"validate", "-nonsense"}, 2, ""},
		{[]string{"check"}, 2, ""},
		{[]string{"-h"}, 0, configUsage},
		{[]string{"plan", "good.yaml", "script"}, 2, ""},
		{[]string{"plan", "-private-ipv4", "10.0.0.1", "good.yaml"}, 0, `  1 set hostname box (hostname, good.yaml, line 2, column 1)
  2 envfile /etc/environment (addresses of the machine, good.yaml)
  3 unmask /run/systemd/system/etcd.service (coreos.etcd, good.yaml)
  4 dropin /run/systemd/system/etcd2.service.d/20-cloudinit.conf (coreos.etcd2, good.yaml, line 5, column 5)
  5 unmask /run/systemd/system/etcd2.service (coreos.etcd2, good.yaml, line 5, column 5)
  6 unmask /run/systemd/system/fleet.service (coreos.fleet, good.yaml)
  7 unmask /run/systemd/system/locksmithd.service (coreos.locksmith, good.yaml)
  8 daemon-reload (unit files were written, good.yaml)
`},
	}
	for _, tt := range tests {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"coracle", "config"}, tt.args...),
			program.Stdio{In: bytes.NewReader([]byte("#!/bin/sh\n")), Out: &out, Err: &errs})
		if code != tt.code {
			t.Errorf("%q: exit %d, want %d; %s", tt.args, code, tt.code, &errs)
		}
		if diff := cmp.Diff(tt.out, out.String()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.args, diff)
		}
	}
	// What the parser says of these is its own; the outcome is ours.
	var ign bytes.Buffer
	if code := run(t.Context(), []string{"coracle", "config", "plan", "good.ign"}, program.Stdio{Out: &ign, Err: &ign}); code != 0 || !strings.Contains(ign.String(), "a.service") {
		t.Errorf("good.ign: exit %d, %s", code, &ign)
	}
	for _, name := range []string{"bad.ign", "syntax.yaml", "not-utf8.yaml", "nul.yaml", "ignition-2.json"} {
		var out bytes.Buffer
		if code := run(t.Context(), []string{"coracle", "config", "validate", name}, program.Stdio{Out: &out, Err: &out}); code != 1 || out.Len() == 0 {
			t.Errorf("%s: exit %d, %s", name, code, &out)
		}
	}
}
