package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/rootfs/control"
)

// lab is a network with machines, members of the store and an observer.
type lab struct {
	t        *testing.T
	prefix   string
	box      string
	members  []*member
	machines []*machine
	client   *clientv3.Client
	registry *registry.Registry
}

// newLab makes a store and machines, and returns when all machines take part.
func newLab(t *testing.T, members, machines int) *lab {
	t.Helper()
	l := &lab{t: t, prefix: fmt.Sprintf("fl%d", os.Getpid()), box: programs(t)}
	l.ip("netns", "add", l.prefix+"b")
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", l.prefix+"b").Run() })
	l.ip("-n", l.prefix+"b", "link", "add", "name", "br0", "type", "bridge")
	l.ip("-n", l.prefix+"b", "link", "set", "br0", "up")
	l.plug("o", 250)
	var cluster, endpoints []string
	for i := range members {
		name := fmt.Sprintf("k%d", i)
		cluster = append(cluster, fmt.Sprintf("%s=http://10.79.0.%d:2380", name, 100+i))
		endpoints = append(endpoints, fmt.Sprintf("http://10.79.0.%d:2379", 100+i))
		l.plug(name, 100+i)
		m := &member{lab: l, name: name, address: fmt.Sprintf("10.79.0.%d", 100+i), dir: filepath.Join(t.TempDir(), "etcd")}
		l.members = append(l.members, m)
		t.Cleanup(func() { m.kill() })
	}
	for _, m := range l.members {
		m.cluster = strings.Join(cluster, ",")
		m.start()
	}
	l.connect(endpoints)
	for i := range machines {
		l.machines = append(l.machines, l.newMachine(i, strings.Join(endpoints, ",")))
	}
	for _, m := range l.machines {
		m.powerOn()
	}
	for _, m := range l.machines {
		l.eventually(60*time.Second, func() string { return m.absent() })
	}
	return l
}

func (l *lab) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// plug makes a network name space with an address on the bridge.
func (l *lab) plug(name string, number int) {
	l.t.Helper()
	ns, bridge := l.prefix+name, l.prefix+"b"
	l.ip("netns", "add", ns)
	l.t.Cleanup(func() { exec.Command("ip", "netns", "delete", ns).Run() })
	l.ip("-n", bridge, "link", "add", "name", "p"+name, "type", "veth", "peer", "name", "eth0", "netns", ns)
	l.ip("-n", bridge, "link", "set", "p"+name, "master", "br0", "up")
	l.ip("-n", ns, "address", "add", fmt.Sprintf("10.79.0.%d/24", number), "dev", "eth0")
	l.ip("-n", ns, "link", "set", "eth0", "up")
	l.ip("-n", ns, "link", "set", "lo", "up")
}

// cable pulls the cable of a machine or member ("down") or puts it back ("up").
func (l *lab) cable(name, state string) {
	l.t.Helper()
	l.ip("-n", l.prefix+"b", "link", "set", "p"+name, state)
}

// connect makes the observer's client.
func (l *lab) connect(endpoints []string) {
	l.t.Helper()
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		return dialIn(ctx, "/run/netns/"+l.prefix+"o", address)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), DialTimeout: time.Second, DialKeepAliveTime: time.Second,
		DialKeepAliveTimeout: time.Second, DialOptions: []grpc.DialOption{grpc.WithContextDialer(dial)}})
	must(l.t, err)
	l.t.Cleanup(func() { c.Close() })
	l.client, l.registry = c, registry.New(c, "", 2*time.Second)
}

// dialIn connects from inside a network name space.
func dialIn(ctx context.Context, netns, address string) (net.Conn, error) {
	runtime.LockOSThread() // never unlocked on failure: the thread ends with the goroutine
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	other, err := os.Open(netns)
	if err != nil {
		return nil, err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	runtime.UnlockOSThread()
	return conn, err
}

// eventually repeats try until it has no problem any more.
func (l *lab) eventually(limit time.Duration, try func() (problem string)) {
	l.t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		problem := try()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("still after %v: %s", limit, problem)
		}
	}
}

// member is one etcd.
type member struct {
	lab                         *lab
	name, address, dir, cluster string
	cmd                         *exec.Cmd
	log                         bytes.Buffer
}

func (m *member) start() {
	m.lab.t.Helper()
	self, err := os.Executable()
	must(m.lab.t, err)
	m.cmd = exec.Command("ip", "netns", "exec", m.lab.prefix+m.name, self)
	m.cmd.Env = append(os.Environ(), "LAB_PROGRAM=etcd", "ETCD_NAME="+m.name, "ETCD_DATA_DIR="+m.dir, "ETCD_INITIAL_CLUSTER="+m.cluster, "ETCD_LOG_LEVEL=error",
		"ETCD_ADVERTISE_CLIENT_URLS=http://"+m.address+":2379", "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://"+m.address+":2380",
		"ETCD_LISTEN_CLIENT_URLS=http://"+m.address+":2379", "ETCD_LISTEN_PEER_URLS=http://"+m.address+":2380",
		"ETCD_HEARTBEAT_INTERVAL=50", fmt.Sprintf("ETCD_ELECTION_TIMEOUT=%d", election.Milliseconds()))
	m.cmd.Stdout, m.cmd.Stderr = &m.log, &m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(m.lab.t, m.cmd.Start())
}

func (m *member) kill() {
	if m.cmd != nil {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		m.cmd = nil
	}
}

func (m *member) signal(s os.Signal) { m.cmd.Process.Signal(s) }

// machine is one machine of the cluster.
type machine struct {
	lab  *lab
	name string
	id   string
	dir  string // /var/lib, with the unit's records
	boot int
	cmd  *exec.Cmd
}

// newMachine makes a machine that is off. Its fleet.service is the base's with
// times for the lab's TTL: from a renewal to a fleetd that was frozen and runs
// again must be less than to the stop of its units.
func (l *lab) newMachine(i int, endpoints string) *machine {
	l.t.Helper()
	m := &machine{lab: l, name: fmt.Sprintf("m%d", i), id: fmt.Sprintf("%032x", i+1), dir: l.t.TempDir()}
	l.plug(m.name, 1+i)
	must(l.t, os.MkdirAll(filepath.Join(m.dir, "etc/systemd/system/multi-user.target.wants"), 0o755))
	must(l.t, os.WriteFile(filepath.Join(m.dir, "etc/machine-id"), []byte(m.id+"\n"), 0o644))
	must(l.t, os.WriteFile(filepath.Join(m.dir, "etc/systemd/system/fleet.service"), fmt.Appendf(nil, `[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
StateDirectory=fleet
Environment=LAB_PROGRAM=fleetd FLEET_ETCD_SERVERS=%s FLEET_PUBLIC_IP=10.79.0.%d FLEET_AGENT_TTL=%s FLEET_ENGINE_RECONCILE_INTERVAL=0.4
ExecStart=/box/test
Restart=always
RestartSec=100ms
WatchdogSec=1s
WatchdogSignal=SIGKILL
TimeoutStopSec=30
StandardOutput=append:/var/lib/fleetd.log
StandardError=inherit
`, endpoints, 1+i, ttl), 0o644))
	must(l.t, os.Symlink("../fleet.service", filepath.Join(m.dir, "etc/systemd/system/multi-user.target.wants/fleet.service")))
	l.t.Cleanup(func() {
		if l.t.Failed() && m.cmd != nil {
			units, err := m.init().Collect(context.Background(), control.Request{Verb: control.Show, Units: []string{"fleet.service"}})
			l.t.Logf("fleet.service of %s: %+v, %v", m.name, units, err)
		}
		m.cutPower()
		for _, file := range []string{"console", "fleetd.log"} {
			if b, err := os.ReadFile(filepath.Join(m.dir, file)); l.t.Failed() && err == nil {
				l.t.Logf("%s of %s:\n%s", file, m.name, b[max(0, len(b)-6000):])
			}
		}
	})
	return m
}

// powerOn starts the machine's init.
func (m *machine) powerOn() {
	t := m.lab.t
	t.Helper()
	m.boot++
	must(t, os.WriteFile(filepath.Join(m.dir, "boot_id"), fmt.Appendf(nil, "%s-%d\n", m.id, m.boot), 0o644))
	fd, err := newGroup(t, fmt.Sprintf("%s-%d", m.name, m.boot)).OpenDir()
	must(t, err)
	defer unix.Close(fd)
	log, err := os.OpenFile(filepath.Join(m.dir, "console"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	must(t, err)
	defer log.Close()
	self := filepath.Join(m.lab.box, "test")
	m.cmd = &exec.Cmd{Path: self, Args: []string{self, "/run/netns/" + m.lab.prefix + m.name, m.lab.box, m.dir}, Env: []string{"LAB_PROGRAM=setup"},
		Stdout: log, Stderr: log, SysProcAttr: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd, Setsid: true, Pdeathsig: unix.SIGKILL,
			Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC}}
	must(t, m.cmd.Start())
}

// cutPower ends the machine at once.
func (m *machine) cutPower() {
	if m.cmd != nil {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		m.cmd = nil
	}
}

// init is the machine's PID 1.
func (m *machine) init() control.Client {
	return control.Client{Path: fmt.Sprintf("/proc/%d/root/run/systemd/private", m.cmd.Process.Pid)}
}

// signal sends a signal to the machine's fleetd.
func (m *machine) signal(name string) {
	m.lab.t.Helper()
	_, err := m.init().Collect(m.lab.t.Context(), control.Request{Verb: control.Kill, Units: []string{"fleet.service"}, Flags: control.Flags{Signal: name, KillWhom: "main"}})
	if err != nil {
		m.lab.t.Logf("signal fleetd of %s: %v", m.name, err) // it was just being started again
	}
}

// absent tells what keeps the machine from being in the cluster.
func (m *machine) absent() string {
	ctx, cancel := context.WithTimeout(m.lab.t.Context(), 2*time.Second)
	defer cancel()
	r, err := m.lab.client.Get(ctx, m.lab.registry.Keys.Machine(m.id))
	switch {
	case err != nil:
		return err.Error()
	case len(r.Kvs) == 0:
		return m.name + " is not registered"
	case !strings.Contains(string(r.Kvs[0].Value), fmt.Sprintf("%s-%d", m.id, m.boot)):
		return m.name + " is registered as it was before it was started"
	}
	return ""
}

// submit starts a unit whose service writes down that it runs.
func (l *lab) submit(name, options string) {
	l.t.Helper()
	_, err := l.registry.PutUnit(l.t.Context(), name, "[Service]\nExecStart=/box/unit %n /var/lib/records\nTimeoutStopSec=1\n"+options, fleet.Launched, nil)
	must(l.t, err)
}
