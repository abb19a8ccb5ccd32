package link

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/network/plan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Apply does one task to the interface with the index. Tasks of the machine as
// a whole have any index.
func (k *Kernel) Apply(index int, task plan.Task) error {
	if err := k.apply(index, task); err != nil {
		return fmt.Errorf("%s: %w", task, err)
	}
	return nil
}

func (k *Kernel) apply(index int, task plan.Task) error {
	target := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	switch task.Kind {
	case plan.SetDown:
		return k.handle.LinkSetDown(target)
	case plan.SetUp:
		return k.handle.LinkSetUp(target)
	case plan.SetMAC:
		return k.setMAC(target, task.MAC)
	case plan.SetMaster:
		if task.Master == 0 {
			return k.handle.LinkSetNoMaster(target)
		}
		return k.handle.LinkSetMasterByIndex(target, task.Master)
	case plan.SetFlag:
		return k.flag(target, task.Flag, task.On)
	case plan.Set:
		return set(task.Setting)
	case plan.SetMTU:
		return k.handle.LinkSetMTU(target, task.MTU)
	case plan.AddVLAN:
		return k.handle.BridgeVlanAdd(target, uint16(task.VLAN.ID), task.VLAN.PVID, task.VLAN.Untagged, false, true)
	case plan.RemoveVLAN:
		return k.handle.BridgeVlanDel(target, uint16(task.VLAN.ID), false, false, false, true)
	case plan.AddAddress:
		if task.Address.Options.Metric != 0 && !task.Address.Options.NoPrefixRoute {
			return addWithMetric(index, task.Address)
		}
		return k.handle.AddrReplace(target, toAddr(task.Address))
	case plan.RemoveAddress:
		// The kernel may have been first.
		return unless(k.handle.AddrDel(target, toAddr(task.Address)), unix.EADDRNOTAVAIL)
	case plan.AddNeighbor:
		return k.neighbor(index, task.Neighbor)
	case plan.AddRoute:
		// Appended: to replace would take the route to the same place from another
		// interface.
		return unless(k.handle.RouteAppend(toRoute(index, task.Route)), unix.EEXIST)
	case plan.RemoveRoute:
		return unless(k.handle.RouteDel(toRoute(index, task.Route)), unix.ESRCH)
	case plan.AddRule:
		return unless(k.handle.RuleAdd(toRule(task.Rule)), unix.EEXIST)
	case plan.RemoveRule:
		return unless(k.handle.RuleDel(toRule(task.Rule)), unix.ENOENT)
	}
	return fmt.Errorf("no such task")
}

func unless(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

func (k *Kernel) setMAC(target netlink.Link, text string) error {
	mac, err := net.ParseMAC(text)
	if err != nil {
		return err
	}
	err = k.handle.LinkSetHardwareAddr(target, mac)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	// Some devices take it while they are down only.
	if err := k.handle.LinkSetDown(target); err != nil {
		return err
	}
	return errors.Join(k.handle.LinkSetHardwareAddr(target, mac), k.handle.LinkSetUp(target))
}

func (k *Kernel) flag(target netlink.Link, flag string, on bool) error {
	pair := map[string][2]func(netlink.Link) error{
		"arp":          {k.handle.LinkSetARPOff, k.handle.LinkSetARPOn},
		"multicast":    {k.handle.LinkSetMulticastOff, k.handle.LinkSetMulticastOn},
		"allmulticast": {k.handle.LinkSetAllmulticastOff, k.handle.LinkSetAllmulticastOn},
		"promiscuous":  {k.handle.SetPromiscOff, k.handle.SetPromiscOn},
	}[flag]
	if on {
		return pair[1](target)
	}
	return pair[0](target)
}

func (k *Kernel) neighbor(index int, n config.Neighbor) error {
	mac, err := net.ParseMAC(n.MAC)
	if err != nil {
		return err
	}
	return k.handle.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: n.Address.AsSlice(), HardwareAddr: mac})
}

// set writes a setting. A kernel without IPv6 or without the feature has no
// such file, and nothing to be set.
func set(s plan.Setting) error {
	err := os.WriteFile(s.Path, []byte(s.Value), 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Settings reads what the wanted settings are now. Those that are not there
// count as set.
func Settings(wanted []plan.Setting) (have []plan.Setting) {
	for _, s := range wanted {
		data, err := os.ReadFile(s.Path)
		if err != nil {
			have = append(have, s)
			continue
		}
		value := strings.TrimSpace(string(data))
		if strings.HasSuffix(s.Path, "/bridge/priority") || strings.HasSuffix(s.Path, "/vlan_protocol") || strings.HasSuffix(s.Path, "_mask") {
			if same(value, s.Value) {
				value = s.Value
			}
		}
		have = append(have, plan.Setting{Path: s.Path, Value: value})
	}
	return have
}

// same compares numbers, which the kernel shows in another base than one may
// write them.
func same(a, b string) bool {
	var x, y int
	_, err := fmt.Sscanf(a, "%v", &x)
	_, err2 := fmt.Sscanf(b, "%v", &y)
	return err == nil && err2 == nil && x == y
}

// VLANs are those of the ports of bridges, by the index of the port.
func (k *Kernel) VLANs() (map[int][]plan.VLAN, error) {
	list, err := k.handle.BridgeVlanList()
	if err != nil {
		return nil, fmt.Errorf("list VLANs of bridges: %w", err)
	}
	all := map[int][]plan.VLAN{}
	for index, vlans := range list {
		for _, v := range vlans {
			all[int(index)] = append(all[int(index)], plan.VLAN{ID: int(v.Vid), PVID: v.PortVID(), Untagged: v.EngressUntag()})
		}
	}
	return all, nil
}

// Rename gives an interface another name; it is down for a moment.
func (k *Kernel) Rename(l Link, name string) error {
	target := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}
	if l.Have.Up {
		if err := k.handle.LinkSetDown(target); err != nil {
			return fmt.Errorf("rename %s to %s: %w", l.Match.Name, name, err)
		}
	}
	if err := k.handle.LinkSetName(target, name); err != nil {
		return fmt.Errorf("rename %s to %s: %w", l.Match.Name, name, err)
	}
	return nil
}

// Adorn gives an interface the other things of a .link file.
func (k *Kernel) Adorn(l Link, file config.LinkFile) error {
	target := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}
	var problems []error
	if file.MAC != "" && file.MAC != l.Match.MAC {
		problems = append(problems, k.setMAC(target, file.MAC))
	}
	if file.MTU != 0 && file.MTU != l.Have.MTU {
		problems = append(problems, k.handle.LinkSetMTU(target, file.MTU))
	}
	if file.Alias != "" {
		problems = append(problems, k.handle.LinkSetAlias(target, file.Alias))
	}
	for _, name := range file.AltNames {
		problems = append(problems, unless(k.handle.LinkAddAltName(target, name), unix.EEXIST))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("%s: %s: %w", file.File, l.Match.Name, err)
	}
	return nil
}

// SetLink sets an interface up or down on somebody's behalf.
func (k *Kernel) SetLink(index int, up bool) error {
	target := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	if up {
		return k.handle.LinkSetUp(target)
	}
	return k.handle.LinkSetDown(target)
}
