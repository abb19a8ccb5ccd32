package try

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// machine is a system with units that run or do not.
type machine struct {
	name   string
	active map[string]bool
	calls  []string
}

func (m *machine) Hostname() (string, error)                        { return m.name, nil }
func (m *machine) SetHostname(name string) error                    { m.name = name; return nil }
func (m *machine) Reload(context.Context) error                     { m.calls = append(m.calls, "reload"); return nil }
func (m *machine) Start(context.Context, string) error              { return nil }
func (m *machine) Active(_ context.Context, u string) (bool, error) { return m.active[u], nil }
func (m *machine) Command(_ context.Context, verb, unit string) error {
	m.calls = append(m.calls, verb+" "+unit)
	m.active[unit] = verb != "stop"
	return nil
}

func newMachine(t *testing.T) (*apply.Executor, *machine) {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{
		"etc/passwd":                            "root:x:0:0:root:/root:/bin/bash\ncore:x:500:500:Core:/home/core:/bin/bash\n",
		"etc/shadow":                            "root:*:1::::::\ncore:$6$old$x:1::::::\n",
		"etc/group":                             "root:x:0:\ncore:x:500:\nbin:x:2:\n",
		"etc/gshadow":                           "root:*::\ncore:!::\nbin:*::\n",
		"etc/hostname":                          "old\n",
		"etc/motd":                              "welcome\n",
		"etc/coreos/update.conf":                "GROUP=stable\n",
		"etc/systemd/system/b.service":          "[Service]\nExecStart=/bin/old\n",
		"etc/systemd/network/10-old.network":    "[Match]\nName=eth0\n",
		"home/core/.ssh/authorized_keys.d/keys": "ssh-ed25519 OLD me\n",
		"usr/lib/systemd/system/a.service":      "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\nAlias=z.service\n",
	} {
		at := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	keys := filepath.Join(root, "home/core/.ssh/authorized_keys.d/keys") // as provisioning writes it
	if err := errors.Join(os.Chmod(keys, 0o600), os.Chown(keys, 500, 500)); err != nil {
		t.Fatal(err)
	}
	m := &machine{name: "old", active: map[string]bool{"b.service": true}}
	return &apply.Executor{
		Root: root, Machine: m, Now: func() time.Time { return time.Unix(86400*3, 0) }, KeyName: "keys", Workspace: "/var/lib/w",
		Host: func() specifier.Host { return specifier.Host{} },
	}, m
}

// snapshot is all that is below a directory, but for home directories and the
// date of a password.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		if err != nil || (strings.HasPrefix(name, "home/") && !strings.HasPrefix(name, "home/core")) || strings.HasSuffix(name, "/.ssh") || strings.HasSuffix(name, "/authorized_keys.d") || name == ".pwd.lock" || name == "etc/.pwd.lock" {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			text += fmt.Sprintf(" %d:%d", stat.Uid, stat.Gid)
		}
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if name == "etc/shadow" {
				data = []byte(strings.ReplaceAll(string(data), ":3:", ":1:"))
			}
			all[name] = text + " " + string(data)
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			all[name] = text + " -> " + target
			return err
		}
		all[name] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const document = `#cloud-config
hostname: new
users:
  - {name: core, passwd: "$6$new$x"}
  - {name: elroy, groups: [bin], ssh_authorized_keys: [ssh-ed25519 AAAA a]}
ssh_authorized_keys: [ssh-ed25519 NEW me]
manage_etc_hosts: localhost
write_files:
  - {path: /etc/motd, content: "new\n", permissions: "0600", owner: bin:bin}
  - {path: /opt/a/b/c/file, content: x}
coreos:
  update: {group: beta, reboot-strategy: "off"}
  etcd2: {name: a}
  units:
    - {name: a.service, enable: true, command: start}
    - {name: b.service, command: restart, content: "[Service]\nExecStart=/bin/new\n", drop-ins: [{name: x.conf, content: "[Service]\n"}]}
    - {name: gone.service, mask: true}
    - {name: 10-old.network, content: "[Match]\nName=eth1\n"}
`

func compiled(data string) plan.Plan {
	return cloudconfig.Compile(cloudconfig.Parse([]byte(data)).Config, cloudconfig.Facts{
		Metadata: cloudconfig.Metadata{Addresses: cloudconfig.Addresses{PrivateIPv4: "10.0.2.15"}},
	})
}

// begin begins a try beside the root.
func begin(t *testing.T) *Try {
	t.Helper()
	tried, err := Begin(t.TempDir(), Head{Name: "d"}, []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return tried
}

// TestCutAtEveryStep stops after each step, as a power cut does, and takes back
// at the next boot: the machine is what it was, whatever the document.
func TestCutAtEveryStep(t *testing.T) {
	for n, data := range append(recordedDocuments(t), document) {
		steps := compiled(data)
		for cut := range len(steps.Steps) + 1 {
			if n < 40 && (cut != len(steps.Steps) || n%4 > 0) {
				continue // every step only of the document that has them all: a disk syncs slowly
			}
			e, m := newMachine(t)
			before := snapshot(t, e.Root)
			tried := begin(t)
			ctx, stop := context.WithCancel(context.Background())
			applied := 0
			err := tried.Apply(ctx, e, steps, func(apply.Outcome) {
				if applied++; applied == cut {
					stop()
				}
			})
			if cut < len(steps.Steps) && cut > 0 && err == nil {
				t.Fatalf("step %d of %d: no cut", cut, len(steps.Steps))
			}
			stop()
			again, err := Open(tried.dir)
			if err != nil {
				t.Fatal(err)
			}
			fresh := &apply.Executor{Root: e.Root, Machine: m, Now: e.Now, Host: e.Host, KeyName: e.KeyName, Workspace: e.Workspace}
			if err := again.Revert(context.Background(), fresh, true, func(apply.Outcome) {}); err != nil {
				t.Fatalf("cut after %d: %v", cut, err)
			}
			if diff := cmp.Diff(before, snapshot(t, e.Root)); diff != "" {
				t.Fatalf("document %d, cut after %d (-before +after):\n%s\n%s", n, cut, diff, data)
			}
			if m.name != "old" {
				t.Errorf("cut after %d: hostname %q", cut, m.name)
			}
			if _, err := Open(tried.dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the try is still there: %v", err)
			}
		}
	}
}

func recordedDocuments(t *testing.T) (documents []string) {
	t.Helper()
	data, err := os.ReadFile("../../cloudconfig/testdata/coreos-cloudinit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var c struct{ UserData string }
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		documents = append(documents, c.UserData)
	}
	return documents
}

// TestTornLine: a power cut in the middle of keeping leaves a line without its
// end; its step was not begun, and those before it are taken back.
func TestTornLine(t *testing.T) {
	e, _ := newMachine(t)
	before := snapshot(t, e.Root)
	tried := begin(t)
	if err := tried.Apply(context.Background(), e, plan.Plan{Steps: []plan.Step{
		{Action: plan.WriteFile{Path: "/etc/motd", Content: []byte("new"), Mode: 0o644}},
	}}, func(apply.Outcome) {}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(tried.dir, undoFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`[{"Do":"PutBack","With":{"Path":"/etc/pass`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := tried.Revert(context.Background(), e, true, func(apply.Outcome) {}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t, e.Root)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestUnitsComeBack(t *testing.T) {
	e, m := newMachine(t)
	tried := begin(t)
	if err := tried.Apply(context.Background(), e, compiled(document), func(apply.Outcome) {}); err != nil {
		t.Fatal(err)
	}
	m.calls = nil
	if err := tried.Revert(context.Background(), e, false, func(apply.Outcome) {}); err != nil {
		t.Fatal(err)
	}
	want := []string{"reload", "restart systemd-networkd.service", "stop update-engine.service", "restart b.service", "stop a.service"}
	if diff := cmp.Diff(want, m.calls); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfirm(t *testing.T) {
	e, _ := newMachine(t)
	tried := begin(t)
	tried.Head.Save = "/var/lib/coreos-install/user_data"
	if err := tried.Confirm(e.Root); err == nil {
		t.Error("confirmed before it was applied")
	}
	if _, err := Begin(tried.dir, Head{}, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a second try: %v", err)
	}
	if err := tried.Apply(context.Background(), e, compiled(document), func(apply.Outcome) {}); err != nil {
		t.Fatal(err)
	}
	if err := tried.Confirm(e.Root); err == nil {
		t.Error("confirmed before the last of it was done")
	}
	kept, err := apply.Before(e.Root, "/last")
	if err == nil {
		err = tried.Finish(plan.Step{Action: kept}, func() error { return os.WriteFile(filepath.Join(e.Root, "last"), nil, 0o600) })
	}
	if err != nil {
		t.Fatal(err)
	}
	after := snapshot(t, e.Root)
	if err := tried.Confirm(e.Root); err != nil {
		t.Fatal(err)
	}
	saved, err := os.ReadFile(filepath.Join(e.Root, "/var/lib/coreos-install/user_data"))
	if err != nil || string(saved) != document {
		t.Errorf("saved %q, %v", saved, err)
	}
	if err := tried.Revert(context.Background(), e, false, func(apply.Outcome) {}); !errors.Is(err, ErrConfirmed) {
		t.Errorf("taken back after it was confirmed: %v", err)
	}
	now := snapshot(t, e.Root)
	for name := range now {
		if strings.HasPrefix(name, "var/lib") || name == "var" {
			delete(now, name)
			delete(after, name)
		}
	}
	if diff := cmp.Diff(after, now); diff != "" {
		t.Errorf("confirming changed (-before +after):\n%s", diff)
	}
	if left, _ := filepath.Glob(tried.dir + "/*"); !slices.Equal(left, []string{tried.dir + "/lock"}) {
		t.Errorf("left: %q", left)
	}
}

// TestUndoThatFails stays on the disk for the next boot, which ends it.
func TestUndoThatFails(t *testing.T) {
	e, _ := newMachine(t)
	tried := begin(t)
	if err := tried.Apply(context.Background(), e, compiled("#cloud-config\nwrite_files: [{path: /etc/motd, content: x}]\n"), func(apply.Outcome) {}); err != nil {
		t.Fatal(err)
	}
	motd := filepath.Join(e.Root, "etc/motd")
	if err := errors.Join(os.Remove(motd), os.MkdirAll(motd+"/in-the-way", 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := tried.Revert(context.Background(), e, false, func(apply.Outcome) {}); err == nil || !strings.Contains(err.Error(), "next boot") {
		t.Errorf("Revert: %v", err)
	}
	if err := tried.Confirm(e.Root); err == nil {
		t.Error("confirmed what was half taken back")
	}
	if err := tried.Revert(context.Background(), e, true, func(apply.Outcome) {}); err == nil {
		t.Error("at boot: no error")
	}
	if _, err := Open(tried.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the boot: %v", err)
	}
}

func TestDamagedHead(t *testing.T) {
	e, _ := newMachine(t)
	before := snapshot(t, e.Root)
	tried := begin(t)
	if err := tried.Apply(context.Background(), e, compiled("#cloud-config\nwrite_files: [{path: /etc/motd, content: x}]\n"), func(apply.Outcome) {}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tried.dir, headFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Open(tried.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Revert(context.Background(), e, true, func(apply.Outcome) {}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t, e.Root)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestCheck(t *testing.T) {
	if err := Check(compiled(document)); err != nil {
		t.Error(err)
	}
	if err := Check(cloudconfig.CompileScript([]byte("#!/bin/sh\n"), cloudconfig.Facts{})); !errors.Is(err, apply.ErrNoUndo) {
		t.Errorf("a script: %v", err)
	}
}
