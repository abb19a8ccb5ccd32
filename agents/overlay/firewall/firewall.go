// Package firewall keeps the overlay's nftables rules as flannel writes them
// (its pkg/trafficmngr/nftables): packets of the overlay are forwarded, and
// those that leave it get the machine's address. flannel writes them once;
// here they are looked at again whenever the kernel says that somebody changed
// a table, and written anew if they are not what they were.
package firewall

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
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
}

// tables are flannel's.
var tables = [][]string{{"ip", "flannel-ipv4"}, {"ip6", "flannel-ipv6"}}

// Keep writes the rules and puts them back until ctx ends; then it removes
// them. Looks are at least pause apart.
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
	written := ""
	for ctx.Err() == nil {
		if is := list(ctx); written == "" || is != written {
			if written != "" {
				log.Warn("another program changed the overlay's firewall rules; they are written again")
			}
			if err := write(ctx, r); err != nil && ctx.Err() == nil {
				log.Error("the overlay's firewall rules are not all there", "error", err)
			}
			written = list(ctx)
			drain(changes)
		}
		wait(ctx, pause)
		select {
		case <-ctx.Done():
		case <-changes:
		case <-time.After(time.Minute):
		}
	}
	(&nftables.NFTablesManager{}).CleanUp(context.WithoutCancel(ctx))
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func drain(changes <-chan struct{}) {
	select {
	case <-changes:
	default:
	}
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

func write(ctx context.Context, r Rules) error {
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
