package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit/syntax"
	"github.com/coracle-os/coracle/rootfs/unit/words"
)

var linkKeys = table[Network]{
	"Unmanaged":               boolean(func(n *Network) *bool { return &n.Unmanaged }),
	"RequiredForOnline":       requiredForOnline,
	"RequiredFamilyForOnline": oneOf(func(n *Network) *string { return &n.RequiredFamily }, "any", "ipv4", "ipv6", "both"),
	"MTUBytes":                mtu(func(n *Network) *int { return &n.MTU }),
	"MACAddress":              word(func(n *Network) *string { return &n.MAC }, macAddress),
	"ActivationPolicy": oneOf(func(n *Network) *string { return &n.Activation },
		"up", "always-up", "manual", "down", "always-down"),
	"ARP":          maybe(func(n *Network) **bool { return &n.ARP }),
	"Multicast":    maybe(func(n *Network) **bool { return &n.Multicast }),
	"AllMulticast": maybe(func(n *Network) **bool { return &n.AllMulticast }),
	"Promiscuous":  maybe(func(n *Network) **bool { return &n.Promiscuous }),
}

var networkKeys = table[Network]{
	"Description":  ignored[Network],
	"LLMNR":        never[Network]("names are asked of DNS servers only"),
	"MulticastDNS": never[Network]("names are asked of DNS servers only"),
	"DNSOverTLS":   never[Network]("DNS servers are asked without TLS"),
	"DNSSEC":       never[Network]("answers are not checked here"),
	"LLDP":         never[Network]("LLDP is not spoken"),
	"EmitLLDP":     never[Network]("LLDP is not spoken"),
	"DHCPServer":   never[Network]("there is no DHCP server"),
	"IPv6SendRA":   never[Network]("router advertisements are not sent"),
	"IPMasquerade": never[Network]("addresses are translated for containers only; use a unit that runs nft"),
	// The second is the old name.
	"DHCPPrefixDelegation":   never[Network]("prefixes are not asked for"),
	"DHCPv6PrefixDelegation": never[Network]("prefixes are not asked for"),
	"Tunnel":                 never[Network]("tunnels of this kind are not made; use WireGuard or VXLAN"),
	"KeepConfiguration":      keep,
	"IgnoreCarrierLoss":      ignored[Network], // a lease is kept and asked about when the cable is back
	"DefaultRouteOnDevice": func(n *Network, value string) error {
		b, err := truth(value)
		if err == nil && b {
			n.Routes = append(n.Routes, Route{Destination: anywhere(netip.IPv4Unspecified())})
		}
		return err
	},
	"IPv6LinkLocalAddressGenerationMode": oneOf(func(n *Network) *string { return &n.AddressGeneration }, "eui64", "none", "random"),
	"IPv6ProxyNDP":                       maybe(func(n *Network) **bool { return &n.ProxyNDP }),
	"IPv6MTUBytes":                       mtu(func(n *Network) *int { return &n.IPv6MTU }),
	"DHCP":                               dhcp,
	"LinkLocalAddressing":                linkLocal,
	"IPv4LLStartAddress":                 ip(func(n *Network) *netip.Addr { return &n.LinkLocalStart }),
	"IPv6AcceptRA":                       maybe(func(n *Network) **bool { return &n.AcceptRA }),
	"IPv6AcceptRouterAdvertisements":     maybe(func(n *Network) **bool { return &n.AcceptRA }), // the old name
	"IPForward":                          forward,
	"IPv4Forwarding":                     maybe(func(n *Network) **bool { return &n.Forward4 }),
	"IPv6Forwarding":                     maybe(func(n *Network) **bool { return &n.Forward6 }),
	"IPv6PrivacyExtensions":              privacy,
	"IPv6DuplicateAddressDetection":      number(func(n *Network) *int { return &n.IPv6DAD }, 0, 255),
	"IPv6HopLimit":                       number(func(n *Network) *int { return &n.IPv6HopLimit }, 1, 255),
	"IPv4ProxyARP":                       maybe(func(n *Network) **bool { return &n.ProxyARP }),
	"ConfigureWithoutCarrier":            boolean(func(n *Network) *bool { return &n.ConfigureWithoutCarrier }),
	"Bridge":                             master("bridge"),
	"Bond":                               master("bond"),
	"VRF":                                master("vrf"),
	"VLAN":                               stacked("vlan"),
	"MACVLAN":                            stacked("macvlan"),
	"MACVTAP":                            stacked("macvtap"),
	"IPVLAN":                             stacked("ipvlan"),
	"IPVTAP":                             stacked("ipvtap"),
	"VXLAN":                              stacked("vxlan"),
	"Address":                            address,
	"Gateway":                            gateway,
	"DNS":                                dns,
	"DNSDefaultRoute":                    maybe(func(n *Network) **bool { return &n.DNSDefaultRoute }),
	"Domains":                            list(func(n *Network) *[]string { return &n.Domains }, domain),
	"NTP":                                list(func(n *Network) *[]string { return &n.NTP }, server),
	"PrimarySlave":                       boolean(func(n *Network) *bool { return &n.PrimarySlave }),
	"ActiveSlave":                        boolean(func(n *Network) *bool { return &n.ActiveSlave }),
}

var addressKeys = table[Address]{
	"Address": func(a *Address, value string) (err error) {
		a.Prefix, err = interfaceAddress(value)
		return err
	},
	"Peer": func(a *Address, value string) (err error) {
		a.Peer, err = parsePrefix(value)
		return err
	},
	"Label": word(func(a *Address) *string { return &a.Label }, func(label string) (string, error) {
		_, err := linkName(strings.ReplaceAll(label, ":", "-")) // eth0:1
		return label, err
	}),
	"Scope": func(a *Address, value string) error {
		scope, err := scope(value)
		if a.Scope = scope; scope == "global" {
			a.Scope = ""
		}
		return err
	},
	"PreferredLifetime": func(a *Address, value string) error {
		switch value {
		case "0":
			a.Deprecated = true
		case "forever", "infinity", "":
			a.Deprecated = false
		default:
			return fmt.Errorf("%q is not known; write forever or 0", value)
		}
		return nil
	},
	"AddPrefixRoute": func(a *Address, value string) error {
		b, err := truth(value)
		a.NoPrefixRoute = err == nil && !b
		return err
	},
	"Broadcast": func(a *Address, value string) error {
		if b, err := truth(value); err == nil {
			if a.Broadcast = netip.IPv4Unspecified(); b {
				a.Broadcast = netip.Addr{}
			}
			return nil
		}
		broadcast, err := parseAddr(value)
		if err == nil && !broadcast.Is4() {
			err = fmt.Errorf("%q is not an IPv4 address", value)
		}
		if err == nil {
			a.Broadcast = broadcast
		}
		return err
	},
	"RouteMetric": number(func(a *Address) *int { return &a.Metric }, 0, 1<<32-1),
	"DuplicateAddressDetection": func(a *Address, value string) error {
		switch value {
		case "ipv4", "none":
			a.NoDAD = true
		case "ipv6", "both":
			a.NoDAD = false
		default:
			return fmt.Errorf("%q is not known; write ipv6 or none", value)
		}
		return nil
	},
}

var bridgeVLANKeys = table[BridgeVLAN]{
	"VLAN": func(b *BridgeVLAN, value string) (err error) {
		b.First, b.Last, err = vlanRange(value)
		return err
	},
	"EgressUntagged": func(b *BridgeVLAN, value string) (err error) {
		b.Untagged[0], b.Untagged[1], err = vlanRange(value)
		return err
	},
	"PVID": number(func(b *BridgeVLAN) *int { return &b.PVID }, 1, 4094),
}

func vlanRange(value string) (first, last int, err error) {
	from, to, isRange := strings.Cut(value, "-")
	if !isRange {
		to = from
	}
	first, err = parseNumber(from, 1, 4094)
	last, err2 := parseNumber(to, 1, 4094)
	if err != nil || err2 != nil || last < first {
		return 0, 0, fmt.Errorf("%q is not a VLAN from 1 to 4094 or a range of them", value)
	}
	return first, last, nil
}

// bridgePortKeys are files of the kernel below brport.
var bridgePortKeys = table[Network]{
	"Cost":                portNumber("path_cost", 1, 65535),
	"Priority":            portNumber("priority", 0, 63),
	"HairPin":             portFlag("hairpin_mode", false),
	"UseBPDU":             portFlag("bpdu_guard", true),
	"FastLeave":           portFlag("multicast_fast_leave", false),
	"AllowPortToBeRoot":   portFlag("root_block", true),
	"UnicastFlood":        portFlag("unicast_flood", false),
	"MulticastFlood":      portFlag("multicast_flood", false),
	"MulticastToUnicast":  portFlag("multicast_to_unicast", false),
	"NeighborSuppression": portFlag("neigh_suppress", false),
	"Learning":            portFlag("learning", false),
	"Isolated":            portFlag("isolated", false),
	"ProxyARP":            portFlag("proxyarp", false),
	"ProxyARPWiFi":        portFlag("proxyarp_wifi", false),
}

func portNumber(file string, low, high int) field[Network] {
	return func(n *Network, value string) error {
		number, err := parseNumber(value, low, high)
		if err == nil {
			n.BridgePort = append(n.BridgePort, Setting{file, strconv.Itoa(number)})
		}
		return err
	}
}

func portFlag(file string, inverted bool) field[Network] {
	return func(n *Network, value string) error {
		b, err := truth(value)
		if err == nil {
			n.BridgePort = append(n.BridgePort, Setting{file, map[bool]string{true: "1", false: "0"}[b != inverted]})
		}
		return err
	}
}

// requiredForOnline takes a boolean or an operational state; any state means
// that the interface is waited for.
func requiredForOnline(n *Network, value string) error {
	b, err := syntax.Bool(value)
	n.RequiredForOnline = err != nil || b
	return nil
}

// never takes the values that say no to what is not there.
func never[T any](why string) field[T] {
	return func(_ *T, value string) error {
		if b, err := syntax.Bool(value); value == "" || err == nil && !b {
			return nil
		}
		return fmt.Errorf("%q is ignored: %s", value, why)
	}
}

// keep takes KeepConfiguration=. When the daemon stops, all stays anyway.
func keep(n *Network, value string) error {
	switch value {
	case "static", "dhcp-on-stop":
		n.KeepLease = false
		return nil
	case "dhcp":
		value = "yes"
	}
	b, err := truth(value)
	if err != nil {
		return fmt.Errorf("%q is not known; write yes, no, static, dhcp or dhcp-on-stop", value)
	}
	n.KeepLease = b
	return nil
}

func dhcp(n *Network, value string) error {
	switch value {
	case "ipv4", "v4":
		n.DHCP4, n.DHCP6 = true, false
		return nil
	case "ipv6", "v6":
		n.DHCP4, n.DHCP6 = false, true
		return nil
	case "both":
		n.DHCP4, n.DHCP6 = true, true
		return nil
	case "none":
		n.DHCP4, n.DHCP6 = false, false
		return nil
	}
	b, err := syntax.Bool(value)
	if err != nil {
		return fmt.Errorf("%q is not known; write yes, no, ipv4 or ipv6", value)
	}
	n.DHCP4, n.DHCP6 = b, b
	return nil
}

func linkLocal(n *Network, value string) error {
	switch value {
	case "ipv6":
		n.LinkLocalIPv4, n.LinkLocalIPv6 = false, true
		return nil
	case "ipv4", "ipv4-fallback": // the latter is an old name, as is fallback
		n.LinkLocalIPv4, n.LinkLocalIPv6 = true, false
		return nil
	case "fallback":
		value = "yes"
	}
	b, err := truth(value)
	if err != nil {
		return fmt.Errorf("%q is not known; write yes, no, ipv4 or ipv6", value)
	}
	n.LinkLocalIPv4, n.LinkLocalIPv6 = b, b
	return nil
}

func forward(n *Network, value string) error {
	yes, no := true, false
	switch value {
	case "ipv4":
		n.Forward4, n.Forward6 = &yes, &no
	case "ipv6":
		n.Forward4, n.Forward6 = &no, &yes
	default:
		b, err := truth(value)
		if err != nil {
			return fmt.Errorf("%q is not known; write yes, no, ipv4 or ipv6", value)
		}
		n.Forward4, n.Forward6 = &b, &b
	}
	return nil
}

func privacy(n *Network, value string) error {
	switch value {
	case "prefer-public":
		n.Privacy = 1
		return nil
	case "kernel":
		n.Privacy = -1
		return nil
	}
	b, err := truth(value)
	if err != nil {
		return fmt.Errorf("%q is not known; write yes, no, prefer-public or kernel", value)
	}
	n.Privacy = map[bool]int{true: 2}[b]
	return nil
}

func master(kind string) field[Network] {
	return func(n *Network, value string) error {
		name, err := linkName(value)
		if value != "" && err != nil {
			return err
		}
		n.Master = Master{kind, name}
		if name == "" {
			n.Master = Master{}
		}
		return nil
	}
}

func stacked(kind string) field[Network] {
	return func(n *Network, value string) error {
		if value == "" {
			kept := n.Stacked[:0:0]
			for _, s := range n.Stacked {
				if s.Kind != kind {
					kept = append(kept, s)
				}
			}
			n.Stacked = kept
			return nil
		}
		for _, name := range words.SplitRelaxed(value) {
			if _, err := linkName(name); err != nil {
				return err
			}
			n.Stacked = append(n.Stacked, Stacked{kind, name})
		}
		return nil
	}
}

func interfaceAddress(value string) (netip.Prefix, error) {
	prefix, err := parsePrefix(value)
	if err != nil {
		return prefix, err
	}
	if ip := prefix.Addr(); ip.IsUnspecified() || ip.IsMulticast() {
		return netip.Prefix{}, fmt.Errorf("%q cannot be the address of an interface", value)
	}
	return prefix, nil
}

func address(n *Network, value string) error {
	if value == "" {
		n.Addresses = nil
		return nil
	}
	prefix, err := interfaceAddress(value)
	if err == nil {
		n.Addresses = append(n.Addresses, Address{Prefix: prefix})
	}
	return err
}

func gateway(n *Network, value string) error {
	switch value {
	case "":
		n.Routes = nil
		return nil
	case "_dhcp4", "_dhcp":
		n.Routes = append(n.Routes, Route{Destination: anywhere(netip.IPv4Unspecified()), FromDHCP: true})
		return nil
	case "_ipv6ra":
		n.Routes = append(n.Routes, Route{Destination: anywhere(netip.IPv6Unspecified()), FromRA: true})
		return nil
	}
	via, err := parseAddr(value)
	if err == nil {
		n.Routes = append(n.Routes, Route{Destination: anywhere(via), Gateway: via})
	}
	return err
}

func dns(n *Network, value string) error {
	if value == "" {
		n.DNS = nil
		return nil
	}
	for _, word := range words.SplitRelaxed(value) {
		// "address#name" is for DNS over TLS; the plain part of it works too.
		plain, _, _ := strings.Cut(word, "#")
		ip, err := parseAddr(plain)
		if err != nil {
			return err
		}
		n.DNS = append(n.DNS, ip)
	}
	return nil
}
