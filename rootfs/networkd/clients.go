package networkd

import (
	"context"
	"encoding/binary"
	"hash/crc32"

	"github.com/coracle-os/coracle/rootfs/network/dhcp"
	"github.com/coracle-os/coracle/rootfs/network/dhcp6"
	"github.com/coracle-os/coracle/rootfs/network/lease"
	"github.com/coracle-os/coracle/rootfs/network/ra"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// clients starts and ends the DHCP clients and the listener of an interface.
func (d *networkDaemon) clients(ctx context.Context, m *managed) {
	able := m.link.Carrier && len(m.link.HWAddr) == 6
	cameUp := m.link.Carrier && !m.carrier
	m.carrier = m.link.Carrier
	d.client4(ctx, m, able, cameUp)
	d.choose(ctx, m, able)
	d.listener(ctx, m, able && d.acceptsRouters(m))
	d.client6(ctx, m, able, cameUp)
}

func (d *networkDaemon) client4(ctx context.Context, m *managed, able, cameUp bool) {
	s := &m.dhcp4
	if !m.network.DHCP4 && (s.lease != nil || s.stop != nil) {
		s.forget()
	}
	wanted := able && m.network.DHCP4
	switch {
	case wanted && s.stop == nil:
		if cameUp {
			s.machine.LinkUp()
		}
		o := m.network.DHCPv4
		s.again = make(chan struct{}, 1)
		client := dhcp.Client{Interface: m.link.Match.Name, HWAddr: m.link.HWAddr, Hostname: d.sendName(o.SendHostname, o.Hostname), Log: d.log,
			VendorClass: o.VendorClass, Address: o.RequestAddress, Decline: o.SendDecline, Again: s.again}
		if o.ClientIdentifier == "duid" {
			client.Identifier = identifier(m)
		}
		d.start(ctx, m, s, false, client.Run)
	case !wanted:
		s.end()
	}
}

// identifier is that of RFC 4361, with the DUID that DHCPv6 uses.
func identifier(m *managed) []byte {
	id := binary.BigEndian.AppendUint32([]byte{255}, crc32.ChecksumIEEE([]byte(m.link.Match.Name)))
	duid := dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: m.link.HWAddr}
	return append(id, duid.ToBytes()...)
}

// acceptsRouters tells whether advertisements count, as the plan's setting of
// the kernel has it.
func (d *networkDaemon) acceptsRouters(m *managed) bool {
	n := m.network
	switch {
	case n.Master.Kind == "bond" || n.Master.Kind == "bridge":
		return false
	case n.AcceptRA != nil:
		return *n.AcceptRA
	}
	return n.LinkLocalIPv6 && (n.Forward6 == nil || !*n.Forward6)
}

func (d *networkDaemon) listener(ctx context.Context, m *managed, wanted bool) {
	switch {
	case wanted && m.listening == nil:
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		index, name := m.link.Index, m.link.Match.Name
		go func() {
			defer close(done)
			err := ra.Listen(ctx, name, func(a ra.Advertisement) {
				select {
				case d.events <- event{index: index, router: &a}:
				case <-ctx.Done():
				}
			})
			if err != nil && ctx.Err() == nil {
				d.log.Debug(name + ": " + err.Error())
			}
		}()
		m.listening = func() {
			cancel()
			<-done
			m.listening = nil
		}
	case !wanted && m.listening != nil:
		m.deafen()
	}
}

// deafen ends the listener and forgets what routers said.
func (m *managed) deafen() {
	if m.listening != nil {
		m.listening()
	}
	m.router, m.heard = ra.Known{}, false
}

// client6 asks what the file or the routers want to be asked.
func (d *networkDaemon) client6(ctx context.Context, m *managed, able, cameUp bool) {
	s := &m.dhcp6
	managed, other := m.router.Managed, m.router.Other
	if m.network.RA.Client == "no" {
		managed, other = false, false
	}
	if m.network.RA.Client == "always" && m.heard {
		managed = true
	}
	switch m.network.DHCPv6.Without {
	case "solicit":
		managed = true
	case "information-request":
		other = true
	}
	// As with systemd, routers' flags count even where DHCP= is not written;
	// "no" is the word against it in [IPv6AcceptRA].
	wanted := able && (managed || other) && (m.network.DHCP6 || m.heard)
	if s.stop != nil && wanted && m.stateless != !managed {
		s.forget()
	}
	switch {
	case wanted && s.stop == nil:
		if cameUp {
			s.machine.LinkUp()
		}
		if m.stateless = !managed; m.stateless {
			s.machine = lease.Machine{}
		}
		o := m.network.DHCPv6
		s.again = make(chan struct{}, 1)
		client := dhcp6.Client{Interface: m.link.Match.Name, HWAddr: m.link.HWAddr, Hostname: d.sendName(o.SendHostname, o.Hostname),
			Stateless: m.stateless, RapidCommit: o.RapidCommit, Log: d.log, Again: s.again}
		d.start(ctx, m, s, true, client.Run)
	case !wanted && able && s.stop != nil:
		s.forget()
	case !wanted:
		s.end()
	}
}

// start runs a client of a session.
func (d *networkDaemon) start(ctx context.Context, m *managed, s *session, v6 bool, run func(context.Context, lease.Machine, func(dhcp.Report)) lease.Machine) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan lease.Machine, 1)
	index, machine := m.link.Index, s.machine
	go func() {
		defer cancel()
		done <- run(ctx, machine, func(report dhcp.Report) {
			select {
			case d.events <- event{index: index, v6: v6, report: report}:
			case <-ctx.Done():
			}
		})
	}()
	s.stop = func() {
		cancel()
		s.machine = <-done
		s.stop = nil
	}
}

// outlive makes a lease one without end, if there is one and its interface's
// file wants to keep what it has.
func (s *session) outlive(keep bool) bool {
	if !keep || s.lease == nil {
		return false
	}
	kept := *s.lease
	kept.Lifetime, kept.Preferred = lease.Forever, 0
	s.lease = &kept
	return true
}

// news takes the news of a client or a listener.
func (d *networkDaemon) news(e event) {
	m := d.managed[e.index]
	if m == nil {
		return
	}
	if e.linkLocal != nil {
		m.ownChoice.take(*e.linkLocal)
		d.remember(m)
		return
	}
	if e.router != nil {
		m.heard = true
		m.router.Take(*e.router, dhcp.Uptime())
		return
	}
	s := &m.dhcp4
	if e.v6 {
		s = &m.dhcp6
	}
	if s.stop == nil {
		return
	}
	s.problem = e.report.Problem
	if e.report.Lease != nil || e.report.Refused || !s.outlive(m.network.KeepLease) {
		s.lease = e.report.Lease
	}
	d.remember(m)
	if s.lease != nil && !e.v6 && m.network.DHCPv4.UseHostname {
		d.takeName(s.lease.Hostname)
	}
}
