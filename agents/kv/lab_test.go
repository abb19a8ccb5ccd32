package kv

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/coracle-os/coracle/agents/lab"
)

// network is a network of machines that may run etcd.
type network struct {
	*lab.Lab
	t        *testing.T
	machines map[int]*machineUnderTest
}

// machineUnderTest is one machine with a data directory.
type machineUnderTest struct {
	*lab.Machine
	t   *testing.T
	dir string
}

// process is one program in a machine.
type process struct{ *lab.Process }

func newLab(t *testing.T) *network {
	t.Helper()
	return &network{lab.New(t), t, map[int]*machineUnderTest{}}
}

// machine gives machine n, which is made when it is new.
func (l *network) machine(n int) *machineUnderTest {
	l.t.Helper()
	if l.machines[n] == nil {
		m := l.Machine(n)
		l.machines[n] = &machineUnderTest{Machine: m, t: l.t, dir: filepath.Join(m.Dir, "etcd")}
	}
	return l.machines[n]
}

// addresses are the variables that cloud-config's etcd2 section writes on this
// machine for the usual $private_ipv4 lines.
func (m *machineUnderTest) addresses() []string {
	return []string{
		"ETCD_DATA_DIR=" + m.dir,
		"ETCD_ADVERTISE_CLIENT_URLS=http://" + m.IP + ":2379",
		"ETCD_INITIAL_ADVERTISE_PEER_URLS=http://" + m.IP + ":2380",
		"ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379,http://0.0.0.0:4001",
		"ETCD_LISTEN_PEER_URLS=http://" + m.IP + ":2380",
	}
}

// start runs a program of this test's binary in the machine.
func (m *machineUnderTest) start(name string, env []string, args ...string) process {
	m.t.Helper()
	return process{m.Program(name, env, args...)}
}

func (m *machineUnderTest) exec(env []string, exe string, args ...string) process {
	m.t.Helper()
	return process{m.Start(env, exe, args...)}
}

// etcd starts etcd with the machine's addresses and more variables; of two
// variables of one name the last counts.
func (m *machineUnderTest) etcd(env ...string) process {
	m.t.Helper()
	return m.start("etcd", append(m.addresses(), env...))
}

// kill ends the program as a power cut would.
func (p process) kill() { p.Stop(unix.SIGKILL) }

// stop ends the program as the service manager would.
func (p process) stop() { p.Stop(unix.SIGTERM) }

// dial connects from inside the machine.
func (m *machineUnderTest) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	runtime.LockOSThread() // never unlocked on failure: the thread ends with the goroutine
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	other, err := os.Open("/run/netns/" + m.Namespace)
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

func (m *machineUnderTest) endpoint() string { return "http://" + m.IP + ":2379" }
func (m *machineUnderTest) peer() string     { return "http://" + m.IP + ":2380" }

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
func (p process) says(t *testing.T, limit time.Duration, text string) {
	t.Helper()
	eventually(t, limit, func() string {
		if strings.Contains(p.Log.String(), text) {
			return ""
		}
		return fmt.Sprintf("the log does not say %q", text)
	})
}

// ends waits for the program's end and gives its exit code.
func (p process) ends(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.Done:
	case <-time.After(limit):
		t.Fatalf("the program has not ended after %v", limit)
	}
	return p.Cmd.ProcessState.ExitCode()
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
		return fmt.Sprintf("put %s on %s: %v", key, m.IP, err)
	}
	return ""
}

func (m *machineUnderTest) has(key, value string) string {
	ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Second)
	defer cancel()
	resp, err := m.client(m.endpoint()).Get(ctx, key)
	if err != nil {
		return fmt.Sprintf("get %s on %s: %v", key, m.IP, err)
	}
	if len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != value {
		return fmt.Sprintf("get %s on %s: %v, want %q", key, m.IP, resp.Kvs, value)
	}
	return ""
}
