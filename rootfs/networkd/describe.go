package networkd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/network/dhcp"
	"github.com/coracle-os/coracle/rootfs/network/lease"
	"github.com/coracle-os/coracle/rootfs/network/link"
	"github.com/coracle-os/coracle/rootfs/network/split"
	"github.com/coracle-os/coracle/rootfs/network/state"
)

// names are the servers and domains that an interface knows: the file's before
// those of leases and routers. route are the domains that only its own servers
// are for.
func (m *managed) names() (dns []netip.Addr, domains, route, ntp []string) {
	dns = append(dns, m.network.DNS...)
	for _, domain := range m.network.Domains {
		if name, ok := strings.CutPrefix(domain, "~"); ok {
			route = append(route, name)
			continue
		}
		domains = append(domains, domain)
	}
	ntp = append(ntp, m.network.NTP...)
	given := len(m.network.Domains) > 0
	take := func(names []string, use, routing bool) {
		switch {
		case routing:
			route = append(route, names...)
		case use || !given:
			domains = append(domains, names...)
		}
	}
	for _, known := range []struct {
		lease                               *lease.Lease
		useDNS, useDomains, routing, useNTP bool
	}{
		{m.dhcp4.lease, m.network.DHCPv4.UseDNS, m.network.DHCPv4.UseDomains, m.network.DHCPv4.UseDomainsRoute, m.network.DHCPv4.UseNTP},
		{m.dhcp6.lease, m.network.DHCPv6.UseDNS, m.network.DHCPv6.UseDomains, m.network.DHCPv6.UseDomainsRoute, m.network.DHCPv6.UseNTP},
	} {
		if known.lease == nil {
			continue
		}
		if known.useDNS {
			dns = append(dns, known.lease.DNS...)
		}
		take(known.lease.Domains, known.useDomains, known.routing)
		if known.useNTP {
			for _, server := range known.lease.NTP {
				ntp = append(ntp, server.String())
			}
		}
	}
	if m.network.RA.UseDNS {
		for _, server := range m.router.DNS() {
			if server.IsLinkLocalUnicast() {
				server = server.WithZone(m.link.Match.Name)
			}
			dns = append(dns, server)
		}
	}
	take(m.router.Domains(), m.network.RA.UseDomains, m.network.RA.UseDomainsRoute)
	return once(dns), once(domains), once(route), once(ntp)
}

func once[T comparable](list []T) []T {
	var kept []T
	for _, item := range list {
		if !slices.Contains(kept, item) {
			kept = append(kept, item)
		}
	}
	return kept
}

// describe is an interface for the state file; m is nil if it is not ours.
func describe(l link.Link, m *managed) state.Interface {
	i := state.Interface{
		Index: l.Index, Name: l.Match.Name, MAC: l.Match.MAC, Type: l.Match.Type,
		OperState: OperState(l), SetupState: "unmanaged",
	}
	if l.Match.Kind != "" {
		i.Type = l.Match.Kind
	}
	for _, address := range l.Have.Addresses {
		if !address.Prefix.Addr().IsLinkLocalUnicast() {
			i.Addresses = append(i.Addresses, address.Prefix.String())
		}
	}
	for _, route := range l.Have.Routes {
		if route.Destination.Bits() == 0 && route.Gateway.Is4() {
			i.Gateway = route.Gateway.String()
			break
		}
	}
	if m == nil {
		return i
	}
	i.File, i.Problem = m.network.File, m.dhcp4.problem
	if i.Problem == "" {
		i.Problem = m.dhcp6.problem
	}
	dns, domains, route, ntp := m.names()
	for _, server := range dns {
		i.DNS = append(i.DNS, server.String())
	}
	i.Domain, i.RouteDomains, i.NTP = strings.Join(domains, " "), route, ntp
	i.DNSRouteOnly = len(dns) > 0 && !split.Scope{Servers: dns, Route: route, Default: m.network.DNSDefaultRoute}.IsDefault()
	if l := m.dhcp4.lease; l != nil {
		i.Hostname, i.DHCPServer, i.DHCPAddress = l.Hostname, l.Server.String(), l.Address.Addr().String()
	}
	if l := m.dhcp6.lease; l != nil && l.Address.IsValid() {
		i.DHCP6Address = l.Address.Addr().String()
	}
	if m.ownChoice.address.IsValid() {
		i.LinkLocal = m.ownChoice.address.String()
	}
	i.SetupState = m.setupState()
	if m.failed != "" {
		i.Problem = m.failed
	}
	return i
}

func (m *managed) setupState() string {
	switch {
	case m.failed != "":
		return "failed"
	case m.network.Activation == "down" || m.network.Activation == "always-down":
		return "configured"
	case !m.link.Carrier, m.waits():
		return "configuring"
	}
	// The kernel must show every address that was given.
	have := map[netip.Prefix]bool{}
	for _, address := range m.link.Have.Addresses {
		have[address.Prefix] = true
	}
	for _, prefix := range m.own {
		if !have[prefix] {
			return "configuring"
		}
	}
	return "configured"
}

// waits tells whether DHCP is asked and nobody gave an address, of either
// family: the machine can be reached by one.
func (m *managed) waits() bool {
	v6 := m.dhcp6.lease != nil || m.ownChoice.address.IsValid()
	return m.dhcp4.lease == nil && m.network.DHCP4 && !v6 || m.network.DHCP6 && !m.network.DHCP4 && !v6 && (!m.heard || m.router.Managed)
}

// OperState is the operational state of an interface, as networkctl(1) has it.
func OperState(l link.Link) string {
	switch {
	case !l.Have.Up:
		return "off"
	case !l.Carrier:
		return "no-carrier"
	case l.Part:
		return "enslaved"
	}
	best := "carrier"
	for _, address := range l.Have.Addresses {
		ip := address.Prefix.Addr()
		switch {
		case ip.IsLoopback():
		case ip.IsLinkLocalUnicast():
			best = "degraded"
		default:
			return "routable"
		}
	}
	return best
}

// hasFamily tells whether an interface has addresses of the families that are
// required, "any", "ipv4", "ipv6" or "both".
func hasFamily(l link.Link, required string) bool {
	v4, v6 := false, false
	for _, address := range l.Have.Addresses {
		if ip := address.Prefix.Addr(); !ip.IsLinkLocalUnicast() && !ip.IsLoopback() {
			v4, v6 = v4 || ip.Is4(), v6 || ip.Is6()
		}
	}
	switch required {
	case "ipv4":
		return v4
	case "ipv6":
		return v6
	case "both":
		return v4 && v6
	}
	return v4 || v6
}

// online tells whether every interface that must be is configured, and at
// least one of ours can reach others.
func (d *networkDaemon) online(links []link.Link) bool {
	routable := false
	for _, l := range links {
		m := d.managed[l.Index]
		if m == nil {
			continue
		}
		if OperState(l) == "routable" {
			routable = true
			if hasFamily(l, m.network.RequiredFamily) {
				continue
			}
		}
		// A socket without a cable is not waited for, nor what has no address to
		// wait for: a part of a bond, or what only VLANs are on.
		n := m.network
		expected := (n.DHCP4 || n.DHCP6 || len(n.Addresses) > 0) && n.Master.Kind != "bond" && n.Master.Kind != "bridge"
		if n.RequiredForOnline && expected && l.Carrier && l.Match.Type != "loopback" {
			return false
		}
	}
	return routable
}

// memory is what is kept of an interface for the daemon's next run in the same
// boot, so that a restart keeps the address and knows what it gave.
type memory struct {
	MAC    string         `json:"mac"`
	Own    []netip.Prefix `json:"own"`
	Part   bool           `json:"part,omitempty"`
	Lease  *lease.Lease   `json:"lease,omitempty"`
	Lease6 *lease.Lease   `json:"lease6,omitempty"`
	// LinkLocal is the IPv4 address that the machine chose.
	LinkLocal netip.Addr `json:"linkLocal,omitzero"`
}

func (d *networkDaemon) memoryFile(name string) string {
	return filepath.Join(d.paths.Links, filepath.Base(name)+".json")
}

func (d *networkDaemon) remember(m *managed) {
	data, err := json.Marshal(memory{MAC: m.link.Match.MAC, Own: m.own, Part: m.part, Lease: m.dhcp4.lease, Lease6: m.dhcp6.lease, LinkLocal: m.ownChoice.address})
	if err == nil {
		err = os.MkdirAll(d.paths.Links, 0o755)
	}
	file := d.memoryFile(m.link.Match.Name)
	if err == nil {
		err = os.WriteFile(file+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		d.log.Error(fmt.Sprintf("%s: remember the lease: %v", m.link.Match.Name, err))
	}
}

// recall reads what an earlier run left. A file that is missing, damaged or of
// another device is no error: the interface starts anew.
func (d *networkDaemon) recall(m *managed, l link.Link) {
	data, err := os.ReadFile(d.memoryFile(l.Match.Name))
	if err != nil {
		return
	}
	var kept memory
	if json.Unmarshal(data, &kept) != nil || kept.MAC != l.Match.MAC {
		return
	}
	m.own, m.part = kept.Own, kept.Part
	m.ownChoice.address = kept.LinkLocal
	m.dhcp4.recall(kept.Lease)
	if kept.Lease6 != nil && kept.Lease6.Address.IsValid() {
		m.dhcp6.recall(kept.Lease6)
	}
}

func (s *session) recall(kept *lease.Lease) {
	if kept == nil {
		return
	}
	if s.machine = lease.Resume(*kept, dhcp.Uptime()); s.machine.State == lease.Bound {
		s.lease = kept
	}
}
