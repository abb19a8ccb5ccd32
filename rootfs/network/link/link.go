// Package link is the network daemon's hold on the kernel's interfaces: what is
// there, news of changes, and the tasks of a plan. rtnetlink(7), by the
// vishvananda/netlink library.
package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/network/plan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is an interface as the kernel shows it.
type Link struct {
	Index   int
	Carrier bool
	HWAddr  net.HardwareAddr
	Match   config.Link // name, hardware address, type, kind, driver
	Have    plan.Config
}

// Kernel is the kernel's side, of the network namespace that it was opened in.
type Kernel struct{ handle *netlink.Handle }

// Open opens it.
func Open() (*Kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &Kernel{handle}, nil
}

// Close closes it.
func (k *Kernel) Close() { k.handle.Close() }

// List gives all interfaces in the order of their index.
func (k *Kernel) List() ([]Link, error) {
	links, err := k.handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	addresses, err := k.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	routes, err := k.handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var list []Link
	for _, l := range links {
		attrs := l.Attrs()
		next := Link{
			Index: attrs.Index,
			// Carrier and no longer dormant: frames go through.
			Carrier: attrs.RawFlags&unix.IFF_LOWER_UP != 0 && attrs.RawFlags&unix.IFF_UP != 0 && attrs.OperState != netlink.OperDormant,
			HWAddr:  attrs.HardwareAddr,
			Match: config.Link{Name: attrs.Name, MAC: attrs.HardwareAddr.String(), Type: attrs.EncapType,
				Kind: kind(l), Driver: driver(attrs.Name)},
			Have: plan.Config{Up: attrs.RawFlags&unix.IFF_UP != 0, MTU: attrs.MTU},
		}
		for _, address := range addresses {
			if address.LinkIndex == attrs.Index {
				if converted, ok := fromAddr(address); ok {
					next.Have.Addresses = append(next.Have.Addresses, converted)
				}
			}
		}
		for _, route := range routes {
			if route.LinkIndex == attrs.Index && route.Type == unix.RTN_UNICAST {
				next.Have.Routes = append(next.Have.Routes, fromRoute(route))
			}
		}
		list = append(list, next)
	}
	return list, nil
}

// kind is "" for hardware: the library calls that "device".
func kind(l netlink.Link) string {
	if l.Type() == "device" {
		return ""
	}
	return l.Type()
}

func driver(name string) string {
	target, err := os.Readlink(filepath.Join("/sys/class/net", name, "device/driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}

// Apply does one task to the interface with the index.
func (k *Kernel) Apply(index int, task plan.Task) error {
	var err error
	target := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	switch task.Kind {
	case plan.SetUp:
		err = k.handle.LinkSetUp(target)
	case plan.SetMTU:
		err = k.handle.LinkSetMTU(target, task.MTU)
	case plan.AddAddress:
		err = k.handle.AddrReplace(target, toAddr(task.Address))
	case plan.RemoveAddress:
		err = k.handle.AddrDel(target, toAddr(task.Address))
		if errors.Is(err, unix.EADDRNOTAVAIL) {
			err = nil // the kernel was first
		}
	case plan.AddRoute:
		err = k.handle.RouteReplace(toRoute(index, task.Route))
	case plan.RemoveRoute:
		err = k.handle.RouteDel(toRoute(index, task.Route))
		if errors.Is(err, unix.ESRCH) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", task, err)
	}
	return nil
}

func fromAddr(address netlink.Addr) (plan.Address, bool) {
	ip, ok := netip.AddrFromSlice(address.IP)
	if !ok {
		return plan.Address{}, false
	}
	bits, _ := address.Mask.Size()
	left := plan.Forever
	if address.Flags&unix.IFA_F_PERMANENT == 0 && uint32(address.ValidLft) != foreverSeconds {
		left = time.Duration(uint32(address.ValidLft)) * time.Second
	}
	return plan.Address{Prefix: netip.PrefixFrom(ip.Unmap(), bits), Left: left}, true
}

// foreverSeconds is INFINITY_LIFE_TIME of the kernel.
const foreverSeconds = 0xffffffff

func toAddr(address plan.Address) *netlink.Addr {
	converted := &netlink.Addr{IPNet: toNet(address.Prefix)}
	if address.Left != plan.Forever {
		// Rounded up: the daemon takes the address away itself, the kernel only
		// when there is no daemon.
		seconds := max(1, int((address.Left+time.Second-1)/time.Second))
		converted.ValidLft, converted.PreferedLft = seconds, seconds
	}
	return converted
}

func toNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}

func fromRoute(route netlink.Route) plan.Route {
	converted := plan.Route{Metric: route.Priority, OnLink: route.Flags&int(netlink.FLAG_ONLINK) != 0}
	switch route.Protocol {
	case unix.RTPROT_STATIC:
		converted.Origin = plan.Static
	case unix.RTPROT_DHCP:
		converted.Origin = plan.DHCP
	}
	if ip, ok := netip.AddrFromSlice(route.Gw); ok {
		converted.Gateway = ip.Unmap()
	}
	if ip, ok := netip.AddrFromSlice(route.Src); ok {
		converted.Source = ip.Unmap()
	}
	converted.Destination = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if route.Family == unix.AF_INET6 {
		converted.Destination = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if route.Dst != nil {
		if ip, ok := netip.AddrFromSlice(route.Dst.IP); ok {
			bits, _ := route.Dst.Mask.Size()
			converted.Destination = netip.PrefixFrom(ip.Unmap(), bits)
		}
	}
	return converted
}

func toRoute(index int, route plan.Route) *netlink.Route {
	converted := &netlink.Route{
		LinkIndex: index, Dst: toNet(route.Destination), Priority: route.Metric,
		Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC, Scope: netlink.SCOPE_LINK,
	}
	if route.Origin == plan.DHCP {
		converted.Protocol = unix.RTPROT_DHCP
	}
	if route.Gateway.IsValid() {
		converted.Gw, converted.Scope = route.Gateway.AsSlice(), netlink.SCOPE_UNIVERSE
	}
	if route.Destination.Addr().Is6() {
		converted.Scope = netlink.SCOPE_UNIVERSE
	}
	if route.Source.IsValid() {
		converted.Src = route.Source.AsSlice()
	}
	if route.OnLink {
		converted.SetFlag(netlink.FLAG_ONLINK)
	}
	return converted
}
