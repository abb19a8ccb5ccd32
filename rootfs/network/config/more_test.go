package config

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMoreKeys are keys of which TestOracle of networkd sees no result.
func TestMoreKeys(t *testing.T) {
	n, warnings := Parse("x", []byte(`[Match]
Architecture=x86-64
[Link]
RequiredFamilyForOnline=both
[Network]
LinkLocalAddressing=yes
IPv4LLStartAddress=169.254.7.7
KeepConfiguration=yes
LLMNR=resolve
MulticastDNS=no
DNSSEC=
IPv6LinkLocalAddressGenerationMode=stable-privacy
[DHCPv4]
Hostname=boat
VendorClassIdentifier=v
ClientIdentifier=duid
Anonymize=yes
[RoutingPolicyRule]
User=mary
`))
	if diff := cmp.Diff(`x:9: LLMNR=: "resolve" is ignored: names are asked of DNS servers only
x:12: IPv6LinkLocalAddressGenerationMode=: "stable-privacy" is not known; write one of eui64, none, random
x:19: User=: "mary" is not the number of a user or a range of them
x:18: this [RoutingPolicyRule] is ignored as a whole`, join(warnings)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	if !n.Match.Fits(Link{Name: "eth0"}) {
		t.Error("a file with conditions only is for every interface, when they hold")
	}
	if n.RequiredFamily != "both" || !n.LinkLocalIPv4 || !n.LinkLocalIPv6 || n.LinkLocalStart != netip.MustParseAddr("169.254.7.7") || !n.KeepLease {
		t.Errorf("got %+v", n)
	}
	if d := n.DHCPv4; d.SendHostname || d.Hostname != "" || d.VendorClass != "" || d.ClientIdentifier != "mac" {
		t.Errorf("not anonymous: %+v", d)
	}
}

// TestNeverKeys: a key of systemd's that asks for what is not there is named
// with the reason; one that says no to it is not.
func TestNeverKeys(t *testing.T) {
	n, warnings := Parse("x", []byte("[Match]\nName=e*\n[Network]\nIPMasquerade=ipv4\nDHCPPrefixDelegation=no\nTunnel=sit0\n[DHCP]\nUseTimezone=yes\nSendRelease=no\nCriticalConnection=yes\n[DHCPv6]\nUseDelegatedPrefix=yes\n"))
	if diff := cmp.Diff(`x:4: IPMasquerade=: "ipv4" is ignored: addresses are translated for containers only; use a unit that runs nft
x:6: Tunnel=: "sit0" is ignored: tunnels of this kind are not made; use WireGuard or VXLAN
x:8: UseTimezone=: "yes" is ignored: clocks are in UTC
x:12: UseDelegatedPrefix=: "yes" is ignored: prefixes are not asked for`, join(warnings)); diff != "" || !n.KeepLease {
		t.Errorf("keeps the lease %t, warnings (-want +got):\n%s", n.KeepLease, diff)
	}
	if _, warnings := ParseLink("x", []byte("[Match]\nOriginalName=e*\n[Link]\nWakeOnLan=off\n")); len(warnings) != 0 {
		t.Errorf("%v", warnings)
	}
}
