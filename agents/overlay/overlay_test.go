package overlay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/agents/lab"
	"github.com/coracle-os/coracle/rootfs/program"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// TestMain is also flanneld and etcd, for the machines of the lab.
func TestMain(m *testing.M) {
	stdio := program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	switch os.Getenv("TEST_PROGRAM") {
	case "flanneld":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := Main(ctx, os.Args, stdio)
		stop()
		os.Exit(code)
	case "etcd":
		os.Exit(runEtcd(os.Args[1], os.Args[2]))
	case "echo":
		os.Exit(runEcho(os.Args[1]))
	case "hold":
		os.Exit(runHold(os.Args[1]))
	case "stream":
		os.Exit(runStream(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

// runEtcd is a KV of one member on address, until it is killed.
func runEtcd(dir, address string) int {
	config := embed.NewConfig()
	config.Dir, config.LogLevel, config.UnsafeNoFsync = dir, "error", true
	client, peer := url.URL{Scheme: "http", Host: net.JoinHostPort(address, "2379")}, url.URL{Scheme: "http", Host: net.JoinHostPort(address, "2380")}
	if own := pki.In(filepath.Join(dir, "pki")); own.Readable() {
		client.Scheme = "https"
		config.ClientTLSInfo = transport.TLSInfo{TrustedCAFile: own.Authority, CertFile: own.Certificate, KeyFile: own.Key, ClientCertAuth: true}
	}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	if _, err := embed.StartEtcd(config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	select {}
}

// cluster is machines with the overlay and a container each.
type cluster struct {
	t        testing.TB
	lab      *lab.Lab
	kv       *lab.Machine
	etcd     *lab.Process
	machines []*node
}

// node is a machine of the overlay.
type node struct {
	*lab.Machine
	t         testing.TB
	flanneld  *lab.Process
	container *lab.Machine
	address   string // of the container
}

const kvNumber = 250

// newCluster starts the KV; config is the network.
func newCluster(t testing.TB, config string) *cluster {
	c := &cluster{t: t, lab: lab.New(t)}
	c.kv = c.lab.Machine(kvNumber)
	c.startKV()
	c.put("/coreos.com/network/config", config)
	return c
}

func (c *cluster) startKV() {
	c.t.Helper()
	c.etcd = c.kv.Program("etcd", nil, filepath.Join(c.kv.Dir, "etcd"), c.kv.IP)
	lab.Eventually(c.t, 20*time.Second, "the KV answers", func() error {
		_, err := c.ctl("endpoint", "health")
		return err
	})
}

func (c *cluster) ctl(args ...string) (string, error) {
	ctx, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	return c.kv.Run(ctx, append([]string{"env", "ETCDCTL_API=3", "etcdctl", "--endpoints=http://" + c.kv.IP + ":2379"}, args...)...)
}

func (c *cluster) put(key, value string) {
	c.t.Helper()
	if _, err := c.ctl("put", key, value); err != nil {
		c.t.Fatal(err)
	}
}

// add starts flanneld on machine n.
func (c *cluster) add(n int, args ...string) *node {
	c.t.Helper()
	m := &node{Machine: c.lab.Machine(n), t: c.t}
	c.machines = append(c.machines, m)
	m.Must("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	c.start(m, args...)
	return m
}

func (c *cluster) start(m *node, args ...string) {
	c.t.Helper()
	endpoints := "http://" + c.kv.IP + ":2379"
	for i, arg := range args {
		if own, ok := strings.CutPrefix(arg, "--etcd-endpoints="); ok {
			endpoints, args = own, slices.Delete(slices.Clone(args), i, i+1)
			break
		}
	}
	m.flanneld = m.Program("flanneld", nil, append([]string{"--machine-id=" + strings.ReplaceAll(m.Namespace, "m", "0"),
		"--etcd-endpoints=" + endpoints, "--subnet-file=" + m.file("subnet.env"), "--memory=" + m.file("flannel.db"),
		"--docker-options=" + m.file("docker.env"), "--cni-dir=" + m.file("cni"), "--iface=eth0", "--iptables-resync=1", "--ip-masq",
	}, args...)...)
}

func (m *node) file(name string) string { return filepath.Join(m.Dir, name) }

// env is a value of subnet.env.
func (m *node) env(name string) string {
	data, _ := os.ReadFile(m.file("subnet.env"))
	for line := range strings.Lines(string(data)) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key == name {
			return value
		}
	}
	return ""
}

// subnet waits for the machine's part of the network.
func (c *cluster) subnet(m *node) string {
	c.t.Helper()
	lab.Eventually(c.t, 20*time.Second, "a subnet for "+m.IP, func() error {
		if m.env("FLANNEL_SUBNET") == "" {
			return fmt.Errorf("%s", m.flanneld.Log)
		}
		return nil
	})
	return m.env("FLANNEL_SUBNET")
}

// run gives the machine a container, as Docker would: a namespace on a bridge
// that has the subnet's first address.
func (c *cluster) run(m *node) {
	c.t.Helper()
	gateway, err := net.ResolveIPAddr("ip4", strings.Split(c.subnet(m), "/")[0])
	if err != nil {
		c.t.Fatal(err)
	}
	bits := strings.Split(c.subnet(m), "/")[1]
	ip := gateway.IP.To4()
	m.address = fmt.Sprintf("%d.%d.%d.%d", ip[0], ip[1], ip[2], ip[3]+1)
	name := m.Namespace + "c"
	lab.IP(c.t, "netns", "add", name)
	c.t.Cleanup(func() { lab.IP(c.t, "netns", "delete", name) })
	lab.IP(c.t, "-n", m.Namespace, "link", "add", "docker0", "mtu", m.env("FLANNEL_MTU"), "type", "bridge")
	lab.IP(c.t, "-n", m.Namespace, "address", "add", gateway.String()+"/"+bits, "dev", "docker0")
	lab.IP(c.t, "-n", m.Namespace, "link", "set", "docker0", "up")
	lab.IP(c.t, "-n", m.Namespace, "link", "add", "veth0", "mtu", m.env("FLANNEL_MTU"), "type", "veth", "peer", "name", "eth0", "mtu", m.env("FLANNEL_MTU"), "netns", name)
	lab.IP(c.t, "-n", m.Namespace, "link", "set", "veth0", "master", "docker0", "up")
	lab.IP(c.t, "-n", name, "address", "add", m.address+"/"+bits, "dev", "eth0")
	lab.IP(c.t, "-n", name, "link", "set", "lo", "up")
	lab.IP(c.t, "-n", name, "link", "set", "eth0", "up")
	lab.IP(c.t, "-n", name, "route", "add", "default", "via", gateway.String())
	m.container = m.Inside(name)
}

// ping is one packet of size bytes that must not be fragmented.
func (m *node) ping(address string, size int) error {
	ctx, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	_, err := m.container.Run(ctx, "ping", "-n", "-q", "-c1", "-W1", "-Mdo", fmt.Sprintf("-s%d", size), address)
	return err
}

// allPairs checks that every container reaches every other with packets as
// large as the overlay says.
func (c *cluster) allPairs() {
	c.t.Helper()
	for _, from := range c.machines {
		for _, to := range c.machines {
			if from == to {
				continue
			}
			var mtu int
			fmt.Sscan(from.env("FLANNEL_MTU"), &mtu)
			lab.Eventually(c.t, 20*time.Second, from.address+" reaches "+to.address, func() error { return from.ping(to.address, mtu-28) })
		}
	}
}

// TestBackends puts eight machines into one network with each back end. Not
// every kernel that runs tests has wireguard; one that lacks it must say so.
// Its packets are looked at on booted machines (qemu-tests).
func TestBackends(t *testing.T) {
	for _, kind := range []string{"vxlan", "host-gw", "wireguard", "udp"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, fmt.Sprintf(`{"Network":"10.1.0.0/16","Backend":{"Type":%q}}`, kind))
			if _, err := c.kv.Run(t.Context(), "ip", "link", "add", "try", "type", kind); kind == "wireguard" && err != nil {
				c.add(1).says(20*time.Second, "this kernel lacks what the back end needs")
				return
			}
			for n := range 8 {
				c.add(n + 1)
			}
			for _, m := range c.machines {
				if subnet := c.subnet(m); !strings.HasPrefix(subnet, "10.1.") || !strings.HasSuffix(subnet, ".1/24") {
					t.Errorf("the subnet of %s is %s", m.IP, subnet)
				}
				c.run(m)
			}
			c.allPairs()
			lost := c.machines[3]
			before := c.subnet(lost)
			lost.flanneld.Stop(syscall.SIGKILL)
			os.Remove(lost.file("subnet.env"))
			c.start(lost)
			if after := c.subnet(lost); after != before {
				t.Errorf("after its return %s has %s, before %s", lost.IP, after, before)
			}
			c.allPairs()
		})
	}
}

// TestDualStack checks IPv6 beside IPv4; flannel has it with vxlan and
// host-gw when the KV keeps the leases.
func TestDualStack(t *testing.T) {
	t.Parallel()
	dualStack(t, "vxlan")
}

func dualStack(t *testing.T, kind string) {
	c := newCluster(t, fmt.Sprintf(`{"Network":"10.1.0.0/16","EnableIPv6":true,"IPv6Network":"fd10:1::/48","Backend":{"Type":%q}}`, kind))
	for n := range 3 {
		c.add(n + 1)
	}
	for _, m := range c.machines {
		c.run(m)
		gateway := m.env("FLANNEL_IPV6_SUBNET")
		if !strings.HasPrefix(gateway, "fd10:1:0:") || !strings.HasSuffix(gateway, "::1/64") {
			t.Fatalf("the IPv6 subnet of %s is %q", m.IP, gateway)
		}
		address, bits, _ := strings.Cut(gateway, "/")
		m.address = address + "0"
		lab.IP(t, "-n", m.Namespace, "address", "add", gateway, "dev", "docker0", "nodad")
		lab.IP(t, "-n", m.container.Namespace, "address", "add", m.address+"/"+bits, "dev", "eth0", "nodad")
		lab.IP(t, "-n", m.container.Namespace, "-6", "route", "add", "default", "via", address)
	}
	for _, from := range c.machines {
		for _, to := range c.machines {
			lab.Eventually(t, 20*time.Second, from.address+" reaches "+to.address, func() error { return from.ping(to.address, 1000) })
		}
	}
}

// TestLostKV takes the KV away, and compacts its history, while a machine
// comes; all meet when it is back.
func TestLostKV(t *testing.T) {
	t.Parallel()
	c := newCluster(t, `{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}`)
	for n := range 2 {
		c.run(c.add(n + 1))
	}
	c.allPairs()
	c.etcd.Stop(syscall.SIGKILL)
	c.allPairs()
	late := c.add(3)
	lab.Eventually(t, 30*time.Second, "the late machine says what it lacks", func() error {
		if !strings.Contains(late.flanneld.Log.String(), "not in the network") {
			return fmt.Errorf("log: %s", late.flanneld.Log)
		}
		return nil
	})
	c.startKV()
	for range 5 {
		c.put("/other", "value")
	}
	if out, err := c.ctl("compact", "6"); err != nil {
		t.Fatal(out, err)
	}
	c.run(late)
	c.allPairs()
}

// TestChangedConfig gives the cluster another network and another back end.
func TestChangedConfig(t *testing.T) {
	t.Parallel()
	c := newCluster(t, `{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}`)
	for n := range 2 {
		c.subnet(c.add(n + 1))
	}
	c.put("/coreos.com/network/config", `{"Network":`)
	c.put("/coreos.com/network/config", `{"Network":"10.2.0.0/16","SubnetLen":26,"SubnetMin":"10.2.4.0","Backend":{"Type":"host-gw"}}`)
	for _, m := range c.machines {
		lab.Eventually(t, 30*time.Second, "the new network", func() error {
			if got := m.env("FLANNEL_SUBNET"); !strings.HasPrefix(got, "10.2.") || !strings.HasSuffix(got, "/26") {
				return fmt.Errorf("subnet %s; log: %s", got, m.flanneld.Log)
			}
			return nil
		})
		if out := m.Must("ip", "link"); strings.Contains(out, "flannel.1") {
			t.Errorf("vxlan's device is left on %s", m.IP)
		}
		if data, _ := os.ReadFile(m.file("docker.env")); !strings.Contains(string(data), "--bip=10.2.") {
			t.Errorf("Docker's options: %s", data)
		}
		c.run(m)
	}
	c.allPairs()
}

// says waits for a text in a machine's log.
func (m *node) says(limit time.Duration, text string) {
	m.t.Helper()
	lab.Eventually(m.t, limit, "flanneld says "+text, func() error {
		if !strings.Contains(m.flanneld.Log.String(), text) {
			return fmt.Errorf("log: %s", m.flanneld.Log)
		}
		return nil
	})
}

// TestUsedUp has more machines than subnets; the one too many says so and gets
// one when another has gone.
func TestUsedUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, `{"Network":"10.1.0.0/24","SubnetLen":26,"Backend":{"Type":"host-gw"}}`)
	for n := range 3 { // the first of four is not used
		c.subnet(c.add(n + 1))
	}
	last := c.add(4)
	last.says(20*time.Second, "every subnet of the network has a machine")
	gone := c.machines[0]
	gone.flanneld.Stop(syscall.SIGTERM)
	if out, err := c.ctl("del", "--prefix", "/coreos.com/network/subnets/"+network(c.subnet(gone))); err != nil || strings.TrimSpace(out) != "1" {
		t.Fatalf("remove the lease: %s, %v", out, err)
	}
	c.subnet(last)
}

// network is the key of a subnet in subnet.env's form.
func network(subnet string) string {
	_, n, err := net.ParseCIDR(subnet)
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(n.String(), "/", "-")
}

// TestOneAddress has two machines with one public address.
func TestOneAddress(t *testing.T) {
	t.Parallel()
	c := newCluster(t, `{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}`)
	c.subnet(c.add(1, "--public-ip=10.77.0.9", "--machine-id=11111111111111111111111111111111"))
	c.add(2, "--public-ip=10.77.0.9", "--machine-id=22222222222222222222222222222222").
		says(20*time.Second, "machine 11111111111111111111111111111111 has it")
}

// TestRemovedLease takes a running machine's lease away: it gets one anew.
func TestRemovedLease(t *testing.T) {
	t.Parallel()
	c := newCluster(t, `{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}`)
	m := c.add(1)
	c.subnet(m)
	if _, err := c.ctl("del", "--prefix", "/coreos.com/network/subnets/"); err != nil {
		t.Fatal(err)
	}
	m.says(20*time.Second, "was removed")
	lab.Eventually(t, 20*time.Second, "the lease is there again", func() error {
		out, err := c.ctl("get", "--prefix", "--keys-only", "/coreos.com/network/subnets/")
		if err == nil && !strings.Contains(out, network(m.env("FLANNEL_SUBNET"))) {
			err = fmt.Errorf("leases: %s", out)
		}
		return err
	})
}

// TestFirewall lets another program take all rules away.
func TestFirewall(t *testing.T) {
	t.Parallel()
	c := newCluster(t, `{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}`)
	m := c.add(1)
	c.subnet(m)
	there := func() error {
		ctx, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		out, err := m.Run(ctx, "nft", "list", "ruleset")
		if err == nil && !strings.Contains(out, "ip saddr 10.1.0.0/16 ip daddr != 224.0.0.0/4 masquerade") {
			err = fmt.Errorf("rules: %s", out)
		}
		return err
	}
	lab.Eventually(t, 10*time.Second, "the rules", there)
	// The first time may be before the last rule is written.
	lab.Eventually(t, 20*time.Second, "the change is seen", func() error {
		if strings.Contains(m.flanneld.Log.String(), "another program changed the overlay's firewall rules") {
			return nil
		}
		err := there()
		if err == nil {
			m.Must("nft", "flush", "ruleset")
			err = errors.New("not in the log")
		}
		return err
	})
	lab.Eventually(t, 10*time.Second, "the rules again", there)
}

// TestPathMTU has a router between two machines that takes less than their
// interfaces.
func TestPathMTU(t *testing.T) {
	t.Parallel()
	c := newCluster(t, `{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}`)
	c.subnet(c.add(1))
	m := c.add(2)
	m.flanneld.Stop(syscall.SIGKILL)
	os.Remove(m.file("subnet.env"))
	m.Must("ip", "route", "add", "10.77.0.1", "dev", "eth0", "mtu", "1400")
	c.start(m)
	c.subnet(m)
	if got := m.env("FLANNEL_MTU"); got != "1350" {
		t.Errorf("the MTU is %s, want 1350: 1400 less vxlan's 50", got)
	}
}

// TestUnusable has configurations that cannot be.
func TestUnusable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ config, want string }{
		{`{"Network":"10.1.0.0/16","Backend":{"Type":"carrier-pigeon"}}`, "unknown backend type"},
		{`{"Network":"10.1.0.0/30"}`, "Minimum useful network prefix is /28"},
		{`10.1.0.0/16`, "it is not JSON"},
	} {
		c := newCluster(t, test.config)
		c.add(1).says(10*time.Second, test.want)
	}
}

// TestDefaultNetwork starts two machines at once with a default and no
// network.
func TestDefaultNetwork(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "")
	if _, err := c.ctl("del", "/coreos.com/network/config"); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		c.add(n+1, `--default-network={"Network":"10.9.0.0/16"}`)
	}
	for _, m := range c.machines {
		if got := c.subnet(m); !strings.HasPrefix(got, "10.9.") {
			t.Errorf("%s has %s", m.IP, got)
		}
	}
}
