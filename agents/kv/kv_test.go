package kv

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/etcdctl"
	"github.com/coracle-os/coracle/agents/kv/kvtest"
	"github.com/coracle-os/coracle/agents/kv/registry"
	"github.com/coracle-os/coracle/rootfs/program"
	"golang.org/x/sys/unix"
)

// TestMain lets the test's own binary be etcd or etcdctl, as coracled is.
func TestMain(m *testing.M) {
	stdio := program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	ctx := context.Background()
	if os.Getenv("TEST_PROGRAM") != "" {
		ctx, _ = signal.NotifyContext(ctx, unix.SIGTERM)
	}
	switch os.Getenv("TEST_PROGRAM") {
	case "etcd":
		os.Exit(Main(ctx, os.Args, stdio))
	case "discovery":
		os.Exit(registry.Main(ctx, os.Args, stdio))
	case "dns":
		os.Exit(dnsMain(os.Args[1:]))
	case "garbage":
		os.Exit(garbageMain())
	case "etcdctl":
		os.Exit(etcdctl.Main(ctx, os.Args, stdio))
	}
	os.Exit(m.Run())
}

func self(t *testing.T, name string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(append(os.Environ(), "TEST_PROGRAM="+name), env...)
	return cmd
}

func freeURL(t *testing.T) string {
	t.Helper()
	u := kvtest.FreeURL(t)
	return u.String()
}

// member starts etcd and returns when it has said that it is ready.
func member(t *testing.T, dir string, env ...string) (cmd *exec.Cmd, log *bytes.Buffer) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	log = &bytes.Buffer{}
	cmd = self(t, "etcd", append([]string{"NOTIFY_SOCKET=" + socket, "ETCD_DATA_DIR=" + dir}, env...))
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	l.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 100)
	n, err := l.Read(buf)
	for err == nil && strings.HasPrefix(string(buf[:n]), "STATUS=") {
		n, err = l.Read(buf)
	}
	if err != nil || string(buf[:n]) != "READY=1" {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("notification %q, %v, want READY=1; log:\n%s", buf[:n], err, log)
	}
	return cmd, log
}

func TestMemberServesAndKeeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	client, second, peer := freeURL(t), freeURL(t), freeURL(t)
	env := []string{"ETCD_LISTEN_CLIENT_URLS=" + client + "," + second, "ETCD_ADVERTISE_CLIENT_URLS=" + client,
		"ETCD_LISTEN_PEER_URLS=" + peer, "ETCD_INITIAL_ADVERTISE_PEER_URLS=" + peer, "ETCD_TRACE=on"}
	cmd, log := member(t, dir, env...)
	ctl := func(args ...string) string {
		t.Helper()
		out, err := self(t, "etcdctl", []string{"ETCDCTL_ENDPOINTS=" + second}, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("etcdctl %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	if got := ctl("put", "/key", "value"); got != "OK\n" {
		t.Errorf("put: %q", got)
	}
	resp, err := http.Get(client + "/health")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(body), `"health":"true"`) {
		t.Errorf("/health: %s", body)
	}
	cmd.Process.Signal(unix.SIGKILL) // as a power cut would
	cmd.Wait()
	if !strings.Contains(log.String(), "<4> ETCD_TRACE") {
		t.Errorf("the log does not name the obsolete variable with a warning's priority:\n%s", log)
	}
	member(t, dir, env...)
	if got := ctl("get", "--print-value-only", "/key"); got != "value\n" {
		t.Errorf("after a restart: %q, want value", got)
	}
}

// ends runs etcd to its own end.
func ends(t *testing.T, env []string, args ...string) (code int, out string) {
	t.Helper()
	cmd := self(t, "etcd", env, args...)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			cmd.Process.Kill()
		}
	})
	b, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(b)
}

func TestMemberEnds(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(t.TempDir(), "full")
	if err := errors.Join(os.Mkdir(full, 0o700), unix.Mount("tmpfs", full, "tmpfs", 0, "size=64k")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(full, unix.MNT_DETACH)
	damaged := filepath.Join(t.TempDir(), "damaged")
	db := filepath.Join(damaged, "member", "snap", "db")
	if err := errors.Join(os.MkdirAll(filepath.Dir(db), 0o700), os.WriteFile(db, bytes.Repeat([]byte("x"), 9000), 0o600)); err != nil {
		t.Fatal(err)
	}
	urls := []string{"ETCD_LISTEN_PEER_URLS=" + freeURL(t), "ETCD_LISTEN_CLIENT_URLS=" + freeURL(t), "ETCD_ADVERTISE_CLIENT_URLS=http://127.0.0.1:1"}
	data := "ETCD_DATA_DIR=" + filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		name string
		env  []string
		args []string
		code int
		want string
	}{
		{"unknown flag", nil, []string{"--nosuch"}, 2, "flag provided but not defined: -nosuch"},
		{"word in place of a flag", nil, []string{"start"}, 2, `"start" is not a flag`},
		{"version", nil, []string{"--version"}, 0, "etcd Version: 3.7.3"},
		{"value that is no number", append(urls, data, "ETCD_SNAPSHOT_COUNT=many"), nil, 1, `set --snapshot-count to "many"`},
		{"port in use", append(urls, data, "ETCD_LISTEN_CLIENT_URLS=http://"+busy.Addr().String()), nil, 1, "another program has the port"},
		{"data directory is a file", append(urls, "ETCD_DATA_DIR="+file), nil, 1, "make the data directory"},
		{"full disk", append(urls, "ETCD_DATA_DIR="+full), nil, 1, "is full, make room"},
		{"damaged store", append(urls, "ETCD_DATA_DIR="+damaged), nil, 1, "is damaged: restore it from a snapshot"},
		{"cluster without this member", append(urls, data, "ETCD_INITIAL_CLUSTER=a=http://127.0.0.1:9"), nil, 1, `couldn't find local name`},
		{"two machines of one name", append(urls, data, "ETCD_NAME=a", "ETCD_INITIAL_CLUSTER=a=http://127.0.0.1:9"), nil, 1, `missing from`},
		{"times that cannot work", append(urls, data, "ETCD_ELECTION_TIMEOUT=100"), nil, 1, "should be at least as 5 times"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out := ends(t, c.env, c.args...)
			if code != c.code || !strings.Contains(out, c.want) {
				t.Errorf("exit code %d, want %d; the message should have %q:\n%s", code, c.code, c.want, out)
			}
			if strings.Contains(out, "goroutine ") {
				t.Errorf("a stack trace in the output:\n%s", out)
			}
		})
	}
}
