package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var comparable = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func addresses(list ...string) (all []Address) {
	for _, text := range list {
		all = append(all, Address{Prefix: netip.MustParsePrefix(text)})
	}
	return all
}

func fresh(change func(*Network)) Network {
	n, _ := Parse("x.network", []byte("[Match]\nName=eth0\n"))
	change(&n)
	return n
}

func TestParse(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	ip := netip.MustParseAddr
	tests := []struct {
		name, in string
		want     Network
		warnings string
	}{
		{"dhcp", "[Network]\nDHCP=yes\n", fresh(func(n *Network) { n.DHCP4, n.DHCP6 = true, true }), ""},
		{"static", `
# a comment
[Network]
Description=the wire
Address=192.0.2.5/24
Address=2001:db8::5/64
Gateway=192.0.2.1
Gateway=fe80::1
DNS=192.0.2.2 192.0.2.3#dns.example
DNS=2001:db8::53
Domains=a.example b.example
NTP=ntp.example 192.0.2.4
[Address]
Address=192.0.2.6
[Address]
Address=192.0.2.7/32
[Route]
Destination=10.0.0.0/8
Gateway=192.0.2.9
Metric=5
[Route]
Gateway=192.0.2.10
GatewayOnLink=yes
PreferredSource=192.0.2.6
[Link]
MTUBytes=1400
RequiredForOnline=no
`, fresh(func(n *Network) {
			n.Addresses = addresses("192.0.2.5/24", "2001:db8::5/64", "192.0.2.6/32", "192.0.2.7/32")
			n.Routes = []Route{{Destination: v4, Gateway: ip("192.0.2.1")}, {Destination: v6, Gateway: ip("fe80::1")},
				{Destination: netip.MustParsePrefix("10.0.0.0/8"), Gateway: ip("192.0.2.9"), Metric: 5},
				{Destination: v4, Gateway: ip("192.0.2.10"), OnLink: true, Source: ip("192.0.2.6")}}
			n.DNS = []netip.Addr{ip("192.0.2.2"), ip("192.0.2.3"), ip("2001:db8::53")}
			n.Domains, n.NTP = []string{"a.example", "b.example"}, []string{"ntp.example", "192.0.2.4"}
			n.MTU, n.RequiredForOnline = 1400, false
		}), ""},
		{"dhcp keys", "[DHCP]\nUseDNS=no\nUseDomains=true\n[DHCPv4]\nRouteMetric=7\nHostname=node\nSendHostname=no\nUseGateway=no\n",
			fresh(func(n *Network) {
				n.DHCPv4.UseDNS, n.DHCPv4.UseDomains, n.DHCPv4.UseGateway, n.DHCPv4.SendHostname = false, true, false, false
				n.DHCPv4.RouteMetric, n.DHCPv4.Hostname = 7, "node"
			}), ""},
		{"empty value resets", "[Network]\nDNS=192.0.2.2\nDNS=\nAddress=192.0.2.5/24\nAddress=\nGateway=192.0.2.1\nGateway=\nNTP=a.example\nNTP=\n",
			fresh(func(*Network) {}), ""},
		{"what is not known warns", "[Network]\nDHCP=yes\nBindCarrier=eth1\n[CAN]\nBitRate=1\nTermination=2\n[X-Mine]\na=b\n[Route]\nGateway=192.0.2.1\nTable=7\n",
			fresh(func(n *Network) {
				n.DHCP4, n.DHCP6 = true, true
				n.Routes = []Route{{Destination: v4, Gateway: ip("192.0.2.1"), Table: 7}}
			}), `x.network:5: BindCarrier= in [Network] is not supported
x.network:6: section [CAN] is not supported`},
		{"bad values cost only themselves", `[Network]
DHCP=perhaps
Address=192.0.2.5/24
Address=300.0.0.1/24
Address=0.0.0.0/8
Gateway=nowhere
DNS=example.org
Domains=ok.example ~route.example bad;name
NTP=two words -bad-
[Route]
Metric=1
[Route]
Destination=10.0.0.0/8
Gateway=fe80::1
[Link]
MTUBytes=1
`, fresh(func(n *Network) {
			n.Addresses = addresses("192.0.2.5/24")
			n.Domains, n.NTP = []string{"ok.example", "~route.example"}, []string{"two", "words"}
		}), `x.network:4: DHCP=: "perhaps" is not known; write yes, no, ipv4 or ipv6
x.network:6: Address=: "300.0.0.1/24" is not an address with prefix length
x.network:7: Address=: "0.0.0.0/8" cannot be the address of an interface
x.network:8: Gateway=: "nowhere" is not an address
x.network:9: DNS=: "example.org" is not an address
x.network:10: Domains=: "bad;name" is not a domain name
x.network:11: NTP=: "-bad-" is not a domain name
x.network:12: a [Route] without a usable Destination= or Gateway= is ignored
x.network:14: a [Route] to 10.0.0.0/8 by gateway fe80::1 is ignored: one is IPv4, the other IPv6
x.network:18: MTUBytes=: "1" is not a number from 68 to 65535`},
		{"DHCPv6 only", "[Network]\nDHCP=ipv6\n", fresh(func(n *Network) { n.DHCP6 = true }), ""},
		{"all addresses are bad", "[Network]\nAddress=192.0.2.5/33\n", fresh(func(n *Network) { n.DHCP4, n.DHCP6 = true, true }),
			"x.network:4: Address=: \"192.0.2.5/33\" is not an address with prefix length\n" +
				"x.network: none of its addresses can be used: DHCP is asked instead, so that the machine can be reached"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, warnings := Parse("x.network", []byte("[Match]\nName=eth0\n"+test.in))
			if diff := cmp.Diff(test.want, got, comparable, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("network (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.warnings, join(warnings)); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func join(warnings []Warning) string {
	var lines []string
	for _, warning := range warnings {
		lines = append(lines, warning.String())
	}
	return strings.Join(lines, "\n")
}

func TestMatch(t *testing.T) {
	eth0 := Link{Name: "eth0", MAC: "52:54:00:12:34:56", Type: "ether", Driver: "virtio_net"}
	veth := Link{Name: "veth1", MAC: "52:54:00:12:34:57", Type: "ether", Kind: "veth"}
	tests := []struct {
		match     string
		eth0Fits  bool
		veth1Fits bool
	}{
		{"Name=eth0", true, false},
		{"Name=e* v*", true, true},
		{"Name=!eth0", false, true},
		{"Name=!eth0 veth*", false, false},
		{"MACAddress=52:54:00:12:34:56", true, false},
		{"MACAddress=52-54-00-12-34-56", true, false},
		{"Type=ether", true, true},
		{"Type=ether\nKind=!*", true, false},
		{"Kind=veth", false, true},
		{"Driver=virtio*", true, false},
		{"Name=eth0\nType=wlan", false, false},
		{"", false, false},
		{"Name=[", false, false},
	}
	for _, test := range tests {
		n, _ := Parse("x", []byte("[Match]\n"+test.match+"\n"))
		if got := n.Match.Fits(eth0); got != test.eth0Fits {
			t.Errorf("%q and eth0: got %v", test.match, got)
		}
		if got := n.Match.Fits(veth); got != test.veth1Fits {
			t.Errorf("%q and veth1: got %v", test.match, got)
		}
	}
}

func holds(list []unit.Condition) bool { return len(list) == 0 }

func TestLoad(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	root := fstest.MapFS{
		"usr/lib/systemd/network/zz-default.network":       file("[Match]\nName=*\n[Network]\nDHCP=yes\n"),
		"usr/lib/systemd/network/50-hidden.network":        file("[Match]\nName=eth1\n"),
		"usr/lib/systemd/network/60-weak.network":          file("[Match]\nName=eth2\n"),
		"run/systemd/network/60-weak.network":              file("[Match]\nName=eth2\n[Network]\nDHCP=yes\n"),
		"etc/systemd/network/50-hidden.network":            file("\n"),
		"etc/systemd/network/10-mine.network":              file("[Match]\nName=eth0\n[Network]\nAddress=192.0.2.5/24\n"),
		"etc/systemd/network/10-mine.network.d/a.conf":     file("[Network]\nGateway=192.0.2.1\nBogus=1\n"),
		"usr/lib/systemd/network/10-mine.network.d/b.conf": file("[Link]\nMTUBytes=1300\n"),
		"etc/systemd/network/ignored.txt":                  file("x"),
		"etc/systemd/network/70-other.network":             file("[Match]\nName=eth3\nHost=other\n"),
		"etc/systemd/network/80-large.network":             file("[Match]\nName=eth4\n#" + strings.Repeat("x", 5<<20)),
		"usr/lib/systemd/timesyncd.conf":                   file("[Time]\nFallbackNTP=a.example b.example\nPollIntervalMinSec=1min\n"),
		"etc/systemd/timesyncd.conf":                       file("[Time]\nNTP=mine.example\nFallbackNTP=\nPollIntervalMaxSec=1\nRootDistanceMaxSec=5\n"),
	}
	all, warnings := Load(root, holds)
	networks := all.Networks
	var got []string
	for _, n := range networks {
		got = append(got, n.File)
	}
	want := []string{"/etc/systemd/network/10-mine.network", "/run/systemd/network/60-weak.network", "/usr/lib/systemd/network/zz-default.network"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("files (-want +got):\n%s", diff)
	}
	if mine := networks[0]; mine.MTU != 1300 || len(mine.Routes) != 1 {
		t.Errorf("drop-ins: got %+v", mine)
	}
	if diff := cmp.Diff("/etc/systemd/network/10-mine.network.d/a.conf:3: Bogus= in [Network] is not supported\n"+
		"/etc/systemd/network/80-large.network: larger than 1048576 bytes; the file is ignored", join(warnings)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if n, ok := Select(networks, Link{Name: "eth7"}); !ok || !n.DHCP4 {
		t.Errorf("an interface without a file of its own: got %+v, %v", n, ok)
	}
	conf, warnings := LoadTime(root)
	wantTime := Time{Servers: []string{"mine.example"}, PollMin: time.Minute, PollMax: 2048 * time.Second}
	if diff := cmp.Diff(wantTime, conf); diff != "" {
		t.Errorf("time (-want +got):\n%s", diff)
	}
	if len(warnings) != 2 {
		t.Errorf("time: got warnings %q, want 2", join(warnings))
	}
	if all, warnings := Load(fstest.MapFS{}, holds); len(all.Networks)+len(warnings) != 0 {
		t.Errorf("an empty root: got %v, %v", all, warnings)
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "node-1.example.org": true, "_x": true, "": false, ".": false, "a..b": false, "-a": false, "a-": false,
		"a b": false, "a\nb": false, "a;b": false, "é": false, strings.Repeat("a", 64): false, strings.Repeat("a.", 127): false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

func TestNetdev(t *testing.T) {
	for text, want := range map[string]string{
		"[NetDev]\nName=a\nKind=bond\n[Bond]\nMode=fast\n": `x:5: Mode=: "fast" is not known; write one of balance-rr, active-backup, balance-xor, broadcast, 802.3ad, balance-tlb, balance-alb`,
		"[NetDev]\nName=a\nKind=gre\n": `x:3: Kind=: "gre" is not known; write one of bond, bridge, dummy, ipvlan, ipvtap, macvlan, macvtap, tap, tun, veth, vlan, vrf, vxlan, wireguard
x: no interface is made: [NetDev] has no usable Kind=`,
		"[NetDev]\nKind=dummy\nName=averyverylongname\n": `x:3: Name=: "averyverylongname" is not the name of an interface
x: no interface is made: [NetDev] has no usable Name=`,
		"[NetDev]\nKind=vlan\nName=v\n[VLAN]\nId=4095\n": `x:5: Id=: "4095" is not a number from 1 to 4094
x: no interface is made: [VLAN] has no usable Id=`,
		// The text of a key is not repeated.
		"[NetDev]\nKind=wireguard\nName=w\n[WireGuard]\nPrivateKey=secret\n": `x:5: PrivateKey=: the value of 6 characters is not a key: 32 bytes in base64
x: no interface is made: [WireGuard] has neither a usable PrivateKey= nor PrivateKeyFile=`,
		"[NetDev]\nKind=wireguard\nName=w\n[WireGuard]\nPrivateKeyFile=/k\n[WireGuardPeer]\nAllowedIPs=10.0.0.0/8, 1.2.3.4, x\nEndpoint=[::1]:0\n": `x:7: AllowedIPs=: "x" is not an address with prefix length
x:8: Endpoint=: "[::1]:0" is not an endpoint such as 192.0.2.1:51820 or [2001:db8::1]:51820
x:6: a [WireGuardPeer] without a usable PublicKey= is ignored`,
		"[NetDev]\nkind=dummy\n": `x:2: kind= in [NetDev] is not supported; write Kind=
x: no interface is made: [NetDev] has no usable Name=`,
	} {
		_, _, warnings := ParseNetdev("x", []byte(text))
		if diff := cmp.Diff(want, join(warnings)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	n, ok, warnings := ParseNetdev("x", []byte("[NetDev]\nName=b\nKind=bond\n[Bond]\nmode=4\nmiimon=100\nlacp-rate=1\n"))
	if want := (Bond{Mode: "802.3ad", LACPRate: "fast", MIIMon: 100 * time.Millisecond, MinLinks: -1, ResendIGMP: -1, PacketsPerSlave: -1, GratuitousARP: -1}); !ok ||
		len(warnings) > 0 || cmp.Diff(want, n.Bond, comparable) != "" {
		t.Errorf("a config drive's bond: %+v, %v", n.Bond, warnings)
	}
}

func TestRules(t *testing.T) {
	n, warnings := Parse("x", []byte("[Match]\nName=a\n[RoutingPolicyRule]\nFrom=10.0.0.0/8\nTable=nowhere\n[RoutingPolicyRule]\nTo=2001:db8::/32\nTable=main\nFirewallMark=0x10/0xff\nDestinationPort=80-90\nIPProtocol=tcp\n"))
	want := []Rule{{To: netip.MustParsePrefix("2001:db8::/32"), Priority: -1, Table: 254, Mark: 16, Mask: 255, IPv6: true, Protocol: 6, DestinationPort: [2]uint16{80, 90}, SuppressPrefixLength: -1}}
	if diff := cmp.Diff(want, n.Rules, comparable); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("x:5: Table=: \"nowhere\" is not a number from 1 to 4294967295, and not default, main or local\nx:3: this [RoutingPolicyRule] is ignored as a whole", join(warnings)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[Match]\nName=a\n[Route]\nGateway=1.2.3.4\n[Network]\nDHCP=\\\nyes")
	f.Add("[Match]\nMACAddress=!02:00:00:00:00:01\nHost=|!x\n[Link]\nMTUBytes=2K\n[Address]\nAddress=10.0.0.1/8\nPeer=10.0.0.2\nLabel=a:b\n[RoutingPolicyRule]\nFrom=::/1\nFirewallMark=1/2\n[BridgeVLAN]\nVLAN=1-4094\n")
	f.Add("[NetDev]\nName=w\nKind=wireguard\n[WireGuard]\nPrivateKeyFile=/k\n[WireGuardPeer]\nAllowedIPs=10.0.0.0/8,::/0\nEndpoint=[::1]:9\nPersistentKeepalive=25\n")
	f.Add("[NetDev]\nName=b\nKind=bond\n[Bond]\nMode=802.3ad\nMIIMonitorSec=1s\nARPIPTargets=1.2.3.4\n[Bridge]\nForwardDelaySec=4\n[VXLAN]\nVNI=4\nPortRange=1-2\n")
	f.Add("[Match]\nHost=x\n[Link]\nRequiredFamilyForOnline=both\n[Network]\nKeepConfiguration=dhcp\nLLMNR=no\nDefaultRouteOnDevice=yes\nLinkLocalAddressing=ipv4\n[Address]\nAddress=10.0.0.1/8\nBroadcast=no\n[Route]\nQuickAck=yes\nInitialCongestionWindow=9\nGateway=1.2.3.4\n[RoutingPolicyRule]\nUser=1-2\n")
	f.Add("[Match]\nOriginalName=e*\n[Link]\nName=x\nNamePolicy=keep\n")
	f.Fuzz(func(t *testing.T, text string) {
		n, _ := Parse("x", []byte(text))
		n.Match.Fits(Link{Name: "eth0"})
		for _, name := range n.Domains {
			if strings.ContainsAny(name, " \n\t;") {
				t.Errorf("domain %q", name)
			}
		}
		for _, address := range n.Addresses {
			if !address.Prefix.IsValid() {
				t.Error("an address that is none")
			}
		}
		for _, route := range n.Routes {
			if !route.Destination.IsValid() {
				t.Error("a route to nowhere")
			}
		}
		if netdev, ok, _ := ParseNetdev("x", []byte(text)); ok && (netdev.Name == "" || strings.ContainsAny(netdev.Name, "/ ") || !slices.Contains(Kinds, netdev.Kind)) {
			t.Errorf("netdev %q of kind %q", netdev.Name, netdev.Kind)
		}
		ParseLink("x", []byte(text))
	})
}
