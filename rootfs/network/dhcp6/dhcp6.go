// Package dhcp6 asks DHCPv6 servers on behalf of one interface: it runs the
// machine of package lease against the sockets of insomniacslk/dhcp. RFC 8415.
//
// With Stateless it asks for names and servers only, as a router's
// advertisement with the "other" flag wants it. Left out on purpose: prefix
// delegation, temporary addresses, more than one address, authentication, and
// CONFIRM: after the link was away a REBIND asks the same.
package dhcp6

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/dhcp"
	"github.com/coracle-os/coracle/rootfs/network/lease"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"
	"github.com/insomniacslk/dhcp/iana"
)

// Client asks for one interface.
type Client struct {
	Interface   string
	HWAddr      net.HardwareAddr
	Hostname    string // to send, "" = none
	Stateless   bool
	RapidCommit bool
	Log         *slog.Logger
	// Again has the lease asked for at once; may be nil.
	Again <-chan struct{}
}

// Times of one question, but those to renew or rebind, which package lease has.
const (
	firstTimeout = time.Second
	tries        = 3
)

// errRefused says that a server does not know the address any more.
var errRefused = errors.New("the server has no such address for this machine")

// Run keeps a lease until ctx ends, starting from machine, and tells every
// change. It returns the machine as it was last.
func (c *Client) Run(ctx context.Context, machine lease.Machine, tell func(dhcp.Report)) lease.Machine {
	for ctx.Err() == nil {
		action, at := machine.Next(dhcp.Uptime())
		if action == lease.Wait {
			select {
			case <-ctx.Done():
			case <-time.After(min(at-dhcp.Uptime(), time.Hour)):
			case <-c.Again:
				machine.Ask(dhcp.Uptime())
			}
			continue
		}
		c.do(ctx, &machine, action, at, tell)
	}
	return machine
}

func (c *Client) do(ctx context.Context, machine *lease.Machine, action lease.Action, until time.Duration, tell func(dhcp.Report)) {
	if action == lease.Expire {
		if c.Stateless {
			return // what it said holds until there is an answer
		}
		c.Log.Warn(fmt.Sprintf("%s: the DHCPv6 lease expired and nobody renewed it: the address is gone", c.Interface))
		tell(dhcp.Report{Problem: "the DHCPv6 lease expired"})
		return
	}
	limited, cancel := context.WithTimeout(ctx, until-dhcp.Uptime())
	timeout, sent := firstTimeout, tries
	if machine.State == lease.Renewing || machine.State == lease.Rebinding {
		timeout, sent = lease.Question6, 1
	}
	reply, err := c.ask(limited, action, machine.Lease, nclient6.WithTimeout(timeout), nclient6.WithRetry(sent))
	cancel()
	now := dhcp.Uptime()
	var got lease.Lease
	if err == nil {
		got, err = lease.FromReply(reply, c.Stateless, now)
	}
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errRefused):
		c.Log.Warn(fmt.Sprintf("%s: DHCPv6: %v", c.Interface, err))
		if machine.Refused(now) {
			tell(dhcp.Report{Problem: "the DHCPv6 server took the lease back", Refused: true})
		}
	case err != nil:
		machine.Failed6(now, rand.Float64())
		c.failed(machine, err, tell)
	default:
		c.got(machine, action, got)
		machine.Got(got)
		tell(dhcp.Report{Lease: &got})
	}
}

func (c *Client) got(machine *lease.Machine, action lease.Action, got lease.Lease) {
	switch {
	case c.Stateless:
		c.Log.Debug(fmt.Sprintf("%s: DHCPv6 gave %d name servers", c.Interface, len(got.DNS)))
	case action == lease.Acquire || machine.Lease.Address != got.Address || machine.Failures() > 0:
		c.Log.Info(fmt.Sprintf("%s: DHCPv6 address %v for %v", c.Interface, got.Address, got.Lifetime))
	}
}

// failed tells the owner, and the journal only at every doubling.
func (c *Client) failed(machine *lease.Machine, err error, tell func(dhcp.Report)) {
	text := "no DHCPv6 server answers"
	if !errors.Is(err, nclient6.ErrNoResponse) && !errors.Is(err, context.DeadlineExceeded) {
		text = err.Error()
	}
	if machine.State == lease.Init {
		tell(dhcp.Report{Problem: text})
	}
	if count := machine.Failures(); count&(count-1) == 0 {
		c.Log.Warn(fmt.Sprintf("%s: %s (%d times); still trying", c.Interface, text, count))
	}
}

// ask sends one question and waits for the answer.
func (c *Client) ask(ctx context.Context, action lease.Action, current lease.Lease, options ...nclient6.ClientOpt) (*dhcpv6.Message, error) {
	conn, err := c.listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask DHCPv6 servers: %w", err)
	}
	client, err := nclient6.NewWithConn(conn, c.HWAddr, append(options,
		nclient6.WithBroadcastAddr(&net.UDPAddr{IP: dhcpv6.AllDHCPRelayAgentsAndServers, Port: dhcpv6.DefaultServerPort, Zone: c.Interface}))...)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask DHCPv6 servers: %w", err)
	}
	defer client.Close()
	switch {
	case c.Stateless:
		question, err := c.message(dhcpv6.MessageTypeInformationRequest)
		if err != nil {
			return nil, err
		}
		return client.SendAndRead(ctx, client.RemoteAddr(), question, nclient6.IsMessageType(dhcpv6.MessageTypeReply))
	case action == lease.Acquire:
		return c.acquire(ctx, client)
	}
	return c.renew(ctx, client, action, current)
}

// listen waits for the link-local address to be free to use: until the kernel
// has looked for another one like it, it cannot be bound.
func (c *Client) listen(ctx context.Context) (net.PacketConn, error) {
	for {
		conn, err := nclient6.NewIPv6UDPConn(c.Interface, dhcpv6.DefaultClientPort)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *Client) acquire(ctx context.Context, client *nclient6.Client) (*dhcpv6.Message, error) {
	modifiers := append(c.modifiers(), dhcpv6.WithIAID(c.association()))
	if c.RapidCommit {
		solicit, err := dhcpv6.NewSolicit(c.HWAddr, append(modifiers, dhcpv6.WithRapidCommit)...)
		if err != nil {
			return nil, fmt.Errorf("ask DHCPv6 servers: %w", err)
		}
		answer, err := client.SendAndRead(ctx, client.RemoteAddr(), solicit, usable)
		if err != nil || answer.MessageType == dhcpv6.MessageTypeReply {
			return answer, err
		}
		return client.Request(ctx, answer, c.modifiers()...)
	}
	solicit, err := dhcpv6.NewSolicit(c.HWAddr, modifiers...)
	if err != nil {
		return nil, fmt.Errorf("ask DHCPv6 servers: %w", err)
	}
	answer, err := client.SendAndRead(ctx, client.RemoteAddr(), solicit, usable)
	if err != nil {
		return nil, err
	}
	return client.Request(ctx, answer, c.modifiers()...)
}

// usable passes over servers that have no address, so that another one's
// answer is taken (RFC 8415, section 18.2.9).
func usable(m *dhcpv6.Message) bool {
	if m.MessageType != dhcpv6.MessageTypeReply && m.MessageType != dhcpv6.MessageTypeAdvertise {
		return false
	}
	association := m.Options.OneIANA()
	return association != nil && len(association.Options.Addresses()) > 0
}

func (c *Client) renew(ctx context.Context, client *nclient6.Client, action lease.Action, current lease.Lease) (*dhcpv6.Message, error) {
	before, err := dhcpv6.MessageFromBytes(current.ACK)
	if err != nil {
		return nil, fmt.Errorf("read the stored lease: %w", err)
	}
	kind := dhcpv6.MessageTypeRebind
	if action == lease.Renew {
		kind = dhcpv6.MessageTypeRenew
	}
	question, err := c.message(kind)
	if err != nil {
		return nil, err
	}
	if server := before.GetOneOption(dhcpv6.OptionServerID); kind == dhcpv6.MessageTypeRenew && server != nil {
		question.AddOption(server)
	}
	question.AddOption(&dhcpv6.OptIANA{IaId: c.association(), Options: dhcpv6.IdentityOptions{Options: dhcpv6.Options{
		&dhcpv6.OptIAAddress{IPv6Addr: current.Address.Addr().AsSlice()}}}})
	answer, err := client.SendAndRead(ctx, client.RemoteAddr(), question, nclient6.IsMessageType(dhcpv6.MessageTypeReply))
	if err != nil {
		return nil, err
	}
	// The server gave the address to another or forgot it: it says NoBinding,
	// or lets the address live for no time.
	if association := answer.Options.OneIANA(); association != nil {
		status := association.Options.Status()
		address := association.Options.OneAddress()
		if (status != nil && status.StatusCode != iana.StatusSuccess) || (address != nil && address.ValidLifetime == 0) {
			return nil, errRefused
		}
	}
	return answer, nil
}

// message begins one that is not for a new lease.
func (c *Client) message(kind dhcpv6.MessageType) (*dhcpv6.Message, error) {
	m, err := dhcpv6.NewMessage()
	if err != nil {
		return nil, fmt.Errorf("ask DHCPv6 servers: %w", err)
	}
	m.MessageType = kind
	m.AddOption(dhcpv6.OptElapsedTime(0))
	for _, modify := range c.modifiers() {
		modify(m)
	}
	return m, nil
}

func (c *Client) modifiers() []dhcpv6.Modifier {
	requested := []dhcpv6.OptionCode{dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList, dhcpv6.OptionNTPServer}
	if c.Stateless {
		requested = append(requested, dhcpv6.OptionInformationRefreshTime)
	}
	modifiers := []dhcpv6.Modifier{
		// Of the hardware, so that it is the same after a new installation.
		dhcpv6.WithClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: c.HWAddr}),
		dhcpv6.WithRequestedOptions(requested...),
	}
	if c.Hostname != "" && !c.Stateless {
		modifiers = append(modifiers, dhcpv6.WithFQDN(1, c.Hostname)) // 1: the server may enter it
	}
	return modifiers
}

// association is the number of the identity association, stable for a name.
func (c *Client) association() (id [4]byte) {
	binary.BigEndian.PutUint32(id[:], crc32.ChecksumIEEE([]byte(c.Interface)))
	return id
}
