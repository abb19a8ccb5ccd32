package fleetd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/agent/units"
	"github.com/coracle-os/coracle/agents/fleet/api/client"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/kv/pki"
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

const hello = "hello.service"

// TestLife is a machine's: a unit runs through everything that can happen to
// fleetd, and is stopped only by SIGTERM.
func TestLife(t *testing.T) {
	s := startStore(t)
	m := newMachine(t, s, "1111111111111111")
	m.start()
	m.told("WATCHDOG=1")
	m.here("region", "")
	if _, err := m.api.PutUnit(t.Context(), schema.Unit{Name: hello, DesiredState: "launched", Options: []schema.Option{{Section: "Service", Name: "ExecStart", Value: "/bin/sleep 9"}}}); err != nil {
		t.Fatal(err)
	}
	m.launched(hello)
	if got := m.init.asked(); got != "start "+hello {
		t.Errorf("PID 1 was asked to %s", got)
	}
	untouched := func(what string) {
		t.Helper()
		m.launched(hello)
		if got := m.init.asked(); got != "" {
			t.Errorf("%s: PID 1 was asked to %s", what, got)
		}
	}

	m.signal(syscall.SIGUSR1)
	m.await("the state as JSON", func() error {
		for line := range strings.Lines(m.out.String()) {
			var k known
			if json.Unmarshal([]byte(line), &k) == nil && k.Machine.ID == "1111111111111111" && len(k.Placements) == 1 && len(k.States) == 1 && k.Leader == k.Machine.ID {
				return nil
			}
		}
		return errors.New("it was not written")
	})

	pid := m.cmd.Process.Pid
	m.configure(s, "metadata=region=here\n")
	m.signal(syscall.SIGHUP)
	m.told("READY=1")
	m.here("region", "here")
	untouched("SIGHUP")
	if !strings.Contains(m.out.String(), "Reloading configuration") || m.cmd.Process.Pid != pid {
		t.Error("it was not reloaded in its process")
	}

	m.configure(s, "agent_ttl=soon\n")
	m.signal(syscall.SIGHUP)
	m.await("a bad file is refused", func() error {
		if !strings.Contains(m.out.String(), "The configuration is not reloaded") {
			return errors.New("no word of it")
		}
		return nil
	})
	m.here("region", "here")

	m.configure(s, "metadata=region=there\n")
	m.kill()
	m.start()
	m.here("region", "there")
	untouched("SIGKILL")

	twin := newMachine(t, s, "1111111111111111")
	twin.start()
	twin.await("a second machine with the same id", func() error {
		if !strings.Contains(twin.out.String(), "1111111111111111") {
			return errors.New("its log does not say why")
		}
		_, err := twin.api.Machines(t.Context())
		if client.IsUnavailable(err) && err.Error() == "fleet server unable to communicate with etcd" {
			return nil
		}
		return fmt.Errorf("its API answers %v", err)
	})
	untouched("a second machine with its id")
	twin.kill()

	s.stop()
	m.await("the API without the KV", func() error {
		if _, err := m.api.Units(t.Context()); !client.IsUnavailable(err) {
			return fmt.Errorf("it answers %v", err)
		}
		return nil
	})
	s.start()
	m.here("region", "there")
	untouched("the KV was away")

	m.signal(syscall.SIGTERM)
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, m.out)
	}
	m.cmd = nil
	if got := m.init.asked(); got != "stop "+hello {
		t.Errorf("SIGTERM: PID 1 was asked to %s", got)
	}
	if u := m.init.show(hello); u.Load != "not-found" {
		t.Errorf("after SIGTERM the unit is %+v", u)
	}
	other := newMachine(t, s, "2222222222222222")
	other.start()
	other.launched(hello) // the unit moves at once
	list, err := other.api.Machines(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != "2222222222222222" || list[0].PrimaryIP != "192.0.2.1" || list[0].Version != fleet.Version || list[0].CPU < 1000 || list[0].Memory == 0 {
		t.Errorf("machines: %+v, %v", list, err)
	}
}

// TestStart: what keeps fleetd from starting, and what people ask it.
func TestStart(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	id, boot, empty := write("id", "m\n"), write("boot", "b\n"), write("empty", "\n")
	good := paths{machineID: id, bootID: boot, memory: filepath.Join(dir, "agent.db"), proc: "/proc"}
	with := func(change func(*paths)) paths { p := good; change(&p); return p }
	for _, c := range []struct {
		args  string
		paths paths
		code  int
		want  string
	}{
		{"--version", good, 0, "fleetd version 1.0.0\n"},
		{"--help", good, 0, "Usage: fleetd [--config FILE]"},
		{"--colour", good, 2, "flag provided but not defined: -colour; see fleetd --help"},
		{"now", good, 2, `"now" is not a flag`},
		{"--config /nowhere/fleet.conf", good, 1, "read settings: open /nowhere/fleet.conf: no such file"},
		{"--config " + write("bad", "agent_ttl\n"), good, 1, `bad:1: "agent_ttl" is not a setting`},
		{"--agent_ttl soon", good, 1, `"soon" is not a time`},
		{"", with(func(p *paths) { p.machineID = dir + "/none" }), 1, "unable to determine local machine ID: open"},
		{"", with(func(p *paths) { p.machineID = empty }), 1, "unable to determine local machine ID"},
		{"", with(func(p *paths) { p.bootID = empty }), 1, "unable to determine the boot id"},
		{"", with(func(p *paths) { p.memory = id + "/agent.db" }), 1, "not a directory"},
		{"--etcd_cafile /nowhere/ca.crt", good, 1, "connect to the KV (etcd_cafile, etcd_certfile, etcd_keyfile)"},
	} {
		var out bytes.Buffer
		system := func(string) units.Init { return units.System{Control: control.Client{Path: dir + "/none"}, Root: dir} }
		code := start(t.Context(), append([]string{"fleetd"}, strings.Fields(c.args)...), c.paths, system, program.Stdio{Out: &out, Err: &out})
		if code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("fleetd %s: exit code %d, output:\n%s\nwant %d, %q", c.args, code, &out, c.code, c.want)
		}
	}
}

// TestFollowOwn: a fleetd that starts before the machine's etcd has certificates
// must not stay without.
func TestFollowOwn(t *testing.T) {
	own := pki.In(t.TempDir())
	write := func(text string) {
		t.Helper()
		for _, name := range []string{own.Certificate, own.Key, own.Authority} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, text := range []string{"first", "second"} {
		changed := make(chan struct{})
		go followOwn(t.Context(), own, authorityOf(own), time.Millisecond, func() { close(changed) })
		write(text)
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatalf("the %s authority is not seen", text)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	followOwn(ended, own, authorityOf(own), time.Millisecond, func() { t.Error("nothing has changed") })
}
