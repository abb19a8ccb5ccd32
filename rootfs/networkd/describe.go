package networkd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/rootfs/network/dhcp"
	"github.com/coracle-os/coracle/rootfs/network/lease"
	"github.com/coracle-os/coracle/rootfs/network/link"
	"github.com/coracle-os/coracle/rootfs/network/state"
)

// names are the servers and domains that an interface knows: the file's before
// the lease's.
func (m *managed) names() (dns []netip.Addr, domains, ntp []string) {
	dns = append(dns, m.network.DNS...)
	domains = append(domains, m.network.Domains...)
	ntp = append(ntp, m.network.NTP...)
	if m.lease == nil {
		return dns, domains, ntp
	}
	if m.network.DHCPv4.UseDNS {
		dns = append(dns, m.lease.DNS...)
	}
	if m.network.DHCPv4.UseDomains || len(domains) == 0 {
		domains = append(domains, m.lease.Domains...)
	}
	if m.network.DHCPv4.UseNTP {
		for _, server := range m.lease.NTP {
			ntp = append(ntp, server.String())
		}
	}
	return dns, domains, ntp
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
	i.File, i.Problem = m.network.File, m.problem
	dns, domains, ntp := m.names()
	for _, server := range dns {
		i.DNS = append(i.DNS, server.String())
	}
	i.Domain, i.NTP = strings.Join(domains, " "), ntp
	if m.lease != nil {
		i.Hostname, i.DHCPServer = m.lease.Hostname, m.lease.Server.String()
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
	case m.network.DHCP && m.lease == nil, !m.link.Carrier:
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

// OperState is the operational state of an interface, as networkctl(1) has it.
func OperState(l link.Link) string {
	switch {
	case !l.Have.Up:
		return "off"
	case !l.Carrier:
		return "no-carrier"
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
			continue
		}
		// A socket without a cable is not waited for.
		if m.network.RequiredForOnline && l.Carrier {
			return false
		}
	}
	return routable
}

// memory is what is kept of an interface for the daemon's next run in the same
// boot, so that a restart keeps the address and knows what it gave.
type memory struct {
	MAC   string         `json:"mac"`
	Own   []netip.Prefix `json:"own"`
	Lease *lease.Lease   `json:"lease,omitempty"`
}

func (d *networkDaemon) memoryFile(name string) string {
	return filepath.Join(d.paths.Links, filepath.Base(name)+".json")
}

func (d *networkDaemon) remember(m *managed) {
	data, err := json.Marshal(memory{MAC: m.link.Match.MAC, Own: m.own, Lease: m.lease})
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
	m.own = kept.Own
	if kept.Lease == nil {
		return
	}
	m.machine = lease.Resume(*kept.Lease, dhcp.Uptime())
	if m.machine.State == lease.Bound {
		m.lease = kept.Lease
	}
}
