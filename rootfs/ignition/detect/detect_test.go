package detect

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/coracle-os/coracle/rootfs/ignition/progress"
	"github.com/coracle-os/coracle/rootfs/userdata"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

func TestConfigURL(t *testing.T) {
	for line, want := range map[string]string{
		"quiet": "", "ignition.config.url=http://a/b": "http://a/b", "a flatcar.config.url=http://c": "http://c", "ignition.config.url=": "",
	} {
		if got := ConfigURL(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestNothing(t *testing.T) {
	const config = `{"ignition": {"version": "3.4.0"}}`
	fw := "/sys/firmware/qemu_fw_cfg/by_name/" + fwCfg[0] + "/raw"
	for _, tt := range []struct {
		name  string
		files map[string]string
		line  string
		cloud platform.Name
		want  bool
	}{
		{"an empty machine", nil, "quiet", platform.None, true},
		{"a cloud-config", map[string]string{userdata.FWCfg: "#cloud-config\n"}, "", platform.None, true},
		{"fw_cfg", map[string]string{fw: config}, "", platform.None, false},
		{"the project's own entry", map[string]string{userdata.FWCfg: config}, "", platform.None, false},
		{"OEM", map[string]string{oemConfig: config}, "", platform.None, false},
		{"an address", nil, "ignition.config.url=http://x", platform.None, false},
		{"a cloud", nil, "", platform.EC2, false},
		{"begun", map[string]string{progress.Path: "{}"}, "", platform.None, false},
		{"set up before", map[string]string{updateDatabase: "", fw: config}, "", platform.None, true},
		{"left to coreos-cloudinit", map[string]string{updateDatabase: "", progress.Path: `{"awaits": "http://x"}`}, "", platform.None, true},
		{"left, and now there is one", map[string]string{progress.Path: `{"awaits": "http://x"}`, fw: config}, "", platform.None, false},
		{"begun, and was up", map[string]string{updateDatabase: "", progress.Path: "{}"}, "", platform.None, false},
	} {
		root := t.TempDir()
		for path, content := range tt.files {
			path = filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if note, got := Nothing(context.Background(), root, tt.line, tt.cloud, userdata.Places{Root: root}); got != tt.want {
			t.Errorf("%s: %t %q, want %t", tt.name, got, note, tt.want)
		}
	}
}

func TestKeep(t *testing.T) {
	const line = "quiet cloud-config-url=http://x/y"
	for _, tt := range []struct {
		name, line, file, content string
		awaits                    string // "": done
	}{
		{"nothing", "quiet", "", "", ""},
		{"a document elsewhere", line, "", "", "http://x/y"},
		{"another one than before", line, progress.Path, `{"awaits": "http://z"}`, "http://x/y"},
		{"it is not named any more", "", progress.Path, `{"awaits": "http://z"}`, ""},
		{"set up before", line, updateDatabase, "", ""},
		{"set up while it was awaited", line, progress.Path, `{"awaits": "http://x/y", "storage": "kept"}`, "http://x/y"},
	} {
		root := t.TempDir()
		if tt.file != "" {
			path := filepath.Join(root, tt.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err := keep(root, tt.line, "nothing")
		now, _, _ := progress.Read(root)
		if err != nil || now.Awaits != tt.awaits || progress.Done(root) != (tt.awaits == "") {
			t.Errorf("%s: %v, done %t, awaits %q, want %q", tt.name, err, progress.Done(root), now.Awaits, tt.awaits)
		}
	}
}
