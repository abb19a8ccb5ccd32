package plan

import (
	"fmt"
	"slices"

	"github.com/coracle-os/coracle/rootfs/network/config"
)

// Device is an interface that is there, for the plan of those to be made.
type Device struct {
	Index int
	Match config.Link
}

// Making is an interface to be made.
type Making struct {
	Netdev config.Netdev
	Parent int // index of the link that it is made on, 0 if none
	Reason string
}

// String is the task for the log.
func (m Making) String() string {
	return fmt.Sprintf("make %s %q: %s", m.Netdev.Kind, m.Netdev.Name, m.Reason)
}

// Problem is why an interface is not made, for its owner.
type Problem struct{ Netdev, Text string }

// Netdevs plans the interfaces to be made. One that is there already is left
// as it is; one whose parent is missing waits for it.
func Netdevs(c config.Config, devices []Device) (tasks []Making, problems []Problem) {
	parents := map[config.Stacked]int{}
	for _, device := range devices {
		network, ok := config.Select(c.Networks, device.Match)
		if !ok || network.Unmanaged {
			continue
		}
		for _, s := range network.Stacked {
			if _, taken := parents[s]; !taken {
				parents[s] = device.Index
			}
			if !slices.ContainsFunc(c.Netdevs, func(n config.Netdev) bool { return n.Name == s.Name }) &&
				!slices.ContainsFunc(devices, func(d Device) bool { return d.Match.Name == s.Name }) {
				problems = append(problems, Problem{s.Name, fmt.Sprintf("%s names it, but no .netdev file describes it", network.File)})
			}
		}
	}
	for _, netdev := range c.Netdevs {
		i := slices.IndexFunc(devices, func(d Device) bool { return d.Match.Name == netdev.Name })
		if i >= 0 {
			if kind := devices[i].Match.Kind; kind != netdev.Kind && !(kind == "tuntap" || kind == "tun") {
				problems = append(problems, Problem{netdev.Name, fmt.Sprintf("%s: an interface of this name is there, and is of kind %q, not %s; it is left as it is", netdev.File, kind, netdev.Kind)})
			}
			continue
		}
		parent := parents[config.Stacked{Kind: netdev.Kind, Name: netdev.Name}]
		needs := config.Stacks(netdev.Kind) || (netdev.Kind == "vxlan" && !netdev.VXLAN.Independent)
		if needs && parent == 0 {
			problems = append(problems, Problem{netdev.Name, fmt.Sprintf("%s: it waits for an interface whose .network file says %s=%s", netdev.File, keyOf[netdev.Kind], netdev.Name)})
			continue
		}
		tasks = append(tasks, Making{Netdev: netdev, Parent: parent, Reason: netdev.File})
	}
	return tasks, problems
}

var keyOf = map[string]string{"vlan": "VLAN", "macvlan": "MACVLAN", "macvtap": "MACVTAP", "ipvlan": "IPVLAN", "ipvtap": "IPVTAP", "vxlan": "VXLAN"}
