// Package plan compares what an interface should have with what it has and
// says what to do, each task with its reason; and which interfaces are to be
// made. It is for the network daemon and knows nothing of netlink.
//
// An interface is not ours alone: addresses that somebody else added, and
// routes and rules that do not carry our marks, are left alone.
package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/config"
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
	// Preferred is until it is no longer taken for new connections.
	Preferred time.Duration
	// Options count only when the address is added.
	Options config.Address
}

// Route is a route over an interface.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr // not valid: on the link
	Source      netip.Addr // not valid: the kernel chooses
	Metric      int
	OnLink      bool
	Table       int    // 0 = main
	Type        string // "" = unicast
	Scope       string // "", "link" or "host"
	MTU         int
	TCP         config.RouteTCP
	Origin      Origin
}

// Typed tells whether the route is of the machine and not of an interface:
// one that throws packets away.
func (r Route) Typed() bool { return r.Type != "" && r.Type != "local" }

// Setting is a value in a file of procfs or sysfs.
type Setting struct{ Path, Value, Reason string }

// Config is an interface as it is or as it should be.
type Config struct {
	Up        bool
	Down      bool // wanted: it is set down
	MTU       int  // 0 in a wanted one: as it is
	MAC       string
	Master    int             // index of the interface that it is a part of, -1 in a wanted one: as it is
	Bond      bool            // wanted: the master is a bond, which takes links that are down
	Flags     map[string]bool // "arp", "multicast", ...: only those that are wanted
	Addresses []Address
	Routes    []Route
	VLANs     []VLAN // of a port of a bridge
	Neighbors []config.Neighbor
	Settings  []Setting // wanted ones; those that it has are known to the caller
}

// VLAN is one of a port of a bridge.
type VLAN struct {
	ID             int
	PVID, Untagged bool
}

// Kind is a kind of task.
type Kind string

// Kinds, in the order in which they are done.
const (
	SetDown       Kind = "down"
	SetMAC        Kind = "address of hardware"
	SetMaster     Kind = "master"
	SetFlag       Kind = "flag"
	Set           Kind = "set"
	SetUp         Kind = "up"
	SetMTU        Kind = "mtu"
	AddVLAN       Kind = "add vlan"
	RemoveVLAN    Kind = "remove vlan"
	AddAddress    Kind = "add address" // or change its lifetime
	AddNeighbor   Kind = "add neighbor"
	AddRoute      Kind = "add route"
	AddRule       Kind = "add rule"
	RemoveRule    Kind = "remove rule"
	RemoveRoute   Kind = "remove route"
	RemoveAddress Kind = "remove address"
)

// Task is one thing to do.
type Task struct {
	Kind     Kind
	Address  Address
	Route    Route
	Rule     Rule
	VLAN     VLAN
	Neighbor config.Neighbor
	Setting  Setting
	Flag     string
	On       bool // of the flag
	MTU      int
	MAC      string
	Master   int
	Reason   string
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
	case AddRule, RemoveRule:
		return fmt.Sprintf("%s %v: %s", t.Kind, t.Rule, t.Reason)
	case Set:
		return fmt.Sprintf("set %s to %q: %s", t.Setting.Path, t.Setting.Value, t.Reason)
	case AddVLAN, RemoveVLAN:
		return fmt.Sprintf("%s %d: %s", t.Kind, t.VLAN.ID, t.Reason)
	case AddNeighbor:
		return fmt.Sprintf("%s %v: %s", t.Kind, t.Neighbor.Address, t.Reason)
	case SetFlag:
		return fmt.Sprintf("%s %s: %s", t.Kind, t.Flag, t.Reason)
	}
	return fmt.Sprintf("%s: %s", t.Kind, t.Reason)
}

// tolerance is by how much a lifetime may differ before it is set again.
const tolerance = 5 * time.Second

// Make plans. own are the addresses that we gave the interface before.
func Make(want, have Config, own []netip.Prefix) []Task {
	tasks := device(want, have)
	tasks = append(tasks, vlans(want, have)...)
	tasks = append(tasks, addAddresses(want, have)...)
	for _, neighbor := range want.Neighbors {
		if !slices.Contains(have.Neighbors, neighbor) {
			tasks = append(tasks, Task{Kind: AddNeighbor, Neighbor: neighbor, Reason: "the interface does not have it"})
		}
	}
	tasks = append(tasks, routes(want.Routes, have.Routes)...)
	for _, address := range have.Addresses {
		if slices.Contains(own, address.Prefix) && !slices.ContainsFunc(want.Addresses, func(a Address) bool { return a.Prefix == address.Prefix }) {
			tasks = append(tasks, Task{Kind: RemoveAddress, Address: address, Reason: "no longer wanted"})
		}
	}
	return tasks
}

// device plans what concerns the interface as such.
func device(want, have Config) []Task {
	var tasks []Task
	move := want.Master != -1 && want.Master != have.Master
	up := have.Up
	switch {
	case want.Down && have.Up:
		tasks, up = append(tasks, Task{Kind: SetDown, Reason: "its file says so"}), false
	case move && want.Bond && have.Up:
		tasks, up = append(tasks, Task{Kind: SetDown, Reason: "a bond takes links that are down"}), false
	}
	if want.MAC != "" && want.MAC != have.MAC {
		tasks = append(tasks, Task{Kind: SetMAC, MAC: want.MAC, Reason: fmt.Sprintf("it is %s, want %s", have.MAC, want.MAC)})
	}
	if move {
		tasks = append(tasks, Task{Kind: SetMaster, Master: want.Master, Reason: "its file says so"})
	}
	for _, flag := range []string{"arp", "multicast", "allmulticast", "promiscuous"} {
		if on, ok := want.Flags[flag]; ok && on != have.Flags[flag] {
			tasks = append(tasks, Task{Kind: SetFlag, Flag: flag, On: on, Reason: fmt.Sprintf("it is %v, want %v", !on, on)})
		}
	}
	for _, setting := range want.Settings {
		if !slices.ContainsFunc(have.Settings, func(s Setting) bool { return s.Path == setting.Path && s.Value == setting.Value }) {
			tasks = append(tasks, Task{Kind: Set, Setting: setting, Reason: setting.Reason})
		}
	}
	if want.Up && !up {
		tasks = append(tasks, Task{Kind: SetUp, Reason: "it is managed"})
	}
	if want.MTU != 0 && want.MTU != have.MTU {
		tasks = append(tasks, Task{Kind: SetMTU, MTU: want.MTU, Reason: fmt.Sprintf("it is %d, want %d", have.MTU, want.MTU)})
	}
	return tasks
}

// vlans plans for a port of a bridge; a nil want leaves all as it is.
func vlans(want, have Config) []Task {
	if len(want.VLANs) == 0 {
		return nil
	}
	var tasks []Task
	for _, vlan := range want.VLANs {
		if !slices.Contains(have.VLANs, vlan) {
			tasks = append(tasks, Task{Kind: AddVLAN, VLAN: vlan, Reason: "the port does not have it"})
		}
	}
	for _, vlan := range have.VLANs {
		if !slices.ContainsFunc(want.VLANs, func(v VLAN) bool { return v.ID == vlan.ID }) {
			tasks = append(tasks, Task{Kind: RemoveVLAN, VLAN: vlan, Reason: "not wanted"})
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
		case differ(address.Preferred, have.Addresses[i].Preferred):
			tasks = append(tasks, Task{Kind: AddAddress, Address: address, Reason: "its preference changed"})
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

// routes puts routes on the link in front of those by a gateway, which the
// kernel accepts only when it can reach the gateway, and the removals last.
func routes(want, have []Route) []Task {
	var onLink, byGateway, removals []Task
	for _, route := range want {
		if slices.Contains(have, route) {
			continue
		}
		reason := "the interface does not have it"
		if slices.ContainsFunc(have, func(r Route) bool { return samePlace(r, route) }) {
			reason = "it went elsewhere"
		}
		task := Task{Kind: AddRoute, Route: route, Reason: reason}
		if route.Gateway.IsValid() {
			byGateway = append(byGateway, task)
		} else {
			onLink = append(onLink, task)
		}
	}
	for _, route := range have {
		if route.Origin != Foreign && !slices.Contains(want, route) {
			removals = append(removals, Task{Kind: RemoveRoute, Route: route, Reason: "no longer wanted"})
		}
	}
	return slices.Concat(onLink, byGateway, removals)
}

// samePlace is true for routes of which the kernel keeps only one.
func samePlace(a, b Route) bool {
	return a.Destination == b.Destination && a.Metric == b.Metric && a.Table == b.Table
}
