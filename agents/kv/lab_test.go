package kv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// lab is a network of machines: a namespace each, on one bridge.
type lab struct {
	t        *testing.T
	prefix   string
	machines map[int]*machineUnderTest
}

// machineUnderTest is one namespace with a data directory.
type machineUnderTest struct {
	t         *testing.T
	namespace string
	ip        string
	dir       string
}

// process is one program in a machine.
type process struct {
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{}
}

// logBuffer is what a program writes, readable while it does.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// labNumber keeps the namespaces of one test binary apart.
var labNumber atomic.Int32

// newLab makes an empty network. Labs do not see each other, so that their
// tests run side by side: they mostly wait.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, prefix: fmt.Sprintf("kv%dx%d", os.Getpid(), labNumber.Add(1)), machines: map[int]*machineUnderTest{}}
	bridge := l.prefix + "b"
	l.ip("netns", "add", bridge)
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", bridge).Run() })
	l.ip("-n", bridge, "link", "add", "name", "br0", "type", "bridge")
	l.ip("-n", bridge, "link", "set", "br0", "up")
	return l
}

func (l *lab) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// machine gives machine n, at 10.77.0.n, which is made when it is new.
func (l *lab) machine(n int) *machineUnderTest {
	l.t.Helper()
	if m := l.machines[n]; m != nil {
		return m
	}
	m := &machineUnderTest{
		t: l.t, namespace: fmt.Sprintf("%sm%d", l.prefix, n), ip: fmt.Sprintf("10.77.0.%d", n),
		dir: filepath.Join(l.t.TempDir(), "etcd"),
	}
	l.machines[n] = m
	bridge, port := l.prefix+"b", fmt.Sprintf("p%d", n)
	l.ip("netns", "add", m.namespace)
	l.t.Cleanup(func() { exec.Command("ip", "netns", "delete", m.namespace).Run() })
	l.ip("-n", bridge, "link", "add", "name", port, "type", "veth", "peer", "name", "eth0", "netns", m.namespace)
	l.ip("-n", bridge, "link", "set", port, "master", "br0", "up")
	l.ip("-n", m.namespace, "address", "add", m.ip+"/24", "dev", "eth0")
	l.ip("-n", m.namespace, "link", "set", "eth0", "up")
	l.ip("-n", m.namespace, "link", "set", "lo", "up")
	return m
}

// addresses are the variables that cloud-config's etcd2 section writes on this
// machine for the usual $private_ipv4 lines.
func (m *machineUnderTest) addresses() []string {
	return []string{
		"ETCD_DATA_DIR=" + m.dir,
		"ETCD_ADVERTISE_CLIENT_URLS=http://" + m.ip + ":2379",
		"ETCD_INITIAL_ADVERTISE_PEER_URLS=http://" + m.ip + ":2380",
		"ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379,http://0.0.0.0:4001",
		"ETCD_LISTEN_PEER_URLS=http://" + m.ip + ":2380",
	}
}

// start runs a program of this test's binary in the machine.
func (m *machineUnderTest) start(name string, env []string, args ...string) *process {
	m.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	return m.exec(append([]string{"TEST_PROGRAM=" + name}, env...), exe, args...)
}

func (m *machineUnderTest) exec(env []string, exe string, args ...string) *process {
	m.t.Helper()
	p := &process{log: &logBuffer{}, done: make(chan struct{})}
	p.cmd = exec.Command("ip", append([]string{"netns", "exec", m.namespace, exe}, args...)...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() { p.cmd.Wait(); close(p.done) }()
	m.t.Cleanup(func() {
		p.kill()
		if m.t.Failed() {
			m.t.Logf("log of %s %s:\n%s", m.ip, filepath.Base(exe), p.log)
		}
	})
	return p
}

// etcd starts etcd with the machine's addresses and more variables; of two
// variables of one name the last counts.
func (m *machineUnderTest) etcd(env ...string) *process {
	m.t.Helper()
	return m.start("etcd", append(m.addresses(), env...))
}

// kill ends the program as a power cut would.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stop ends the program as the service manager would.
func (p *process) stop() {
	p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.kill()
	}
}

// dial connects from inside the machine.
func (m *machineUnderTest) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	runtime.LockOSThread() // never unlocked on failure: the thread ends with the goroutine
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	other, err := os.Open("/run/netns/" + m.namespace)
	if err != nil {
		return nil, err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, addr)
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	runtime.UnlockOSThread()
	return conn, err
}

// http is a client inside the machine.
func (m *machineUnderTest) http() *http.Client {
	return &http.Client{
		Transport: &http.Transport{DialContext: m.dial, DisableKeepAlives: true},
		Timeout:   10 * time.Second,
	}
}

// request does one request from inside the machine and gives its status and
// text, or 0 and the error.
func (m *machineUnderTest) request(method, url, body string) (int, string) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	if method == http.MethodPut || method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := m.http().Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// client is a client of etcd's API v3 inside the machine.
func (m *machineUnderTest) client(endpoints ...string) *clientv3.Client {
	m.t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialTimeout: 2 * time.Second, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return m.dial(ctx, "tcp", addr)
		})},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	return c
}

func (m *machineUnderTest) endpoint() string { return "http://" + m.ip + ":2379" }
func (m *machineUnderTest) peer() string     { return "http://" + m.ip + ":2380" }

// eventually repeats try until it has nothing to say any more.
func eventually(t *testing.T, limit time.Duration, try func() (problem string)) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		problem := try()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after %v: %s", limit, problem)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// says waits until the program has written text.
func (p *process) says(t *testing.T, limit time.Duration, text string) {
	t.Helper()
	eventually(t, limit, func() string {
		if strings.Contains(p.log.String(), text) {
			return ""
		}
		return fmt.Sprintf("the log does not say %q", text)
	})
}

// ends waits for the program's end and gives its exit code.
func (p *process) ends(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		t.Fatalf("the program has not ended after %v", limit)
	}
	return p.cmd.ProcessState.ExitCode()
}

// voters lists the started voting members that m's etcd knows, by name.
func (m *machineUnderTest) voters() (names []string, problem string) {
	status, body := m.request("POST", m.endpoint()+"/v3/cluster/member/list", `{"linearizable":false}`)
	var list struct {
		Members []struct {
			Name      string `json:"name"`
			IsLearner bool   `json:"isLearner"`
		} `json:"members"`
	}
	if status != 200 {
		return nil, fmt.Sprintf("member list: %d %s", status, body)
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		return nil, err.Error()
	}
	for _, one := range list.Members {
		if !one.IsLearner && one.Name != "" {
			names = append(names, one.Name)
		}
	}
	return names, ""
}

// put and get work on the key-value store within some seconds.
func (m *machineUnderTest) put(key, value string) string {
	ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Second)
	defer cancel()
	if _, err := m.client(m.endpoint()).Put(ctx, key, value); err != nil {
		return fmt.Sprintf("put %s on %s: %v", key, m.ip, err)
	}
	return ""
}

func (m *machineUnderTest) has(key, value string) string {
	ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Second)
	defer cancel()
	resp, err := m.client(m.endpoint()).Get(ctx, key)
	if err != nil {
		return fmt.Sprintf("get %s on %s: %v", key, m.ip, err)
	}
	if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != value {
		return fmt.Sprintf("get %s on %s: %v, want %q", key, m.ip, resp.Kvs, value)
	}
	return ""
}
