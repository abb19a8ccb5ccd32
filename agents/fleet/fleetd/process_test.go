package fleetd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/coracle-os/coracle/agents/fleet/agent/units"
	"github.com/coracle-os/coracle/agents/fleet/api/client"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
)

// rootVariable makes this test binary a fleetd on the machine below a directory,
// storeVariable an etcd with its data there.
const (
	rootVariable  = "TEST_FLEETD_ROOT"
	storeVariable = "TEST_ETCD_DIR"
)

func TestMain(m *testing.M) {
	root := os.Getenv(rootVariable)
	if dir := os.Getenv(storeVariable); dir != "" {
		fmt.Fprintln(os.Stderr, runStore(dir))
		os.Exit(1)
	}
	if root == "" {
		os.Exit(m.Run())
	}
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())) // nobody could tell before
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	in := func(name string) string { return filepath.Join(root, name) }
	system := func(dir string) units.Init {
		return units.System{Control: control.Client{Path: in("control")}, Root: root, Dir: dir}
	}
	os.Exit(start(ctx, os.Args, paths{machineID: in("machine-id"), bootID: in("boot_id"), memory: in("agent.db"), pki: in("pki"), proc: "/proc"}, system,
		program.Stdio{Out: os.Stdout, Err: os.Stderr}))
}

// runStore is a real etcd, as a process, so that it can be cut off at once.
func runStore(dir string) error {
	c := embed.NewConfig()
	c.Dir, c.UnsafeNoFsync = filepath.Join(dir, "etcd"), true
	c.LogLevel, c.LogOutputs = "panic", []string{filepath.Join(dir, "log")}
	parse := func(variable string) []url.URL {
		u, err := url.Parse(os.Getenv(variable))
		if err != nil {
			return nil
		}
		return []url.URL{*u}
	}
	c.ListenPeerUrls, c.ListenClientUrls = parse("TEST_ETCD_PEER"), parse("TEST_ETCD_CLIENT")
	c.AdvertisePeerUrls, c.AdvertiseClientUrls = c.ListenPeerUrls, c.ListenClientUrls
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	<-e.Server.ReadyNotify()
	fmt.Println("ready")
	return <-e.Err()
}

// etcd is such a process.
type etcd struct {
	t            *testing.T
	dir          string
	peer, client string
	cmd          *exec.Cmd
}

func startStore(t *testing.T) *etcd {
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return "http://" + l.Addr().String()
	}
	s := &etcd{t: t, dir: t.TempDir(), peer: free(), client: free()}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *etcd) start() {
	s.t.Helper()
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), storeVariable+"="+s.dir, "TEST_ETCD_PEER="+s.peer, "TEST_ETCD_CLIENT="+s.client)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		s.t.Fatalf("etcd does not start: %q, %v", line, err)
	}
}

func (s *etcd) stop() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

// machine is one with a fleetd, as a process, and a stand-in for PID 1.
type machine struct {
	t      *testing.T
	root   string
	init   *standIn
	socket *os.File
	notify *net.UnixConn
	api    *client.Client
	out    *lines
	cmd    *exec.Cmd
}

// lines is the output of a process.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newMachine(t *testing.T, s *etcd, id string) *machine {
	m := &machine{t: t, root: t.TempDir(), out: &lines{}}
	m.init = startInit(t, m.root)
	for name, text := range map[string]string{"machine-id": id + "\n", "boot_id": "boot-" + m.root + "\n"} {
		m.write(name, text)
	}
	m.configure(s, "")
	path := filepath.Join(m.root, "fleet.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if m.socket, err = l.File(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if m.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(m.root, "notify"), Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	if m.api, err = client.New(client.Options{Endpoint: "unix://" + path, Timeout: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.kill()
		m.socket.Close()
		m.notify.Close()
		m.api.Close()
		if t.Failed() {
			t.Logf("machine %s:\n%s", id, m.out)
		}
	})
	return m
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) configure(s *etcd, more string) {
	m.write("fleet.conf", fmt.Sprintf("etcd_servers=[%q]\nagent_ttl=\"5s\"\npublic_ip=192.0.2.1\netcd_request_timeout=1\nengine_reconcile_interval=0.4\n%s", s.client, more))
}

// start runs fleetd as its unit would, and returns when it says that it is ready.
func (m *machine) start() {
	m.t.Helper()
	m.cmd = exec.Command(os.Args[0], "--config", filepath.Join(m.root, "fleet.conf"))
	m.cmd.Env = append(os.Environ(), rootVariable+"="+m.root, "LISTEN_FDS=1", "LISTEN_FDNAMES=fleet.socket",
		"NOTIFY_SOCKET="+filepath.Join(m.root, "notify"), "WATCHDOG_USEC=2000000")
	m.cmd.ExtraFiles, m.cmd.Stdout, m.cmd.Stderr = []*os.File{m.socket}, m.out, m.out
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.told("READY=1")
}

func (m *machine) kill() {
	if m.cmd != nil {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		m.cmd = nil
	}
}

// told waits until fleetd says something to the service manager.
func (m *machine) told(want string) {
	m.t.Helper()
	m.notify.SetReadDeadline(time.Now().Add(30 * time.Second))
	buffer := make([]byte, 4096)
	for {
		n, err := m.notify.Read(buffer)
		if err != nil {
			m.t.Fatalf("fleetd does not say %q: %v\n%s", want, err, m.out)
		}
		if strings.Contains(string(buffer[:n]), want) {
			return
		}
	}
}

func (m *machine) signal(s os.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
}

// await asks until the answer is nil.
func (m *machine) await(what string, ask func() error) {
	m.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s: %v\n%s", what, err, m.out)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// here waits for one machine with this metadata.
func (m *machine) here(key, value string) {
	m.t.Helper()
	m.await("the machine with "+key+"="+value, func() error {
		list, err := m.api.Machines(m.t.Context())
		if err == nil && (len(list) != 1 || list[0].Metadata[key] != value) {
			err = fmt.Errorf("there is %+v", list)
		}
		return err
	})
}

// launched waits until a unit runs.
func (m *machine) launched(name string) {
	m.t.Helper()
	m.await(name, func() error {
		u, err := m.api.Unit(m.t.Context(), name)
		if err == nil && u.CurrentState != "launched" {
			err = fmt.Errorf("it is %+v", *u)
		}
		if err != nil {
			return err
		}
		s, err := m.api.State(m.t.Context(), name)
		if err == nil && s.SystemdActiveState != "active" {
			err = fmt.Errorf("it is %+v", *s)
		}
		return err
	})
}

// dialAllTheTime connects to the API again and again; what it returns ends
// that, and tells of a connection that was refused.
func (m *machine) dialAllTheTime() (end func()) {
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			case <-time.After(time.Millisecond):
			}
			c, err := net.Dial("unix", filepath.Join(m.root, "fleet.sock"))
			if err != nil {
				done <- err
				return
			}
			c.Close()
		}
	}()
	return func() {
		m.t.Helper()
		close(stop)
		if err := <-done; err != nil {
			m.t.Errorf("a connection was refused: %v", err)
		}
	}
}
