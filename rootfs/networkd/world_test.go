package networkd

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"golang.org/x/sys/unix"
)

// The tests run the daemon and a DHCP server in network namespaces of their
// own, each in a process, since a namespace belongs to threads. The processes
// are this test program with a role. Root and iproute2 are needed.

const roleVariable = "NETWORKD_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "daemon":
		os.Exit(daemonRole(os.Args[1]))
	case "server":
		os.Exit(serverRole(os.Args[1]))
	case "claim":
		os.Exit(claimRole())
	case "lookup":
		os.Exit(lookupRole())
	}
	// Most of their time the tests wait for a lease to end.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// frozen is a clock that nobody may set.
type frozen struct{}

func (frozen) Now() time.Time           { return time.Now() }
func (frozen) Step(time.Time) error     { return fmt.Errorf("the test's clock is not set") }
func (frozen) Slew(time.Duration) error { return nil }

func testPaths(directory string) Paths {
	run := filepath.Join(directory, "run")
	return Paths{
		Root: os.DirFS(directory), State: run + "/state.json", Links: run + "/links", Resolv: run + "/resolv.conf", Stub: run + "/stub-resolv.conf", Local: run + "/resolver.json",
		Hostname: directory + "/etc/hostname", Clock: directory + "/clock", OSRelease: directory + "/os-release", Synced: run + "/synchronized",
		Control: run + "/control", MachineID: directory + "/machine-id", CommandLine: directory + "/cmdline", Generated: directory + "/run/systemd/network",
	}
}

func daemonRole(directory string) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, unix.SIGHUP)
	if err := run(ctx, testPaths(directory), frozen{}, reload, slog.New(&handler{out: os.Stderr})); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// behaviour is what the server does; it reads it anew for every message.
type behaviour struct {
	Mode    string // "answer", "silent" or "nak"
	Address string // that it gives
	Lease   int    // in seconds
}

func serverRole(directory string) int {
	server, err := server4.NewServer("srv0", &net.UDPAddr{IP: net.IPv4zero, Port: 67}, func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		var b behaviour
		data, err := os.ReadFile(directory + "/server.json")
		if err != nil || json.Unmarshal(data, &b) != nil {
			return
		}
		fmt.Printf("%s unicast=%v mode=%s name=%s\n", m.MessageType(), !m.ClientIPAddr.IsUnspecified(), b.Mode, m.HostName())
		if reply := b.reply(m); reply != nil {
			to := &net.UDPAddr{IP: net.IPv4bcast, Port: 68}
			if !m.ClientIPAddr.IsUnspecified() {
				to.IP = m.ClientIPAddr
			}
			if _, err := conn.WriteTo(reply.ToBytes(), to); err != nil {
				fmt.Println(err)
			}
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("listening")
	server.Serve()
	return 0
}

func (b behaviour) reply(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	kind := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		kind = dhcpv4.MessageTypeAck
		if asked := m.RequestedIPAddress(); b.Mode == "nak" || (!asked.IsUnspecified() && asked != nil && asked.String() != b.Address) ||
			(!m.ClientIPAddr.IsUnspecified() && m.ClientIPAddr.String() != b.Address) {
			kind = dhcpv4.MessageTypeNak
		}
	}
	if b.Mode == "silent" || b.Mode == "" {
		return nil
	}
	reply, err := dhcpv4.NewReplyFromRequest(m,
		dhcpv4.WithMessageType(kind), dhcpv4.WithServerIP(net.IPv4(10, 99, 0, 1)), dhcpv4.WithYourIP(net.ParseIP(b.Address)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 99, 0, 1))))
	if err != nil {
		return nil
	}
	if kind == dhcpv4.MessageTypeNak {
		return reply
	}
	for _, option := range []dhcpv4.Option{
		dhcpv4.OptSubnetMask(net.CIDRMask(24, 32)), dhcpv4.OptRouter(net.IPv4(10, 99, 0, 1)), dhcpv4.OptDNS(net.IPv4(10, 99, 0, 53)),
		dhcpv4.OptDomainName("test.example"), dhcpv4.OptHostName("from-dhcp"), dhcpv4.OptNTPServers(net.IPv4(10, 99, 0, 1)),
		dhcpv4.OptIPAddressLeaseTime(time.Duration(b.Lease) * time.Second),
	} {
		reply.UpdateOption(option)
	}
	return reply
}

// world is two namespaces with a cable between them.
type world struct {
	t         testing.TB
	directory string
	client    string // namespace of the daemon; its end of the cable is eth0
	server    string // namespace of the server; its end is srv0
	port      string // the server's interface, srv0
	log       *lines // of the daemon
	messages  *lines // that the server got
	daemon    *exec.Cmd
}

// newWorld is a world with a server that is this program.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := newCable(t)
	w.behave(behaviour{Mode: "silent"})
	_, w.messages = w.start("server", w.server)
	w.messages.wait(t, "listening")
	return w
}

// newCable is a world without a server.
func newCable(t testing.TB) *world {
	t.Helper()
	// Names of the process, so that several runs do not meet.
	base := fmt.Sprintf("coracle-%d-%d", os.Getpid(), time.Now().UnixNano()%1000000)
	w := &world{t: t, directory: t.TempDir(), client: base + "c", server: base + "s", port: "srv0"}
	for _, ns := range []string{w.client, w.server} {
		w.must("ip", "netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "delete", ns).Run() })
	}
	w.must("ip", "link", "add", "eth0", "netns", w.client, "type", "veth", "peer", "name", "srv0", "netns", w.server)
	w.must("ip", "-n", w.server, "address", "add", "10.99.0.1/24", "dev", "srv0")
	w.must("ip", "-n", w.server, "link", "set", "srv0", "up")
	w.must("ip", "-n", w.server, "link", "set", "lo", "up")
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nDHCP=yes\n")
	return w
}

func (w *world) must(name string, args ...string) string {
	w.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// write replaces a file at once: the server reads it while we write.
func (w *world) write(path, text string) {
	w.t.Helper()
	path = filepath.Join(w.directory, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) behave(b behaviour) {
	w.t.Helper()
	data, err := json.Marshal(b)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("server.json", string(data))
}

// start runs this program in a role, in a network namespace and with a host
// name of its own, so that the machine keeps its name.
func (w *world) start(role, namespace string, environment ...string) (*exec.Cmd, *lines) {
	w.t.Helper()
	program, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	// exec: the process that is told to end must be the role itself.
	command := exec.Command("ip", "netns", "exec", namespace, "unshare", "--uts", "sh", "-c",
		`hostname localhost; exec "$0" "$1"`, program, w.directory)
	command.Env = append(append(os.Environ(), roleVariable+"="+role), environment...)
	pipe, err := command.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	command.Stderr = command.Stdout
	if err := command.Start(); err != nil {
		w.t.Fatal(err)
	}
	out := &lines{}
	read := make(chan struct{})
	go func() { defer close(read); out.read(pipe) }()
	w.t.Cleanup(func() {
		command.Process.Kill()
		<-read
		command.Wait()
		if w.t.Failed() {
			w.t.Logf("%s said:\n%s", role, out.text())
		}
	})
	return command, out
}

// program runs a program of the host in a namespace until the test ends or it
// is stopped.
func (w *world) program(namespace string, args ...string) (stop func(), out *lines) {
	w.t.Helper()
	command := exec.Command("ip", append([]string{"netns", "exec", namespace}, args...)...)
	pipe, err := command.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	command.Stdout = command.Stderr
	if err := command.Start(); err != nil {
		w.t.Fatal(err)
	}
	out = &lines{}
	read := make(chan struct{})
	go func() { defer close(read); out.read(pipe) }()
	stop = sync.OnceFunc(func() {
		command.Process.Kill()
		<-read
		command.Wait()
		if w.t.Failed() {
			w.t.Logf("%s said:\n%s", args[0], out.text())
		}
	})
	w.t.Cleanup(stop)
	return stop, out
}

// startDaemon starts the daemon and waits until it says that it is ready.
func (w *world) startDaemon() {
	w.t.Helper()
	path := filepath.Join(w.directory, "notify")
	os.Remove(path)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	w.daemon, w.log = w.start("daemon", w.client, "NOTIFY_SOCKET="+path)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buffer := make([]byte, 100)
	n, err := conn.Read(buffer)
	if err != nil || string(buffer[:n]) != "READY=1" {
		w.t.Fatalf("the daemon is not ready: %q, %v\n%s", buffer[:n], err, w.log.text())
	}
}

func (w *world) stopDaemon() {
	w.t.Helper()
	if err := w.daemon.Process.Signal(unix.SIGTERM); err != nil {
		w.t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for !w.log.ended() {
		if time.Now().After(deadline) {
			w.t.Fatalf("the daemon does not end\n%s", w.log.text())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// eth0 waits until the state of eth0 is as wanted, and returns it.
func (w *world) eth0(what string, within time.Duration, wanted func(state.Interface, state.State) bool) state.Interface {
	w.t.Helper()
	deadline := time.Now().Add(within)
	for {
		current, err := state.Read(testPaths(w.directory).State)
		for _, i := range current.Interfaces {
			if i.Name == "eth0" && wanted(i, current) {
				return i
			}
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not %s within %v: %+v (error %v)", what, within, current, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// lines collects what a process says.
type lines struct {
	mu    sync.Mutex
	all   []string
	isEnd bool
}

func (l *lines) read(r io.Reader) {
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		l.mu.Lock()
		l.all = append(l.all, scanner.Text())
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.isEnd = true
	l.mu.Unlock()
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

func (l *lines) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isEnd
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.all {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func (l *lines) wait(t testing.TB, part string) {
	t.Helper()
	l.waitCount(t, part, 1)
}

func (l *lines) waitCount(t testing.TB, part string, n int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for l.count(part) < n {
		if time.Now().After(deadline) {
			t.Fatalf("nobody said %q %d times:\n%s", part, n, l.text())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
