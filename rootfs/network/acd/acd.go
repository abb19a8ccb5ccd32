// Package acd asks whether another machine on the link has an IPv4 address
// already; RFC 5227, with systemd's shorter times for an address from DHCP. It
// is for the DHCP client and for link-local addresses.
//
// An ARP message is 28 bytes at fixed places; no library of it is to be had
// here. Left out on purpose: defending a lease's address while it is used, which
// the kernel does not do either.
package acd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

const (
	probes = 3
	pause  = 200 * time.Millisecond
	// size is that of an ARP message for Ethernet and IPv4, in bytes.
	size = 28
)

// message is what is read of one.
type message struct {
	sender      net.HardwareAddr
	from, about netip.Addr
}

// encode makes a request for the address on behalf of nobody (0.0.0.0).
func encode(mac net.HardwareAddr, about netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	b = append(b, mac...)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	return append(b, about.AsSlice()...)
}

// decode reads one; ok is false for anything else.
func decode(b []byte) (m message, ok bool) {
	if len(b) < size || !bytes.Equal(b[:6], []byte{0, 1, 8, 0, 6, 4}) {
		return m, false
	}
	if code := binary.BigEndian.Uint16(b[6:]); code != 1 && code != 2 {
		return m, false
	}
	return message{bytes.Clone(b[8:14]), netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))}, true
}

// conflicts tells whether the message shows that another machine has the
// address or is about to take it (RFC 5227, section 2.1.1).
func (m message) conflicts(mac net.HardwareAddr, address netip.Addr) bool {
	if bytes.Equal(m.sender, mac) {
		return false
	}
	return m.from == address || (m.from.IsUnspecified() && m.about == address)
}

// Conn is the ARP of one interface.
type Conn struct {
	conn *packet.Conn
	mac  net.HardwareAddr
}

// everyone is the broadcast address of Ethernet.
func everyone() net.Addr {
	return &packet.Addr{HardwareAddr: net.HardwareAddr{255, 255, 255, 255, 255, 255}}
}

// Open opens it.
func Open(name string, mac net.HardwareAddr) (*Conn, error) {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("open ARP of %s: %w", name, err)
	}
	conn, err := packet.Listen(device, packet.Datagram, unix.ETH_P_ARP, nil)
	if err != nil {
		return nil, fmt.Errorf("open ARP of %s: %w", name, err)
	}
	return &Conn{conn, mac}, nil
}

// Close closes it.
func (c *Conn) Close() { c.conn.Close() }

// Ask sends one question for the address on behalf of nobody.
func (c *Conn) Ask(address netip.Addr) error {
	_, err := c.conn.WriteTo(encode(c.mac, address), everyone())
	return err
}

// Announce tells everybody once that the address is here (RFC 5227, section 2.3).
func (c *Conn) Announce(address netip.Addr) error {
	b := encode(c.mac, address)
	copy(b[14:18], address.AsSlice())
	_, err := c.conn.WriteTo(b, everyone())
	return err
}

// Hear waits until the time for a message that conflicts and gives its sender,
// nil if there was none. While the address is used, another machine's probe is
// none: the kernel answers it.
func (c *Conn) Hear(ctx context.Context, address netip.Addr, until time.Time, used bool) (net.HardwareAddr, error) {
	if err := c.conn.SetReadDeadline(until); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buffer := make([]byte, 256)
	for ctx.Err() == nil {
		n, _, err := c.conn.ReadFrom(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return nil, err
		}
		if m, ok := decode(buffer[:n]); ok && m.conflicts(c.mac, address) && !(used && m.from.IsUnspecified()) {
			return m.sender, nil
		}
	}
	return nil, ctx.Err()
}

// Probe gives the hardware address of another machine that has the address, or
// nil after about 0.8 s if there is none.
func Probe(ctx context.Context, name string, mac net.HardwareAddr, address netip.Addr) (net.HardwareAddr, error) {
	conn, err := Open(name, mac)
	if err != nil {
		return nil, fmt.Errorf("probe %v: %w", address, err)
	}
	defer conn.Close()
	for i := range probes {
		if err := conn.Ask(address); err != nil {
			return nil, fmt.Errorf("probe %v: %w", address, err)
		}
		end := time.Now().Add(pause)
		if i == probes-1 {
			end = end.Add(pause)
		}
		if other, err := conn.Hear(ctx, address, end, false); err != nil || other != nil {
			return other, err
		}
	}
	return nil, ctx.Err()
}
