package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/network/plan"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Global gives the rules of the machine, and its routes that throw packets
// away.
func (k *Kernel) Global() (plan.Global, error) {
	var g plan.Global
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := k.handle.RuleList(family)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6 or without policy routing
		}
		if err != nil {
			return g, fmt.Errorf("list rules: %w", err)
		}
		kinds, err := ruleKinds(family)
		if err != nil {
			return g, fmt.Errorf("list rules: %w", err)
		}
		for i, rule := range rules {
			if i < len(kinds) { // else it came or went between the two questions, which is news
				rule.Type = kinds[i]
			}
			g.Rules = append(g.Rules, fromRule(rule, family))
		}
	}
	routes, err := k.routes()
	if err != nil {
		return g, err
	}
	for _, route := range routes {
		if converted := fromRoute(route); converted.Typed() {
			g.Routes = append(g.Routes, converted)
		}
	}
	return g, nil
}

// ruleKinds are the types of the rules in their order, which the library's own
// list leaves out.
func ruleKinds(family int) (kinds []uint8, err error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(family))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
	for _, message := range messages {
		kinds = append(kinds, nl.DeserializeRtMsg(message).Type)
	}
	return kinds, err
}

var routeTypes = map[int]string{unix.RTN_UNICAST: "", unix.RTN_LOCAL: "local", unix.RTN_BLACKHOLE: "blackhole",
	unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw"}

func routeType(name string) int {
	for number, known := range routeTypes {
		if known == name {
			return number
		}
	}
	return unix.RTN_UNICAST
}

func fromRoute(route netlink.Route) plan.Route {
	converted := plan.Route{Metric: route.Priority, OnLink: route.Flags&int(netlink.FLAG_ONLINK) != 0,
		Table: route.Table, Type: routeTypes[route.Type], MTU: route.MTU,
		TCP: config.RouteTCP{AdvertisedMSS: route.AdvMSS, InitialCongestion: route.InitCwnd, InitialReceive: route.InitRwnd,
			QuickAck: route.QuickACK != 0, FastOpenNoCookie: route.FastOpenNoCookie != 0}}
	if converted.Table == unix.RT_TABLE_MAIN {
		converted.Table = 0
	}
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
	} else {
		converted.Scope = map[netlink.Scope]string{netlink.SCOPE_LINK: "link", netlink.SCOPE_HOST: "host"}[route.Scope]
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
		Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC, Scope: netlink.SCOPE_UNIVERSE, Type: routeType(route.Type), MTU: route.MTU,
		AdvMSS: route.TCP.AdvertisedMSS, InitCwnd: route.TCP.InitialCongestion, InitRwnd: route.TCP.InitialReceive,
	}
	if route.TCP.QuickAck {
		converted.QuickACK = 1
	}
	if route.TCP.FastOpenNoCookie {
		converted.FastOpenNoCookie = 1
	}
	if route.Table != 0 {
		converted.Table = route.Table
	}
	if route.Origin == plan.DHCP {
		converted.Protocol = unix.RTPROT_DHCP
	}
	if route.Gateway.IsValid() {
		converted.Gw = route.Gateway.AsSlice()
	}
	switch route.Scope {
	case "link":
		converted.Scope = netlink.SCOPE_LINK
	case "host":
		converted.Scope = netlink.SCOPE_HOST
	}
	if route.Source.IsValid() {
		converted.Src = route.Source.AsSlice()
	}
	if route.OnLink {
		converted.SetFlag(netlink.FLAG_ONLINK)
	}
	if route.Typed() {
		converted.LinkIndex = 0
	}
	return converted
}

// Types of rules, linux/fib_rules.h; the library has no names for them.
var ruleTypes = map[uint8]string{0: "", 1: "", 6: "blackhole", 7: "unreachable", 8: "prohibit"}

func fromRule(rule netlink.Rule, family int) plan.Rule {
	converted := plan.Rule{V6: family == unix.AF_INET6, Ours: rule.Protocol == unix.RTPROT_STATIC, Rule: config.Rule{
		From: fromNet(rule.Src), To: fromNet(rule.Dst), Priority: rule.Priority, Table: rule.Table, Mark: rule.Mark,
		TOS: int(rule.Tos), In: rule.IifName, Out: rule.OifName, Invert: rule.Invert, Type: ruleTypes[rule.Type],
		Protocol: rule.IPProto, SuppressPrefixLength: rule.SuppressPrefixlen,
	}}
	if rule.Mask != nil && rule.Mark != 0 {
		converted.Mask = *rule.Mask
	}
	if rule.Sport != nil {
		converted.SourcePort = [2]uint16{rule.Sport.Start, rule.Sport.End}
	}
	if rule.Dport != nil {
		converted.DestinationPort = [2]uint16{rule.Dport.Start, rule.Dport.End}
	}
	if rule.UIDRange != nil {
		converted.Users, converted.UsersSet = [2]uint32{rule.UIDRange.Start, rule.UIDRange.End}, true
	}
	return converted
}

func toRule(rule plan.Rule) *netlink.Rule {
	converted := netlink.NewRule()
	converted.Family = unix.AF_INET
	if rule.V6 {
		converted.Family = unix.AF_INET6
	}
	converted.Priority, converted.Table, converted.Protocol = rule.Priority, rule.Table, unix.RTPROT_STATIC
	if rule.From.IsValid() {
		converted.Src = toNet(rule.From)
	}
	if rule.To.IsValid() {
		converted.Dst = toNet(rule.To)
	}
	if rule.Mark != 0 {
		converted.Mark, converted.Mask = rule.Mark, &rule.Mask
	}
	converted.Tos, converted.IifName, converted.OifName, converted.Invert = uint(rule.TOS), rule.In, rule.Out, rule.Invert
	converted.IPProto, converted.SuppressPrefixlen = rule.Protocol, rule.SuppressPrefixLength
	if p := rule.SourcePort; p[0] != 0 {
		converted.Sport = netlink.NewRulePortRange(p[0], p[1])
	}
	if p := rule.DestinationPort; p[0] != 0 {
		converted.Dport = netlink.NewRulePortRange(p[0], p[1])
	}
	if rule.UsersSet {
		converted.UIDRange = netlink.NewRuleUIDRange(rule.Users[0], rule.Users[1])
	}
	for number, name := range ruleTypes {
		if name != "" && name == rule.Type {
			converted.Type = number
		}
	}
	return converted
}

func fromNet(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(ip.Unmap(), bits)
}
