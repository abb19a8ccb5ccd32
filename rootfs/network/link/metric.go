package link

import (
	"encoding/binary"
	"unsafe"

	"github.com/coracle-os/coracle/rootfs/network/plan"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// addWithMetric adds an address whose route has a metric of its own; the
// library's own function has no place for IFA_RT_PRIORITY.
func addWithMetric(index int, address plan.Address) error {
	ip, family := address.Prefix.Addr(), unix.AF_INET
	if ip.Is6() {
		family = unix.AF_INET6
	}
	converted := toAddr(address)
	message := nl.NewIfAddrmsg(family)
	message.Index, message.Prefixlen, message.Scope = uint32(index), uint8(address.Prefix.Bits()), uint8(converted.Scope)
	request := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK)
	request.AddData(message)
	add := func(kind int, data []byte) { request.AddData(nl.NewRtAttr(kind, data)) }
	number := func(n int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(n)) }
	peer := ip
	if converted.Peer != nil {
		peer = address.Options.Peer.Addr()
	}
	add(unix.IFA_LOCAL, ip.AsSlice())
	add(unix.IFA_ADDRESS, peer.AsSlice())
	switch {
	case converted.Broadcast != nil:
		add(unix.IFA_BROADCAST, converted.Broadcast)
	case ip.Is4() && address.Prefix.Bits() < 31 && converted.Peer == nil:
		last := ip.As4()
		binary.BigEndian.PutUint32(last[:], binary.BigEndian.Uint32(last[:])|^uint32(0)>>address.Prefix.Bits())
		add(unix.IFA_BROADCAST, last[:])
	}
	if converted.Label != "" {
		add(unix.IFA_LABEL, nl.ZeroTerminated(converted.Label))
	}
	if converted.ValidLft != 0 || converted.PreferedLft != 0 {
		cache := unix.IfaCacheinfo{Prefered: uint32(converted.PreferedLft), Valid: uint32(converted.ValidLft)}
		add(unix.IFA_CACHEINFO, (*[unix.SizeofIfaCacheinfo]byte)(unsafe.Pointer(&cache))[:])
	}
	add(unix.IFA_FLAGS, number(converted.Flags))
	add(unix.IFA_RT_PRIORITY, number(address.Options.Metric))
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
