package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// machine records what it is asked for.
type machine struct {
	name   string
	calls  []string
	fail   map[string]error
	active map[string]bool
}

func (m *machine) do(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	m.calls = append(m.calls, call)
	return m.fail[call]
}

func (m *machine) Hostname() (string, error) { return m.name, nil }
func (m *machine) SetHostname(name string) error {
	m.name = name
	return m.do("hostname %s", name)
}
func (m *machine) Active(_ context.Context, u string) (bool, error) { return m.active[u], nil }
func (m *machine) Reload(context.Context) error                     { return m.do("reload") }
func (m *machine) Start(_ context.Context, u string) error          { return m.do("begin %s", u) }
func (m *machine) Command(ctx context.Context, verb, unit string) error {
	err := m.do("%s %s", verb, unit)
	if errors.Is(err, errHangs) {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

var errHangs = errors.New("hangs")

// newExecutor returns an executor for a root with the accounts of a new
// machine.
func newExecutor(t *testing.T) (*Executor, *machine) {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{
		"etc/passwd":  "root:x:0:0:root:/root:/bin/bash\ncore:x:500:500:Core:/home/core:/bin/bash\n",
		"etc/shadow":  "root:*:1::::::\ncore:*:1::::::\n",
		"etc/group":   "root:x:0:\ncore:x:500:\nbin:x:2:\n",
		"etc/gshadow": "root:*::\ncore:*::\nbin:*::\n",
	} {
		put(t, root, path, content)
	}
	m := &machine{name: "localhost", fail: map[string]error{}}
	return &Executor{
		Root: root, Machine: m, KeyName: "coreos-cloudinit", Workspace: "/var/lib/coreos-cloudinit",
		Host: func() specifier.Host { return specifier.Host{} },
		Now:  func() time.Time { return time.Unix(1700000000, 0) }, CommandTimeout: 20 * time.Millisecond,
	}, m
}

func put(t *testing.T, root, path, content string) {
	t.Helper()
	full := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func planOf(data string) plan.Plan {
	return cloudconfig.Compile(cloudconfig.Parse([]byte(data)).Config, cloudconfig.Facts{
		Metadata: cloudconfig.Metadata{Addresses: cloudconfig.Addresses{PrivateIPv4: "10.0.2.15"}},
	})
}

// applied returns the steps that changed something, and those that failed with
// their errors.
func applied(e *Executor, p plan.Plan) (changed, failed []string) {
	e.Apply(context.Background(), p, func(o Outcome) {
		switch o.Result {
		case Changed:
			changed = append(changed, o.Step.Action.String())
		case Failed, Pending:
			failed = append(failed, o.Err.Error())
		}
	})
	return changed, failed
}

const document = `#cloud-config
hostname: box
ssh_authorized_keys: [ssh-ed25519 AAAA me]
users:
  - {name: ada, passwd: hash, ssh_authorized_keys: [ssh-ed25519 BBBB ada]}
write_files:
  - {path: /etc/app/conf, content: x, permissions: "0640", owner: "core:bin"}
coreos:
  etcd2: {name: n}
  units:
    - {name: a.service, content: "[Service]\n[Install]\nWantedBy=multi-user.target\n", command: start, enable: true}
    - {name: 10-eth.network, content: "[Match]\n", runtime: true}
    - {name: b.service, mask: true}
`

// TestJoinTokenIsSecret: what lets a machine join is for root's eyes only, also
// where an older run wrote it for everybody.
func TestJoinTokenIsSecret(t *testing.T) {
	e, _ := newExecutor(t)
	const path = "/run/systemd/system/etcd2.service.d/20-cloudinit.conf"
	put(t, e.Root, path, "[Service]\nEnvironment=\"ETCD_JOIN_TOKEN=s\"\n")
	changed, failed := applied(e, planOf("#cloud-config\ncoreos:\n  etcd2: {join-token: s, tls: auto}\n  fleet: {metadata: a=b}\n"))
	if len(failed) > 0 || !slices.Contains(changed, "dropin "+path) {
		t.Errorf("changed %q, failed %q", changed, failed)
	}
	text, err := os.ReadFile(filepath.Join(e.Root, path))
	if err != nil || !strings.Contains(string(text), `"ETCD_JOIN_TOKEN=s"`) || !strings.Contains(string(text), `"ETCD_TLS=auto"`) {
		t.Errorf("%q, %v", text, err)
	}
	for path, want := range map[string]os.FileMode{path: 0o600, "/run/systemd/system/fleet.service.d/20-cloudinit.conf": 0o644} {
		info, err := os.Stat(filepath.Join(e.Root, path))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info, err, want)
		}
	}
}

func TestApplyTwice(t *testing.T) {
	e, m := newExecutor(t)
	changed, failed := applied(e, planOf(document))
	if diff := cmp.Diff([]string{
		"set hostname box", "user ada", "authorize 1 keys for ada", "authorize 1 keys for core",
		"write /etc/app/conf (1 bytes, core:bin, mode 0640)", "envfile /etc/environment",
		"place /etc/systemd/system/a.service", "enable a.service runtime=false",
		"place /run/systemd/network/10-eth.network", "mask /etc/systemd/system/b.service",
		"dropin /run/systemd/system/etcd2.service.d/20-cloudinit.conf",
		"daemon-reload", "restart systemd-networkd.service", "start a.service",
	}, changed); diff != "" || failed != nil {
		t.Errorf("first time: %q (-want +got):\n%s", failed, diff)
	}
	if diff := cmp.Diff([]string{
		"hostname box", "reload", "restart systemd-networkd.service", "start a.service",
	}, m.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(e.Root, "etc/app/conf"))
	if err != nil {
		t.Fatal(err)
	}
	if stat := info.Sys().(*syscall.Stat_t); info.Mode() != 0o640 || (os.Geteuid() == 0 && (stat.Uid != 500 || stat.Gid != 2)) {
		t.Errorf("file: mode %v, owner %d:%d", info.Mode(), stat.Uid, stat.Gid)
	}

	before := snapshot(t, e.Root)
	changed, failed = applied(e, planOf(document))
	if diff := cmp.Diff([]string{"start a.service"}, changed); diff != "" || failed != nil {
		t.Errorf("second time: %q (-want +got):\n%s", failed, diff)
	}
	if diff := cmp.Diff(before, snapshot(t, e.Root)); diff != "" {
		t.Errorf("files after the second time (-first +second):\n%s", diff)
	}
}

// snapshot returns the content, or target, and times of all files.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.Readlink(path)
		if err != nil {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text = string(data)
		}
		rel, _ := filepath.Rel(root, path)
		files[rel] = info.ModTime().String() + " " + text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestFailuresCostOnlyThemselves(t *testing.T) {
	e, m := newExecutor(t)
	m.fail["start bad.service"] = errors.New("Unit bad.service not found.")
	m.fail["start slow.service"] = errHangs
	put(t, e.Root, "file", "")
	if err := os.MkdirAll(filepath.Join(e.Root, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	changed, failed := applied(e, planOf(`#cloud-config
users:
  - {name: u, groups: [nosuchgroup]}
write_files:
  - {path: /file/below, content: x}
  - {path: /dir, content: x}
  - {path: /etc/owned, content: x, owner: nobodyhere}
  - {path: /etc/good, content: x}
coreos:
  units:
    - {name: bad.service, command: start}
    - {name: slow.service, command: start}
    - {name: good.service, command: start}
`))
	if diff := cmp.Diff([]string{
		"write /etc/good (1 bytes, root, mode 0644)", "envfile /etc/environment", "start good.service",
	}, changed); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	for i, want := range []string{"nosuchgroup", "/file/below", "is a directory", "nobodyhere", "not found", "goes on by itself"} {
		if i >= len(failed) || !strings.Contains(failed[i], want) {
			t.Errorf("failures %q: want %q at %d", failed, want, i)
		}
	}
	e.Apply(context.Background(), planOf("#cloud-config\ncoreos: {units: [{name: slow.service, command: start}]}\n"), func(o Outcome) {
		if o.Step.Origin.Line > 0 && o.Result != Pending {
			t.Errorf("%s is %s", o.Step, o.Result)
		}
	})
	if _, err := os.Stat(filepath.Join(e.Root, "etc/owned")); err != nil {
		t.Error("a file of an unknown owner is not written")
	}
}

// TestFullDisk fills a small tmpfs: the old file stays whole and nothing is
// left beside it, and steps on other file systems go on.
func TestFullDisk(t *testing.T) {
	e, _ := newExecutor(t)
	small := filepath.Join(e.Root, "var/lib")
	if err := os.MkdirAll(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("mount tmpfs: %v; the test needs root", err)
	}
	defer syscall.Unmount(small, syscall.MNT_DETACH)
	put(t, e.Root, "var/lib/conf", "old")
	changed, failed := applied(e, plan.Plan{Steps: []plan.Step{
		{Action: plan.WriteFile{Path: "/var/lib/conf", Content: make([]byte, 1<<20), Mode: 0o644}},
		{Action: plan.WriteFile{Path: "/etc/other", Content: []byte("x"), Mode: 0o644}},
	}})
	if len(failed) != 1 || !strings.Contains(failed[0], "no space left") || !strings.Contains(failed[0], "free some space") {
		t.Errorf("failed %q", failed)
	}
	if len(changed) != 1 {
		t.Errorf("changed %q", changed)
	}
	if data, err := os.ReadFile(filepath.Join(small, "conf")); err != nil || string(data) != "old" {
		t.Errorf("the file is now %q, %v", data, err)
	}
	if entries, _ := os.ReadDir(small); len(entries) != 1 {
		t.Errorf("left over: %v", entries)
	}
}

func TestReadOnlyPath(t *testing.T) {
	e, _ := newExecutor(t)
	usr := filepath.Join(e.Root, "usr")
	if err := os.MkdirAll(usr, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", usr, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		t.Fatalf("mount tmpfs: %v; the test needs root", err)
	}
	defer syscall.Unmount(usr, syscall.MNT_DETACH)
	_, failed := applied(e, planOf("#cloud-config\nwrite_files: [{path: /usr/bin/x, content: x}]\n"))
	if len(failed) != 1 || !strings.Contains(failed[0], "system image can not be changed") {
		t.Errorf("failed %q", failed)
	}
}

func TestMaskAndUnmask(t *testing.T) {
	e, _ := newExecutor(t)
	put(t, e.Root, "run/systemd/system/full.service", "[Service]\n")
	put(t, e.Root, "run/systemd/system/empty.service", "")
	unmask := func(name string) bool {
		changed, err := e.unmask("/run/systemd/system/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	if changed, err := e.mask("/run/systemd/system/masked.service"); err != nil || !changed {
		t.Errorf("mask: %v, %v", changed, err)
	}
	if changed, err := e.mask("/run/systemd/system/masked.service"); err != nil || changed {
		t.Errorf("mask again: %v, %v", changed, err)
	}
	for name, want := range map[string]bool{"masked.service": true, "empty.service": true, "full.service": false, "none.service": false} {
		if got := unmask(name); got != want {
			t.Errorf("unmask %s: %v, want %v", name, got, want)
		}
	}
}

func TestEnable(t *testing.T) {
	e, _ := newExecutor(t)
	put(t, e.Root, "usr/lib/systemd/system/etcd.service", "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
	put(t, e.Root, "usr/lib/systemd/system/static.service", "[Service]\nExecStart=/bin/true\n")
	put(t, e.Root, "usr/lib/systemd/system/alias.service", "[Service]\nExecStart=/bin/true\n[Install]\nAlias=alias.timer\n")
	if err := os.Symlink("etcd.service", filepath.Join(e.Root, "usr/lib/systemd/system/etcd2.service")); err != nil {
		t.Fatal(err)
	}
	if changed, err := e.enable(plan.EnableUnit{Name: "etcd2.service", Runtime: true}); err != nil || !changed {
		t.Errorf("enable an alias: %v, %v", changed, err)
	}
	if _, err := os.Lstat(filepath.Join(e.Root, "run/systemd/system/multi-user.target.wants/etcd.service")); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]Result{"static.service": Unchanged, "none.service": Failed, "alias.service": Failed} {
		enable := plan.Plan{Steps: []plan.Step{{Action: plan.EnableUnit{Name: name}}}}
		e.Apply(context.Background(), enable, func(o Outcome) {
			if o.Result != want || o.Err == nil {
				t.Errorf("enable %s: %s, %v; want %s and an error", name, o.Result, o.Err, want)
			}
		})
	}
}

func TestScript(t *testing.T) {
	e, m := newExecutor(t)
	put(t, e.Root, "var/lib/coreos-cloudinit/scripts/old", "")
	script := []byte("#!/bin/sh\necho hello\n")
	for range 2 {
		if _, failed := applied(e, cloudconfig.CompileScript(script, cloudconfig.Facts{})); failed != nil {
			t.Fatal(failed)
		}
	}
	name, err := os.ReadFile(filepath.Join(e.Root, "var/lib/coreos-cloudinit/scripts/unit-name"))
	if err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile(filepath.Join(e.Root, "run/systemd/system", string(name)))
	if err != nil || !strings.Contains(string(unit), "\nExecStart=/bin/bash /var/lib/coreos-cloudinit/scripts/") {
		t.Errorf("unit: %q, %v", unit, err)
	}
	if want := "begin " + string(name); m.calls[len(m.calls)-1] != want {
		t.Errorf("calls %q, want %q last", m.calls, want)
	}
	entries, _ := os.ReadDir(filepath.Join(e.Root, "var/lib/coreos-cloudinit/scripts"))
	if len(entries) != 2 {
		t.Errorf("scripts: %v, want one and unit-name", entries)
	}
}
