package networkd

import (
	"context"
	"net/netip"

	"github.com/coracle-os/coracle/rootfs/network/ipv4ll"
)

// ownChoice is the client of an IPv4 link-local address and what it has.
type ownChoice struct {
	address netip.Addr
	stop    func() // nil if none runs
}

func (c *ownChoice) end() {
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
}

func (c *ownChoice) take(address netip.Addr) {
	if c.stop != nil {
		c.address = address
	}
}

// choose starts and ends the client: with DHCPv4 it is for the time in which
// nobody answers.
func (d *networkDaemon) choose(ctx context.Context, m *managed, able bool) {
	n := m.network
	part := n.Master.Kind == "bond" || n.Master.Kind == "bridge"
	wanted := n.LinkLocalIPv4 && !part && (!n.DHCP4 || m.dhcp4.lease == nil && (m.dhcp4.problem != "" || m.ownChoice.address.IsValid()))
	c := &m.ownChoice
	switch {
	case !wanted:
		c.end()
		c.address = netip.Addr{}
	case !able:
		c.end() // the address stays, and is probed when the link is back
	case c.stop == nil:
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		index := m.link.Index
		client := ipv4ll.Client{Interface: m.link.Match.Name, HWAddr: m.link.HWAddr, First: n.LinkLocalStart, Log: d.log}
		if c.address.IsValid() {
			client.First = c.address
		}
		go func() {
			defer close(done)
			client.Run(ctx, func(address netip.Addr) {
				select {
				case d.events <- event{index: index, linkLocal: &address}:
				case <-ctx.Done():
				}
			})
		}()
		c.stop = func() { cancel(); <-done }
	}
}
