package lease

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// refresh is how long the answer of a stateless server holds if it does not
// say (RFC 8415, section 21.23), and the least that is believed.
const (
	refresh      = 24 * time.Hour
	leastRefresh = 10 * time.Minute
)

// FromReply reads a DHCPv6 server's reply that came at the time now. A reply
// to an information request gives a lease without an address.
func FromReply(reply *dhcpv6.Message, stateless bool, now time.Duration) (Lease, error) {
	if status := reply.Options.Status(); status != nil && status.StatusCode != iana.StatusSuccess {
		return Lease{}, fmt.Errorf("%w: %v", ErrUnusable, status.StatusCode)
	}
	l := Lease{Acquired: now, ACK: reply.ToBytes()}
	for _, ip := range reply.Options.DNS() {
		if a, ok := netip.AddrFromSlice(ip.To16()); ok && !a.IsUnspecified() && !a.IsMulticast() && !a.Is4In6() {
			l.DNS = append(l.DNS, a)
		}
	}
	if search := reply.Options.DomainSearchList(); search != nil {
		for _, name := range search.Labels {
			if name = strings.TrimSuffix(name, "."); config.ValidName(name) {
				l.Domains = append(l.Domains, name)
			}
		}
	}
	for _, ip := range reply.Options.NTPServers() {
		if a, ok := netip.AddrFromSlice(ip.To16()); ok && !a.IsUnspecified() && !a.Is4In6() {
			l.NTP = append(l.NTP, a)
		}
	}
	if stateless {
		l.Lifetime = max(reply.Options.InformationRefreshTime(refresh), leastRefresh)
		l.Renew, l.Rebind = l.Lifetime, l.Lifetime
		return l, nil
	}
	return l, l.address6(reply)
}

// address6 takes the first usable address.
func (l *Lease) address6(reply *dhcpv6.Message) error {
	association := reply.Options.OneIANA()
	if association == nil {
		return fmt.Errorf("%w: it has no address", ErrUnusable)
	}
	if status := association.Options.Status(); status != nil && status.StatusCode != iana.StatusSuccess {
		return fmt.Errorf("%w: %v", ErrUnusable, status.StatusCode)
	}
	for _, given := range association.Options.Addresses() {
		ip, ok := netip.AddrFromSlice(given.IPv6Addr.To16())
		if !ok || ip.Is4In6() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || given.ValidLifetime <= 0 {
			continue
		}
		l.Address = netip.PrefixFrom(ip, 128)
		l.times6(association, given)
		return nil
	}
	return fmt.Errorf("%w: none of its addresses is usable", ErrUnusable)
}

func (l *Lease) times6(association *dhcpv6.OptIANA, given *dhcpv6.OptIAAddress) {
	if given.ValidLifetime >= infinite {
		l.Lifetime, l.Renew, l.Rebind = Forever, Forever, Forever
	} else {
		l.Lifetime = max(given.ValidLifetime, Shortest)
	}
	preferred := min(given.PreferredLifetime, l.Lifetime)
	if given.PreferredLifetime < infinite && preferred < l.Lifetime {
		l.Preferred = max(preferred, time.Second)
	}
	base := l.Lifetime
	if preferred > 0 && preferred < base {
		base = preferred
	}
	if association.T1 > 0 && association.T1 < association.T2 && association.T2 < l.Lifetime {
		l.Renew, l.Rebind = association.T1, association.T2
	} else if l.Lifetime != Forever {
		l.Renew, l.Rebind = base/2, base/5*4 // RFC 8415, section 21.4
	}
}
