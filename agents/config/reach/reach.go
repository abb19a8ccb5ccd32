// Package reach tells whether the owner of a machine can still reach it, after
// its configuration was changed: the default route's gateway answers, the peer
// of the owner's SSH connection is routed to a neighbour that answers, and the
// SSH server accepts connections.
//
// Only what was well before the change is watched. Neighbours are asked through
// the kernel (ARP, NDP): a packet is sent to the next hop and its entry looked
// at. Left out on purpose: whether the peer itself answers, for its owner may
// have closed the laptop, and filters between here and there.
package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Watch is what was well.
type Watch struct {
	// Gateway tells that there is a default route.
	Gateway bool
	Peer    netip.Addr     // the zero Addr is none
	Server  netip.AddrPort // the zero AddrPort is none
}

// discard is the port that packets to neighbours go to (RFC 863).
const discard = 9

// dialTimeout bounds a connection to the SSH server of this machine.
const dialTimeout = 5 * time.Second

// Now returns what of want is well now. It waits up to settle for answers.
func Now(ctx context.Context, want Watch, settle time.Duration) Watch {
	var well Watch
	deadline := time.Now().Add(settle)
	for {
		well.Gateway = want.Gateway && checkGateway() == nil
		if want.Peer.IsValid() && checkRoute(want.Peer) == nil {
			well.Peer = want.Peer
		}
		if want.Server.IsValid() && checkServer(ctx, want.Server) == nil {
			well.Server = want.Server
		}
		if well == want || time.Now().After(deadline) || ctx.Err() != nil {
			return well
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Check returns why the machine can not be reached, or nil. An answer that is
// being waited for is no error yet: ask again.
func (w Watch) Check(ctx context.Context) error {
	if w.Gateway {
		if err := checkGateway(); err != nil {
			return err
		}
	}
	if w.Peer.IsValid() {
		if err := checkRoute(w.Peer); err != nil {
			return fmt.Errorf("the way to %s: %w", w.Peer, err)
		}
	}
	if w.Server.IsValid() {
		if err := checkServer(ctx, w.Server); err != nil {
			return fmt.Errorf("the SSH server: %w", err)
		}
	}
	return nil
}

// String says what is watched.
func (w Watch) String() string {
	text := ""
	add := func(format string, args ...any) {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf(format, args...)
	}
	if w.Gateway {
		add("the default route")
	}
	if w.Peer.IsValid() {
		add("the way to %s", w.Peer)
	}
	if w.Server.IsValid() {
		add("the SSH server at %s", w.Server)
	}
	if text == "" {
		return "nothing"
	}
	return text
}

// checkGateway wants one default route whose gateway answers.
func checkGateway() error {
	var routes []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		found, err := netlink.RouteListFiltered(family, &netlink.Route{Dst: nil, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
		if err != nil && len(found) == 0 {
			continue
		}
		routes = append(routes, found...)
	}
	if len(routes) == 0 {
		return errors.New("there is no default route")
	}
	var problem error
	for _, route := range routes {
		err := checkHop(route.LinkIndex, route.Gw)
		if err == nil {
			return nil
		}
		problem = errors.Join(problem, err)
	}
	return problem
}

// checkRoute wants a route whose next hop answers.
func checkRoute(to netip.Addr) error {
	routes, err := netlink.RouteGet(to.Unmap().AsSlice())
	if err != nil || len(routes) == 0 {
		return fmt.Errorf("there is no route: %w", err)
	}
	hop := routes[0].Gw
	if hop == nil {
		hop = to.Unmap().AsSlice()
	}
	return checkHop(routes[0].LinkIndex, hop)
}

// checkHop wants a link that is up and a neighbour that has not failed to
// answer.
func checkHop(index int, hop net.IP) error {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return fmt.Errorf("its interface is gone: %w", err)
	}
	attrs := link.Attrs()
	switch {
	case attrs.Flags&net.FlagLoopback != 0:
		return nil
	case attrs.Flags&net.FlagUp == 0 || attrs.OperState == netlink.OperDown || attrs.OperState == netlink.OperLowerLayerDown:
		return fmt.Errorf("interface %s is down", attrs.Name)
	case hop == nil || hop.IsUnspecified(): // a route without a gateway
		return nil
	}
	ping(attrs.Name, hop)
	family := netlink.FAMILY_V6
	if hop.To4() != nil {
		family = netlink.FAMILY_V4
	}
	neighbours, err := netlink.NeighList(index, family)
	if err != nil {
		return fmt.Errorf("read the neighbours of %s: %w", attrs.Name, err)
	}
	for _, n := range neighbours {
		if n.IP.Equal(hop) && n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) != 0 {
			return fmt.Errorf("%s does not answer on %s", hop, attrs.Name)
		}
	}
	return nil
}

// ping makes the kernel ask for a neighbour.
func ping(link string, hop net.IP) {
	address := &net.UDPAddr{IP: hop, Port: discard}
	if hop.IsLinkLocalUnicast() {
		address.Zone = link
	}
	conn, err := net.DialUDP("udp", nil, address)
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte{0})
}

func checkServer(ctx context.Context, at netip.AddrPort) error {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	return conn.Close()
}
