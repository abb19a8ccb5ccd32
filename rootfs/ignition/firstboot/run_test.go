package firstboot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/ignition"
	"github.com/coracle-os/coracle/rootfs/ignition/fetch"
	"github.com/coracle-os/coracle/rootfs/ignition/files"
	"github.com/coracle-os/coracle/rootfs/ignition/progress"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
	"github.com/coracle-os/coracle/rootfs/userdata"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// box is a machine for a test. Steps of storage and units are only noted.
type box struct {
	root    string
	runner  *Runner
	said    []string
	done    []string // steps that were taken
	started int
	// cut ends the power before the step of this number, from 0; in the middle
	// of it when half is true.
	cut  int
	half bool
}

var errPower = errors.New("power cut")

func newBox(t testing.TB, root, config string) *box {
	t.Helper()
	b := &box{root: root, cut: -1}
	e := files.Executor{Root: root, Now: func() time.Time { return time.Unix(86400*20000, 0) }}
	b.runner = &Runner{Root: root, Network: func(context.Context) {}, Fetcher: &fetch.Fetcher{Limit: 50 * time.Millisecond}, BootID: fmt.Sprint(time.Now().UnixNano()),
		Find: func(context.Context) ([]Source, error) {
			if config == "" {
				return nil, nil
			}
			return []Source{{Name: "test", Data: []byte(config)}}, nil
		},
		Say:   func(line string) { b.said = append(b.said, line) },
		Start: func(context.Context, types.Config) error { b.started++; return nil },
		Do: func(ctx context.Context, a plan.Action) (bool, error) {
			if b.cut == len(b.done) && !b.half {
				panic(errPower)
			}
			b.done = append(b.done, a.String())
			e.Contents = b.runner.Contents
			changed, _, err := e.Do(ctx, a)
			if place, ok := a.(plan.PlaceUnit); ok {
				err = os.WriteFile(filepath.Join(root, place.Path), place.Content, 0o644)
			}
			if b.cut == len(b.done)-1 && b.half {
				panic(errPower)
			}
			return changed, err
		}}
	return b
}

// run returns the error, errPower for a power cut.
func (b *box) run() (err error) {
	defer func() {
		if recover() == errPower {
			err = errPower
		}
	}()
	return b.runner.Run(context.Background())
}

func newRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\ncore:x:500:500::/home/core:/bin/bash\n", "etc/group": "root:x:0:\ncore:x:500:\n",
		"etc/shadow": "core:*:1::::::\n", "etc/gshadow": "", "etc/there": "before\n", "etc/systemd/system/x": "", "home/core/x": "",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const whole = `{"ignition": {"version": "3.4.0"},
 "passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["ssh-ed25519 A"]}, {"name": "bob"}], "groups": [{"name": "crew"}]},
 "storage": {
  "disks": [{"device": "/dev/vdb", "wipeTable": true}],
  "filesystems": [{"device": "/dev/vdb1", "format": "ext4", "path": "/var/data", "wipeFilesystem": true}],
  "directories": [{"path": "/etc/d", "overwrite": true}],
  "files": [{"path": "/etc/a", "contents": {"source": "data:,content"}}, {"path": "/etc/there", "append": [{"source": "data:,more"}]}],
  "links": [{"path": "/etc/l", "target": "a"}, {"path": "/etc/h", "target": "/etc/a", "hard": true}]},
 "systemd": {"units": [{"name": "a.service", "contents": "[Service]\nExecStart=/bin/true\n"}]}}`

func TestWhole(t *testing.T) {
	root := newRoot(t)
	b := newBox(t, root, whole)
	b.runner.Network = func(context.Context) { t.Error("the network is waited for, and nothing is there") }
	if err := b.run(); err != nil || b.started != 1 || !progress.Done(root) {
		t.Fatalf("%v, started %d times, %q", err, b.started, b.said)
	}
	again := newBox(t, root, whole)
	if err := again.run(); err != nil || len(again.done) > 0 || again.started > 0 {
		t.Errorf("a second boot: %v, %q", err, again.done)
	}
	if _, err := os.Stat(filepath.Join(root, progress.SpoolPath)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("documents are left: %v", err)
	}
}

// TestPowerCut cuts the power before and in each step of a first boot: the next
// boot says so, completes it and makes the same machine.
func TestPowerCut(t *testing.T) {
	reference := newBox(t, newRoot(t), whole)
	if err := reference.run(); err != nil {
		t.Fatal(err)
	}
	want := tree(t, reference.root)
	points := 0
	for cut := range reference.done {
		for _, half := range []bool{cut%2 == 1} { // before a step and in the middle of one, by turns
			points++
			root := newRoot(t)
			first := newBox(t, root, whole)
			first.cut, first.half = cut, half
			if err := first.run(); err != errPower {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			if progress.Done(root) || first.started > 0 {
				t.Errorf("cut at %d (%s): the machine claims to be set up", cut, reference.done[cut])
			}
			second := newBox(t, root, whole)
			if err := second.run(); err != nil || !progress.Done(root) || second.started != 1 {
				t.Errorf("after a cut at %d (%s): %v", cut, reference.done[cut], err)
			}
			if len(second.said) == 0 || !strings.Contains(second.said[0], fmt.Sprintf("was cut off at step %d of", cut+1)) {
				t.Errorf("after a cut at %d the next boot says %q", cut, second.said)
			}
			if diff := cmp.Diff(want, tree(t, root)); diff != "" {
				t.Errorf("after a cut at %d half %t (%s) (-want +got):\n%s", cut, half, reference.done[cut], diff)
			}
		}
	}
	if points < 10 {
		t.Errorf("%d points", points)
	}
}

// tree is all files but for progress.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() == "ignition.done" || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text := ""
		if entry.Type() == fs.ModeSymlink {
			text, err = os.Readlink(path)
		} else {
			var data []byte
			data, err = os.ReadFile(path)
			text = string(data)
		}
		found[strings.TrimPrefix(path, root)] = info.Mode().String() + " " + text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestStorageIsMadeOnce looks at what is wiped by the run after a cut.
func TestStorageIsMadeOnce(t *testing.T) {
	for _, tt := range []struct {
		cut  string
		wipe bool // by the next run
	}{{"filesystem", true}, {"keep what", false}, {"mount", false}, {"write /etc/a", false}} {
		root := newRoot(t)
		reference := newBox(t, newRoot(t), whole)
		if err := reference.run(); err != nil {
			t.Fatal(err)
		}
		first := newBox(t, root, whole)
		for i, step := range reference.done {
			if strings.HasPrefix(step, tt.cut) {
				first.cut = i
				break
			}
		}
		if err := first.run(); err != errPower {
			t.Fatal(err)
		}
		second := newBox(t, root, whole)
		if err := second.run(); err != nil {
			t.Error(err)
		}
		if wiped := strings.Contains(strings.Join(second.done, "\n"), "WIPE"); wiped != tt.wipe {
			t.Errorf("after a cut at %q: wiped %t, want %t: %q", tt.cut, wiped, tt.wipe, second.done)
		}
	}
}

// TestBad: nothing but keys is applied, the reason is given, and a corrected
// config is applied by the next run.
func TestBad(t *testing.T) {
	const users = `"passwd": {"users": [{"name": "core", "sshAuthorizedKeys": ["ssh-ed25519 A"]}]}`
	for _, tt := range []struct {
		name, config string
		keys         bool
		err          string
	}{
		{"not valid", `{"ignition": {"version": "3.0.0"}, "storage": {"files": [{"path": "x"}]}}`, false, "path not absolute"},
		{"not possible", `{"ignition": {"version": "3.0.0"}, ` + users + `, "storage": {"files": [{"path": "/usr/x"}]}}`, true, "is in the verified image"},
		{"a server that is down", `{"ignition": {"version": "3.0.0"}, ` + users + `, "storage": {"files": [{"path": "/etc/x", "contents": {"source": "http://127.0.0.1:1/x"}}]}}`, true, "see that the server is up"},
		{"a lying hash", `{"ignition": {"version": "3.0.0"}, ` + users + `, "storage": {"files": [{"path": "/etc/x", "contents": {"source": "data:,x", "verification": {"hash": "sha512-` + strings.Repeat("0", 128) + `"}}}]}}`, true, "/etc/x: fetch"},
		{"a step that fails", `{"ignition": {"version": "3.0.0"}, ` + users + `, "storage": {"files": [{"path": "/etc/there", "contents": {"source": "data:,x"}}]}}`, true, "set overwrite to true"},
	} {
		root := newRoot(t)
		b := newBox(t, root, tt.config)
		err := b.run()
		if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "NOT set up") || progress.Done(root) || b.started > 0 {
			t.Errorf("%s: %v", tt.name, err)
		}
		_, keyErr := os.Stat(filepath.Join(root, "home/core/.ssh/authorized_keys.d/ignition"))
		if (keyErr == nil) != tt.keys {
			t.Errorf("%s: keys: %v", tt.name, keyErr)
		}
		next := newBox(t, root, whole)
		if err := next.run(); err != nil || !progress.Done(root) || !strings.Contains(next.said[0], "it said: ") {
			t.Errorf("%s: the next boot: %v, %q", tt.name, err, next.said)
		}
	}
}

// TestLost: on a machine whose state stays closed, which looks like a new one,
// the owner gets in and no disk is touched.
func TestLost(t *testing.T) {
	b := newBox(t, newRoot(t), whole)
	b.runner.Lost = "nobody typed the recovery key"
	err := b.run()
	if err == nil || !strings.Contains(err.Error(), "disks are left as they are: nobody typed the recovery key") || b.started > 0 {
		t.Errorf("%v", err)
	}
	if len(b.done) != 1 || !strings.Contains(b.done[0], "core") {
		t.Errorf("steps %q, want only the keys of core", b.done)
	}
}

func TestWithoutConfig(t *testing.T) {
	for _, tt := range []struct {
		name    string
		sources []Source
		err     error
		setUp   bool
		done    bool
		note    string
	}{
		{"none", nil, nil, false, true, "there is no Ignition config"},
		{"a cloud-config", []Source{{Name: "x", Data: []byte("#cloud-config\n")}}, nil, false, true, "there is no Ignition config"},
		{"a place that does not answer", nil, errors.New("no answer"), false, false, ""},
		{"a place that can not be read", []Source{{Name: "x", Err: errors.New("no answer")}}, nil, false, false, ""},
		{"a machine of an earlier release", []Source{{Name: "x", Data: []byte(whole)}}, nil, true, true, "set up by an earlier release"},
	} {
		root := newRoot(t)
		b := newBox(t, root, "")
		b.runner.Find = func(context.Context) ([]Source, error) { return tt.sources, tt.err }
		b.runner.SetUp = tt.setUp
		err := b.run()
		if (err == nil) != tt.done || progress.Done(root) != tt.done || len(b.done) > 0 {
			t.Errorf("%s: %v, %q", tt.name, err, b.done)
		}
		note, _ := os.ReadFile(filepath.Join(root, progress.DonePath))
		if !strings.Contains(string(note), tt.note) {
			t.Errorf("%s: %s", tt.name, note)
		}
	}
	root := newRoot(t)
	b := newBox(t, root, "")
	b.runner.Find = func(context.Context) ([]Source, error) {
		return []Source{{Name: "first", Data: []byte(whole)}, {Name: "second", Data: []byte(whole)}}, nil
	}
	if err := b.run(); err != nil || !strings.Contains(strings.Join(b.said, "\n"), "second: this config is not used, that of first is") {
		t.Errorf("two configs: %v, %q", err, b.said)
	}
}

func TestKernelArguments(t *testing.T) {
	args := func(yes, no string) ignition.KernelArguments {
		return ignition.KernelArguments{KernelArguments: types.KernelArguments{ShouldExist: []types.KernelArgument{types.KernelArgument(yes)}, ShouldNotExist: []types.KernelArgument{types.KernelArgument(no)}}}
	}
	if err := checkArguments(args("panic=10", "quiet"), "ro panic=10"); err != nil {
		t.Error(err)
	}
	err := checkArguments(args("nosmt", "ro"), "ro panic=10")
	if err == nil || !strings.Contains(err.Error(), `"nosmt" is not there, "ro" is there`) {
		t.Errorf("%v", err)
	}
}

// TestLater: a document that has to be fetched is left to coreos-cloudinit, and
// a cut while its config is applied is said when the next boot has it again.
func TestLater(t *testing.T) {
	const address = "http://x/config"
	root := newRoot(t)
	boot := func(config string, late bool) *box {
		b := newBox(t, root, "")
		b.runner.Late = late
		b.runner.Find = func(context.Context) ([]Source, error) {
			if late {
				return []Source{{Name: address, Data: []byte(config)}}, nil
			}
			return []Source{{Name: address, Later: true}}, nil
		}
		return b
	}
	awaits := func(what string) {
		t.Helper()
		now, _, err := progress.Read(root)
		if err != nil || now.Awaits != address || progress.Done(root) {
			t.Fatalf("%s: %+v, %v", what, now, err)
		}
	}
	first := boot("", false)
	if err := first.run(); err != nil || len(first.said)+len(first.done) > 0 {
		t.Errorf("%v, %q", err, first.said)
	}
	awaits("left")
	bad := boot(`{"ignition": {"version": "3.0.0"}, "storage": {"files": [{"path": "x"}]}}`, true)
	if err := bad.run(); err == nil || !strings.Contains(err.Error(), "systemctl restart coreos-cloudinit") {
		t.Errorf("%v", err)
	}
	awaits("a bad config")
	cut := boot(whole, true)
	cut.cut = 5
	if err := cut.run(); err != errPower {
		t.Error(err)
	}
	awaits("a power cut")
	next := boot("", false)
	if err := next.run(); err != nil || len(next.said) > 0 {
		t.Errorf("%v, %q", err, next.said)
	}
	awaits("left again")
	last := boot(whole, true)
	if err := last.run(); err != nil || !progress.Done(root) || !strings.Contains(last.said[0], "was cut off at step 6 of") {
		t.Errorf("%v, %q", err, last.said)
	}
}

func TestFind(t *testing.T) {
	const config = `{"ignition": {"version": "3.4.0"}}`
	for _, tt := range []struct {
		name, line string
		file       string // that has a config
		platform   platform.Name
		result     platform.Result
		want       []string
	}{
		{"nothing", "quiet", "", platform.None, platform.Result{}, nil},
		{"its own argument", "ignition.config.url=http://a cloud-config-url=http://b", "", platform.EC2, platform.Result{}, []string{"http://a"}},
		{"cloud-config-url", "cloud-config-url=http://b", "", platform.None, platform.Result{}, []string{"later http://b"}},
		{"a config here is before it", "cloud-config-url=http://b", userdata.FWCfg, platform.None, platform.Result{}, []string{"QEMU fw_cfg", "later http://b"}},
		{"the platform's", "", "", platform.EC2, platform.Result{UserData: []byte(config)}, []string{"metadata of platform ec2"}},
		{"where the platform says", "", "", platform.VMware, platform.Result{URL: "http://c"}, []string{"metadata of platform vmware", "later http://c"}},
		{"OEM", "", "/usr/share/oem/config.ign", platform.None, platform.Result{}, []string{"/usr/share/oem/config.ign"}},
	} {
		root := t.TempDir()
		if tt.file != "" {
			path := filepath.Join(root, tt.file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(config), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		f := finder{root: root, commandLine: tt.line, places: userdata.Places{Root: root}, platform: tt.platform,
			fetch: func(context.Context, types.Resource) ([]byte, error) { return []byte(config), nil },
			ask:   func(context.Context, platform.Name) (platform.Result, error) { return tt.result, nil }}
		sources, err := f.find(context.Background())
		var got []string
		for _, s := range sources {
			name := s.Name
			if s.Later {
				name = "later " + name
			}
			got = append(got, name)
		}
		same := len(got) == len(tt.want)
		for i := range got {
			same = same && strings.HasPrefix(got[i], tt.want[i])
		}
		if err != nil || !same {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

// TestEffects: what the system has read before the config was written counts
// all the same.
func TestEffects(t *testing.T) {
	root := newRoot(t)
	doc := ignition.Compile(context.Background(), "test", []byte(`{"ignition": {"version": "3.4.0"}, "storage": {
  "files": [{"path": "/etc/sysctl.d/x.conf"}, {"path": "/etc/tmpfiles.d/x.conf"}, {"path": "/etc/modules-load.d/x.conf"}, {"path": "/etc/network"}],
  "links": [{"path": "/etc/systemd/network/10-x.network", "target": "../x"}]}}`), nil)
	for path, content := range map[string]string{"etc/sysctl.d/x.conf": "kernel.x = 7\n", "proc/sys/kernel/x": "0", "etc/tmpfiles.d/x.conf": "d /run/made 0700\nnonsense\n", "run/x": ""} {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	e := effectsOf(doc.Config)
	if e.hostname {
		t.Error("the host name is not written")
	}
	var restarted []string
	err := e.take(context.Background(), root, specifier.Host{}, func(_ context.Context, unit string) error {
		restarted = append(restarted, unit)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "/etc/tmpfiles.d/x.conf:2") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]string{"systemd-modules-load.service", "systemd-networkd.service"}, restarted); diff != "" {
		t.Error(diff)
	}
	if value, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/x")); err != nil || strings.TrimSpace(string(value)) != "7" {
		t.Errorf("sysctl: %q, %v", value, err)
	}
	if _, err := os.Stat(filepath.Join(root, "run/made")); err != nil {
		t.Error(err)
	}
}
