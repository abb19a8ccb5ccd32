package v2_test

import (
	"context"
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

	"github.com/coracle-os/coracle/agents/kv"
	"github.com/coracle-os/coracle/rootfs/program"
	"golang.org/x/sys/unix"
)

// TestMain lets the test's own binary be etcd, as coracled is.
func TestMain(m *testing.M) {
	switch os.Getenv("TEST_PROGRAM") {
	case "etcd":
		ctx, _ := signal.NotifyContext(context.Background(), unix.SIGTERM)
		os.Exit(kv.Main(ctx, os.Args, program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	case "slow-disk":
		os.Exit(slowMain())
	}
	os.Exit(m.Run())
}

func freeURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// server is a single member that can be killed and started again.
type server struct {
	t   *testing.T
	url string
	new func() *exec.Cmd
	cmd *exec.Cmd
	log string
}

// ours is this repository's etcd.
func ours(t *testing.T) *server {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	client, peer, dir := freeURL(t), freeURL(t), filepath.Join(t.TempDir(), "data")
	return start(t, client, func() *exec.Cmd {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "TEST_PROGRAM=etcd", "ETCD_DATA_DIR="+dir,
			"ETCD_LISTEN_CLIENT_URLS="+client, "ETCD_ADVERTISE_CLIENT_URLS="+client,
			"ETCD_LISTEN_PEER_URLS="+peer, "ETCD_INITIAL_ADVERTISE_PEER_URLS="+peer)
		return cmd
	})
}

// theirs is etcd 3.4, the last that had version 2 of the API.
func theirs(t *testing.T) *server {
	t.Helper()
	exe, err := exec.LookPath("etcd")
	if err != nil {
		t.Fatal("needs the package etcd-server: make setup installs it")
	}
	client, peer, dir := freeURL(t), freeURL(t), filepath.Join(t.TempDir(), "data")
	return start(t, client, func() *exec.Cmd {
		return exec.Command(exe, "--enable-v2", "--unsafe-no-fsync", "--data-dir", dir,
			"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
			"--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	})
}

func start(t *testing.T, url string, cmd func() *exec.Cmd) *server {
	s := &server{t: t, url: url, new: cmd, log: filepath.Join(t.TempDir(), "log")}
	t.Cleanup(s.kill)
	s.start()
	return s
}

// start returns when the member answers.
func (s *server) start() {
	s.t.Helper()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = s.new()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get(s.url + "/health"); err == nil {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if strings.Contains(string(body), `"true"`) {
				return
			}
		}
	}
	text, _ := os.ReadFile(s.log)
	s.t.Fatalf("%s does not answer:\n%s", s.cmd.Path, text)
}

// kill ends the member as a power cut would.
func (s *server) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
}
