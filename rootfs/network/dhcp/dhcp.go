// Package dhcp asks DHCPv4 servers on behalf of one interface: it runs the
// machine of package lease against the sockets of insomniacslk/dhcp.
//
// Left out on purpose: probing whether another machine has the address already
// (servers do that), releasing it when the daemon stops (the machine restarts
// with the same address), and DHCPv6.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

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
}

// Report is what happened to the lease. Lease is nil when it was lost.
type Report struct {
	Lease   *lease.Lease
	Problem string // for the owner; "" when all is well
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
	var refusal *nclient4.ErrNak
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &refusal):
		c.Log.Warn(fmt.Sprintf("%s: DHCP server: %v", c.Interface, err))
		if machine.Refused(now) {
			tell(Report{Problem: "the server took the lease back"})
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
			nclient4.WithUnicast(&net.UDPAddr{IP: current.Address.Addr().AsSlice(), Port: nclient4.ClientPort}),
			nclient4.WithServerAddr(&net.UDPAddr{IP: current.Server.AsSlice(), Port: nclient4.ServerPort}))
	}
	client, err := nclient4.New(c.Interface, options...)
	if err != nil {
		return nil, fmt.Errorf("ask DHCP servers: %w", err)
	}
	defer client.Close()
	if action == lease.Acquire {
		answer, err := client.Request(ctx, c.modifiers()...)
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
	return modifiers
}
