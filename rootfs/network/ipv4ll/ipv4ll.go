// Package ipv4ll gives an interface an IPv4 address by itself, from
// 169.254.0.0/16, where no server gives one: RFC 3927. It is for the network
// daemon, which puts the address that it tells on the interface.
//
// The first address that is tried follows from the hardware's, so that a
// machine has the same one each time. An address is defended once in ten
// seconds; who insists gets it, and the next one is tried.
package ipv4ll

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/acd"
)

// Prefix is the length of the network's, in bits.
const Prefix = 16

// Times of RFC 3927, section 9.
const (
	probeWait     = time.Second
	probes        = 3
	probeMin      = time.Second
	probeMax      = 2 * time.Second
	announceWait  = 2 * time.Second
	announcements = 2
	maxConflicts  = 10
	rateLimit     = 60 * time.Second
	defend        = 10 * time.Second
)

// Candidates are the addresses that a machine tries, in order; they do not end.
type Candidates struct{ random *rand.Rand }

// NewCandidates are those of a machine with the hardware address.
func NewCandidates(mac net.HardwareAddr) Candidates {
	hash := fnv.New64a()
	hash.Write(mac)
	return Candidates{rand.New(rand.NewPCG(hash.Sum64(), 0))}
}

// Next is the next one: 169.254.1.0 to 169.254.254.255, for the first and the
// last 256 addresses are reserved.
func (c Candidates) Next() netip.Addr {
	n := c.random.IntN(254 * 256)
	return netip.AddrFrom4([4]byte{169, 254, byte(1 + n/256), byte(n % 256)})
}

// Client keeps an address of one interface.
type Client struct {
	Interface string
	HWAddr    net.HardwareAddr
	// First is tried before the others: what the interface had before, or what
	// its file wants. Not valid: none.
	First netip.Addr
	Log   *slog.Logger
}

// Run works until ctx ends and tells every change; the address that is not
// valid says that the one before has to go.
func (c *Client) Run(ctx context.Context, tell func(netip.Addr)) {
	candidates := NewCandidates(c.HWAddr)
	next, conflicts := c.First, 0
	for ctx.Err() == nil {
		if !next.IsValid() {
			next = candidates.Next()
		}
		lost, err := c.use(ctx, next, tell)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.Log.Debug(fmt.Sprintf("%s: %v", c.Interface, err))
			pause(ctx, probeMax)
			continue
		}
		if lost {
			conflicts = 0
		}
		next = netip.Addr{}
		if conflicts++; conflicts >= maxConflicts {
			c.Log.Warn(fmt.Sprintf("%s: %d link-local addresses in a row are in use; the next one is tried in %v", c.Interface, conflicts, rateLimit))
			pause(ctx, rateLimit)
		}
	}
}

// use probes an address and keeps it until another machine has it; lost tells
// that it was ours.
func (c *Client) use(ctx context.Context, address netip.Addr, tell func(netip.Addr)) (lost bool, err error) {
	conn, err := acd.Open(c.Interface, c.HWAddr)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	other, err := c.probe(ctx, conn, address)
	if err != nil {
		return false, fmt.Errorf("probe %v: %w", address, err)
	}
	if other != nil {
		c.Log.Info(fmt.Sprintf("%s: the link-local address %v is that of %v; another one is tried", c.Interface, address, other))
		return false, nil
	}
	c.Log.Info(fmt.Sprintf("%s: link-local address %v", c.Interface, address))
	tell(address)
	err = c.keep(ctx, conn, address)
	if ctx.Err() != nil {
		return true, nil // the daemon decides about the address
	}
	tell(netip.Addr{})
	return true, err
}

func (c *Client) probe(ctx context.Context, conn *acd.Conn, address netip.Addr) (net.HardwareAddr, error) {
	wait := rand.N(probeWait)
	for range probes {
		if other, err := conn.Hear(ctx, address, time.Now().Add(wait), false); err != nil || other != nil {
			return other, err
		}
		if err := conn.Ask(address); err != nil {
			return nil, err
		}
		wait = probeMin + rand.N(probeMax-probeMin)
	}
	return conn.Hear(ctx, address, time.Now().Add(announceWait), false)
}

// keep announces the address and returns when another machine insists on it.
func (c *Client) keep(ctx context.Context, conn *acd.Conn, address netip.Addr) error {
	var defended time.Time
	for i := 0; ; i++ {
		wait := time.Hour
		if i < announcements {
			if err := conn.Announce(address); err != nil {
				return err
			}
			wait = announceWait
		}
		other, err := conn.Hear(ctx, address, time.Now().Add(wait), true)
		switch {
		case err != nil:
			return err
		case other == nil:
		case time.Since(defended) < defend:
			c.Log.Warn(fmt.Sprintf("%s: %v insists on the link-local address %v; it goes", c.Interface, other, address))
			return nil
		default:
			defended = time.Now()
			c.Log.Warn(fmt.Sprintf("%s: %v says that it has the link-local address %v, too", c.Interface, other, address))
			if err := conn.Announce(address); err != nil {
				return err
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
