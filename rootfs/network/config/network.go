package config

import (
	"net/netip"
	"slices"
	"strings"
)

// Network is one .network file.
type Network struct {
	File  string // its path
	Match Match

	// [Link]
	Unmanaged         bool
	MTU               int    // 0 = as it is
	MAC               string // "" = as it is
	RequiredForOnline bool   // default true
	// RequiredFamily is "any", "ipv4", "ipv6" or "both": whose addresses are
	// waited for.
	RequiredFamily string
	// Activation is when the link is set up: "up" (once, the default),
	// "always-up", "manual", "down" (once) or "always-down".
	Activation                string
	ARP, Multicast            *bool // nil = as it is
	AllMulticast, Promiscuous *bool

	// [Network]
	DHCP4, DHCP6 bool
	// LinkLocalIPv4 is an address of the machine's own choice (RFC 3927), with
	// DHCPv4 only while no server answers. LinkLocalStart is tried first.
	LinkLocalIPv4, LinkLocalIPv6 bool
	LinkLocalStart               netip.Addr // not valid: by the hardware's address
	// AcceptRA: nil = yes, unless the machine forwards IPv6 because this file
	// says so.
	AcceptRA           *bool
	Forward4, Forward6 *bool
	// KeepLease keeps the address of a lease that expired.
	KeepLease                 bool
	AddressGeneration         string // of IPv6 link-local addresses, "" = eui64
	ProxyNDP                  *bool
	IPv6MTU                   int // 0 = as it is
	Privacy                   int // of IPv6 addresses: -1 = as it is, 0 no, 1 prefer public, 2 yes
	IPv6DAD                   int // probes, -1 = as it is
	IPv6HopLimit              int // -1 = as it is
	ProxyARP                  *bool
	ConfigureWithoutCarrier   bool
	Master                    Master
	Stacked                   []Stacked
	Addresses                 []Address
	DNS                       []netip.Addr
	Domains                   []string // "~x" are routing domains
	NTP                       []string
	Routes                    []Route // Gateway= is a Route to 0.0.0.0/0 or ::/0
	Rules                     []Rule
	DNSDefaultRoute           *bool
	PrimarySlave, ActiveSlave bool

	DHCPv4      DHCPv4
	DHCPv6      DHCPv6
	RA          RA
	BridgePort  []Setting
	BridgeVLANs []BridgeVLAN
	Neighbors   []Neighbor
}

// Master is the interface that this one is a part of.
type Master struct {
	Kind string // "bridge", "bond" or "vrf"; "" = none
	Name string
}

// Stacked is an interface on top of this one, that a .netdev file describes.
type Stacked struct{ Kind, Name string }

// Address is an address of an interface.
type Address struct {
	Prefix        netip.Prefix
	Peer          netip.Prefix // not valid: none
	Label         string
	Scope         string // "global" is ""; else "link" or "host"
	Deprecated    bool   // PreferredLifetime=0
	NoPrefixRoute bool   // AddPrefixRoute=no
	Metric        int    // of the prefix's route, 0 = the kernel's
	// Broadcast is not valid for that of the prefix, and 0.0.0.0 for none.
	Broadcast netip.Addr
	NoDAD     bool // DuplicateAddressDetection=none or ipv4, for IPv6
}

// Route is a static route.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr // not valid: on the link
	// FromDHCP and FromRA: the gateway is the DHCP server's or the router's.
	FromDHCP, FromRA bool
	Source           netip.Addr // not valid: the kernel chooses
	Metric           int        // 0 = the kernel's default
	OnLink           bool       // the gateway is reachable although no address says so
	Table            int        // 0 = main, or the VRF's
	Type             string     // "" is unicast; or "local", "blackhole", "unreachable", "prohibit", "throw"
	Scope            string     // "" = by the gateway; "global", "link", "host"
	MTU              int        // 0 = the link's
	TCP              RouteTCP
}

// RouteTCP is what a route says of TCP connections over it; 0 = the kernel's.
type RouteTCP struct {
	AdvertisedMSS, InitialCongestion, InitialReceive int // bytes, packets, packets
	QuickAck, FastOpenNoCookie                       bool
}

// Rule is a rule of policy routing.
type Rule struct {
	From, To                    netip.Prefix // not valid: all
	Priority                    int          // -1 = the kernel chooses
	Table                       int
	Mark, Mask                  uint32 // 0 = any
	TOS                         int
	In, Out                     string // interfaces
	Invert                      bool
	IPv4, IPv6                  bool      // for which families
	Type                        string    // "" is table; or "blackhole", "unreachable", "prohibit"
	Protocol                    int       // of IP, 0 = any
	SourcePort, DestinationPort [2]uint16 // ranges; 0 = any
	SuppressPrefixLength        int       // -1 = not
	Users                       [2]uint32 // range of user IDs; with UsersSet
	UsersSet                    bool
}

// Neighbor is a static entry of the neighbor table.
type Neighbor struct {
	Address netip.Addr
	MAC     string
}

// BridgeVLAN are VLANs of a port of a bridge.
type BridgeVLAN struct {
	First, Last int    // 0 = none
	Untagged    [2]int // leave without a tag; 0 = none
	PVID        int    // of frames without a tag, 0 = none
}

// Setting is a value that the kernel has in a file of sysfs or procfs.
type Setting struct{ Key, Value string }

// DHCPv4 is what is taken of a lease and sent for one.
type DHCPv4 struct {
	UseDNS, UseNTP, UseHostname, UseDomains, UseRoutes, UseGateway, UseMTU bool
	SendHostname, SendDecline                                              bool
	Hostname                                                               string // to send, "" = the machine's
	VendorClass                                                            string
	// ClientIdentifier is "mac" (the default here) or "duid".
	ClientIdentifier string
	RequestAddress   netip.Addr
	RouteMetric      int
	RouteTable       int  // 0 = main, or the VRF's
	UseDomainsRoute  bool // as routing domains
	KeepLease        bool // CriticalConnection=
}

// DHCPv6 is what is taken of a DHCPv6 server and sent to one.
type DHCPv6 struct {
	UseAddress, UseDNS, UseNTP, UseHostname, UseDomains, UseDomainsRoute bool
	SendHostname, RapidCommit                                            bool
	Hostname                                                             string
	// Without is "no" (a router advertisement says when), "solicit" or
	// "information-request".
	Without string
}

// RA is what is taken of router advertisements.
type RA struct {
	UseDNS, UseDomains, UseDomainsRoute, UseMTU, UseGateway, UsePrefix bool
	// Client is whether advertisements start DHCPv6: "yes", "no", "always".
	Client string
}

// DefaultRouteMetric is that of routes from DHCP, as systemd-networkd has it:
// routes that the owner wrote win.
const DefaultRouteMetric = 1024

// Parse reads the text of a .network file.
func Parse(file string, text []byte) (Network, []Warning) {
	return parseNetwork([]source{{file, text}})
}

func parseNetwork(sources []source) (Network, []Warning) {
	n := Network{
		File: sources[0].file, RequiredForOnline: true, RequiredFamily: "any", Activation: "up", LinkLocalIPv6: true, Privacy: -1, IPv6DAD: -1, IPv6HopLimit: -1,
		DHCPv4: DHCPv4{UseDNS: true, UseNTP: true, UseHostname: true, UseRoutes: true, UseGateway: true,
			SendHostname: true, ClientIdentifier: "mac", RouteMetric: DefaultRouteMetric},
		DHCPv6: DHCPv6{UseAddress: true, UseDNS: true, UseNTP: true, UseHostname: true, SendHostname: true, RapidCommit: true, Without: "no"},
		RA:     RA{UseDNS: true, UseMTU: true, UseGateway: true, UsePrefix: true, Client: "yes"},
	}
	r := &reader{}
	r.each(sources, func(s section) { n.section(r, s) })
	if n.Match.Empty() {
		r.warn(0, "no [Match] section with a known key: the file is for no interface")
	}
	n.check(r)
	return n, r.warnings
}

func (n *Network) section(r *reader, s section) {
	switch s.name {
	case "Match":
		fill(r, s, matchKeys(func(n *Network) *Match { return &n.Match }, "Name"), n)
	case "Link":
		fill(r, s, linkKeys, n)
	case "Network":
		fill(r, s, networkKeys, n)
	case "DHCPv4", "DHCP": // the old name
		fill(r, s, dhcp4Keys, &n.DHCPv4)
		n.KeepLease = n.KeepLease || n.DHCPv4.KeepLease
	case "DHCPv6":
		fill(r, s, dhcp6Keys, &n.DHCPv6)
	case "IPv6AcceptRA":
		fill(r, s, raKeys, &n.RA)
	case "Bridge":
		fill(r, s, bridgePortKeys, n)
	case "Address":
		n.addressSection(r, s)
	case "Route":
		n.routeSection(r, s)
	case "RoutingPolicyRule":
		n.ruleSection(r, s)
	case "BridgeVLAN":
		vlan := BridgeVLAN{}
		fill(r, s, bridgeVLANKeys, &vlan)
		if vlan != (BridgeVLAN{}) {
			n.BridgeVLANs = append(n.BridgeVLANs, vlan)
		}
	case "Neighbor":
		neighbor := Neighbor{}
		fill(r, s, neighborKeys, &neighbor)
		if !neighbor.Address.IsValid() || neighbor.MAC == "" {
			r.warn(s.line, "a [Neighbor] needs Address= and LinkLayerAddress=; it is ignored")
			return
		}
		n.Neighbors = append(n.Neighbors, neighbor)
	default:
		r.unknown(s, "Match", "Link", "Network", "DHCPv4", "DHCPv6", "IPv6AcceptRA", "Bridge", "Address", "Route", "RoutingPolicyRule", "BridgeVLAN", "Neighbor")
	}
}

func (n *Network) addressSection(r *reader, s section) {
	address := Address{}
	fill(r, s, addressKeys, &address)
	if !address.Prefix.IsValid() {
		r.warn(s.line, "an [Address] without a usable Address= is ignored")
		return
	}
	n.Addresses = append(n.Addresses, address)
}

func (n *Network) routeSection(r *reader, s section) {
	route := Route{}
	fill(r, s, routeKeys, &route)
	switch {
	case !route.Destination.IsValid() && !route.Gateway.IsValid() && !route.FromDHCP && !route.FromRA:
		r.warn(s.line, "a [Route] without a usable Destination= or Gateway= is ignored")
		return
	case !route.Destination.IsValid() && route.FromDHCP:
		route.Destination = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	case !route.Destination.IsValid() && route.FromRA:
		route.Destination = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	case !route.Destination.IsValid():
		route.Destination = anywhere(route.Gateway)
	case route.Gateway.IsValid() && route.Gateway.Is4() != route.Destination.Addr().Is4():
		r.warn(s.line, "a [Route] to %v by gateway %v is ignored: one is IPv4, the other IPv6", route.Destination, route.Gateway)
		return
	}
	n.Routes = append(n.Routes, route)
}

func (n *Network) ruleSection(r *reader, s section) {
	rule := Rule{Priority: -1, SuppressPrefixLength: -1}
	before := len(r.warnings)
	fill(r, s, ruleKeys, &rule)
	switch {
	case len(r.warnings) > before:
		// Half a rule would send packets elsewhere than was meant.
		r.warn(s.line, "this [RoutingPolicyRule] is ignored as a whole")
		return
	case rule.From.IsValid() && rule.To.IsValid() && rule.From.Addr().Is4() != rule.To.Addr().Is4():
		r.warn(s.line, "a [RoutingPolicyRule] from %v to %v is ignored: one is IPv4, the other IPv6", rule.From, rule.To)
		return
	case rule.Table == 0:
		rule.Table = tableNames["main"]
	}
	family := rule.From
	if !family.IsValid() {
		family = rule.To
	}
	if family.IsValid() {
		rule.IPv4, rule.IPv6 = family.Addr().Is4(), family.Addr().Is6()
	} else if !rule.IPv4 && !rule.IPv6 {
		rule.IPv4 = true
	}
	n.Rules = append(n.Rules, rule)
}

// check says what contradicts itself.
func (n *Network) check(r *reader) {
	badAddress := slices.ContainsFunc(r.warnings, func(w Warning) bool { return strings.HasPrefix(w.Text, "Address=:") })
	if badAddress && len(n.Addresses) == 0 && !n.DHCP4 && !n.DHCP6 && n.Master.Kind == "" {
		r.warn(0, "none of its addresses can be used: DHCP is asked instead, so that the machine can be reached")
		n.DHCP4, n.DHCP6 = true, true
	}
	if n.Master.Kind == "bond" && (n.DHCP4 || n.DHCP6 || len(n.Addresses) > 0) {
		r.warn(0, "Bond=%s: addresses and DHCP= of a part of a bond are ignored; write them into the bond's own file", n.Master.Name)
		n.DHCP4, n.DHCP6, n.Addresses, n.Routes = false, false, nil, nil
	}
	seen := map[netip.Prefix]bool{}
	kept := n.Addresses[:0:0]
	for _, address := range n.Addresses {
		if !seen[address.Prefix] {
			seen[address.Prefix], kept = true, append(kept, address)
		}
	}
	n.Addresses = kept
}
