package execcontext

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/spawn"
	"github.com/coracle-os/coracle/rootfs/unit"
)

func system(t *testing.T) System {
	t.Helper()
	root := t.TempDir()
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\ncore:x:500:501::/home/core:/bin/bash\nbroken\n",
		"etc/group":  "root:x:0:\ncore:x:501:\ndocker:x:233:core\nwheel:x:10:core,root\nmail:x:8:\n",
		"env1":       "A=1\nB=\"two words\"\n",
		"env2":       "A=2\n",
	}
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return System{Root: root, JournalSocket: filepath.Join(root, "journal"), NotifySocket: "/run/systemd/notify",
		Inherited: []string{"FROM=pid1", "OTHER=x"}, Defaults: []string{"LANG=C.UTF-8"}}
}

func request(change func(*unit.ExecContext)) Request {
	c := &unit.ExecContext{UMask: 0o022, IgnoreSIGPIPE: true, StandardOutput: unit.Stream{Kind: unit.StreamNull}}
	if change != nil {
		change(c)
	}
	return Request{Unit: "a.service", Context: c, Command: unit.Command{Path: "/bin/true", Args: []string{"/bin/true", "$A", "x${B}"}}, Socket: -1}
}

func TestEnvironment(t *testing.T) {
	sys := system(t)
	r := request(func(c *unit.ExecContext) {
		c.Environment = []string{"A=0", "C=3", "GONE=1"}
		c.EnvironmentFiles = []unit.EnvironmentFile{{Path: "/env1"}, {Path: "/nonexistent", Optional: true}, {Path: "/env2"}}
		c.PassEnvironment = []string{"FROM"}
		c.UnsetEnvironment = []string{"GONE"}
		c.User = "core"
	})
	r.Extra, r.Notify = []string{"MAINPID=7"}, true
	p, err := sys.Prepare(r)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	want := []string{"PATH=" + unit.DefaultPATH, "LANG=C.UTF-8", "USER=core", "LOGNAME=core", "HOME=/home/core", "SHELL=/bin/bash",
		"MAINPID=7", "NOTIFY_SOCKET=/run/systemd/notify", "FROM=pid1", "A=2", "C=3", "B=two words"}
	if d := cmp.Diff(want, p.Spec.Env); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"/bin/true", "2", "xtwo words"}, p.Spec.Args); d != "" {
		t.Error(d)
	}
}

func TestIdentity(t *testing.T) {
	sys := system(t)
	tests := []struct {
		name   string
		change func(*unit.ExecContext)
		want   *spawn.User
		status int
	}{
		{"root", nil, nil, 0},
		{"by name", func(c *unit.ExecContext) { c.User = "core" }, &spawn.User{UID: 500, GID: 501, Groups: []uint32{10, 233, 501}}, 0},
		{"by number", func(c *unit.ExecContext) { c.User = "500" }, &spawn.User{UID: 500, GID: 501, Groups: []uint32{10, 233, 501}}, 0},
		{"number without an entry", func(c *unit.ExecContext) { c.User = "777" }, nil, spawn.StatusUser}, // as with systemd
		{"group", func(c *unit.ExecContext) { c.User, c.Group = "core", "mail" }, &spawn.User{UID: 500, GID: 8, Groups: []uint32{8, 10, 233}}, 0},
		{"supplementary", func(c *unit.ExecContext) { c.SupplementaryGroups = []string{"mail"} }, &spawn.User{Groups: []uint32{0, 8}}, 0},
		{"unknown user", func(c *unit.ExecContext) { c.User = "nobody-here" }, nil, spawn.StatusUser},
		{"unknown group", func(c *unit.ExecContext) { c.Group = "nobody-here" }, nil, spawn.StatusGroup},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := sys.Prepare(request(tt.change))
			var e *spawn.Error
			if tt.status != 0 {
				if !errors.As(err, &e) || e.Status != tt.status {
					t.Errorf("error %v, want status %d", err, tt.status)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if d := cmp.Diff(tt.want, p.Spec.User); d != "" {
				t.Error(d)
			}
		})
	}
	r := request(func(c *unit.ExecContext) { c.User = "core" })
	r.Command.FullPrivilege = true
	if p, err := sys.Prepare(r); err != nil || p.Spec.User != nil {
		t.Errorf("a command with + runs as %v, %v", p, err)
	}
}

func TestMissingEnvironmentFileIsNoExit(t *testing.T) {
	_, err := system(t).Prepare(request(func(c *unit.ExecContext) { c.EnvironmentFiles = []unit.EnvironmentFile{{Path: "/nonexistent"}} }))
	var e *spawn.Error
	if err == nil || errors.As(err, &e) || !strings.Contains(err.Error(), "EnvironmentFile=-/nonexistent") {
		t.Errorf("error %v", err)
	}
}

func TestDirectories(t *testing.T) {
	sys := system(t)
	r := request(func(c *unit.ExecContext) {
		c.RuntimeDirectory, c.RuntimeDirectoryMode, c.StateDirectory = []string{"foo/bar", "two"}, 0o750, []string{"baz"}
	})
	p, err := sys.Prepare(r)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, e := range []string{"RUNTIME_DIRECTORY=/run/foo/bar:/run/two", "STATE_DIRECTORY=/var/lib/baz"} {
		if !slices.Contains(p.Spec.Env, e) {
			t.Errorf("no %s in %q", e, p.Spec.Env)
		}
	}
	if info, err := os.Stat(filepath.Join(sys.Root, "run/foo/bar")); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("%v, %v", info, err)
	}
	if err := sys.RemoveRuntimeDirectories(r.Context); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(sys.Root, "run/foo/bar")); err == nil {
		t.Error("the runtime directory is still there")
	}
	if _, err := os.Stat(filepath.Join(sys.Root, "var/lib/baz")); err != nil {
		t.Error(err)
	}
}

func TestJournalStream(t *testing.T) {
	sys := system(t)
	l, err := net.Listen("unix", sys.JournalSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := request(func(c *unit.ExecContext) {
		c.StandardOutput = unit.Stream{Kind: unit.StreamJournal}
		c.SyslogLevel, c.SyslogFacility, c.SyslogLevelPrefix = 6, 3, true
	})
	p, err := sys.Prepare(r)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := unix.Write(p.Spec.Streams[1], []byte("hello\n")); err != nil {
		t.Error(err)
	}
	if p.Spec.Streams[1] != p.Spec.Streams[2] || !strings.HasPrefix(p.Spec.Env[len(p.Spec.Env)-1], "JOURNAL_STREAM=") {
		t.Errorf("streams %v, environment %q", p.Spec.Streams, p.Spec.Env)
	}
	p.Close()
	b, err := io.ReadAll(c)
	if want := "true\na.service\n30\n1\n0\n0\n0\nhello\n"; err != nil || string(b) != want {
		t.Errorf("the journal got %q, %v, want %q", b, err, want)
	}
}

// A journal that does not take connections must not hold up a start.
func TestStuckJournal(t *testing.T) {
	sys := system(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: sys.JournalSocket}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for range 4 {
		p, err := sys.Prepare(request(func(c *unit.ExecContext) { c.StandardOutput = unit.Stream{Kind: unit.StreamJournal} }))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("four starts took %s", took)
	}
}

func TestFileStreams(t *testing.T) {
	sys := system(t)
	run := func(kind unit.StreamKind) {
		t.Helper()
		p, err := sys.Prepare(request(func(c *unit.ExecContext) { c.StandardOutput = unit.Stream{Kind: kind, Path: "/out"} }))
		if err != nil {
			t.Fatal(err)
		}
		unix.Write(p.Spec.Streams[1], []byte("abc"))
		p.Close()
	}
	want := func(text string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(sys.Root, "out")); err != nil || string(b) != text {
			t.Errorf("file has %q, %v, want %q", b, err, text)
		}
	}
	run(unit.StreamAppend)
	run(unit.StreamAppend)
	want("abcabc")
	run(unit.StreamFile)
	want("abcabc")
	run(unit.StreamTruncate)
	want("abc")
}
