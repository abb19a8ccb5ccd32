// Package udp is flannel's "udp" back end in Go: every packet of the overlay
// goes through a tun device and this program, and as the payload of a UDP
// packet to the machine that has the destination's subnet. It needs nothing of
// the kernel but tun, and is the slowest of all; vxlan is the better choice
// wherever it is there.
//
// flannel's own (pkg/backend/udp) is C and needs cgo, which Coracle's programs
// do without. The packets are the same, so both can be in one network: a bare
// IPv4 packet on port 8285. Left out: ICMP answers for subnets that nobody
// has, and IPv6, as in flannel's.
package udp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/flannel-io/flannel/pkg/backend"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

const (
	// Type is the back end's name in the network's configuration.
	Type        = "udp"
	defaultPort = 8285
	overhead    = 28 // bytes: IPv4 and UDP
	// Device is the tun device's name.
	Device   = "flannel0"
	headroom = 16 // bytes before a packet, which the tun library needs
)

// New makes the back end; it has flannel's signature for them.
func New(log *slog.Logger) backend.BackendCtor {
	return func(sm subnet.Manager, ext *backend.ExternalInterface) (backend.Backend, error) {
		return &udpBackend{sm: sm, ext: ext, log: log}, nil
	}
}

type udpBackend struct {
	sm  subnet.Manager
	ext *backend.ExternalInterface
	log *slog.Logger
}

// RegisterNetwork gets a subnet and makes the tun device.
func (b *udpBackend) RegisterNetwork(ctx context.Context, _ *sync.WaitGroup, config *subnet.Config) (backend.Network, error) {
	given := struct{ Port int }{Port: defaultPort}
	if len(config.Backend) > 0 {
		if err := json.Unmarshal(config.Backend, &given); err != nil {
			return nil, fmt.Errorf("read the udp back end's configuration: %w", err)
		}
	}
	l, err := b.sm.AcquireLease(ctx, &lease.LeaseAttrs{PublicIP: ip.FromIP(b.ext.ExtAddr), BackendType: Type})
	if err != nil {
		return nil, fmt.Errorf("get a subnet: %w", err)
	}
	n := &network{SimpleNetwork: backend.SimpleNetwork{SubnetLease: l, ExtIface: b.ext}, sm: b.sm, port: given.Port, log: b.log}
	n.routes.Store(&table{})
	if err := n.open(ip.IP4Net{IP: l.Subnet.IP, PrefixLen: config.Network.PrefixLen}); err != nil {
		return nil, fmt.Errorf("set up the udp back end: %w", err)
	}
	return n, nil
}

// table is where packets go: subnets to machines. It is replaced, not changed.
type table struct {
	bits []int // lengths of prefixes that occur
	to   map[netip.Prefix]netip.AddrPort
}

func (t *table) lookup(dst netip.Addr) (netip.AddrPort, bool) {
	for _, bits := range t.bits {
		if prefix, err := dst.Prefix(bits); err == nil {
			if to, ok := t.to[prefix]; ok {
				return to, true
			}
		}
	}
	return netip.AddrPort{}, false
}

type network struct {
	backend.SimpleNetwork
	sm     subnet.Manager
	port   int
	log    *slog.Logger
	tun    tun.Device
	conn   *net.UDPConn
	routes atomic.Pointer[table]
}

// MTU is what a packet of the overlay may have, in bytes.
func (n *network) MTU() int { return n.ExtIface.Iface.MTU - overhead }

func (n *network) open(net4 ip.IP4Net) (err error) {
	if n.tun, err = tun.CreateTUN(Device, n.MTU()); err != nil {
		return fmt.Errorf("make the device %s (is the kernel's module tun there?): %w", Device, err)
	}
	defer func() {
		if err != nil {
			n.tun.Close()
		}
	}()
	link, err := netlink.LinkByName(Device)
	if err != nil {
		return fmt.Errorf("find %s: %w", Device, err)
	}
	// A /32, so that there are no routes for broadcasts; the route to the
	// network comes by itself.
	own := net4
	own.PrefixLen = 32
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: own.ToIPNet()}); err != nil {
		return fmt.Errorf("give %s its address: %w", Device, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("start %s: %w", Device, err)
	}
	route := netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_UNIVERSE, Dst: net4.Network().ToIPNet()}
	if err := netlink.RouteReplace(&route); err != nil {
		return fmt.Errorf("route the network to %s: %w", Device, err)
	}
	n.conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: n.ExtIface.IfaceAddr, Port: n.port})
	return err
}

// Run forwards packets until ctx ends.
func (n *network) Run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() {
		n.conn.Close()
		n.tun.Close()
	})()
	events := make(chan []lease.Event)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { subnet.WatchLeases(ctx, n.sm, n.SubnetLease, events) })
	running.Go(func() { n.told(ctx, "send", n.send()) })
	running.Go(func() { n.told(ctx, "receive", n.receive()) })
	for batch := range events {
		n.learn(batch)
	}
}

func (n *network) told(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		n.log.Error("the udp back end stopped", "direction", what, "error", err)
	}
}

// learn puts what changed into a new table.
func (n *network) learn(batch []lease.Event) {
	old := n.routes.Load()
	next := &table{to: make(map[netip.Prefix]netip.AddrPort, len(old.to)+len(batch))}
	for prefix, to := range old.to {
		next.to[prefix] = to
	}
	for _, event := range batch {
		prefix, ok := prefixOf(event.Lease.Subnet)
		if !ok {
			continue
		}
		if event.Type == lease.EventRemoved {
			delete(next.to, prefix)
			continue
		}
		if kind := event.Lease.Attrs.BackendType; kind != Type && kind != "" { // flannel's own gives none
			n.log.Warn("passed over a subnet of another back end", "subnet", prefix, "backend", kind)
			continue
		}
		if addr, ok := netip.AddrFromSlice(event.Lease.Attrs.PublicIP.ToIP().To4()); ok {
			next.to[prefix] = netip.AddrPortFrom(addr, uint16(n.port))
		}
	}
	seen := map[int]bool{}
	for prefix := range next.to {
		if !seen[prefix.Bits()] {
			seen[prefix.Bits()] = true
			next.bits = append(next.bits, prefix.Bits())
		}
	}
	n.routes.Store(next)
}

func prefixOf(subnet ip.IP4Net) (netip.Prefix, bool) {
	addr, ok := netip.AddrFromSlice(subnet.IP.ToIP().To4())
	return netip.PrefixFrom(addr, int(subnet.PrefixLen)), ok
}

// send takes packets from the kernel to their machines.
func (n *network) send() error {
	batch := n.tun.BatchSize()
	packets, sizes := make([][]byte, batch), make([]int, batch)
	for i := range packets {
		packets[i] = make([]byte, headroom+1<<16)
	}
	for {
		count, err := n.tun.Read(packets, sizes, headroom)
		if err != nil {
			return err
		}
		for i := range count {
			packet := packets[i][headroom : headroom+sizes[i]]
			if len(packet) < 20 || packet[0]>>4 != 4 {
				continue
			}
			to, ok := n.routes.Load().lookup(netip.AddrFrom4([4]byte(packet[16:20])))
			if !ok {
				continue
			}
			if _, err := n.conn.WriteToUDPAddrPort(packet, to); err != nil && isClosed(err) {
				return err
			}
		}
	}
}

// receive gives packets from other machines to the kernel.
func (n *network) receive() error {
	buffer := make([]byte, headroom+1<<16)
	for {
		size, _, err := n.conn.ReadFromUDPAddrPort(buffer[headroom:])
		if err != nil {
			return err
		}
		if size < 20 || buffer[headroom]>>4 != 4 {
			continue
		}
		if _, err := n.tun.Write([][]byte{buffer[:headroom+size]}, headroom); err != nil && isClosed(err) {
			return err
		}
	}
}

// isClosed tells the end from what one packet met on its way: no route, a
// full queue, a peer that does not listen.
func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADF)
}
