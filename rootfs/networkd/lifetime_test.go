package networkd

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/link"
	"github.com/coracle-os/coracle/rootfs/network/plan"
	"github.com/coracle-os/coracle/rootfs/network/state"
)

// dhcpd runs ISC's server, whose leases may be of seconds, with the text as its
// configuration.
func (w *world) dhcpd(family, text string) (stop func(), out *lines) {
	w.t.Helper()
	leases := filepath.Join(w.directory, "dhcpd.leases")
	if _, err := os.Stat(leases); err != nil {
		w.write("dhcpd.leases", "")
	}
	w.write("dhcpd.conf", "authoritative;\ndefault-lease-time 8;\nmax-lease-time 8;\nmin-lease-time 1;\n"+
		"option dhcp-renewal-time 2;\noption dhcp-rebinding-time 4;\n"+text)
	stop, out = w.program(w.server, "dhcpd", family, "-f", "-d", "--no-pid", "-cf", w.directory+"/dhcpd.conf", "-lf", leases, w.port)
	out.wait(w.t, "Server starting service")
	return stop, out
}

// TestLifetime4 is a lease of 8 s, renewed after 2 and asked of everybody
// after 4: its server dies, another takes over, both die, one comes back.
func TestLifetime4(t *testing.T) {
	t.Parallel()
	w := newCable(t)
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nDHCP=ipv4\n")
	const pool = "ping-check off;\nsubnet 10.99.0.0 netmask 255.255.255.0 { range 10.99.0.100; option routers 10.99.0.1; }\n"
	stop, server := w.dhcpd("-4", "server-identifier 10.99.0.1;\n"+pool)
	w.startDaemon()
	w.eth0("configured", 20*time.Second, has("10.99.0.100/24"))
	before := server.count("DHCPDISCOVER")
	server.waitCount(t, "DHCPACK on 10.99.0.100", 3) // renewed, twice
	if server.count("DHCPDISCOVER") != before {
		t.Errorf("the lease was not renewed but asked for anew:\n%s", server.text())
	}

	// The other one is not asked to renew, but to rebind.
	stop()
	w.must("ip", "-n", w.server, "address", "delete", "10.99.0.1/24", "dev", "srv0")
	w.must("ip", "-n", w.server, "address", "add", "10.99.0.2/24", "dev", "srv0")
	stop, server = w.dhcpd("-4", "server-identifier 10.99.0.2;\n"+pool)
	server.waitCount(t, "DHCPACK on 10.99.0.100", 2)
	if i := w.eth0("still configured", time.Second, has("10.99.0.100/24")); server.count("DHCPDISCOVER") != 0 || i.DHCPServer != "10.99.0.2" {
		t.Errorf("rebind: %+v\n%s", i, server.text())
	}

	stop()
	w.eth0("without address", 30*time.Second, hasNone)
	if routes := w.must("ip", "-n", w.client, "route"); strings.Contains(routes, "10.99.0") {
		t.Errorf("routes of the lease stayed:\n%s", routes)
	}
	_, server = w.dhcpd("-4", "server-identifier 10.99.0.2;\n"+pool)
	w.eth0("configured again", 60*time.Second, has("10.99.0.100/24"))
	server.wait(t, "DHCPDISCOVER")
}

// TestLifetime6 is the same with DHCPv6.
func TestLifetime6(t *testing.T) {
	t.Parallel()
	w := newCable(t)
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nDHCP=ipv6\nIPv6AcceptRA=no\n[DHCPv6]\nWithoutRA=solicit\n")
	w.must("ip", "-n", w.server, "address", "add", "fd00:99::1/64", "dev", "srv0", "nodad")
	const pool = "preferred-lifetime 6;\nsubnet6 fd00:99::/64 { range6 fd00:99::100 fd00:99::100; option dhcp6.name-servers fd00:99::53; }\n"
	with := func(i state.Interface, s state.State) bool {
		return slices.Equal(i.Addresses, []string{"fd00:99::100/128"}) && slices.Equal(i.DNS, []string{"fd00:99::53"}) && s.Online
	}
	stop, server := w.dhcpd("-6", "server-duid EN 2495 \"first\";\n"+pool)
	w.startDaemon()
	w.eth0("configured", 20*time.Second, with)
	server.waitCount(t, "Renew message", 2)
	if out := w.must("ip", "-n", w.client, "address", "show", "dev", "eth0", "to", "fd00:99::100"); !strings.Contains(out, "sec preferred_lft") {
		t.Errorf("the address has no end:\n%s", out)
	}

	stop()
	w.must("sed", "-i", "/^server-duid/d", w.directory+"/dhcpd.leases")
	stop, server = w.dhcpd("-6", "server-duid EN 2495 \"second\";\n"+pool)
	server.wait(t, "Rebind message")
	server.wait(t, "Renew message") // its own lease now
	w.eth0("still configured", 5*time.Second, with)
	if server.count("Solicit message") != 0 {
		t.Errorf("the address was asked for anew:\n%s", server.text())
	}

	stop()
	w.eth0("without address", 30*time.Second, hasNone)
	w.log.wait(t, "the DHCPv6 lease expired")
	_, server = w.dhcpd("-6", "server-duid EN 2495 \"second\";\n"+pool)
	w.eth0("configured again", 60*time.Second, with)
	server.wait(t, "Solicit message")
}

// TestKeep is a lease whose address the owner wants to keep beyond its end, as
// a machine does whose disk is on the network.
func TestKeep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nDHCP=ipv4\nKeepConfiguration=dhcp\n")
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.7", Lease: 5})
	w.startDaemon()
	w.eth0("configured", 10*time.Second, has("10.99.0.7/24"))
	w.behave(behaviour{Mode: "silent"})
	w.log.wait(t, "the lease expired")
	w.eth0("kept", 10*time.Second, func(i state.Interface, s state.State) bool {
		return i.Problem != "" && slices.Equal(i.Addresses, []string{"10.99.0.7/24"}) && i.Gateway == "10.99.0.1"
	})
	if out := w.must("ip", "-n", w.client, "address", "show", "dev", "eth0", "to", "10.99.0.7"); !strings.Contains(out, "valid_lft forever") {
		t.Errorf("the address has an end:\n%s", out)
	}
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.8", Lease: 3600})
	w.eth0("moved", 60*time.Second, has("10.99.0.8/24"))
}

func TestHasFamily(t *testing.T) {
	with := func(addresses ...string) (l link.Link) {
		for _, a := range addresses {
			l.Have.Addresses = append(l.Have.Addresses, plan.Address{Prefix: netip.MustParsePrefix(a)})
		}
		return l
	}
	for _, test := range []struct {
		link link.Link
		want string // families for which it is enough
	}{
		{with("fe80::1/64", "169.254.1.1/16"), ""},
		{with("fe80::1/64", "192.0.2.1/24"), "any ipv4"},
		{with("fe80::1/64", "2001:db8::1/64"), "any ipv6"},
		{with("192.0.2.1/24", "2001:db8::1/64"), "any ipv4 ipv6 both"},
	} {
		var got []string
		for _, family := range []string{"any", "ipv4", "ipv6", "both"} {
			if hasFamily(test.link, family) {
				got = append(got, family)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%v: enough for %v, want %q", test.link.Have.Addresses, got, test.want)
		}
	}
}
