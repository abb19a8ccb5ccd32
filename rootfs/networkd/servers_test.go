package networkd

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/state"
)

// The servers here are Debian's.

func (w *world) dnsmasq(args ...string) (stop func(), out *lines) {
	return w.program(w.server, append([]string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=" + w.port, "--bind-dynamic",
		"--log-dhcp", "--no-ping", "--user=root", "--pid-file=", "--dhcp-leasefile=" + w.directory + "/leases"}, args...)...)
}

// TestDnsmasq is DHCPv4: all that a lease can say, renewal, and a lease that
// another server does not know.
func TestDnsmasq(t *testing.T) {
	t.Parallel()
	w := newCable(t)
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nDHCP=ipv4\n[DHCPv4]\nUseMTU=yes\nClientIdentifier=duid\nVendorClassIdentifier=coracle-test\nRouteTable=77\n[RoutingPolicyRule]\nTo=10.0.0.0/8\nTable=77\nPriority=500\n")
	options := []string{"--dhcp-option=58,3", "--dhcp-option=59,60", "--dhcp-option=121,10.8.0.0/16,10.99.0.2,0.0.0.0/0,10.99.0.1",
		"--dhcp-option=42,10.99.0.9", "--dhcp-option=6,10.99.0.53", "--dhcp-option-force=119,a.example,b.example", "--dhcp-option=26,1400",
		"--dhcp-vendorclass=set:ours,coracle-test", "--dhcp-authoritative"}
	stop, server := w.dnsmasq(append(options, "--dhcp-range=10.99.0.100,10.99.0.100,255.255.255.0,2m")...)
	w.startDaemon()
	i := w.eth0("configured", 20*time.Second, has("10.99.0.100/24"))
	if !slices.Equal(i.DNS, []string{"10.99.0.53"}) || !slices.Equal(i.NTP, []string{"10.99.0.9"}) || i.Domain != "a.example b.example" {
		t.Errorf("got %+v", i)
	}
	routes := w.must("ip", "-n", w.client, "route", "show", "table", "77")
	for _, want := range []string{"default via 10.99.0.1 dev eth0 proto dhcp", "10.8.0.0/16 via 10.99.0.2 dev eth0 proto dhcp"} {
		if !strings.Contains(routes, want) {
			t.Errorf("%q is not in table 77:\n%s", want, routes)
		}
	}
	if rules := w.must("ip", "-n", w.client, "rule"); !strings.Contains(rules, "500:\tfrom all to 10.0.0.0/8 lookup 77 proto static") {
		t.Errorf("rules:\n%s", rules)
	}
	if text := w.must("ip", "-n", w.client, "link", "show", "eth0"); !strings.Contains(text, "mtu 1400") {
		t.Errorf("the link has not the MTU of the lease:\n%s", text)
	}
	if !strings.Contains(server.text(), "tags: ours") {
		t.Errorf("the server does not know the vendor class:\n%s", server.text())
	}
	server.waitCount(t, "DHCPACK(srv0) 10.99.0.100", 3) // renewed, twice

	// Another server, with other addresses: the lease is refused.
	stop()
	os.Remove(w.directory + "/leases")
	_, server = w.dnsmasq(append(options, "--dhcp-range=10.99.0.101,10.99.0.101,255.255.255.0,2m")...)
	w.eth0("moved", 40*time.Second, has("10.99.0.101/24"))
	server.wait(t, "DHCPNAK(srv0) 10.99.0.100")
}

// TestPool is a server without an address left, until there is one; two
// machines with one address; and networkctl's wishes.
func TestPool(t *testing.T) {
	t.Parallel()
	w := newCable(t)
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nDHCP=ipv4\n[DHCPv4]\nSendDecline=yes\n")
	w.write("leases", "4102444800 02:00:00:00:00:01 10.99.0.100 other *\n")
	stop, server := w.dnsmasq("--dhcp-range=10.99.0.100,10.99.0.100,255.255.255.0,2m")
	w.startDaemon()
	server.wait(t, "no address available")
	w.eth0("asking", 20*time.Second, func(i state.Interface, s state.State) bool { return i.Problem == "no DHCP server answers" })
	stop()
	os.Remove(w.directory + "/leases")
	// A third machine has the address that the server gives first.
	other := w.server + "o"
	w.must("ip", "netns", "add", other)
	t.Cleanup(func() { exec.Command("ip", "netns", "delete", other).Run() })
	w.must("ip", "link", "add", "oth0", "netns", other, "type", "veth", "peer", "name", "oth1", "netns", w.server)
	for _, command := range []string{
		w.server + " link add sw0 type bridge", w.server + " link set srv0 master sw0", w.server + " link set oth1 master sw0 up",
		w.server + " address flush dev srv0", w.server + " address add 10.99.0.1/24 dev sw0", w.server + " link set sw0 up",
		other + " address add 10.99.0.100/24 dev oth0", other + " link set oth0 up",
	} {
		w.must("ip", strings.Fields("-n "+command)...)
	}
	w.port = "sw0"
	_, server = w.dnsmasq("--dhcp-range=10.99.0.100,10.99.0.102,255.255.255.0,2m", "--dhcp-sequential-ip")
	server.wait(t, "DHCPDECLINE(sw0) 10.99.0.100")
	w.log.wait(t, "another machine has the address 10.99.0.100")
	w.eth0("configured", 40*time.Second, func(i state.Interface, s state.State) bool { return len(i.Addresses) == 1 && s.Online })

	before := server.count("DHCPREQUEST")
	if err := Ask(testPaths(w.directory).Control, "renew", "eth0"); err != nil {
		t.Error(err)
	}
	server.waitCount(t, "DHCPREQUEST", before+1)
	before = server.count("DHCPREQUEST")
	if err := Ask(testPaths(w.directory).Control, "reconfigure", "eth*"); err != nil {
		t.Error(err)
	}
	server.waitCount(t, "DHCPREQUEST", before+1)
	w.write("etc/systemd/network/10-mine.network", "[Match]\nName=eth0\n[Network]\nAddress=10.99.0.50/24\n")
	if err := Ask(testPaths(w.directory).Control, "reload"); err != nil {
		t.Error(err)
	}
	w.eth0("static", 10*time.Second, has("10.99.0.50/24"))
	for _, wish := range [][]string{{"renew"}, {"renew", "nosuch"}, {"dance", "eth0"}, {}} {
		if err := Ask(testPaths(w.directory).Control, wish...); err == nil {
			t.Errorf("%q: no error", wish)
		}
	}
}

// TestDnsmasq6 is DHCPv6 with addresses, started by a router's flag.
func TestDnsmasq6(t *testing.T) {
	t.Parallel()
	w := newCable(t)
	w.must("ip", "-n", w.server, "address", "add", "fd00:99::1/64", "dev", "srv0", "nodad")
	args := []string{"--enable-ra", "--ra-param=srv0,4,20", "--dhcp-range=fd00:99::100,fd00:99::100,64,2m", "--dhcp-option=option6:dns-server,[fd00:99::53]",
		"--dhcp-option=option6:domain-search,six.example", "--dhcp-option=option6:ntp-server,[fd00:99::9]"}
	stop, server := w.dnsmasq(args...)
	w.startDaemon()
	i := w.eth0("configured", 30*time.Second, func(i state.Interface, s state.State) bool {
		return slices.Contains(i.Addresses, "fd00:99::100/128") && s.Online && i.SetupState == "configured" && slices.Contains(i.DNS, "fd00:99::53")
	})
	if i.Domain != "six.example" || !slices.Equal(i.NTP, []string{"fd00:99::9"}) || i.DHCP6Address != "fd00:99::100" {
		t.Errorf("got %+v", i)
	}
	if routes := w.must("ip", "-n", w.client, "-6", "route"); !strings.Contains(routes, "default via fe80::") || !strings.Contains(routes, "proto ra") {
		t.Errorf("routes:\n%s", routes)
	}
	if text, err := os.ReadFile(testPaths(w.directory).Resolv); err != nil || !strings.Contains(string(text), "nameserver fd00:99::53\n") || !strings.Contains(string(text), "search six.example\n") {
		t.Errorf("resolv.conf: %q, %v", text, err)
	}
	if out := w.must("ip", "-n", w.client, "address", "show", "dev", "eth0", "to", "fd00:99::100"); !strings.Contains(out, "valid_lft 1") {
		t.Errorf("the address has no end:\n%s", out)
	}
	before := server.count("DHCPREPLY(srv0) fd00:99::100")
	if err := Ask(testPaths(w.directory).Control, "renew", "eth0"); err != nil {
		t.Error(err)
	}
	server.waitCount(t, "DHCPREPLY(srv0) fd00:99::100", before+1)

	// The network is another one now: the server takes the address back.
	stop()
	w.must("sed", "-i", "/^duid/!d", w.directory+"/leases") // the server stays the same
	w.must("ip", "-n", w.server, "address", "add", "fd00:97::1/64", "dev", "srv0", "nodad")
	w.must("ip", "-n", w.server, "address", "delete", "fd00:99::1/64", "dev", "srv0")
	args[2] = "--dhcp-range=fd00:97::200,fd00:97::200,64,2m"
	w.dnsmasq(args...)
	if err := Ask(testPaths(w.directory).Control, "renew", "eth0"); err != nil {
		t.Error(err)
	}
	w.eth0("moved", 60*time.Second, func(i state.Interface, s state.State) bool {
		return slices.Contains(i.Addresses, "fd00:97::200/128") && !slices.Contains(i.Addresses, "fd00:99::100/128")
	})
}

// TestRouter is a router without DHCPv6 that goes away.
func TestRouter(t *testing.T) {
	t.Parallel()
	w := newCable(t)
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nDHCP=ipv6\n")
	w.must("ip", "-n", w.server, "address", "add", "fd00:98::1/64", "dev", "srv0", "nodad")
	w.must("ip", "netns", "exec", w.server, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	w.write("radvd.conf", `interface srv0 {
	AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 8; AdvLinkMTU 1420;
	prefix fd00:98::/64 { AdvOnLink on; AdvAutonomous on; };
	RDNSS fd00:98::53 { AdvRDNSSLifetime 6; };
	DNSSL seven.example { AdvDNSSLLifetime 6; };
};
`)
	stop, _ := w.program(w.server, "radvd", "-n", "-m", "stderr", "-C", w.directory+"/radvd.conf", "-p", w.directory+"/radvd.pid")
	w.startDaemon()
	w.eth0("configured", 30*time.Second, func(i state.Interface, s state.State) bool {
		return len(i.Addresses) == 1 && strings.HasPrefix(i.Addresses[0], "fd00:98:") && s.Online && i.SetupState == "configured" &&
			slices.Equal(i.DNS, []string{"fd00:98::53"}) && i.Domain == "seven.example"
	})
	stop()
	w.eth0("without a name server", 30*time.Second, func(i state.Interface, s state.State) bool { return len(i.DNS) == 0 && i.Domain == "" })
}
