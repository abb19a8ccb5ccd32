package ignition

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// documents is a Fetcher of a fixed set.
type documents map[string]string

func (d documents) Configure(context.Context, types.Ignition) error { return nil }

func (d documents) Fetch(_ context.Context, r types.Resource) ([]byte, error) {
	text, ok := d[*r.Source]
	if !ok {
		return nil, errors.New("no such document")
	}
	return []byte(text), nil
}

func config(rest string) string { return `{"ignition": {"version": "3.4.0"}` + rest + `}` }

func merging(sources ...string) string {
	var refs []string
	for _, s := range sources {
		refs = append(refs, fmt.Sprintf(`{"source": %q}`, s))
	}
	return fmt.Sprintf(`{"ignition": {"version": "3.0.0", "config": {"merge": [%s]}}}`, strings.Join(refs, ", "))
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		name, config string
		want         []string // parts of the errors; none: it is valid
	}{
		{"of every version", `{"ignition": {"version": "3.0.0"}}`, nil},
		{"of the newest", `{"ignition": {"version": "3.5.0"}}`, nil},
		{"compressed", zipped(config("")), nil},
		{"of a version to come", `{"ignition": {"version": "3.9.0"}}`, []string{"unsupported config version"}},
		{"of version 2", `{"ignition": {"version": "2.3.0"}}`, []string{"unsupported config version"}},
		{"empty", "", []string{"not a config (empty)"}},
		{"no JSON", "{\n\"ignition\": }", []string{"line 2"}},
		{"of 5 MB", config(`, "storage": {"files": [{"path": "/etc/x", "contents": {"source": "data:,` + strings.Repeat("x", 5<<20) + `"}}]}`), nil},
		{"too large", config("") + strings.Repeat(" ", MaxSize), []string{"the limit is 16777216"}},
		{"not UTF-8", config(`, "storage": {"files": [{"path": "/etc/` + "\xff" + `", "contents": {"source": "data:,x"}}]}`), nil},
		{"not UTF-8 at all", "\xff\xfe{\x00", []string{"line 1: error: invalid character"}},
		{"a relative path", "{\"ignition\": {\"version\": \"3.1.0\"},\n\"storage\": {\"files\": [\n{\"path\": \"etc/x\"}]}}", []string{"line 3: error: path not absolute"}},
		{"a bad mode", config(`, "storage": {"files": [{"path": "/etc/x", "mode": 99999}]}`), []string{"illegal file mode"}},
		{"a unit without a name", config(`, "systemd": {"units": [{"name": "x"}]}`), []string{"invalid systemd unit extension"}},
		{"into the image", config(`, "storage": {"files": [{"path": "/usr/bin/x"}]}`), []string{"not possible on Coracle: /usr/bin/x is in the verified image"}},
		{"beside the image", config(`, "storage": {"files": [{"path": "/usr/local/bin/x"}, {"path": "/opt/bin/x"}]}`), nil},
		{"in the top directory", config(`, "storage": {"directories": [{"path": "/data"}]}`), []string{"the top directory is in the verified image"}},
		{"a new root", config(`, "storage": {"filesystems": [{"device": "/dev/disk/by-label/root", "format": "xfs", "wipeFilesystem": true, "label": "root"}]}`), []string{"the root file system is a verified image"}},
		{"btrfs", config(`, "storage": {"filesystems": [{"device": "/dev/vdb", "format": "btrfs", "path": "/var/x"}]}`), []string{"no btrfs; use ext4 or xfs"}},
		{"over /var", config(`, "storage": {"filesystems": [{"device": "/dev/vdb", "format": "ext4", "path": "/var"}]}`), []string{"/var is the system's own"}},
		{"a TPM", config(`, "storage": {"luks": [{"name": "x", "device": "/dev/vdb", "clevis": {"tpm2": true}}]}`), []string{"give LUKS x a key file"}},
		{"authenticated encryption", config(`, "storage": {"luks": [{"name": "x", "device": "/dev/vdb", "options": ["--integrity", "hmac-sha256"]}]}`), []string{"--integrity hmac-sha256 is not there"}},
		{"the system's partition", config(`, "storage": {"raid": [{"name": "x", "level": "raid1", "devices": ["/dev/disk/by-partlabel/state", "/dev/vdb"]}]}`), []string{"part of the system"}},
	} {
		doc := Compile(context.Background(), "test", []byte(tt.config), nil)
		var got []string
		for _, p := range doc.Plan.Problems {
			if p.Severity == plan.Error {
				got = append(got, p.String())
			}
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: %q, want %q", tt.name, got[i], want)
			}
		}
		if doc.Valid() != (len(tt.want) == 0) {
			t.Errorf("%s: valid %t", tt.name, doc.Valid())
		}
	}
}

func TestMerge(t *testing.T) {
	const one = `{"ignition": {"version": "3.0.0"}, "storage": {"files": [{"path": "/etc/a", "mode": 420}]}, "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["ssh-ed25519 A"]}]}}`
	const two = `{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"path": "/etc/a", "mode": 384}]}, "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["ssh-ed25519 B"]}]}}`
	all := documents{"http://x/one": one, "http://x/two": two, "http://x/loop": merging("http://x/loop2"), "http://x/loop2": merging("http://x/one", "http://x/loop"),
		"http://x/replace": `{"ignition": {"version": "3.1.0", "config": {"replace": {"source": "http://x/two"}}}, "storage": {"files": [{"path": "/etc/lost"}]}}`,
		"http://x/broken":  "{", "deep": merging("http://x/replace")}
	for _, tt := range []struct {
		name, config string
		want         string // steps
		err          string
	}{
		{"in order", merging("http://x/one", "http://x/two"), "user core (2 keys); write /etc/a", ""},
		{"replaced", all["deep"], "user core (1 keys); write /etc/a", ""},
		{"a loop", merging("http://x/loop"), "", "merge each other in a loop: test -> http://x/loop -> http://x/loop2 -> http://x/loop"},
		{"itself", merging("http://x/self"), "", "loop: test -> http://x/self"},
		{"not there", merging("http://x/nowhere"), "", "get a config that test names: no such document"},
		{"broken", merging("http://x/one", "http://x/broken"), "", "broken: line 1"},
	} {
		if tt.name == "itself" {
			all["http://x/self"] = tt.config
		}
		doc := Compile(context.Background(), "test", []byte(tt.config), all)
		var steps, problems []string
		for _, s := range doc.Plan.Steps {
			steps = append(steps, s.Action.String())
		}
		for _, p := range doc.Plan.Problems {
			problems = append(problems, p.String())
		}
		if tt.err == "" {
			if diff := cmp.Diff(tt.want, strings.Join(steps, "; ")); diff != "" || !doc.Valid() {
				t.Errorf("%s: %q (-want +got):\n%s", tt.name, problems, diff)
			}
			continue
		}
		if doc.Valid() || !strings.Contains(strings.Join(problems, "\n"), tt.err) {
			t.Errorf("%s: %q, want %q", tt.name, problems, tt.err)
		}
	}
	doc := Compile(context.Background(), "test", []byte(merging("http://x/one", "http://x/two")), all)
	if mode := *doc.Config.Storage.Files[0].Mode; mode != 384 {
		t.Errorf("mode %o: the later config must win", mode)
	}
}

// TestOrder compiles a config with everything in the wrong order.
func TestOrder(t *testing.T) {
	doc := Compile(context.Background(), "test", []byte(config(`,
  "systemd": {"units": [
    {"name": "a.service", "enabled": true, "contents": "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
     "dropins": [{"name": "x.conf", "contents": "[Unit]\nDescription=x\n"}]},
    {"name": "b.service", "mask": true}, {"name": "c.service", "enabled": false}]},
  "storage": {
    "links": [{"path": "/etc/hard", "target": "/var/data/deep/file", "hard": true}, {"path": "/etc/soft", "target": "x"}],
    "files": [{"path": "/var/data/deep/file"}, {"path": "/etc/top"}],
    "directories": [{"path": "/var/data/deep"}],
    "filesystems": [{"device": "/dev/mapper/v", "format": "ext4", "path": "/home/data"}, {"device": "/dev/vdc", "format": "swap"}],
    "luks": [{"name": "v", "device": "/dev/md/m"}],
    "raid": [{"name": "m", "level": "raid1", "devices": ["/dev/vdb1", "/dev/vdc1"]}],
    "disks": [{"device": "/dev/vdb", "wipeTable": true}]},
  "passwd": {"users": [{"name": "u", "groups": ["g"]}], "groups": [{"name": "g"}]},
  "kernelArguments": {"shouldExist": ["a"]}`)), nil)
	var got []string
	for _, s := range doc.Plan.Steps {
		got = append(got, s.Action.String())
	}
	want := []string{
		"kernel arguments a", "partition /dev/vdb (0 partitions), WIPE its table", "RAID m level raid1 of [/dev/vdb1 /dev/vdc1]", "LUKS v on /dev/md/m",
		"filesystem ext4 on /dev/mapper/v", "filesystem swap on /dev/vdc", "keep what every boot opens and assembles",
		"mount /dev/mapper/v on /var/home/data by var-home-data.mount", "enable var-home-data.mount",
		"group g", "user u (0 keys)", "write /etc/top", "link /etc/soft to x hard=false", "directory /var/data/deep", "write /var/data/deep/file",
		"link /etc/hard to /var/data/deep/file hard=true",
		"place /etc/systemd/system/a.service", "dropin /etc/systemd/system/a.service.d/x.conf", "mask /etc/systemd/system/b.service",
		"enable a.service", "disable c.service",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("steps (-want +got):\n%s\n%v", diff, doc.Plan.Problems)
	}
	if at := doc.Plan.Steps[1].Origin; at.Line != 13 || at.Source != "test" {
		t.Errorf("origin %v", at)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte(config(`, "storage": {"files": [{"path": "/etc/x", "contents": {"source": "data:,x"}}]}`)))
	f.Add([]byte(merging("data:,x")))
	f.Add([]byte(config(`, "storage": {"disks": [{"device": "/dev/vdb", "partitions": [{"number": 1, "sizeMiB": 5}]}], "filesystems": [{"device": "/dev/vdb1", "format": "ext4", "path": "/var/x"}]}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc := Compile(context.Background(), "fuzz", data, nil)
		for _, s := range doc.Plan.Steps {
			_ = s.String()
		}
		if doc.Valid() && doc.Config.Ignition.Version == "" {
			t.Error("valid without a version")
		}
	})
}

// TestKernelArguments: settings become a file, what is so anyway is no matter,
// and the rest is named before a machine has it.
func TestKernelArguments(t *testing.T) {
	doc := Compile(context.Background(), "test", []byte(config(`, "kernelArguments": {
  "shouldExist": ["sysctl.vm.max_map_count=262144", "net.ifnames=0", "mitigations=off", "sysctl.kernel.core_pattern=|/bin/x %p"], "shouldNotExist": ["quiet"]}`)), nil)
	var steps []string
	for _, s := range doc.Plan.Steps {
		steps = append(steps, s.Action.String()+" ("+s.Reason+")")
	}
	want := []string{"kernel arguments mitigations=off, no quiet (kernelArguments)", "write /etc/sysctl.d/20-kernel-arguments.conf from a data URL of 87 bytes (kernelArguments)"}
	if diff := cmp.Diff(want, steps); diff != "" || !doc.Valid() {
		t.Errorf("(-want +got):\n%s%v", diff, doc.Plan.Problems)
	}
	if text := firstProblem(doc); len(doc.Plan.Problems) != 1 || !strings.Contains(text, `"mitigations=off" is not added`) {
		t.Errorf("problems %v", doc.Plan.Problems)
	}
	_, content, known := doc.Plan.Steps[1].Action.(WriteFile).Inline()
	if diff := cmp.Diff("vm.max_map_count = 262144\nkernel.core_pattern = |/bin/x %p\n", string(content)); diff != "" || !known {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(doc.Config.Storage.Files) != 1 {
		t.Errorf("the config has %d files; what counts at once is taken from it", len(doc.Config.Storage.Files))
	}
}
