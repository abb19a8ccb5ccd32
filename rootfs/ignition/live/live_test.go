package live

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/ignition/fetch"
)

// compile makes a plan for a machine with some files and returns its steps and
// messages.
func compile(t *testing.T, machine map[string]string, config string) (steps, messages []string) {
	t.Helper()
	root := t.TempDir()
	for path, content := range machine {
		at := filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	config = `{"ignition": {"version": "3.4.0"}, ` + config + "}"
	p, report := Format(context.Background(), os.DirFS(root), &fetch.Fetcher{})([]byte(config), cloudconfig.Facts{})
	for _, s := range p.Steps {
		steps = append(steps, s.Action.String())
	}
	for _, problem := range report {
		messages = append(messages, problem.Text)
	}
	return steps, messages
}

func data(text string) string { return `"contents": {"source": "data:,` + url.PathEscape(text) + `"}` }

func TestFormat(t *testing.T) {
	const unit = "[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n"
	const plain = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
	for _, tt := range []struct {
		name            string
		machine         map[string]string
		config          string
		steps, messages []string
	}{
		{"nothing", nil, `"systemd": {}`, nil, nil},
		{"units", map[string]string{"/etc/systemd/system/same.service": plain, "/etc/systemd/system/other.service": "x"},
			`"systemd": {"units": [{"name": "same.service", "enabled": true, "contents": "` + unit + `"}, {"name": "other.service", "enabled": true, "contents": "` + unit + `"},
				{"name": "t@.service", "enabled": true, "contents": "[Install]\nDefaultInstance=a\nWantedBy=x.target\n"},
				{"name": "gone.service", "mask": true}, {"name": "off.service", "enabled": false}]}`,
			[]string{"place /etc/systemd/system/same.service", "place /etc/systemd/system/other.service", "place /etc/systemd/system/t@.service",
				"mask /etc/systemd/system/gone.service", "enable same.service runtime=false", "enable other.service runtime=false", "enable t@.service runtime=false",
				"daemon-reload", "start same.service", "restart other.service"},
			[]string{"off.service is not disabled by a change; use systemctl disable --now off.service"}},
		{"files", map[string]string{"/etc/kept": "kept"},
			`"storage": {"files": [{"path": "/etc/kept", "mode": 384}, {"path": "/etc/systemd/network/a.network", ` + data("[Match]\nName=e*\n") + `},
				{"path": "/etc/hostname", ` + data("name\n") + `}, {"path": "/etc/sysctl.d/x.conf", ` + data("x = 1\n") + `}],
				"links": [{"path": "/etc/l", "target": "kept"}, {"path": "/etc/h", "target": "/etc/kept", "hard": true}]}`,
			[]string{"write /etc/kept (4 bytes, 0:0, mode 0600)", "set hostname name", "link /etc/l to kept", "write /etc/sysctl.d/x.conf (6 bytes, 0:0, mode 0644)",
				"place /etc/systemd/network/a.network", "restart systemd-networkd.service"},
			[]string{"/etc/sysctl.d/x.conf counts from the next boot on", "/etc/h: a hard link is made on a first boot only"}},
		{"storage and arguments", nil,
			`"kernelArguments": {"shouldExist": ["a"]}, "storage": {"disks": [{"device": "/dev/vdb", "wipeTable": true}], "filesystems": [{"device": "/dev/vdb1", "format": "ext4", "path": "/var/x"}]}`,
			nil, []string{"kernel arguments are those of the boot; a change does not look at them",
				"disks, RAID, LUKS and file systems are made on a first boot only; they are left as they are"}},
		{"accounts", nil, `"passwd": {"groups": [{"name": "g", "shouldExist": false}], "users": [{"name": "u", "uid": 7, "groups": ["sudo"]}, {"name": "v", "shouldExist": false}]}`,
			[]string{"user u", "authorize 0 keys for u"},
			[]string{"group g is not removed by a change; use groupdel", "user v is not removed by a change; use userdel"}},
		{"not possible", nil, `"storage": {"files": [{"path": "/usr/bin/x"}]}`, nil,
			[]string{"not possible on Coracle: /usr/bin/x is in the verified image, or the kernel's; programs go to /opt/bin or /usr/local/bin, kernel settings to /etc/sysctl.d, modules to /etc/modules-load.d"}},
		{"a lie about a hash", nil, `"storage": {"files": [{"path": "/etc/a", "contents": {"source": "data:,a", "verification": {"hash": "sha256-ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bc"}}}]}`, nil,
			[]string{`/etc/a: fetch "a data URL of 7 bytes": verify: the document has sha256 ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb, and the config says ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bc; correct the hash or the document; it is left as it is`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			steps, messages := compile(t, tt.machine, tt.config)
			if diff := cmp.Diff(tt.steps, steps); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.messages, messages); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}
