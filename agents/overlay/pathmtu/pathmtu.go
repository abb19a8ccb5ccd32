// Package pathmtu finds how large a packet may be on the way to other machines,
// so that the overlay's own packets fit: first what the kernel knows of the
// route, then a full-sized packet that must not be fragmented, to which a
// router with a smaller link answers (RFC 1191, RFC 8201).
//
// A path that drops large packets without a word is not found; that is what
// "MTU" in the network's configuration is for.
package pathmtu

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Least is the smallest size that is believed: IPv6 needs as much, and
// whatever claims less is broken.
const Least = 1280

// discard is the port (RFC 863) that the probe goes to; whether anything
// listens does not matter.
const discard = 9

// To returns the path's MTU to peer in bytes, at most limit. It waits for an
// answer for as long as wait.
func To(peer netip.Addr, limit int, wait time.Duration) (int, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(peer, discard)))
	if err != nil {
		return 0, fmt.Errorf("find the path's MTU to %v: %w", peer, err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("find the path's MTU to %v: %w", peer, err)
	}
	level, discover, do, get, headers := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO, unix.IP_MTU, 28
	if peer.Is6() && !peer.Is4In6() {
		level, discover, do, get, headers = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO, unix.IPV6_MTU, 48
	}
	var mtu int
	read := func() error {
		var inner error
		if err := raw.Control(func(fd uintptr) { mtu, inner = unix.GetsockoptInt(int(fd), level, get) }); err != nil {
			return err
		}
		return inner
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), level, discover, do) })
	if err == nil {
		err = inner
	}
	if err == nil {
		err = read()
	}
	if err != nil {
		return 0, fmt.Errorf("find the path's MTU to %v: %w", peer, os.NewSyscallError("socket option", err))
	}
	// The route may know more than the first link; a probe finds out. Each
	// answer can make it smaller, so there are a few.
	for range 4 {
		before := mtu
		conn.Write(make([]byte, max(min(mtu, limit)-headers, 0)))
		answered(conn, wait)
		if err := read(); err != nil || mtu == before {
			break
		}
	}
	return max(min(mtu, limit), Least), nil
}

// answered waits for an ICMP answer, which the socket tells as an error.
func answered(conn *net.UDPConn, wait time.Duration) {
	conn.SetReadDeadline(time.Now().Add(wait))
	conn.Read(make([]byte, 1))
}
