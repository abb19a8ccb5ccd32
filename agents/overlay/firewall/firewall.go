// Package firewall keeps the overlay's nftables rules as flannel writes them
// (its pkg/trafficmngr/nftables): packets of the overlay are forwarded, and
// those that leave it get the machine's address. flannel writes them once;
// here they are looked at again whenever the kernel says that somebody changed
// a table, and written anew if they are not what they were.
//
// A table of our own marks what comes from the other machines, since Docker
// drops what comes to a port of a container that is not published, unless it
// has a mark (dockerd's --bridge-accept-fwmark).
//
// The rules stay when the program ends, as flannel's devices and routes do, so
// that containers do not notice its restart.
package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Rules is what is to be kept.
type Rules struct {
	Config      *subnet.Config
	Lease       *lease.Lease
	Masquerade  bool
	RandomPorts bool // of masqueraded connections
	Forward     bool
	// Interface is the one that packets of other machines come in by; it may
	// end with "*".
	Interface string
	// Machines are the other machines' addresses, whose own packets come by
	// Interface too; nil when those have addresses of the overlay.
	Machines func() []netip.Addr
	// Changed tells that Machines gives others; nil for never.
	Changed <-chan struct{}
}

// Mark is the bit of a packet's mark that other machines' packets get. Neither
// Docker nor flannel uses it.
const Mark = 0x100000

// table is ours, with the chain that marks.
const table = "coracle-overlay"

// tables are flannel's, and ours.
var tables = [][]string{{"ip", "flannel-ipv4"}, {"ip6", "flannel-ipv6"}, {"inet", table}}

// Keep writes the rules and puts them back until ctx ends. Looks are at least
// pause apart.
func Keep(ctx context.Context, r Rules, pause time.Duration, log *slog.Logger) {
	changes := make(chan struct{}, 1)
	go func() {
		for ctx.Err() == nil {
			if err := changed(ctx, changes); err != nil && ctx.Err() == nil {
				log.Warn("changes of the firewall are seen late", "error", err)
			}
			wait(ctx, pause)
		}
	}()
	written, wrote := "", ""
	for ctx.Err() == nil {
		is, marks := list(ctx), marks(r)
		if wrote == marks && is != written {
			log.Warn("another program changed the overlay's firewall rules; they are written again")
		}
		if wrote != marks || is != written {
			if err := writeAll(ctx, r, marks, &written); err != nil && ctx.Err() == nil {
				log.Error("the overlay's firewall rules are not all there", "error", err)
			}
			wrote = marks
		}
		wait(ctx, pause)
		select {
		case <-ctx.Done():
		case <-changes:
		case <-r.Changed:
		case <-time.After(time.Minute):
		}
	}
}

// marks is our table for nft(8). The chain comes before Docker's, which drop.
func marks(r Rules) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {}\ndelete table inet %s\ntable inet %s {\n\tchain marks {\n", table, table, table)
	b.WriteString("\t\ttype filter hook prerouting priority -310; policy accept;\n")
	rule := func(family, from, to string) {
		fmt.Fprintf(&b, "\t\tiifname %q %s saddr %s %s daddr %s meta mark set meta mark or %#x\n", r.Interface, family, from, family, to, Mark)
	}
	var machines []netip.Addr
	if r.Machines != nil {
		machines = r.Machines()
	}
	if r.Config.EnableIPv4 {
		rule("ip", r.Config.Network.String(), r.Lease.Subnet.String())
		if set := setOf(machines, netip.Addr.Is4); set != "" {
			rule("ip", set, r.Lease.Subnet.String())
		}
	}
	if r.Config.EnableIPv6 {
		rule("ip6", r.Config.IPv6Network.String(), r.Lease.IPv6Subnet.String())
		if set := setOf(machines, netip.Addr.Is6); set != "" {
			rule("ip6", set, r.Lease.IPv6Subnet.String())
		}
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

func setOf(all []netip.Addr, of func(netip.Addr) bool) string {
	var texts []string
	for _, a := range all {
		if of(a) {
			texts = append(texts, a.String())
		}
	}
	if len(texts) == 0 {
		return ""
	}
	slices.Sort(texts)
	return "{ " + strings.Join(slices.Compact(texts), ", ") + " }"
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// writeAll writes until the tables' text is the same twice: a change by another
// program between a write and the look must not be taken for what is right.
func writeAll(ctx context.Context, r Rules, marks string, written *string) error {
	for range 5 {
		if err := write(ctx, r, marks); err != nil {
			return err
		}
		before := *written
		if *written = list(ctx); *written == before {
			return nil
		}
	}
	return errors.New("another program changes them all the time")
}

// changed tells of every change of a table, until there is an error.
func changed(ctx context.Context, changes chan<- struct{}) error {
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return fmt.Errorf("listen for changes of tables: %w", err)
	}
	defer socket.Close()
	// A receive ends now and then to look at ctx.
	if err := socket.SetReceiveTimeout(&unix.Timeval{Sec: 1}); err != nil {
		return fmt.Errorf("listen for changes of tables: %w", err)
	}
	for ctx.Err() == nil {
		_, _, err := socket.Receive()
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil && err != unix.ENOBUFS {
			return fmt.Errorf("listen for changes of tables: %w", err)
		}
		select {
		case changes <- struct{}{}:
		default:
		}
	}
	return nil
}

func write(ctx context.Context, r Rules, marks string) error {
	nft := exec.CommandContext(ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(marks)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("write firewall rules: nft: %w: %s", err, strings.TrimSpace(string(out)))
	}
	var manager nftables.NFTablesManager
	if err := manager.Init(ctx); err != nil {
		return fmt.Errorf("write firewall rules: %w", err)
	}
	if r.Masquerade {
		var none ip.IP4Net
		err := manager.SetupAndEnsureMasqRules(ctx, r.Config.Network, none, none, r.Config.IPv6Network, ip.IP6Net{IP: new(ip.IP6)}, ip.IP6Net{IP: new(ip.IP6)}, r.Lease, 0, !r.RandomPorts)
		if err != nil {
			return fmt.Errorf("write firewall rules: %w", err)
		}
	}
	if r.Forward {
		manager.SetupAndEnsureForwardRules(ctx, r.Config.Network, r.Config.IPv6Network, 0)
	}
	return nil
}

// list is the tables' text.
func list(ctx context.Context) string {
	var b strings.Builder
	for _, table := range tables {
		out, err := exec.CommandContext(ctx, "nft", append([]string{"list", "table"}, table...)...).CombinedOutput()
		fmt.Fprintf(&b, "%s%v\n", out, err)
	}
	return b.String()
}
