package overlay

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/agents/lab"
	"github.com/coracle-os/coracle/agents/overlay/firewall"
)

// connection holds a TCP connection between two containers; alive checks that
// it still does.
func (c *cluster) connection(from, to *node) (alive func(what string)) {
	c.t.Helper()
	to.container.Program("echo", nil, to.address)
	var p *lab.Process
	lab.Eventually(c.t, 20*time.Second, "a connection", func() error {
		if p == nil || strings.Contains(p.Log.String(), "no connection") {
			p = from.container.Program("hold", nil, to.address)
		}
		if !strings.Contains(p.Log.String(), "back") {
			return fmt.Errorf("log: %s", p.Log)
		}
		return nil
	})
	return func(what string) {
		c.t.Helper()
		before := strings.Count(p.Log.String(), "back")
		lab.Eventually(c.t, 20*time.Second, "the connection goes on after "+what, func() error {
			select {
			case <-p.Done:
				c.t.Fatalf("the connection ended after %s: %s", what, p.Log)
			default:
			}
			if strings.Count(p.Log.String(), "back") < before+2 {
				return fmt.Errorf("log: %s", p.Log)
			}
			return nil
		})
	}
}

// TestRunningConnections: what a connection survives. The KV is away for long
// when the machines' leases are gone from it; here it comes back with nothing,
// so that each machine must get its own subnet again.
func TestRunningConnections(t *testing.T) {
	t.Parallel()
	const config = `{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}`
	c := newCluster(t, config)
	for n := range 2 {
		c.run(c.add(n + 1))
	}
	a, b := c.machines[0], c.machines[1]
	alive := c.connection(a, b)

	a.flanneld.Stop(syscall.SIGTERM)
	alive("the end of flanneld")
	c.start(a)
	c.subnet(a)
	alive("flanneld's return")

	before := c.subnet(a)
	c.etcd.Stop(syscall.SIGKILL)
	alive("the loss of the KV")
	if err := os.RemoveAll(filepath.Join(c.kv.Dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	c.startKV()
	c.put("/coreos.com/network/config", config)
	lab.Eventually(t, 120*time.Second, "the machines have their subnets again", func() error {
		out, err := c.ctl("get", "--prefix", "--keys-only", "/coreos.com/network/subnets/")
		for _, m := range c.machines {
			if err == nil && !strings.Contains(out, network(m.env("FLANNEL_SUBNET"))) {
				err = fmt.Errorf("leases: %s", out)
			}
		}
		return err
	})
	if after := c.subnet(a); after != before {
		t.Errorf("the subnet was %s, and is %s", before, after)
	}
	alive("the loss of the leases")

	c.put("/coreos.com/network/config", `{"Network":"10.1.0.0/16","Backend":{"Type":"host-gw"}}`)
	for _, m := range c.machines {
		m.says(30*time.Second, "backend=host-gw")
	}
	alive("the change of the back end")

	m := a
	m.Must("nft", "flush", "ruleset")
	alive("the loss of the firewall's rules")
}

// TestHostGwIPv6 has IPv6 without a device between.
func TestHostGwIPv6(t *testing.T) {
	t.Parallel()
	dualStack(t, "host-gw")
}

// TestAddedIPv6 gives a network IPv6 while machines have leases without.
func TestAddedIPv6(t *testing.T) {
	t.Parallel()
	c := newCluster(t, `{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}`)
	for n := range 2 {
		c.subnet(c.add(n + 1))
	}
	c.put("/coreos.com/network/config", `{"Network":"10.1.0.0/16","EnableIPv6":true,"IPv6Network":"fd10:1::/48","Backend":{"Type":"vxlan"}}`)
	for _, m := range c.machines {
		lab.Eventually(t, 30*time.Second, "an IPv6 subnet", func() error {
			if m.env("FLANNEL_IPV6_SUBNET") == "" {
				return fmt.Errorf("log: %s", m.flanneld.Log)
			}
			return nil
		})
		if out := m.Must("sysctl", "-n", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.eth0.accept_ra"); out != "1\n2\n" {
			t.Errorf("forwarding and listening to routers: %q", out)
		}
	}
}

// TestSmallMTU: IPv6 needs 1280 bytes (RFC 8200), which vxlan cannot give over
// a link of 1300; IPv4 takes what there is.
func TestSmallMTU(t *testing.T) {
	t.Parallel()
	c := newCluster(t, `{"Network":"10.1.0.0/16","EnableIPv6":true,"IPv6Network":"fd10:1::/48","Backend":{"Type":"vxlan"}}`)
	m := &node{Machine: c.lab.Machine(1), t: t}
	m.Must("ip", "link", "set", "eth0", "mtu", "1300")
	c.start(m)
	m.says(20*time.Second, "IPv6 needs 1280")
	c.put("/coreos.com/network/config", `{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}`)
	c.subnet(m)
	if got := m.env("FLANNEL_MTU"); got != "1250" {
		t.Errorf("the MTU is %s", got)
	}
}

// TestOwnCertificates: the machine's own KV gets certificates, with nothing
// told to flanneld, which ends once for that (its unit starts it again).
func TestOwnCertificates(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	m := &node{Machine: l.Machine(1), t: t}
	c := &cluster{t: t, lab: l}
	dir := filepath.Join(m.Dir, "etcd")
	store := m.Program("etcd", nil, dir, "127.0.0.1")
	arguments := []string{"--etcd-endpoints=http://127.0.0.1:2379", "--etcd-own=" + filepath.Join(dir, "pki"), `--default-network={"Network":"10.1.0.0/16"}`}
	c.kv = m.Machine
	c.start(m, arguments...)
	c.subnet(m)

	authority, err := pki.New("test", time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := authority.PEM()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(m.Dir, "authority")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Ensure(file, filepath.Join(dir, "pki"), pki.Names{Common: "m1", Hosts: []string{"127.0.0.1", "localhost"}}, time.Now(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	store.Stop(syscall.SIGTERM)
	m.Program("etcd", nil, dir, "127.0.0.1")
	select {
	case <-m.flanneld.Done:
	case <-time.After(30 * time.Second):
		t.Fatalf("flanneld goes on without certificates: %s", m.flanneld.Log)
	}
	if !strings.Contains(m.flanneld.Log.String(), pki.ErrOther.Error()) {
		t.Errorf("log: %s", m.flanneld.Log)
	}
	os.Remove(m.file("subnet.env"))
	c.start(m, arguments...)
	c.subnet(m)
}

// TestDocker has a firewall that drops what is not marked, as dockerd's does
// with the options that it gets: other containers and machines of the cluster
// come through, a machine outside does not. dockerd itself is on booted
// machines (qemu-tests).
func TestDocker(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"vxlan", "host-gw", "udp"} {
		c := newCluster(t, fmt.Sprintf(`{"Network":"10.1.0.0/16","Backend":{"Type":%q}}`, kind))
		for n := range 2 {
			c.run(c.add(n + 1))
		}
		a, b := c.machines[0], c.machines[1]
		b.Must("nft", "add table ip docker; add chain ip docker in { type filter hook forward priority filter; }; "+
			fmt.Sprintf("add rule ip docker in oifname docker0 meta mark and %d != %d drop", firewall.Mark, firewall.Mark))
		for from, m := range map[string]*lab.Machine{"container": a.container, "machine": a.Machine} {
			lab.Eventually(t, 20*time.Second, kind+": another "+from+" reaches the container", func() error {
				_, err := m.Run(t.Context(), "ping", "-n", "-q", "-c1", "-W1", b.address)
				return err
			})
		}
		c.kv.Must("ip", "route", "add", b.address, "via", b.IP)
		if _, err := c.kv.Run(t.Context(), "ping", "-n", "-q", "-c1", "-W1", b.address); err == nil {
			t.Errorf("%s: a machine outside reaches the container", kind)
		}
	}
}
