package plan

import (
	"net/netip"
	"slices"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/network/lease"
)

// Want is what an interface should have by its .network file and, if not nil,
// its lease, at the time now since boot.
func Want(network config.Network, l *lease.Lease, now time.Duration) Config {
	want := Config{Up: true, MTU: network.MTU}
	for _, prefix := range network.Addresses {
		want.Addresses = append(want.Addresses, Address{Prefix: prefix, Left: Forever})
	}
	if l != nil {
		want.addLease(network, l, now)
	}
	for _, route := range network.Routes {
		// A file's gateway may be reachable only through a lease that is not
		// there; the kernel would refuse it, again and again.
		if !route.OnLink && route.Gateway.Is4() && !reachable(route.Gateway, want.Addresses) {
			continue
		}
		want.addRoute(Route{Destination: route.Destination, Gateway: route.Gateway, Source: route.Source,
			Metric: route.Metric, OnLink: route.OnLink, Origin: Static})
	}
	return want
}

func (c *Config) addLease(network config.Network, l *lease.Lease, now time.Duration) {
	left := Forever
	if end := l.ExpiresAt(); end != lease.Forever {
		left = end - now
	}
	if slices.ContainsFunc(c.Addresses, func(a Address) bool { return a.Prefix == l.Address }) {
		left = Forever // the owner wrote the same address
	} else {
		c.Addresses = append(c.Addresses, Address{Prefix: l.Address, Left: left})
	}
	if c.MTU == 0 && network.DHCPv4.UseMTU {
		c.MTU = l.MTU
	}
	for _, route := range l.Routes {
		isDefault := route.Destination.Bits() == 0
		if !network.DHCPv4.UseRoutes || (isDefault && !network.DHCPv4.UseGateway) {
			continue
		}
		c.addRoute(Route{
			Destination: route.Destination, Gateway: route.Gateway, Source: l.Address.Addr(),
			Metric: network.DHCPv4.RouteMetric, Origin: DHCP,
			// Some clouds give a /32 and a gateway beside it.
			OnLink: route.Gateway.IsValid() && !l.Address.Masked().Contains(route.Gateway),
		})
	}
}

// addRoute adds a route unless there is one to the same place.
func (c *Config) addRoute(route Route) {
	if route.Metric == 0 && route.Destination.Addr().Is6() {
		route.Metric = 1024 // what the kernel makes of 0 (IP6_RT_PRIO_USER)
	}
	if !slices.ContainsFunc(c.Routes, func(r Route) bool { return samePlace(r, route) }) {
		c.Routes = append(c.Routes, route)
	}
}

func reachable(gateway netip.Addr, addresses []Address) bool {
	return slices.ContainsFunc(addresses, func(a Address) bool { return a.Prefix.Masked().Contains(gateway) })
}
