package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// build builds a command as the image's are built, and returns its path, whose
// last part is name.
func build(b *testing.B, pkg, name string) string {
	b.Helper()
	out := filepath.Join(b.TempDir(), name)
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
	return out
}

// ours is coracled under the name etcd; upstream is etcd's own main of the
// release that go.mod names; debian is etcd 3.4.
func ours(b *testing.B) string {
	return build(b, "github.com/coracle-os/coracle/agents/coracled", "etcd")
}
func upstream(b *testing.B) string { return build(b, "go.etcd.io/etcd/server/v3", "upstream") }

func debian(b *testing.B) string {
	b.Helper()
	exe, err := exec.LookPath("etcd")
	if err != nil {
		b.Fatal("needs the package etcd-server: make setup installs it")
	}
	return exe
}

func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// server is a running member.
type server struct {
	b      *testing.B
	client string // host:port
	cmd    *exec.Cmd
	log    bytes.Buffer // to be read after the end
	done   chan struct{}
}

// run starts a program. It ends with the benchmark.
func run(b *testing.B, client, exe string, env []string, args ...string) *server {
	b.Helper()
	s := &server{b: b, client: client, done: make(chan struct{})}
	s.cmd = exec.Command(exe, args...)
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	go func() { s.cmd.Wait(); close(s.done) }()
	b.Cleanup(func() {
		s.kill()
		if b.Failed() {
			b.Logf("log of %s:\n%s", exe, s.log.String())
		}
	})
	return s
}

// kill ends the program as a power cut would.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.done
}

// single starts a cluster of one in a directory, with flags that all etcds
// have, and waits until it serves.
func single(b *testing.B, exe, dir string, flags ...string) *server {
	b.Helper()
	client, peer := freeAddress(b), "http://"+freeAddress(b)
	args := append([]string{"--data-dir", dir, "--listen-client-urls", "http://" + client, "--advertise-client-urls", "http://" + client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer}, flags...)
	s := run(b, client, exe, nil, args...)
	await(b, 30*time.Second, func() error { return s.healthy() })
	return s
}

// await repeats try until it succeeds.
func await(b *testing.B, limit time.Duration, try func() error) {
	b.Helper()
	err := try()
	for end := time.Now().Add(limit); err != nil; err = try() {
		if time.Now().After(end) {
			b.Fatalf("still after %v: %v", limit, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// quick gives up soon, so that one who is dead costs no time.
var quick = &http.Client{Timeout: 2 * time.Second}

func (s *server) healthy() error {
	text, err := s.get("/health")
	if err == nil && !strings.Contains(text, `"true"`) {
		err = fmt.Errorf("/health: %s", text)
	}
	return err
}

func (s *server) get(path string) (string, error) {
	resp, err := quick.Get("http://" + s.client + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// processor is the processor time that the program has taken so far, to 10 ms.
func (s *server) processor() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		s.b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		s.b.Fatalf("read /proc/PID/stat: %s", text)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// memory reads the parts of the program's memory in bytes: Rss, Pss, Anonymous.
func (s *server) memory() map[string]float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.cmd.Process.Pid))
	if err != nil {
		s.b.Fatal(err)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			n, _ := strconv.ParseFloat(f[1], 64)
			out[strings.TrimSuffix(f[0], ":")] = n * 1024
		}
	}
	return out
}
