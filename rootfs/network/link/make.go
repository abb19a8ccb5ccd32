package link

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os/user"
	"strconv"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/network/plan"
	"github.com/vishvananda/netlink"
)

// Make makes an interface. Its hardware address, if the file names none, is
// made from the machine's identity, so that it is the same after every boot.
func (k *Kernel) Make(making plan.Making, machine string) error {
	n := making.Netdev
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.ParentIndex = n.Name, n.MTU, making.Parent
	switch mac, err := net.ParseMAC(n.MAC); {
	case err == nil:
		attrs.HardwareAddr = mac
	case n.MAC == "" && machine != "" && (n.Kind == "bridge" || n.Kind == "bond" || n.Kind == "dummy" || n.Kind == "veth" || n.Kind == "macvlan" || n.Kind == "macvtap" || n.Kind == "vxlan" || n.Kind == "tap"):
		attrs.HardwareAddr = stableMAC(machine, n.Name)
	}
	l, err := toLink(n, attrs, making.Parent)
	if err == nil {
		err = k.handle.LinkAdd(l)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", making, err)
	}
	return nil
}

// stableMAC is a locally administered address.
func stableMAC(machine, name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("coracle-netdev " + machine + " " + name))
	sum[0] = sum[0]&^1 | 2
	return sum[:6]
}

func toLink(n config.Netdev, attrs netlink.LinkAttrs, parent int) (netlink.Link, error) {
	switch n.Kind {
	case "bond":
		return toBond(n.Bond, attrs), nil
	case "bridge":
		return &netlink.Bridge{LinkAttrs: attrs}, nil
	case "dummy":
		return &netlink.Dummy{LinkAttrs: attrs}, nil
	case "ipvlan", "ipvtap":
		v := netlink.IPVlan{LinkAttrs: attrs, Mode: map[string]netlink.IPVlanMode{"L3": netlink.IPVLAN_MODE_L3, "L3S": netlink.IPVLAN_MODE_L3S}[n.Mode],
			Flag: map[string]netlink.IPVlanFlag{"private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA}[n.Flags]}
		if n.Kind == "ipvtap" {
			return &netlink.IPVtap{IPVlan: v}, nil
		}
		return &v, nil
	case "macvlan", "macvtap":
		v := netlink.Macvlan{LinkAttrs: attrs, Mode: map[string]netlink.MacvlanMode{"private": netlink.MACVLAN_MODE_PRIVATE, "vepa": netlink.MACVLAN_MODE_VEPA,
			"bridge": netlink.MACVLAN_MODE_BRIDGE, "passthru": netlink.MACVLAN_MODE_PASSTHRU, "source": netlink.MACVLAN_MODE_SOURCE}[n.Mode]}
		if n.Kind == "macvtap" {
			return &netlink.Macvtap{Macvlan: v}, nil
		}
		return &v, nil
	case "tun", "tap":
		return toTun(n, attrs)
	case "veth":
		v := netlink.NewVeth(attrs)
		v.PeerName = n.Peer
		if mac, err := net.ParseMAC(n.PeerMAC); err == nil {
			v.PeerHardwareAddr = mac
		}
		return v, nil
	case "vlan":
		v := &netlink.Vlan{LinkAttrs: attrs, VlanId: n.VLAN.ID, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q, ReorderHdr: n.VLAN.ReorderHeader,
			Gvrp: n.VLAN.GVRP, Mvrp: n.VLAN.MVRP, LooseBinding: n.VLAN.LooseBinding}
		if n.VLAN.AD {
			v.VlanProtocol = netlink.VLAN_PROTOCOL_8021AD
		}
		return v, nil
	case "vrf":
		return &netlink.Vrf{LinkAttrs: attrs, Table: uint32(n.Table)}, nil
	case "vxlan":
		return toVXLAN(n.VXLAN, attrs, parent), nil
	case "wireguard":
		return &netlink.Wireguard{LinkAttrs: attrs}, nil
	}
	return nil, fmt.Errorf("kind %q is not supported", n.Kind)
}

func toBond(b config.Bond, attrs netlink.LinkAttrs) *netlink.Bond {
	bond := netlink.NewLinkBond(attrs)
	// The zero of each of these maps is the kernel's own choice, so that a word
	// that is not given must not be looked up.
	if b.Mode != "" {
		bond.Mode = netlink.StringToBondModeMap[b.Mode]
	}
	if b.TransmitHashPolicy != "" {
		bond.XmitHashPolicy = netlink.StringToBondXmitHashPolicyMap[b.TransmitHashPolicy]
	}
	if b.LACPRate != "" {
		bond.LacpRate = netlink.StringToBondLacpRateMap[b.LACPRate]
	}
	if b.ADSelect != "" {
		bond.AdSelect = netlink.StringToBondAdSelectMap[b.ADSelect]
	}
	if b.FailOverMAC != "" {
		bond.FailOverMac = netlink.StringToBondFailOverMacMap[b.FailOverMAC]
	}
	if b.PrimaryReselect != "" {
		bond.PrimaryReselect = netlink.StringToBondPrimaryReselectMap[b.PrimaryReselect]
	}
	if b.ARPValidate != "" {
		bond.ArpValidate = netlink.StringToBondArpValidateMap[b.ARPValidate]
	}
	if b.ARPAllTargets != "" {
		bond.ArpAllTargets = netlink.StringToBondArpAllTargetsMap[b.ARPAllTargets]
	}
	for _, target := range b.ARPTargets {
		bond.ArpIpTargets = append(bond.ArpIpTargets, target.AsSlice())
	}
	milliseconds := func(target *int, d time.Duration) {
		if d > 0 {
			*target = int(d / time.Millisecond)
		}
	}
	milliseconds(&bond.Miimon, b.MIIMon)
	milliseconds(&bond.UpDelay, b.UpDelay)
	milliseconds(&bond.DownDelay, b.DownDelay)
	milliseconds(&bond.ArpInterval, b.ARPInterval)
	if b.LearnPacketInterval > 0 {
		bond.LpInterval = int(b.LearnPacketInterval / time.Second)
	}
	// Without a way to see that a cable is pulled, a bond is of little use.
	if b.MIIMon == 0 && b.ARPInterval == 0 {
		bond.Miimon = 100
	}
	bond.MinLinks, bond.ResendIgmp, bond.PacketsPerSlave, bond.NumPeerNotif = b.MinLinks, b.ResendIGMP, b.PacketsPerSlave, b.GratuitousARP
	if b.AllSlavesActive != nil && *b.AllSlavesActive {
		bond.AllSlavesActive = 1
	}
	return bond
}

func toVXLAN(v config.VXLAN, attrs netlink.LinkAttrs, parent int) *netlink.Vxlan {
	attrs.ParentIndex = 0
	vxlan := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: v.ID, VtepDevIndex: parent, TTL: v.TTL, TOS: v.TOS, Learning: v.Learning,
		Proxy: v.ReduceARP, L2miss: v.L2Miss, L3miss: v.L3Miss, UDPCSum: v.UDPChecksum, UDP6ZeroCSumTx: v.Zero6Send, UDP6ZeroCSumRx: v.Zero6Get,
		Age: int(v.Aging / time.Second), Limit: v.Limit, Port: v.Port, PortLow: v.PortLow, PortHigh: v.PortHigh}
	if v.Local.IsValid() {
		vxlan.SrcAddr = v.Local.AsSlice()
	}
	if v.Remote.IsValid() {
		vxlan.Group = v.Remote.AsSlice()
	}
	if v.Port == 0 {
		vxlan.Port = 4789 // IANA's; the kernel's own choice is older than that
	}
	return vxlan
}

func toTun(n config.Netdev, attrs netlink.LinkAttrs) (netlink.Link, error) {
	t := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI}
	t.HardwareAddr = nil
	if n.Kind == "tap" {
		t.Mode = netlink.TUNTAP_MODE_TAP
	}
	if n.Tun.PacketInfo {
		t.Flags &^= netlink.TUNTAP_NO_PI
	}
	if n.Tun.VNetHeader {
		t.Flags |= netlink.TUNTAP_VNET_HDR
	}
	if n.Tun.MultiQueue {
		t.Flags |= netlink.TUNTAP_MULTI_QUEUE
	}
	if n.Tun.User != "" {
		u, err := user.Lookup(n.Tun.User)
		if err != nil {
			return nil, fmt.Errorf("User=: %w", err)
		}
		id, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("User=: %w", err)
		}
		t.Owner = uint32(id)
	}
	if n.Tun.Group != "" {
		g, err := user.LookupGroup(n.Tun.Group)
		if err != nil {
			return nil, fmt.Errorf("Group=: %w", err)
		}
		id, err := strconv.ParseUint(g.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("Group=: %w", err)
		}
		t.Group = uint32(id)
	}
	return t, nil
}
