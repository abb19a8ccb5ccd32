// Package plan compares what an interface should have with what it has and
// says what to do, each task with its reason. It is for the network daemon and
// knows nothing of netlink.
//
// An interface is not ours alone: addresses that somebody else added, and
// routes that do not carry our marks, are left alone.
package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Origin is who wants a route; the kernel keeps it with the route (rtnetlink's
// protocol), so that a restarted daemon knows its own.
type Origin int

// Origins.
const (
	Foreign Origin = iota
	Static
	DHCP
)

// Forever is the lifetime of an address that does not expire.
const Forever = time.Duration(1<<63 - 1)

// Address is an address of an interface.
type Address struct {
	Prefix netip.Prefix
	Left   time.Duration // until the kernel takes it away; Forever if never
}

// Route is a route over an interface.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr // not valid: on the link
	Source      netip.Addr // not valid: the kernel chooses
	Metric      int
	OnLink      bool
	Origin      Origin
}

// Config is an interface as it is or as it should be.
type Config struct {
	Up        bool
	MTU       int // 0 in a wanted one: as it is
	Addresses []Address
	Routes    []Route
}

// Kind is a kind of task.
type Kind string

// Kinds, in the order in which they are done.
const (
	SetUp         Kind = "up"
	SetMTU        Kind = "mtu"
	AddAddress    Kind = "add address" // or change its lifetime
	AddRoute      Kind = "add route"   // or replace the one to the same place
	RemoveRoute   Kind = "remove route"
	RemoveAddress Kind = "remove address"
)

// Task is one thing to do.
type Task struct {
	Kind    Kind
	Address Address
	Route   Route
	MTU     int
	Reason  string
}

// String is the task for the log.
func (t Task) String() string {
	switch t.Kind {
	case AddAddress, RemoveAddress:
		return fmt.Sprintf("%s %v: %s", t.Kind, t.Address.Prefix, t.Reason)
	case AddRoute, RemoveRoute:
		text := fmt.Sprintf("%s %v", t.Kind, t.Route.Destination)
		if t.Route.Gateway.IsValid() {
			text += fmt.Sprintf(" via %v", t.Route.Gateway)
		}
		return text + ": " + t.Reason
	}
	return fmt.Sprintf("%s: %s", t.Kind, t.Reason)
}

// tolerance is by how much a lifetime may differ before it is set again.
const tolerance = 5 * time.Second

// Make plans. own are the addresses that we gave the interface before.
func Make(want, have Config, own []netip.Prefix) []Task {
	var tasks []Task
	if want.Up && !have.Up {
		tasks = append(tasks, Task{Kind: SetUp, Reason: "it is managed"})
	}
	if want.MTU != 0 && want.MTU != have.MTU {
		tasks = append(tasks, Task{Kind: SetMTU, MTU: want.MTU, Reason: fmt.Sprintf("it is %d, want %d", have.MTU, want.MTU)})
	}
	tasks = append(tasks, addAddresses(want, have)...)
	tasks = append(tasks, addRoutes(want, have)...)
	for _, route := range have.Routes {
		if route.Origin == Foreign || slices.ContainsFunc(want.Routes, func(r Route) bool { return samePlace(r, route) }) {
			continue
		}
		tasks = append(tasks, Task{Kind: RemoveRoute, Route: route, Reason: "no longer wanted"})
	}
	for _, address := range have.Addresses {
		if slices.Contains(own, address.Prefix) && !slices.ContainsFunc(want.Addresses, func(a Address) bool { return a.Prefix == address.Prefix }) {
			tasks = append(tasks, Task{Kind: RemoveAddress, Address: address, Reason: "no longer wanted"})
		}
	}
	return tasks
}

func addAddresses(want, have Config) []Task {
	var tasks []Task
	for _, address := range want.Addresses {
		i := slices.IndexFunc(have.Addresses, func(a Address) bool { return a.Prefix == address.Prefix })
		switch {
		case i < 0:
			tasks = append(tasks, Task{Kind: AddAddress, Address: address, Reason: "the interface does not have it"})
		case differ(address.Left, have.Addresses[i].Left):
			tasks = append(tasks, Task{Kind: AddAddress, Address: address, Reason: "its lifetime changed"})
		}
	}
	return tasks
}

func differ(a, b time.Duration) bool {
	if a == Forever || b == Forever {
		return a != b
	}
	return a-b > tolerance || b-a > tolerance
}

// addRoutes puts routes on the link in front of those by a gateway, which the
// kernel accepts only when it can reach the gateway.
func addRoutes(want, have Config) []Task {
	var onLink, byGateway []Task
	for _, route := range want.Routes {
		if slices.Contains(have.Routes, route) {
			continue
		}
		reason := "the interface does not have it"
		if slices.ContainsFunc(have.Routes, func(r Route) bool { return samePlace(r, route) }) {
			reason = "it went elsewhere"
		}
		task := Task{Kind: AddRoute, Route: route, Reason: reason}
		if route.Gateway.IsValid() {
			byGateway = append(byGateway, task)
		} else {
			onLink = append(onLink, task)
		}
	}
	return append(onLink, byGateway...)
}

// samePlace is true for routes of which the kernel keeps only one.
func samePlace(a, b Route) bool {
	return a.Destination == b.Destination && a.Metric == b.Metric
}
