package qemutests

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/coracle-os/coracle/tools/qemu"
)

// slow bounds what a cluster does on one busy computer.
const slow = 5 * time.Minute

// trio is three machines with the published user-data, whose containers'
// images come from a registry of the test.
type trio struct {
	nodes []*machine.Machine
	group string // of their network
}

// racks is the fleet metadata of the machines, in their order.
var racks = []string{"compute=web,rack=rack1", "compute=web,rack=rack2", "compute=db,rack=rack3"}

func bootTrio(t *testing.T) *trio {
	t.Helper()
	document, err := os.ReadFile(filepath.Join("..", "tools", "coracle", "examples", "machines.yaml"))
	must(t, err)
	registry := serveRegistry(t)
	for _, image := range []string{"nginx", "redis"} {
		ref, err := name.ParseReference("127.0.0.1:" + registry + "/library/" + image + ":latest")
		must(t, err)
		must(t, remote.Write(ref, busyboxImage(t)))
	}
	port, err := qemu.FreePort()
	must(t, err)
	c := &trio{group: fmt.Sprintf("239.255.9.3:%d", port)}
	for i, rack := range racks {
		own := strings.Replace(string(document), "  fleet:\n", "  fleet:\n    metadata: "+rack+"\n", 1) +
			"  - path: /etc/docker/daemon.json\n    content: '" + mirrorConfig(registry) + "'\n"
		c.nodes = append(c.nodes, machine.Boot(t, machine.Options{Name: fmt.Sprintf("%s-%d", t.Name(), i+1), Memory: 1024, DiskSize: 4 << 30,
			UserData: own + "ssh_authorized_keys: [$KEY]\n",
			Change: func(q *qemu.Config) {
				q.LAN = qemu.LAN{Group: c.group, MAC: fmt.Sprintf("52:54:00:09:01:%02x", i+1)}
				q.MetaData = filepath.Join(q.Dir, "meta-data")
				must(t, os.WriteFile(q.MetaData, fmt.Appendf(nil, `{"hostname": "node%d", "local-ipv4": "10.9.0.%[1]d"}`, i+1), 0o600))
			}}))
	}
	for _, n := range c.nodes {
		n.Eventually("systemctl is-active docker.service names.service flanneld.service fleet.service | sort | uniq -c", "4 active", 2*slow)
	}
	c.nodes[0].Eventually("fleetctl list-machines --no-legend | wc -l", "3", slow)
	return c
}

// in has failures reported to a subtest.
func (c *trio) in(t *testing.T) []*machine.Machine {
	var nodes []*machine.Machine
	for _, n := range c.nodes {
		nodes = append(nodes, n.In(t))
	}
	return nodes
}

// TestThreeMachines is the store, the network, the names and the scheduler of
// three machines with one user-data.
func TestThreeMachines(t *testing.T) {
	c := bootTrio(t)
	t.Run("store", func(t *testing.T) { c.store(t) })
	t.Run("subnets", func(t *testing.T) { c.subnets(t) })
	t.Run("vxlan", func(t *testing.T) { c.wire(t, "vxlan", true) })
	t.Run("global unit", func(t *testing.T) { c.global(t) })
	t.Run("wireguard", func(t *testing.T) {
		c.backEnd(t, "wireguard")
		c.wire(t, "wireguard", false)
	})
	t.Run("placement", func(t *testing.T) { c.placement(t) })
}

// store is the published example: what one machine is told, another knows.
func (c *trio) store(t *testing.T) {
	nodes := c.in(t)
	if got := nodes[0].Run("curl -s http://127.0.0.1:4001/v2/keys/message1 -XPUT -d value=Book1"); !strings.Contains(got, `"value":"Book1"`) {
		t.Errorf("the answer is %s", got)
	}
	for _, n := range nodes[1:] {
		if got := n.Run("curl -s http://127.0.0.1:4001/v2/keys/message1"); !strings.Contains(got, `"value":"Book1"`) {
			t.Errorf("%s reads %s", n.Name, got)
		}
	}
}

// subnets wants a /24 of 10.1.0.0/16 for each machine, and Docker's bridge in it.
func (c *trio) subnets(t *testing.T) {
	whole, seen := netip.MustParsePrefix("10.1.0.0/16"), map[netip.Prefix]bool{}
	for _, n := range c.in(t) {
		text := n.Run(". /run/flannel/subnet.env; echo $FLANNEL_SUBNET")
		subnet, err := netip.ParsePrefix(text)
		if err != nil || subnet.Bits() != 24 || !whole.Contains(subnet.Addr()) || seen[subnet.Masked()] {
			t.Errorf("%s has the subnet %q, others %v", n.Name, text, seen)
		}
		seen[subnet.Masked()] = true
		n.Eventually("ip addr show docker0", subnet.String(), slow)
	}
}

// pattern is in a page that one machine has of another's container.
const pattern = "this sentence is easily found on a wire"

// wire has a container on one machine ping and ask one on another, and listens
// to the machines' network meanwhile.
func (c *trio) wire(t *testing.T, label string, readable bool) {
	nodes := c.in(t)
	nodes[2].Run("docker rm -f page 2>/dev/null; docker run -d --name page busybox sh -c 'echo " + pattern + " > /tmp/index.html; httpd -f -h /tmp'")
	there := nodes[2].Run("docker inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' page")
	nodes[0].Eventually("docker run --rm busybox busybox ping -c 2 -W 5 "+there, " 0% packet loss", slow)
	stop := listen(t, c.group)
	got := nodes[0].Run("docker run --rm busybox wget -q -O- http://" + there + "/")
	packets, found := stop()
	if !strings.Contains(got, pattern) {
		t.Errorf("the page is %q", got)
	}
	if packets == 0 || found != readable {
		t.Errorf("%s: %d packets on the wire, the page among them: %v, want %v", label, packets, found, readable)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(nodes[1].Exec("core", "cat /etc/resolv.conf; ls -l /etc/resolv.conf /run/systemd/resolve /run/coracle; cat /run/coracle/resolver.json; ip addr; "+
				"networkctl status -a; systemctl status systemd-networkd names; sudo journalctl --no-pager -u systemd-networkd -u names").Out)
		}
	})
	nodes[1].Eventually("wget -q -O- http://page.coracle.internal/", pattern, slow)
}

// listen counts what goes over the machines' network, until stop is called,
// and looks for the pattern in it.
func listen(t *testing.T, group string) (stop func() (packets int, found bool)) {
	t.Helper()
	address, err := net.ResolveUDPAddr("udp4", group)
	must(t, err)
	loopback, err := net.InterfaceByName("lo")
	must(t, err)
	conn, err := net.ListenMulticastUDP("udp4", loopback, address)
	must(t, err)
	must(t, conn.SetReadBuffer(4<<20))
	packets, found, done := 0, false, make(chan struct{})
	go func() {
		defer close(done)
		for buffer := make([]byte, 64<<10); ; packets++ {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			found = found || bytes.Contains(buffer[:n], []byte(pattern))
		}
	}()
	return func() (int, bool) {
		conn.Close()
		<-done
		return packets, found
	}
}

// backEnd changes the network of all machines.
func (c *trio) backEnd(t *testing.T, kind string) {
	nodes := c.in(t)
	nodes[0].Run(`etcdctl put /coreos.com/network/config '{"Network":"10.1.0.0/16","Backend":{"Type":"` + kind + `"}}'`)
	for _, n := range nodes {
		n.Run("sudo systemctl restart flanneld.service")
	}
	for _, n := range nodes {
		n.Eventually("journalctl -u flanneld | grep 'in the network' | tail -1", "backend="+kind, slow)
		n.Eventually(`mtu=$(. /run/flannel/subnet.env; echo $FLANNEL_MTU); ip link show docker0 | grep -c "mtu $mtu "; docker ps -q >/dev/null`, "1", slow)
	}
}

// submit writes a unit's file on a machine and starts it in the cluster.
func submit(n *machine.Machine, unit, content string) {
	n.Run(fmt.Sprintf("cat > %s <<'EOF'\n%sEOF\nfleetctl start %[1]s", unit, content))
}

// global is a unit that runs on all machines.
func (c *trio) global(t *testing.T) {
	nodes := c.in(t)
	submit(nodes[1], "everywhere.service", "[Service]\nExecStart=/bin/sleep 1000000\n[X-Fleet]\nGlobal=true\n")
	nodes[0].Eventually("fleetctl list-units --no-legend | grep -c 'everywhere.service.*active.*running'", "3", slow)
	for _, n := range nodes {
		n.Eventually("systemctl is-active everywhere.service", "active", time.Minute)
	}
	nodes[2].Run("fleetctl destroy everywhere.service")
	nodes[0].Eventually("systemctl is-active everywhere.service || true", "inactive", slow)
}

// placement is fleet's published example: what runs where, and what becomes of
// it when a machine is switched off.
func (c *trio) placement(t *testing.T) {
	nodes := c.in(t)
	submit(nodes[0], "nginx.service", containerUnit("nginx", "sh -c 'echo served on %H > /tmp/index.html; exec httpd -f -h /tmp'", "compute=web"))
	submit(nodes[0], "redis.service", containerUnit("redis", "sleep 1000000", "compute=db"))
	nodes[2].Eventually("docker ps --format '{{.Image}} {{.Names}}'", "redis redis", slow)
	nodes[2].Eventually("fleetctl list-units --no-legend | grep -c 'nginx.service.*active.*running'", "1", slow)
	first, second := 0, 1
	if strings.Contains(nodes[1].Run("docker ps --format '{{.Names}}'"), "nginx") {
		first, second = 1, 0
	}
	ask := "curl -s -m 20 http://nginx.coracle.internal/"
	nodes[2].Eventually(ask, fmt.Sprintf("served on node%d", first+1), slow)
	begin := time.Now()
	nodes[first].Exec("core", "sudo poweroff")
	nodes[first].WaitEnd(slow)
	nodes[second].Eventually("docker ps --format '{{.Image}} {{.Names}}'", "nginx nginx", slow)
	t.Logf("nginx runs on the other machine %.0f s after the order to switch off", time.Since(begin).Seconds())
	nodes[2].Eventually(ask, fmt.Sprintf("served on node%d", second+1), slow)
	if got := nodes[2].Run("docker ps --format '{{.Names}}'"); strings.Contains(got, "nginx") {
		t.Errorf("the third machine, whose metadata nginx does not want, runs %q", got)
	}
}

func containerUnit(image, command, metadata string) string {
	return fmt.Sprintf("[Unit]\nAfter=docker.service\nRequires=docker.service\n[Service]\nTimeoutStartSec=0\nRestart=always\nRestartSec=2\n"+
		"ExecStartPre=-/usr/bin/docker rm -f %[1]s\nExecStart=/usr/bin/docker run --rm --name %[1]s %[1]s %[2]s\nExecStop=/usr/bin/docker stop -t 2 %[1]s\n"+
		"[X-Fleet]\nMachineMetadata=%[3]s\n", image, command, metadata)
}
