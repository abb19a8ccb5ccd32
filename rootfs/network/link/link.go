// Package link is the network daemon's hold on the kernel's interfaces: what is
// there, news of changes, and the tasks of a plan. rtnetlink(7), by the
// vishvananda/netlink library.
package link

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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
	Parent  int         // index of the link that it is made on, 0 if none
	Part    bool        // of a bond or a bridge, so that it has no addresses of its own
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
	routes, err := k.routes()
	if err != nil {
		return nil, err
	}
	var list []Link
	for _, l := range links {
		next := fromLink(l)
		for _, address := range addresses {
			if address.LinkIndex == next.Index {
				if converted, ok := fromAddr(address); ok {
					next.Have.Addresses = append(next.Have.Addresses, converted)
				}
			}
		}
		for _, route := range routes {
			if route.LinkIndex == next.Index && (route.Type == unix.RTN_UNICAST || route.Type == unix.RTN_LOCAL) {
				next.Have.Routes = append(next.Have.Routes, fromRoute(route))
			}
		}
		list = append(list, next)
	}
	return list, nil
}

// routes are those of all tables but what the kernel keeps for itself.
func (k *Kernel) routes() ([]netlink.Route, error) {
	routes, err := k.handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return slices.DeleteFunc(routes, func(r netlink.Route) bool {
		return r.Table == unix.RT_TABLE_LOCAL && r.Protocol != unix.RTPROT_STATIC && r.Protocol != unix.RTPROT_DHCP
	}), nil
}

func fromLink(l netlink.Link) Link {
	attrs := l.Attrs()
	return Link{
		Index: attrs.Index,
		// Carrier and no longer dormant: frames go through.
		Carrier: attrs.RawFlags&unix.IFF_LOWER_UP != 0 && attrs.RawFlags&unix.IFF_UP != 0 && attrs.OperState != netlink.OperDormant,
		HWAddr:  attrs.HardwareAddr,
		Match: config.Link{Name: attrs.Name, MAC: attrs.HardwareAddr.String(), PermanentMAC: attrs.PermHWAddr.String(), Type: attrs.EncapType,
			Kind: kind(l), Driver: driver(attrs.Name), Path: devicePath(attrs.Name), AltNames: attrs.AltNames},
		Have: plan.Config{Up: attrs.RawFlags&unix.IFF_UP != 0, MTU: attrs.MTU, MAC: attrs.HardwareAddr.String(), Master: attrs.MasterIndex,
			Flags: map[string]bool{"arp": attrs.RawFlags&unix.IFF_NOARP == 0, "multicast": attrs.RawFlags&unix.IFF_MULTICAST != 0,
				"allmulticast": attrs.Allmulti != 0, "promiscuous": attrs.Promisc != 0}},
		Parent: attrs.ParentIndex,
		Part:   attrs.MasterIndex != 0 && (attrs.Slave == nil || attrs.Slave.SlaveType() != "vrf"),
	}
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

// devicePath is the place of a device on its bus, in udev's words: PCI only.
func devicePath(name string) string {
	target, err := os.Readlink(filepath.Join("/sys/class/net", name, "device"))
	for err == nil && target != "." && target != "/" && target != ".." {
		base := filepath.Base(target)
		if len(base) == len("0000:00:03.0") && base[4] == ':' && base[7] == ':' && base[10] == '.' {
			return "pci-" + base
		}
		if base == ".." {
			break
		}
		target = filepath.Dir(target)
	}
	return ""
}

func fromAddr(address netlink.Addr) (plan.Address, bool) {
	ip, ok := netip.AddrFromSlice(address.IP)
	if !ok {
		return plan.Address{}, false
	}
	bits, _ := address.Mask.Size()
	return plan.Address{Prefix: netip.PrefixFrom(ip.Unmap(), bits), Left: lifetime(address.ValidLft), Preferred: lifetime(address.PreferedLft)}, true
}

func lifetime(seconds int) time.Duration {
	if uint32(seconds) == foreverSeconds {
		return plan.Forever
	}
	return time.Duration(uint32(seconds)) * time.Second
}

// foreverSeconds is INFINITY_LIFE_TIME of the kernel.
const foreverSeconds = 0xffffffff

func toAddr(address plan.Address) *netlink.Addr {
	o := address.Options
	converted := &netlink.Addr{IPNet: toNet(address.Prefix), Label: o.Label}
	if address.Left != plan.Forever || address.Preferred != plan.Forever {
		// Rounded up: the daemon takes the address away itself, the kernel only
		// when there is no daemon.
		converted.ValidLft, converted.PreferedLft = max(1, seconds(address.Left)), seconds(address.Preferred)
	}
	if o.Peer.IsValid() {
		converted.Peer = toNet(o.Peer)
	}
	switch o.Scope {
	case "link":
		converted.Scope = int(netlink.SCOPE_LINK)
	case "host":
		converted.Scope = int(netlink.SCOPE_HOST)
	}
	if o.NoPrefixRoute {
		converted.Flags |= unix.IFA_F_NOPREFIXROUTE
	}
	if o.NoDAD && address.Prefix.Addr().Is6() {
		converted.Flags |= unix.IFA_F_NODAD
	}
	if o.Broadcast.IsValid() && address.Prefix.Addr().Is4() {
		converted.Broadcast = o.Broadcast.AsSlice()
	}
	return converted
}

func seconds(d time.Duration) int {
	if d == plan.Forever {
		return foreverSeconds
	}
	return max(0, int((d+time.Second-1)/time.Second))
}

func toNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}
