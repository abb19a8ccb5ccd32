// Package ra listens to IPv6 router advertisements, RFC 4861, for what the
// kernel does not keep: name servers and search domains (RFC 8106), and
// whether DHCPv6 is to be asked. Addresses and routes of advertisements are
// the kernel's.
//
// The messages are read here since no library for them is to be had; the
// socket is golang.org/x/net's.
package ra

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Advertisement is what one says.
type Advertisement struct {
	Router         netip.Addr    // link-local, without a zone
	Managed, Other bool          // DHCPv6 has addresses; has other things
	Lifetime       time.Duration // as a default router; 0 = it is none
	DNS            []Server
	Domains        []Domain
}

// Server is a name server and how long it may be used.
type Server struct {
	Address  netip.Addr
	Lifetime time.Duration
}

// Domain is a search domain and how long it may be used.
type Domain struct {
	Name     string
	Lifetime time.Duration
}

const (
	solicitation  = 133
	advertisement = 134
	optionDNS     = 25
	optionDomains = 31
	// headLength is that of an advertisement without options, in bytes.
	headLength = 16
)

// Parse reads an ICMPv6 message; ok is false for anything but a well formed
// advertisement.
func Parse(message []byte, router netip.Addr) (a Advertisement, ok bool) {
	if len(message) < headLength || message[0] != advertisement || message[1] != 0 {
		return a, false
	}
	a = Advertisement{Router: router.WithZone(""), Managed: message[5]&0x80 != 0, Other: message[5]&0x40 != 0,
		Lifetime: time.Duration(binary.BigEndian.Uint16(message[6:])) * time.Second}
	for rest := message[headLength:]; len(rest) > 0; {
		if len(rest) < 8 || rest[1] == 0 || len(rest) < int(rest[1])*8 {
			return Advertisement{}, false // RFC 4861, section 6.1.2: the whole is discarded
		}
		option := rest[:int(rest[1])*8]
		rest = rest[len(option):]
		life := time.Duration(binary.BigEndian.Uint32(option[4:])) * time.Second
		switch option[0] {
		case optionDNS:
			for list := option[8:]; len(list) >= 16; list = list[16:] {
				if ip := netip.AddrFrom16([16]byte(list[:16])); !ip.IsUnspecified() && !ip.IsMulticast() && !ip.Is4In6() {
					a.DNS = append(a.DNS, Server{ip, life})
				}
			}
		case optionDomains:
			for _, name := range names(option[8:]) {
				a.Domains = append(a.Domains, Domain{name, life})
			}
		}
	}
	return a, true
}

// names reads domain names in the encoding of DNS, without compression.
func names(b []byte) (all []string) {
	var labels []string
	for len(b) > 0 {
		n := int(b[0])
		b = b[1:]
		switch {
		case n == 0 && len(labels) == 0:
			return all // padding
		case n == 0:
			if name := strings.Join(labels, "."); config.ValidName(name) {
				all = append(all, name)
			}
			labels = nil
		case n > 63 || n > len(b):
			return all
		default:
			labels, b = append(labels, string(b[:n])), b[n:]
		}
	}
	return all
}

// Listen asks for advertisements and tells all that come until ctx ends.
func Listen(ctx context.Context, name string, tell func(Advertisement)) error {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("listen for routers: %w", err)
	}
	setup := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failure error
		if err := raw.Control(func(fd uintptr) { failure = unix.BindToDevice(int(fd), name) }); err != nil {
			return err
		}
		return failure
	}}
	plain, err := setup.ListenPacket(ctx, "ip6:ipv6-icmp", "::")
	if err != nil {
		return fmt.Errorf("listen for routers: %w", err)
	}
	defer plain.Close()
	conn := ipv6.NewPacketConn(plain)
	if err := prepare(conn, device); err != nil {
		return fmt.Errorf("listen for routers: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { plain.Close() })
	defer stop()
	solicit, quit := context.WithCancel(ctx)
	defer quit()
	go ask(solicit, conn, device)
	buffer := make([]byte, 65536)
	for {
		n, control, from, err := conn.ReadFrom(buffer)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listen for routers: %w", err)
		}
		source, ok := from.(*net.IPAddr)
		if !ok || control == nil || control.HopLimit != 255 || control.IfIndex != device.Index {
			continue // from beyond the link
		}
		router, ok := netip.AddrFromSlice(source.IP)
		if !ok || !router.IsLinkLocalUnicast() {
			continue
		}
		if a, ok := Parse(buffer[:n], router); ok {
			quit() // answered
			tell(a)
		}
	}
}

func prepare(conn *ipv6.PacketConn, device *net.Interface) error {
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	if err := conn.SetICMPFilter(&filter); err != nil {
		return err
	}
	if err := conn.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true); err != nil {
		return err
	}
	if err := conn.SetMulticastHopLimit(255); err != nil {
		return err
	}
	if err := conn.SetMulticastInterface(device); err != nil {
		return err
	}
	return conn.JoinGroup(device, &net.IPAddr{IP: net.IPv6linklocalallnodes})
}

// ask sends solicitations until a router answers, three at first (RFC 4861,
// section 6.3.7), and goes on slowly: the kernel's own may have been answered
// before anybody listened here.
func ask(ctx context.Context, conn *ipv6.PacketConn, device *net.Interface) {
	message := []byte{solicitation, 0, 0, 0, 0, 0, 0, 0}
	if len(device.HardwareAddr) == 6 {
		message = append(append(message, 1, 1), device.HardwareAddr...)
	}
	routers := &net.IPAddr{IP: net.IPv6linklocalallrouters, Zone: device.Name}
	for wait := 500 * time.Millisecond; ; wait = min(wait*2, time.Hour) {
		// Fails while the link-local address is being checked; it is tried again.
		conn.WriteTo(message, nil, routers)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
