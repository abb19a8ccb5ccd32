// Package lease is the client's side of DHCP without its sockets: what a lease
// says, and when to ask for one, renew it, ask others, or give it up. RFC 2131,
// section 4.4; routes by RFC 3442. DHCPv6, RFC 8415, has the same states and its
// own pauses between renewals. One address of an answer is used.
//
// It is for the network daemon, which keeps the clock and sends the messages
// with the insomniacslk/dhcp library; encoding is the library's too. Times are
// durations since boot, because the time of day may be set meanwhile.
package lease

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Lease is an address with what came with it.
type Lease struct {
	Address  netip.Prefix `json:"address"`
	Server   netip.Addr   `json:"server"`
	Routes   []Route      `json:"routes"` // the default route among them
	DNS      []netip.Addr `json:"dns"`
	NTP      []netip.Addr `json:"ntp"`
	Hostname string       `json:"hostname"`
	Domains  []string     `json:"domains"`
	MTU      int          `json:"mtu"` // 0 = not given

	// Acquired is when the server agreed, since boot. Renew, Rebind and
	// Lifetime count from there; Lifetime is Forever for a lease without end.
	Acquired time.Duration `json:"acquired"`
	Renew    time.Duration `json:"renew"`
	Rebind   time.Duration `json:"rebind"`
	Lifetime time.Duration `json:"lifetime"`
	// Preferred is how long the address is taken for new connections, from
	// Acquired; 0 = for its lifetime. DHCPv6 only.
	Preferred time.Duration `json:"preferred,omitempty"`

	// ACK is the message of the server, which renewing is derived from.
	ACK []byte `json:"ack"`
}

// Forever is the lifetime of a lease that does not end.
const Forever = time.Duration(1<<63 - 1)

// Shortest is the least lifetime that is believed. A server that gives less
// would keep the machine and the network busy with nothing else.
const Shortest = 5 * time.Second

// infinite is the protocol's number of seconds for it.
const infinite = 0xffffffff * time.Second

// Route is a route of a lease; without a valid gateway it is on the link.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway,omitzero"`
}

// ErrUnusable says that a server's answer cannot be used as a lease.
var ErrUnusable = errors.New("the DHCP server's answer cannot be used")

// FromACK reads a server's agreement that came at the time now. What is
// malformed in it besides the address is left out.
func FromACK(ack *dhcpv4.DHCPv4, now time.Duration) (Lease, error) {
	ip, ok := addr(ack.YourIPAddr)
	if !ok || ip.IsMulticast() || ip.IsLoopback() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return Lease{}, fmt.Errorf("%w: address %v", ErrUnusable, ack.YourIPAddr)
	}
	server, ok := addr(ack.ServerIdentifier())
	if !ok {
		return Lease{}, fmt.Errorf("%w: it does not name the server", ErrUnusable)
	}
	bits, err := prefixLength(ack.SubnetMask(), ip)
	if err != nil {
		return Lease{}, err
	}
	lease := Lease{
		Address:  netip.PrefixFrom(ip, bits),
		Server:   server,
		DNS:      addrs(ack.DNS()),
		NTP:      addrs(ack.NTPServers()),
		Acquired: now,
		ACK:      ack.ToBytes(),
	}
	lease.times(ack)
	lease.names(ack)
	lease.routes(ack)
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= 68 {
		lease.MTU = int(mtu)
	}
	return lease, nil
}

// times reads the lifetime and the times of renewal. The defaults, and what
// nonsense is replaced by, are half and seven eighths of the lifetime.
func (l *Lease) times(ack *dhcpv4.DHCPv4) {
	l.Lifetime = ack.IPAddressLeaseTime(time.Hour)
	if l.Lifetime >= infinite {
		l.Lifetime, l.Renew, l.Rebind = Forever, Forever, Forever
		return
	}
	l.Lifetime = max(l.Lifetime, Shortest)
	l.Renew = ack.IPAddressRenewalTime(l.Lifetime / 2)
	l.Rebind = ack.IPAddressRebindingTime(l.Lifetime / 8 * 7)
	if l.Renew <= 0 || l.Renew >= l.Rebind || l.Rebind >= l.Lifetime {
		l.Renew, l.Rebind = l.Lifetime/2, l.Lifetime/8*7
	}
}

// names takes the names that are well formed: they come from the network and
// go to files.
func (l *Lease) names(ack *dhcpv4.DHCPv4) {
	// Some servers end a text with a zero byte.
	if name := strings.TrimRight(ack.HostName(), "\x00."); config.ValidName(name) {
		l.Hostname = name
	}
	candidates := strings.Split(strings.TrimRight(ack.DomainName(), "\x00"), " ")
	if search := ack.DomainSearch(); search != nil {
		candidates = append(candidates, search.Labels...)
	}
	seen := map[string]bool{}
	for _, name := range candidates {
		name = strings.TrimSuffix(name, ".")
		if config.ValidName(name) && !seen[name] {
			seen[name] = true
			l.Domains = append(l.Domains, name)
		}
	}
}

// routes reads the classless static routes, and the router only if there are
// none (RFC 3442: a client must ignore the router then).
func (l *Lease) routes(ack *dhcpv4.DHCPv4) {
	for _, route := range ack.ClasslessStaticRoute() {
		destination, ok := addr(route.Dest.IP)
		bits, size := route.Dest.Mask.Size()
		if (!ok && bits != 0) || size != 32 {
			continue
		}
		if !ok {
			destination = netip.IPv4Unspecified()
		}
		next := Route{Destination: netip.PrefixFrom(destination, bits).Masked()}
		if gateway, ok := addr(route.Router); ok {
			next.Gateway = gateway
		}
		l.Routes = append(l.Routes, next)
	}
	if len(l.Routes) > 0 {
		return
	}
	if routers := addrs(ack.Router()); len(routers) > 0 {
		l.Routes = []Route{{Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Gateway: routers[0]}}
	}
}

// prefixLength reads the mask; without one it is that of the address's class,
// as servers of old expect.
func prefixLength(mask net.IPMask, ip netip.Addr) (int, error) {
	if mask == nil {
		bits, _ := net.IP(ip.AsSlice()).DefaultMask().Size()
		return bits, nil
	}
	bits, size := mask.Size()
	if size != 32 || bits == 0 {
		return 0, fmt.Errorf("%w: subnet mask %v", ErrUnusable, mask)
	}
	return bits, nil
}

// addr converts; ok is false for anything but an IPv4 address that is not
// 0.0.0.0.
func addr(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip.To4())
	return a, ok && !a.IsUnspecified()
}

func addrs(list []net.IP) []netip.Addr {
	var all []netip.Addr
	for _, ip := range list {
		if a, ok := addr(ip); ok {
			all = append(all, a)
		}
	}
	return all
}

// ExpiresAt is when the lease ends, since boot; Forever if it does not.
func (l Lease) ExpiresAt() time.Duration { return add(l.Acquired, l.Lifetime) }

// PreferredUntil is when the address is no longer preferred, since boot.
func (l Lease) PreferredUntil() time.Duration {
	if l.Preferred == 0 {
		return l.ExpiresAt()
	}
	return add(l.Acquired, l.Preferred)
}

func add(a, b time.Duration) time.Duration {
	if b == Forever || a > Forever-b {
		return Forever
	}
	return a + b
}
