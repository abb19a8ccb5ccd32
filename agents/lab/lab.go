// Package lab is a network of machines for tests: each machine is a network
// namespace, all are on one bridge, and programs run in them as processes of
// their own. Everything that it makes ends with its test.
//
// A machine here shares the file system, the kernel and the process table of
// the one that tests; what needs more is tested in QEMU (qemu-tests).
package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Lab is one network. Labs do not see each other, so that their tests can run
// side by side.
type Lab struct {
	t        testing.TB
	prefix   string
	machines map[int]*Machine
}

// Machine is one network namespace.
type Machine struct {
	t         testing.TB
	Namespace string
	Bridge    string // the namespace of the bridge
	Port      string // the machine's port of the bridge, in Bridge
	IP        string // 10.77.0.n
	IPv6      string // fd77::n
	Dir       string // a directory of its own
}

// Process is one program in a machine.
type Process struct {
	Cmd  *exec.Cmd
	Log  *Log
	Done chan struct{} // closed when it has ended
}

// Log is what a program writes, readable while it does.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all that was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// number keeps the namespaces of one test binary apart.
var number atomic.Int32

// New makes an empty network.
func New(t testing.TB) *Lab {
	t.Helper()
	l := &Lab{t: t, prefix: fmt.Sprintf("l%dx%d", os.Getpid(), number.Add(1)), machines: map[int]*Machine{}}
	IP(t, "netns", "add", l.bridge())
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", l.bridge()).Run() })
	IP(t, "-n", l.bridge(), "link", "add", "name", "br0", "type", "bridge")
	IP(t, "-n", l.bridge(), "link", "set", "br0", "up")
	return l
}

func (l *Lab) bridge() string { return l.prefix + "b" }

// IP runs ip(8).
func IP(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// Machine gives machine n, which is made when it is new. Its default route
// goes out of the interface that the others are on.
func (l *Lab) Machine(n int) *Machine {
	l.t.Helper()
	if m := l.machines[n]; m != nil {
		return m
	}
	m := &Machine{
		t: l.t, Namespace: fmt.Sprintf("%sm%d", l.prefix, n), Bridge: l.bridge(), Port: fmt.Sprintf("p%d", n),
		IP: fmt.Sprintf("10.77.0.%d", n), IPv6: fmt.Sprintf("fd77::%d", n), Dir: l.t.TempDir(),
	}
	l.machines[n] = m
	IP(l.t, "netns", "add", m.Namespace)
	l.t.Cleanup(func() { exec.Command("ip", "netns", "delete", m.Namespace).Run() })
	IP(l.t, "-n", m.Bridge, "link", "add", "name", m.Port, "type", "veth", "peer", "name", "eth0", "netns", m.Namespace)
	IP(l.t, "-n", m.Bridge, "link", "set", m.Port, "master", "br0", "up")
	IP(l.t, "-n", m.Namespace, "link", "set", "lo", "up")
	IP(l.t, "-n", m.Namespace, "address", "add", m.IP+"/24", "dev", "eth0")
	IP(l.t, "-n", m.Namespace, "address", "add", m.IPv6+"/64", "dev", "eth0", "nodad")
	IP(l.t, "-n", m.Namespace, "link", "set", "eth0", "up")
	IP(l.t, "-n", m.Namespace, "route", "add", "default", "via", "10.77.0.254")
	IP(l.t, "-n", m.Namespace, "-6", "route", "add", "default", "via", "fd77::254", "onlink", "dev", "eth0")
	return m
}

// Plug connects the machine to the bridge, or pulls its cable.
func (m *Machine) Plug(in bool) {
	m.t.Helper()
	state := map[bool]string{true: "up", false: "down"}[in]
	IP(m.t, "-n", m.Bridge, "link", "set", m.Port, state)
}

// Program runs a program of the test's own binary, whose TestMain looks at
// TEST_PROGRAM.
func (m *Machine) Program(name string, env []string, args ...string) *Process {
	m.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	return m.Start(append([]string{"TEST_PROGRAM=" + name}, env...), exe, args...)
}

// Start runs a program. It is killed when the test ends, and its log shown if
// the test has failed.
func (m *Machine) Start(env []string, exe string, args ...string) *Process {
	m.t.Helper()
	p := &Process{Log: &Log{}, Done: make(chan struct{})}
	p.Cmd = exec.Command("ip", append([]string{"netns", "exec", m.Namespace, exe}, args...)...)
	p.Cmd.Env = append(os.Environ(), env...)
	p.Cmd.Dir = m.Dir
	p.Cmd.Stdout, p.Cmd.Stderr = p.Log, p.Log
	p.Cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() { p.Cmd.Wait(); close(p.Done) }()
	m.t.Cleanup(func() {
		p.Stop(syscall.SIGKILL)
		if m.t.Failed() {
			m.t.Logf("log of %s %s:\n%s", m.IP, filepath.Base(exe), p.Log)
		}
	})
	return p
}

// Stop sends sig and waits for the end, at most ten seconds; then it kills.
func (p *Process) Stop(sig syscall.Signal) {
	p.Cmd.Process.Signal(sig)
	select {
	case <-p.Done:
	case <-time.After(10 * time.Second):
		p.Cmd.Process.Kill()
		<-p.Done
	}
}

// Run runs a command in the machine to its end and gives what it wrote.
func (m *Machine) Run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", m.Namespace}, args...)...)
	cmd.Dir = m.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s on %s: %w: %s", strings.Join(args, " "), m.IP, err, bytes.TrimSpace(out))
	}
	return string(out), err
}

// Must is Run, and ends the test on an error.
func (m *Machine) Must(args ...string) string {
	m.t.Helper()
	ctx, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	out, err := m.Run(ctx, args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// Eventually waits until try has no error, at most limit; then the test ends
// with the last error.
func Eventually(t testing.TB, limit time.Duration, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s: %v", limit, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Inside is a namespace behind the machine, such as a container's.
func (m *Machine) Inside(namespace string) *Machine {
	inner := *m
	inner.Namespace = namespace
	return &inner
}
