package cmdline

import (
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	const head = "# Made of the kernel's command line.\n"
	all := head + "[Match]\nKind=!*\nType=!loopback\n\n[Network]\n"
	eth0 := head + "[Match]\nName=eth0\n\n[Network]\n"
	tests := []struct {
		line  string
		files []File
		notes string
	}{
		{"root=/dev/x quiet", nil, ""},
		{"ip=dhcp", []File{{"71-default.network", all + "DHCP=ipv4\n"}}, ""},
		{"ip=on", []File{{"71-default.network", all + "DHCP=yes\n"}}, ""},
		{"ip=eth0:dhcp6", []File{{"70-eth0.network", eth0 + "DHCP=ipv6\n"}}, ""},
		{"ip=eth0:dhcp ip=eth0:dhcp6", []File{{"70-eth0.network", eth0 + "DHCP=yes\n"}}, ""},
		{"ip=eth0:off:1400:02:00:00:00:00:01", []File{{"70-eth0.network", head + "[Match]\nName=eth0\n\n[Link]\nMACAddress=02:00:00:00:00:01\nMTUBytes=1400\n\n[Network]\nDHCP=no\n"}}, ""},
		{"ip=192.0.2.5::192.0.2.1:255.255.255.0:boat:eth0:off:192.0.2.53:192.0.2.54:192.0.2.123", []File{{"70-eth0.network",
			eth0 + "DHCP=no\nAddress=192.0.2.5/24\nDNS=192.0.2.53\nDNS=192.0.2.54\nNTP=192.0.2.123\n\n[DHCPv4]\nHostname=boat\n\n[Route]\nGateway=192.0.2.1\nGatewayOnLink=yes\n"}}, ""},
		{"ip=192.0.2.5", []File{{"71-default.network", all + "DHCP=no\nAddress=192.0.2.5/24\n"}}, ""},
		{"ip=:::::eth0:dhcp", []File{{"70-eth0.network", eth0 + "DHCP=ipv4\n"}}, ""},
		{"ip=[2001:db8::5]::[2001:db8::1]:64::eth0:none:1280 nameserver=[2001:db8::53]", []File{{"70-eth0.network",
			head + "[Match]\nName=eth0\n\n[Link]\nMTUBytes=1280\n\n[Network]\nDHCP=no\nAddress=2001:db8::5/64\nDNS=2001:db8::53\n\n[Route]\nGateway=2001:db8::1\nGatewayOnLink=yes\n"}}, ""},
		{"nameserver=192.0.2.53 rd.peerdns=0", []File{{"71-default.network", all + "DHCP=yes\nDNS=192.0.2.53\n\n[DHCPv4]\nUseDNS=no\n\n[DHCPv6]\nUseDNS=no\n\n[IPv6AcceptRA]\nUseDNS=no\n"}}, ""},
		{"rd.route=10.0.0.0/8:192.0.2.1:eth0", []File{{"70-eth0.network", eth0 + "DHCP=yes\n\n[Route]\nDestination=10.0.0.0/8\nGateway=192.0.2.1\n"}}, ""},
		{"ifname=lan0:02:00:00:00:00:01", []File{{"70-lan0.link", head + "[Match]\nMACAddress=02:00:00:00:00:01\n\n[Link]\nName=lan0\n"}}, ""},
		{"vlan=eth0.5:eth0 ip=eth0.5:dhcp", []File{{"70-eth0.5.netdev", head + "[NetDev]\nName=eth0.5\nKind=vlan\n\n[VLAN]\nId=5\n"},
			{"70-eth0.network", eth0 + "VLAN=eth0.5\n"}, {"70-eth0.5.network", strings.Replace(eth0, "eth0", "eth0.5", 1) + "DHCP=ipv4\n"}}, ""},
		{"bond=bond0:eth0:mode=802.3ad,miimon=100,lacp_rate=1 ip=bond0:dhcp", []File{
			{"70-bond0.netdev", head + "[NetDev]\nName=bond0\nKind=bond\n\n[Bond]\nmode=802.3ad\nmiimon=100\nlacp-rate=1\n"},
			{"70-bond0.network", strings.Replace(eth0, "eth0", "bond0", 1) + "DHCP=ipv4\n"}, {"70-eth0.network", eth0 + "Bond=bond0\n"}}, ""},
		{"bridge=br0:eth0", []File{{"70-br0.netdev", head + "[NetDev]\nName=br0\nKind=bridge\n"}, {"70-eth0.network", eth0 + "Bridge=br0\n"}}, ""},
		{"ip=ibft ip=1.2.3.4:::300 rd.neednet=1 team=x ifname=x nameserver=x bond=b:e:speed=3", nil, `"ip=ibft" on the kernel's command line: method "" is not supported
"ip=1.2.3.4:::300" on the kernel's command line: "300" is not a netmask
"rd.neednet=1" on the kernel's command line: rd.neednet= is not supported
"team=x" on the kernel's command line: team= is not supported
"ifname=x" on the kernel's command line: want INTERFACE:MAC
"nameserver=x" on the kernel's command line: "x" is not an address
"bond=b:e:speed=3" on the kernel's command line: option "speed" of a bond is not supported`},
	}
	for _, test := range tests {
		files, notes := Parse(test.line)
		if diff := cmp.Diff(test.files, files); diff != "" && !sameFiles(test.files, files) {
			t.Errorf("%s (-want +got):\n%s", test.line, diff)
		}
		if diff := cmp.Diff(test.notes, strings.Join(notes, "\n")); diff != "" {
			t.Errorf("%s: notes (-want +got):\n%s", test.line, diff)
		}
	}
}

func sameFiles(a, b []File) bool {
	byName := map[File]bool{}
	for _, f := range a {
		byName[f] = true
	}
	for _, f := range b {
		if !byName[f] {
			return false
		}
	}
	return len(a) == len(b)
}

// FuzzParse checks that the network daemon's reader takes what is written.
func FuzzParse(f *testing.F) {
	for _, line := range []string{"ip=dhcp", "ip=192.0.2.5::192.0.2.1:255.255.255.0:boat:eth0:off:192.0.2.53", "ip=[2001:db8::5]::[2001:db8::1]:64::eth0:none:1280",
		"vlan=eth0.5:eth0 bond=bond0:eth0,eth1:mode=1 bridge=br0:eth2", `x="a b" rd.route=10.0.0.0/8:192.0.2.1:eth0 ifname=lan0:02:00:00:00:00:01`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		files, _ := Parse(line)
		for _, file := range files {
			var warnings []config.Warning
			switch {
			case strings.HasSuffix(file.Name, ".network"):
				_, warnings = config.Parse(file.Name, []byte(file.Content))
			case strings.HasSuffix(file.Name, ".netdev"):
				_, _, warnings = config.ParseNetdev(file.Name, []byte(file.Content))
			default:
				_, warnings = config.ParseLink(file.Name, []byte(file.Content))
			}
			for _, warning := range warnings {
				if !strings.Contains(warning.Text, "parts of") && !strings.Contains(warning.Text, "part of a bond") {
					t.Errorf("%q: %v\n%s", line, warning, file.Content)
				}
			}
		}
	})
}
