package config

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/config/reach"
	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/ignition/fetch"
	"github.com/coracle-os/coracle/rootfs/ignition/live"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/format"
	"github.com/coracle-os/coracle/rootfs/provision/owned"
	"github.com/coracle-os/coracle/rootfs/provision/try"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
	"github.com/coracle-os/coracle/rootfs/user"
)

// world is a machine below a temporary root, whose PID 1 knows how to start the
// guard.
type world struct {
	*tool
	out    *buffer
	guards sync.WaitGroup
	// running is how many guards run.
	running atomic.Int32
	// link is what the watch says.
	link func() error
}

// buffer may be read while it is written.
type buffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.String()
}

func (w *world) Check(context.Context) error { return w.link() }
func (w *world) String() string              { return "the link" }

func (w *world) Hostname() (string, error)    { return "old", nil }
func (w *world) SetHostname(string) error     { return nil }
func (w *world) Reload(context.Context) error { return nil }
func (w *world) Active(_ context.Context, unit string) (bool, error) {
	return unit == guardUnit && w.running.Load() > 0, nil
}
func (w *world) Command(_ context.Context, _, unit string) error {
	if unit == "broken.service" {
		return errors.New("it does not start")
	}
	return nil
}

func (w *world) Start(ctx context.Context, unit string) error {
	if unit != guardUnit {
		return errors.New("unexpected unit " + unit)
	}
	guard := *w.tool
	guard.stdio = program.Stdio{Out: w.out, Err: w.out}
	guard.executor = w.newExecutor()
	w.running.Add(1)
	w.guards.Go(func() {
		defer w.running.Add(-1)
		_, _ = guard.run(ctx, options{command: "guard"})
	})
	return nil
}

func (w *world) newExecutor() *apply.Executor {
	return &apply.Executor{
		Root: w.root, Machine: w, Now: time.Now, KeyName: "coreos-cloudinit", Workspace: "/var/lib/w",
		Host: func() specifier.Host { return specifier.Host{} },
	}
}

func newWorld(t *testing.T, document string) *world {
	t.Helper()
	w := &world{out: &buffer{}, link: func() error { return nil }}
	w.tool = &tool{
		root: t.TempDir(), now: time.Now, parent: 1,
		facts: func() (cloudconfig.Facts, error) {
			return cloudconfig.Facts{Metadata: cloudconfig.Metadata{SSHKeys: []string{"ssh-ed25519 PLATFORM"}}}, nil
		},
		stdio:       program.Stdio{Out: w.out, Err: w.out, In: strings.NewReader("#cloud-config\n")},
		environment: func() []string { return nil },
		lock:        func() (func(), error) { return func() {}, nil },
		well:        func(context.Context, reach.Watch) watcher { return w },
	}
	w.formats = format.Formats{cloudconfig.KindIgnition: live.Format(t.Context(), os.DirFS(w.root), &fetch.Fetcher{})}
	w.executor = w.newExecutor()
	for path, content := range map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/bash\ncore:x:500:500:Core:/home/core:/bin/bash\n",
		"/etc/shadow": "root:*:1::::::\ncore:*:1::::::\n", "/etc/group": "root:x:0:\ncore:x:500:\n", "/etc/gshadow": "",
		"/etc/motd": "one\ntwo\nthree\n", "/etc/hostname": "old\n", "/document": document, "/run/systemd/system/x": "",
	} {
		w.write(t, path, content)
	}
	return w
}

func (w *world) write(t *testing.T, path, content string) {
	t.Helper()
	at := filepath.Join(w.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func (w *world) read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// do runs a command and returns what it printed.
func (w *world) do(t *testing.T, o options) (string, bool, error) {
	t.Helper()
	before := len(w.out.String())
	if o.command == "diff" || o.command == "apply" {
		o.file = filepath.Join(w.root, "document")
	}
	different, err := w.run(t.Context(), o)
	return strings.ReplaceAll(w.out.String()[before:], w.root, ""), different, err
}

const change = `#cloud-config
users: [{name: elroy}]
write_files:
  - {path: /etc/motd, content: "one\nTWO\nthree\n"}
  - {path: /etc/secret, content: "s3cret\n", permissions: "0600"}
  - {path: /etc/blob, content: "\0\x01"}
`

func TestDiff(t *testing.T) {
	w := newWorld(t, change)
	out, different, err := w.do(t, options{command: "diff"})
	want := `new      user elroy (users[0], /document, line 2, column 10)
new      authorize 1 keys for core (ssh_authorized_keys, /document, line 2, column 1)
--- /home/core/.ssh/authorized_keys.d/coreos-cloudinit
+++ /home/core/.ssh/authorized_keys.d/coreos-cloudinit (new)
@@ -0,0 +1,1 @@
+ssh-ed25519 PLATFORM
differs  write /etc/motd (14 bytes, root, mode 0644) (write_files[0], /document, line 4, column 6)
--- /etc/motd
+++ /etc/motd (new)
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
new      write /etc/secret (7 bytes, root, mode 0600) (write_files[1], /document, line 5, column 6): 0 -> 7 bytes, not shown
new      write /etc/blob (2 bytes, root, mode 0644) (write_files[2], /document, line 6, column 6)
         /etc/blob: 0 -> 2 bytes, not shown
4 steps are done already
`
	if diff := cmp.Diff(want, out); diff != "" || !different || err != nil {
		t.Errorf("%v, %v (-want +got):\n%s", different, err, diff)
	}
	w = newWorld(t, "#cloud-config\n")
	w.facts = func() (cloudconfig.Facts, error) { return cloudconfig.Facts{}, nil }
	if out, different, err := w.do(t, options{command: "diff"}); different || err != nil || out != "nothing would change\n" {
		t.Errorf("an empty document: %v, %v, %q", different, err, out)
	}
	w = newWorld(t, "#cloud-config\nusers: [\n")
	if _, _, err := w.do(t, options{command: "diff"}); !errors.Is(err, errMistakes) {
		t.Errorf("a broken document: %v", err)
	}
}

func TestTryConfirm(t *testing.T) {
	w := newWorld(t, change)
	if out, _, err := w.do(t, options{command: "apply", try: time.Hour, save: true}); err != nil || !strings.Contains(out, "coracled config confirm") {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := w.read(t, "/etc/motd"); got != "one\nTWO\nthree\n" {
		t.Errorf("motd %q", got)
	}
	if _, _, err := w.do(t, options{command: "apply", try: time.Hour}); err != nil { // nothing differs
		t.Errorf("the same again: %v", err)
	}
	w.write(t, "/document", "#cloud-config\nhostname: other\n")
	if _, _, err := w.do(t, options{command: "apply", try: time.Hour}); !errors.Is(err, try.ErrBusy) {
		t.Errorf("a second try: %v", err)
	}
	if out, _, err := w.do(t, options{command: "status"}); err != nil || !strings.Contains(out, "/document is applied since") {
		t.Errorf("status: %v, %s", err, out)
	}
	if _, _, err := w.do(t, options{command: "confirm"}); err != nil {
		t.Fatal(err)
	}
	w.guards.Wait() // it ends by itself
	if got := w.read(t, SavePath); got != change {
		t.Errorf("saved %q", got)
	}
	users, err := owned.Load(w.root)
	if diff := cmp.Diff(owned.Users{"elroy": "coracled config"}, users); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
	// A user that is no longer in the document goes, and comes back.
	if _, _, err := w.do(t, options{command: "apply", try: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if _, err := user.Lookup(w.root, "elroy"); err == nil {
		t.Error("elroy is still there")
	}
	if _, _, err := w.do(t, options{command: "revert"}); err != nil {
		t.Fatal(err)
	}
	w.guards.Wait()
	if account, err := user.Lookup(w.root, "elroy"); err != nil || account.UID != 1000 {
		t.Errorf("elroy came back as %+v, %v", account, err)
	}
	if users, err := owned.Load(w.root); users["elroy"] == "" {
		t.Errorf("elroy is forgotten: %v, %v", users, err)
	}
	if _, _, err := w.do(t, options{command: "confirm"}); err == nil {
		t.Error("confirmed what is not tried")
	}
}

// TestTakenBack: by time, by a network that is lost, by a failure.
func TestTakenBack(t *testing.T) {
	tests := []struct {
		name  string
		limit time.Duration
		link  error
		says  string
	}{
		{"nobody confirms", time.Millisecond, nil, "nobody confirmed it within 1ms"},
		{"out of reach", time.Hour, errors.New("there is no default route"), "the machine can not be reached: there is no default route"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, change)
			w.link = func() error { return tt.link }
			// Taking back may be faster than the look of apply: its error is one of both.
			if _, _, err := w.do(t, options{command: "apply", try: tt.limit}); err != nil && !strings.Contains(err.Error(), "taken back") {
				t.Fatal(err)
			}
			w.guards.Wait()
			if got := w.read(t, "/etc/motd"); got != "one\ntwo\nthree\n" {
				t.Errorf("motd %q", got)
			}
			if log := w.read(t, logPath); !strings.Contains(log, tt.says) {
				t.Errorf("the log:\n%s", log)
			}
			if _, err := user.Lookup(w.root, "elroy"); err == nil {
				t.Error("elroy is still there")
			}
			if users, _ := owned.Load(w.root); len(users) > 0 {
				t.Errorf("remembered: %v", users)
			}
		})
	}
}

// TestShortLoss: a network that is restarted is no reason.
func TestShortLoss(t *testing.T) {
	w := newWorld(t, change)
	w.grace = time.Hour
	asked := make(chan bool, 100)
	w.link = func() error { asked <- true; return errors.New("not yet") }
	if _, _, err := w.do(t, options{command: "apply", try: time.Hour}); err != nil {
		t.Fatal(err)
	}
	<-asked
	<-asked
	if _, _, err := w.do(t, options{command: "confirm"}); err != nil {
		t.Fatal(err)
	}
	w.guards.Wait()
	if got := w.read(t, "/etc/motd"); got != "one\nTWO\nthree\n" {
		t.Errorf("motd %q", got)
	}
}

func TestApplyForGood(t *testing.T) {
	w := newWorld(t, change+"coreos: {units: [{name: broken.service, command: start}]}\n")
	out, _, err := w.do(t, options{command: "apply"})
	if err == nil || !strings.Contains(out, "it does not start") {
		t.Errorf("%v\n%s", err, out)
	}
	w.guards.Wait()
	if got := w.read(t, "/etc/motd"); got != "one\nTWO\nthree\n" {
		t.Errorf("motd %q", got)
	}
	w.write(t, "/document", "#!/bin/sh\n")
	if _, _, err := w.do(t, options{command: "apply", try: time.Minute}); !errors.Is(err, apply.ErrNoUndo) {
		t.Errorf("a script can be tried: %v", err)
	}
	w.write(t, "/document", "#cloud-config\nhostname: \"a b\"\nwrite_files: [{path: /etc/x, content: x}]\n")
	if _, _, err := w.do(t, options{command: "apply"}); !errors.Is(err, errMistakes) {
		t.Errorf("mistakes: %v", err)
	}
	if _, _, err := w.do(t, options{command: "apply", force: true}); err != nil {
		t.Error(err)
	}
	w.guards.Wait()
	if w.read(t, "/etc/x") != "x" {
		t.Error("--force applies what is valid")
	}
}

// TestGuardAgain: a guard that was killed in the middle takes back.
func TestGuardAgain(t *testing.T) {
	w := newWorld(t, change)
	tried, err := try.Begin(filepath.Join(w.root, try.Dir), try.Head{Name: "d", Limit: time.Hour}, []byte(change))
	if err == nil {
		err = w.tool.change(t.Context(), tried, w.out)
	}
	if err == nil {
		_, err = w.run(t.Context(), options{command: "guard"})
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := w.read(t, "/etc/motd"); got != "one\ntwo\nthree\n" {
		t.Errorf("motd %q", got)
	}
}

func TestConnection(t *testing.T) {
	w := newWorld(t, "")
	for value, want := range map[string][2]string{
		"192.0.2.7 5000 10.0.2.15 22":          {"192.0.2.7", "10.0.2.15:22"},
		"::ffff:192.0.2.7 5000 fd00::1 22":     {"192.0.2.7", "[fd00::1]:22"},
		"fe80::1%eth0 5000 fe80::2%eth0 22":    {"fe80::1%eth0", "[fe80::2%eth0]:22"},
		"192.0.2.7 5000":                       {},
		"a b c d":                              {},
		"192.0.2.7 5000 10.0.2.15 22222222222": {"192.0.2.7", ""},
	} {
		w.environment = func() []string { return []string{"A=b", "SSH_CONNECTION=" + value} }
		if peer, server := w.connection(); [2]string{peer, server} != want {
			t.Errorf("%q: %q, %q", value, peer, server)
		}
	}
	w.environment = func() []string { return nil }
	w.parent = os.Getpid() // whose parents are asked then
	w.connection()
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{}, {"nonsense"}, {"diff"}, {"apply"}, {"apply", "a", "b"}, {"confirm", "a"}, {"apply", "a", "--try", "x"}, {"apply", "a", "--try", "-1s"}} {
		var out bytes.Buffer
		if code := Main(t.Context(), append([]string{"config"}, args...), program.Stdio{Out: &out, Err: &out}); code != 2 || out.Len() == 0 {
			t.Errorf("%q: exit %d, %q", args, code, &out)
		}
	}
	o, err := parse([]string{"apply", "--force", "f", "--try", "2m", "--save"}, os.Stderr)
	if want := (options{command: "apply", file: "f", try: 2 * time.Minute, save: true, force: true}); o != want || err != nil {
		t.Errorf("%+v, %v", o, err)
	}
	if code := Main(t.Context(), []string{"config", "--help"}, program.Stdio{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}); code != 0 {
		t.Errorf("--help: exit %d", code)
	}
}

// TestIgnition: a change in the other format is shown, tried and taken back in
// the same way.
func TestIgnition(t *testing.T) {
	w := newWorld(t, `{"ignition": {"version": "3.4.0"}, "storage": {"files": [
  {"path": "/etc/motd", "contents": {"source": "data:,one%0ATWO%0Athree%0A"}},
  {"path": "/etc/list", "append": [{"source": "data:,more%0A"}]}],
 "directories": [{"path": "/var/made", "mode": 448}], "links": [{"path": "/etc/link", "target": "motd"}],
 "filesystems": [{"device": "/dev/vdb", "format": "ext4", "path": "/var/data"}]},
 "passwd": {"groups": [{"name": "crew", "gid": 2000}], "users": [{"name": "core", "sshAuthorizedKeys": ["ssh-ed25519 NEW"]}, {"name": "elroy", "groups": ["crew"]}]}}`)
	w.write(t, "/etc/list", "first\n")
	if _, different, err := w.do(t, options{command: "diff"}); !different || err != nil {
		t.Fatalf("diff: %v, %v", different, err)
	}
	if _, _, err := w.do(t, options{command: "apply", save: true}); err == nil || !strings.Contains(err.Error(), "first boot") {
		t.Errorf("to be saved: %v", err)
	}
	before := w.read(t, "/etc/passwd") + w.read(t, "/etc/group")
	out, _, err := w.do(t, options{command: "apply", try: time.Hour})
	if err != nil || !strings.Contains(out, "made on a first boot only") {
		t.Fatalf("%v\n%s", err, out)
	}
	for path, want := range map[string]string{"/etc/motd": "one\nTWO\nthree\n", "/etc/list": "first\nmore\n", "/etc/link": "one\nTWO\nthree\n",
		"/home/core/.ssh/authorized_keys.d/ignition": "ssh-ed25519 NEW\n"} {
		if got := w.read(t, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if passwd := w.read(t, "/etc/passwd") + w.read(t, "/etc/group"); !strings.Contains(passwd, "elroy:") || !strings.Contains(passwd, "crew:x:2000:elroy") {
		t.Errorf("accounts: %s", passwd)
	}
	if _, different, err := w.do(t, options{command: "diff"}); different || err != nil {
		t.Errorf("diff after it: %v, %v", different, err)
	}
	if _, _, err := w.do(t, options{command: "revert"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/etc/link", "/var/made", "/home/core/.ssh/authorized_keys.d/ignition"} {
		if _, err := os.Lstat(filepath.Join(w.root, path)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	if got := w.read(t, "/etc/motd") + w.read(t, "/etc/list"); got != "one\ntwo\nthree\nfirst\n" {
		t.Errorf("files: %q", got)
	}
	if got := w.read(t, "/etc/passwd") + w.read(t, "/etc/group"); got != before {
		t.Errorf("accounts:\n%s", cmp.Diff(before, got))
	}
}
