// Package dhcp asks DHCPv4 servers on behalf of one interface: it runs the
// machine of package lease against the sockets of insomniacslk/dhcp.
//
// Left out on purpose: releasing an address when the daemon stops (the machine
// restarts with the same one).
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/acd"
	"github.com/coracle-os/coracle/rootfs/network/lease"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/sys/unix"
)

// Client asks for one interface.
type Client struct {
	Interface string
	HWAddr    net.HardwareAddr
	Hostname  string // to send, "" = none
	Log       *slog.Logger

	Identifier  []byte     // the client identifier to send, nil = none: servers take the hardware's address
	VendorClass string     // "" = none
	Address     netip.Addr // that is asked for first; not valid: none
	// Decline has a new address probed for another machine that has it, and
	// refused then. It delays the first lease by a second.
	Decline bool
	// Again has the lease asked for at once; may be nil.
	Again <-chan struct{}
}

// Report is what happened to the lease. Lease is nil when it was lost.
type Report struct {
	Lease   *lease.Lease
	Problem string // for the owner; "" when all is well
	Refused bool   // the server took the lease back
}

// Times of one question: the first try, doubled for each more.
const (
	firstTimeout = time.Second
	tries        = 3
)

// Uptime is the clock of leases: time since boot.
func Uptime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return time.Duration(now.Nano())
}

// Run keeps a lease until ctx ends, starting from machine, and tells every
// change. It returns the machine as it was last.
func (c *Client) Run(ctx context.Context, machine lease.Machine, tell func(Report)) lease.Machine {
	for ctx.Err() == nil {
		action, at := machine.Next(Uptime())
		if action == lease.Wait {
			select {
			case <-ctx.Done():
			case <-time.After(min(at-Uptime(), time.Hour)):
			case <-c.Again:
				machine.Ask(Uptime())
			}
			continue
		}
		c.do(ctx, &machine, action, at, tell)
	}
	return machine
}

func (c *Client) do(ctx context.Context, machine *lease.Machine, action lease.Action, until time.Duration, tell func(Report)) {
	if action == lease.Expire {
		c.Log.Warn(fmt.Sprintf("%s: the lease expired and nobody renewed it: the address is gone", c.Interface))
		tell(Report{Problem: "the lease expired"})
		return
	}
	limited, cancel := context.WithTimeout(ctx, until-Uptime())
	ack, err := c.ask(limited, action, machine.Lease)
	cancel()
	now := Uptime()
	var got lease.Lease
	if err == nil {
		got, err = lease.FromACK(ack, now)
	}
	if err == nil && c.Decline && (action == lease.Acquire || got.Address != machine.Lease.Address) {
		err = c.probe(ctx, got, ack)
	}
	var refusal *nclient4.ErrNak
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errTaken):
		c.Log.Warn(fmt.Sprintf("%s: %v; it is refused and another one asked for", c.Interface, err))
		machine.Refused(now + afterDecline)
		tell(Report{Problem: err.Error()})
	case errors.As(err, &refusal):
		c.Log.Warn(fmt.Sprintf("%s: DHCP server: %v", c.Interface, err))
		if machine.Refused(now) {
			tell(Report{Problem: "the server took the lease back", Refused: true})
		}
	case err != nil:
		machine.Failed(now, rand.Float64())
		c.failed(machine, action, err, tell)
	default:
		c.got(machine, action, got)
		machine.Got(got)
		tell(Report{Lease: &got})
	}
}

// got logs a lease: a new one for all to see, a renewal for those who look.
func (c *Client) got(machine *lease.Machine, action lease.Action, got lease.Lease) {
	level := slog.LevelInfo
	if action != lease.Acquire && machine.Lease.Address == got.Address && machine.Failures() == 0 {
		level = slog.LevelDebug
	}
	span := "forever"
	if got.Lifetime != lease.Forever {
		span = "for " + got.Lifetime.String()
	}
	c.Log.Log(context.Background(), level, fmt.Sprintf("%s: DHCPv4 address %v from %v %s", c.Interface, got.Address, got.Server, span))
}

// failed tells the owner, and then only at every doubling, so that a machine
// without a server does not fill its journal.
func (c *Client) failed(machine *lease.Machine, action lease.Action, err error, tell func(Report)) {
	count := machine.Failures()
	text := "no DHCP server answers"
	if !errors.Is(err, nclient4.ErrNoResponse) && !errors.Is(err, context.DeadlineExceeded) {
		text = err.Error()
	}
	if machine.State == lease.Init {
		tell(Report{Problem: text})
	}
	if count&(count-1) == 0 {
		what := "still trying"
		if action != lease.Acquire {
			what = "the lease holds until it expires"
		}
		c.Log.Warn(fmt.Sprintf("%s: %s (%d times); %s", c.Interface, text, count, what))
	}
}

// ask sends one question and waits for the answer.
func (c *Client) ask(ctx context.Context, action lease.Action, current lease.Lease) (*dhcpv4.DHCPv4, error) {
	options := []nclient4.ClientOpt{nclient4.WithHWAddr(c.HWAddr), nclient4.WithTimeout(firstTimeout), nclient4.WithRetry(tries)}
	if action == lease.Renew {
		options = append(options,
			// Not bound to the address: a server's no is broadcast (RFC 2131, section 4.3.2).
			nclient4.WithUnicast(&net.UDPAddr{IP: net.IPv4zero, Port: nclient4.ClientPort}),
			nclient4.WithServerAddr(&net.UDPAddr{IP: current.Server.AsSlice(), Port: nclient4.ServerPort}))
	}
	client, err := nclient4.New(c.Interface, options...)
	if err != nil {
		return nil, fmt.Errorf("ask DHCP servers: %w", err)
	}
	defer client.Close()
	if action == lease.Acquire {
		modifiers := c.modifiers()
		if c.Address.Is4() {
			modifiers = append(modifiers, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(c.Address.AsSlice())))
		}
		answer, err := client.Request(ctx, modifiers...)
		if err != nil {
			return nil, err
		}
		return answer.ACK, nil
	}
	before, err := dhcpv4.FromBytes(current.ACK)
	if err != nil {
		return nil, fmt.Errorf("read the stored lease: %w", err)
	}
	request, err := dhcpv4.NewRenewFromAck(before, c.modifiers()...)
	if action == lease.Confirm {
		// As after a restart (RFC 2131, section 4.3.2): a server of another
		// network says no to it.
		request, err = dhcpv4.New(append(c.modifiers(), dhcpv4.WithHwAddr(c.HWAddr), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
			dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(current.Address.Addr().AsSlice())))...)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for renewal: %w", err)
	}
	answer, err := client.SendAndRead(ctx, client.RemoteAddr(), request, nclient4.IsMessageType(dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak))
	if err != nil {
		return nil, err
	}
	if answer.MessageType() == dhcpv4.MessageTypeNak {
		return nil, &nclient4.ErrNak{Nak: answer}
	}
	return complete(answer, before), nil
}

// complete fills in what servers leave out of a renewal: their own address,
// and the options that they gave the first time.
func complete(answer, before *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	for code, value := range before.Options {
		if !answer.Options.Has(dhcpv4.GenericOptionCode(code)) && code != dhcpv4.OptionIPAddressLeaseTime.Code() {
			answer.Options[code] = value
		}
	}
	return answer
}

func (c *Client) modifiers() []dhcpv4.Modifier {
	modifiers := []dhcpv4.Modifier{
		dhcpv4.WithRequestedOptions(
			dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionClasslessStaticRoute,
			dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList,
			dhcpv4.OptionHostName, dhcpv4.OptionNTPServers, dhcpv4.OptionInterfaceMTU,
			dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(nclient4.MaxMessageSize)),
	}
	if c.Hostname != "" {
		modifiers = append(modifiers, dhcpv4.WithOption(dhcpv4.OptHostName(c.Hostname)))
	}
	return append(modifiers, c.identity()...)
}

// identity is what a server knows the client by.
func (c *Client) identity() (modifiers []dhcpv4.Modifier) {
	if len(c.Identifier) > 0 {
		modifiers = append(modifiers, dhcpv4.WithOption(dhcpv4.OptClientIdentifier(c.Identifier)))
	}
	if c.VendorClass != "" {
		modifiers = append(modifiers, dhcpv4.WithOption(dhcpv4.OptClassIdentifier(c.VendorClass)))
	}
	return modifiers
}

// afterDecline is how long to wait after an address was refused (RFC 2131,
// section 3.1, step 5), beside the pause after any refusal.
const afterDecline = 8 * time.Second

var errTaken = errors.New("another machine has the address")

// probe looks for another machine with the address, and refuses it then.
func (c *Client) probe(ctx context.Context, got lease.Lease, ack *dhcpv4.DHCPv4) error {
	other, err := acd.Probe(ctx, c.Interface, c.HWAddr, got.Address.Addr())
	if err != nil || other == nil {
		return err
	}
	// A server that does not hear it offers the address once more.
	if err := c.decline(ack); err != nil {
		c.Log.Warn(fmt.Sprintf("%s: %v", c.Interface, err))
	}
	return fmt.Errorf("%w %v: %v", errTaken, got.Address.Addr(), other)
}

func (c *Client) decline(ack *dhcpv4.DHCPv4) error {
	client, err := nclient4.New(c.Interface, nclient4.WithHWAddr(c.HWAddr), nclient4.WithTimeout(100*time.Millisecond), nclient4.WithRetry(1))
	if err != nil {
		return fmt.Errorf("refuse the address: %w", err)
	}
	defer client.Close()
	message, err := dhcpv4.New(append(c.identity(), dhcpv4.WithHwAddr(c.HWAddr), dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ack.ServerIdentifier())),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ack.YourIPAddr)))...)
	if err != nil {
		return fmt.Errorf("refuse the address: %w", err)
	}
	// Nobody answers a DHCPDECLINE.
	if _, err := client.SendAndRead(context.Background(), client.RemoteAddr(), message, nil); err != nil && !errors.Is(err, nclient4.ErrNoResponse) {
		return fmt.Errorf("refuse the address: %w", err)
	}
	return nil
}
