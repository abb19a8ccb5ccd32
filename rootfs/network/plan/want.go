package plan

import (
	"net/netip"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/network/lease"
)

// Facts are what the network told an interface, and how it stands to others.
type Facts struct {
	Lease  *lease.Lease // of DHCPv4, nil if none
	Lease6 *lease.Lease // of DHCPv6, nil if none
	// LinkLocal is the IPv4 address that the machine chose, not valid if none.
	LinkLocal netip.Addr
	Router    netip.Addr // that advertises itself, not valid if none
	Master    int        // index of the wanted master, 0 if it is not there (yet)
	// WasPart says that a master of before was our doing.
	WasPart bool
	Netdev  *config.Netdev // that describes the interface, nil if none does
	Table   int            // of the VRF that it is in, 0 if none
	SetUp   bool           // it was set up once already
}

// Want is what an interface should have by its .network file and the facts, at
// the time now since boot.
func Want(network config.Network, name string, facts Facts, now time.Duration) Config {
	want := Config{MTU: network.MTU, MAC: network.MAC, Master: -1, Flags: flags(network), Settings: settings(network, name, facts.Netdev),
		VLANs: bridgeVLANs(network.BridgeVLANs), Neighbors: network.Neighbors}
	want.activate(network, facts)
	if facts.Netdev != nil && want.MTU == 0 {
		want.MTU = facts.Netdev.MTU
	}
	for _, address := range network.Addresses {
		next := Address{Prefix: address.Prefix, Left: Forever, Preferred: Forever, Options: address}
		if address.Deprecated {
			next.Preferred = 0
		}
		want.Addresses = append(want.Addresses, next)
	}
	if facts.Lease != nil {
		want.addLease(network, facts, now)
	}
	if facts.LinkLocal.IsValid() {
		prefix := netip.PrefixFrom(facts.LinkLocal, linkLocalBits)
		want.Addresses = append(want.Addresses, Address{Prefix: prefix, Left: Forever, Preferred: Forever, Options: config.Address{Prefix: prefix, Scope: "link"}})
	}
	if l := facts.Lease6; l != nil && l.Address.IsValid() && network.DHCPv6.UseAddress {
		want.addAddress(*l, now)
	}
	for _, route := range network.Routes {
		if next := static(route, facts.Table); !next.Typed() && want.usable(&next, route, facts) {
			want.addRoute(next)
		}
	}
	if facts.Netdev != nil {
		want.tunnelRoutes(*facts.Netdev, facts.Table)
	}
	return want
}

// activate decides about up, down and the master.
func (c *Config) activate(network config.Network, facts Facts) {
	switch network.Activation {
	case "always-up":
		c.Up = true
	case "always-down":
		c.Down = true
	case "down":
		c.Down = !facts.SetUp
	case "manual":
	default:
		c.Up = !facts.SetUp
	}
	switch {
	case network.Master.Kind != "" && facts.Master != 0:
		c.Master, c.Bond = facts.Master, network.Master.Kind == "bond"
		if c.Bond {
			c.Up = c.Up || network.Activation == "up" // down for a moment only
		}
	case network.Master.Kind == "" && facts.WasPart:
		c.Master = 0
	}
}

func flags(n config.Network) map[string]bool {
	wanted := map[string]bool{}
	for name, value := range map[string]*bool{"arp": n.ARP, "multicast": n.Multicast, "allmulticast": n.AllMulticast, "promiscuous": n.Promiscuous} {
		if value != nil {
			wanted[name] = *value
		}
	}
	return wanted
}

// settings are the kernel's files that a .network file and a .netdev file
// speak of. Paths with an interface's name are below /proc/sys and /sys.
func settings(n config.Network, name string, netdev *config.Netdev) []Setting {
	var all []Setting
	add := func(path, value, reason string) { all = append(all, Setting{path, value, reason}) }
	v4, v6 := "/proc/sys/net/ipv4/conf/"+name+"/", "/proc/sys/net/ipv6/conf/"+name+"/"
	flag := func(path string, value *bool, reason string) {
		if value != nil {
			add(path, bit(*value), reason)
		}
	}
	// A part of a bond or bridge has no addresses of its own.
	part := n.Master.Kind == "bond" || n.Master.Kind == "bridge"
	if !n.LinkLocalIPv6 || part {
		add(v6+"addr_gen_mode", "1", "no link-local address is wanted")
	} else if mode := map[string]string{"eui64": "0", "none": "1", "random": "3"}[n.AddressGeneration]; mode != "" {
		add(v6+"addr_gen_mode", mode, "IPv6LinkLocalAddressGenerationMode=")
	}
	flag(v6+"proxy_ndp", n.ProxyNDP, "IPv6ProxyNDP=")
	if n.IPv6MTU != 0 {
		add(v6+"mtu", strconv.Itoa(n.IPv6MTU), "IPv6MTUBytes=")
	}
	flag("/proc/sys/net/ipv4/ip_forward", onlyTrue(n.Forward4), "IPForward=")
	flag("/proc/sys/net/ipv6/conf/all/forwarding", onlyTrue(n.Forward6), "IPForward=")
	flag(v4+"forwarding", n.Forward4, "IPForward=")
	flag(v4+"proxy_arp", n.ProxyARP, "IPv4ProxyARP=")
	accept := "2" // also when containers made the machine a router
	if part || (n.AcceptRA != nil && !*n.AcceptRA) || (n.AcceptRA == nil && n.Forward6 != nil && *n.Forward6) || (n.AcceptRA == nil && !n.LinkLocalIPv6) {
		accept = "0"
	}
	add(v6+"accept_ra", accept, "IPv6AcceptRA=")
	if accept != "0" {
		add(v6+"accept_ra_defrtr", bit(n.RA.UseGateway), "UseGateway=")
		add(v6+"accept_ra_pinfo", bit(n.RA.UsePrefix), "UseAutonomousPrefix=")
		add(v6+"accept_ra_mtu", bit(n.RA.UseMTU), "UseMTU=")
	}
	for _, number := range []struct {
		file  string
		value int
	}{{"use_tempaddr", n.Privacy}, {"dad_transmits", n.IPv6DAD}, {"hop_limit", n.IPv6HopLimit}} {
		if number.value >= 0 {
			add(v6+number.file, strconv.Itoa(number.value), "[Network]")
		}
	}
	device := path.Join("/sys/class/net", name)
	for _, s := range n.BridgePort {
		add(device+"/brport/"+s.Key, s.Value, "[Bridge]")
	}
	if netdev != nil {
		for _, s := range netdev.Bridge {
			add(device+"/bridge/"+s.Key, s.Value, netdev.File)
		}
	}
	if n.Master.Kind == "bond" {
		bond := path.Join("/sys/class/net", n.Master.Name, "bonding")
		if n.PrimarySlave {
			add(bond+"/primary", name, "PrimarySlave=")
		}
		if n.ActiveSlave {
			add(bond+"/active_slave", name, "ActiveSlave=")
		}
	}
	return all
}

// onlyTrue is for what other interfaces may want too: no is no reason to take
// it from them.
func onlyTrue(b *bool) *bool {
	if b != nil && !*b {
		return nil
	}
	return b
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func bridgeVLANs(ranges []config.BridgeVLAN) []VLAN {
	byID := map[int]*VLAN{}
	get := func(id int) *VLAN {
		if byID[id] == nil {
			byID[id] = &VLAN{ID: id}
		}
		return byID[id]
	}
	for _, r := range ranges {
		for id := max(r.First, 1); id <= r.Last; id++ {
			get(id)
		}
		for id := max(r.Untagged[0], 1); id <= r.Untagged[1]; id++ {
			get(id).Untagged = true
		}
		if r.PVID != 0 {
			get(r.PVID).PVID = true
		}
	}
	var all []VLAN
	for _, vlan := range byID {
		all = append(all, *vlan)
	}
	slices.SortFunc(all, func(a, b VLAN) int { return a.ID - b.ID })
	return all
}

// static is a route of a file.
func static(route config.Route, table int) Route {
	next := Route{Destination: route.Destination, Gateway: route.Gateway, Source: route.Source, Metric: route.Metric,
		OnLink: route.OnLink, Table: route.Table, Type: route.Type, MTU: route.MTU, TCP: route.TCP, Origin: Static, Scope: route.Scope}
	switch {
	case next.Scope == "global":
		next.Scope = ""
	case next.Scope == "" && next.Type == "local":
		next.Scope = "host"
	case next.Scope == "" && next.Type == "" && !next.Gateway.IsValid() && !route.FromDHCP && !route.FromRA:
		next.Scope = "link"
	}
	switch {
	case next.Table != 0:
	case next.Type == "local":
		next.Table = localTable
	default:
		next.Table = table
	}
	return normal(next)
}

// normal makes of a route what the kernel makes of it.
func normal(route Route) Route {
	if route.Table == mainTable {
		route.Table = 0
	}
	if route.Destination.Addr().Is6() {
		route.Scope = ""
		if route.Metric == 0 {
			route.Metric = 1024 // IP6_RT_PRIO_USER
		}
	}
	return route
}

const (
	mainTable  = 254
	localTable = 255
)

// linkLocalBits is the length of 169.254.0.0/16.
const linkLocalBits = 16

// usable fills in a gateway that the network names, and tells whether the
// kernel would take the route now: a file's gateway may be reachable only
// through a lease that is not there, and would be refused again and again.
func (c *Config) usable(next *Route, route config.Route, facts Facts) bool {
	switch {
	case route.FromDHCP:
		if facts.Lease == nil {
			return false
		}
		i := slices.IndexFunc(facts.Lease.Routes, func(r lease.Route) bool { return r.Destination.Bits() == 0 && r.Gateway.IsValid() })
		if i < 0 {
			return false
		}
		next.Gateway = facts.Lease.Routes[i].Gateway
	case route.FromRA:
		if next.Gateway = facts.Router; !facts.Router.IsValid() {
			return false
		}
	}
	return next.OnLink || !next.Gateway.Is4() || reachable(next.Gateway, *c)
}

func (c *Config) addLease(network config.Network, facts Facts, now time.Duration) {
	l := facts.Lease
	c.addAddress(*l, now)
	if c.MTU == 0 && network.DHCPv4.UseMTU {
		c.MTU = l.MTU
	}
	table := network.DHCPv4.RouteTable
	if table == 0 {
		table = facts.Table
	}
	for _, route := range l.Routes {
		isDefault := route.Destination.Bits() == 0
		if !network.DHCPv4.UseRoutes || (isDefault && !network.DHCPv4.UseGateway) {
			continue
		}
		next := Route{
			Destination: route.Destination, Gateway: route.Gateway, Source: l.Address.Addr(),
			Metric: network.DHCPv4.RouteMetric, Origin: DHCP, Table: table,
			// Some clouds give a /32 and a gateway beside it.
			OnLink: route.Gateway.IsValid() && !l.Address.Masked().Contains(route.Gateway),
		}
		if !route.Gateway.IsValid() {
			next.Scope = "link"
		}
		c.addRoute(next)
	}
}

// addAddress adds that of a lease, unless the owner wrote the same.
func (c *Config) addAddress(l lease.Lease, now time.Duration) {
	if slices.ContainsFunc(c.Addresses, func(a Address) bool { return a.Prefix == l.Address }) {
		return
	}
	next := Address{Prefix: l.Address, Left: Forever, Preferred: Forever}
	if end := l.ExpiresAt(); end != lease.Forever {
		next.Left, next.Preferred = end-now, end-now
	}
	if end := l.PreferredUntil(); end != lease.Forever {
		next.Preferred = max(0, end-now)
	}
	c.Addresses = append(c.Addresses, next)
}

// tunnelRoutes are the ways to the allowed addresses of WireGuard's peers, if
// the file asks for them.
func (c *Config) tunnelRoutes(netdev config.Netdev, vrf int) {
	for _, peer := range netdev.WireGuard.Peers {
		table, metric := netdev.WireGuard.Table, netdev.WireGuard.Metric
		if peer.Table != 0 {
			table = peer.Table
		}
		if peer.Metric != 0 {
			metric = peer.Metric
		}
		if table < 0 {
			continue
		}
		for _, prefix := range peer.Allowed {
			c.addRoute(static(config.Route{Destination: prefix, Table: table, Metric: metric}, vrf))
		}
	}
}

// addRoute adds a route unless there is one to the same place.
func (c *Config) addRoute(route Route) { c.Routes = addTo(c.Routes, normal(route)) }

func addTo(routes []Route, route Route) []Route {
	if slices.ContainsFunc(routes, func(r Route) bool { return samePlace(r, route) }) {
		return routes
	}
	return append(routes, route)
}

// reachable tells whether an address of the interface, or a route on the link,
// leads to a gateway.
func reachable(gateway netip.Addr, c Config) bool {
	return slices.ContainsFunc(c.Addresses, func(a Address) bool {
		return a.Prefix.Masked().Contains(gateway) || a.Options.Peer.IsValid() && a.Options.Peer.Masked().Contains(gateway)
	}) || slices.ContainsFunc(c.Routes, func(r Route) bool { return !r.Gateway.IsValid() && r.Destination.Contains(gateway) })
}
