package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

var routeKeys = table[Route]{
	"Destination": func(r *Route, value string) error {
		if value == "default" {
			return nil
		}
		return network(func(r *Route) *netip.Prefix { return &r.Destination })(r, value)
	},
	"Gateway": func(r *Route, value string) error {
		switch value {
		case "_dhcp4", "_dhcp":
			r.FromDHCP = true
			return nil
		case "_ipv6ra":
			r.FromRA = true
			return nil
		}
		return ip(func(r *Route) *netip.Addr { return &r.Gateway })(r, value)
	},
	"PreferredSource": ip(func(r *Route) *netip.Addr { return &r.Source }),
	"Metric":          number(func(r *Route) *int { return &r.Metric }, 0, 1<<32-1),
	"GatewayOnLink":   boolean(func(r *Route) *bool { return &r.OnLink }),
	"GatewayOnlink":   boolean(func(r *Route) *bool { return &r.OnLink }), // the old name
	"Table": func(r *Route, value string) (err error) {
		r.Table, err = routeTable(value)
		return err
	},
	"Type": func(r *Route, value string) error {
		err := oneOf(func(r *Route) *string { return &r.Type }, "unicast", "local", "blackhole", "unreachable", "prohibit", "throw")(r, value)
		if r.Type == "unicast" {
			r.Type = ""
		}
		return err
	},
	"Scope": func(r *Route, value string) (err error) {
		r.Scope, err = scope(value)
		return err
	},
	"MTUBytes":                        mtu(func(r *Route) *int { return &r.MTU }),
	"TCPAdvertisedMaximumSegmentSize": number(func(r *Route) *int { return &r.TCP.AdvertisedMSS }, 1, 1<<31-1),
	"InitialCongestionWindow":         number(func(r *Route) *int { return &r.TCP.InitialCongestion }, 1, 1023),
	"InitialAdvertisedReceiveWindow":  number(func(r *Route) *int { return &r.TCP.InitialReceive }, 1, 1023),
	"QuickAck":                        boolean(func(r *Route) *bool { return &r.TCP.QuickAck }),
	"FastOpenNoCookie":                boolean(func(r *Route) *bool { return &r.TCP.FastOpenNoCookie }),
}

func scope(value string) (string, error) {
	switch value {
	case "global", "link", "host":
		return value, nil
	}
	return "", fmt.Errorf("%q is not known; write global, link or host", value)
}

var ruleKeys = table[Rule]{
	"From":     network(func(r *Rule) *netip.Prefix { return &r.From }),
	"To":       network(func(r *Rule) *netip.Prefix { return &r.To }),
	"Priority": number(func(r *Rule) *int { return &r.Priority }, 0, 1<<32-1),
	"Table": func(r *Rule, value string) (err error) {
		r.Table, err = routeTable(value)
		return err
	},
	"FirewallMark": func(r *Rule, value string) error {
		mark, mask, masked := strings.Cut(value, "/")
		n, err := strconv.ParseUint(mark, 0, 32)
		m := uint64(1<<32 - 1)
		if err == nil && masked {
			m, err = strconv.ParseUint(mask, 0, 32)
		}
		if err != nil || n == 0 {
			return fmt.Errorf("%q is not a mark such as 7 or 7/255", value)
		}
		r.Mark, r.Mask = uint32(n), uint32(m)
		return nil
	},
	"TypeOfService":     number(func(r *Rule) *int { return &r.TOS }, 0, 255),
	"IncomingInterface": word(func(r *Rule) *string { return &r.In }, linkName),
	"OutgoingInterface": word(func(r *Rule) *string { return &r.Out }, linkName),
	"InvertRule":        boolean(func(r *Rule) *bool { return &r.Invert }),
	"Family": func(r *Rule, value string) error {
		switch value {
		case "ipv4", "ipv6", "both":
			r.IPv4, r.IPv6 = value != "ipv6", value != "ipv4"
			return nil
		}
		return fmt.Errorf("%q is not known; write ipv4, ipv6 or both", value)
	},
	"Type": func(r *Rule, value string) error {
		err := oneOf(func(r *Rule) *string { return &r.Type }, "table", "blackhole", "unreachable", "prohibit")(r, value)
		if r.Type == "table" {
			r.Type = ""
		}
		return err
	},
	"IPProtocol": func(r *Rule, value string) error {
		if n, ok := map[string]int{"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1}[value]; ok {
			r.Protocol = n
			return nil
		}
		return number(func(r *Rule) *int { return &r.Protocol }, 1, 255)(r, value)
	},
	"User": func(r *Rule, value string) error {
		first, last, isRange := strings.Cut(value, "-")
		if !isRange {
			last = first
		}
		low, err := strconv.ParseUint(first, 10, 32)
		high, err2 := strconv.ParseUint(last, 10, 32)
		if err != nil || err2 != nil || high < low {
			return fmt.Errorf("%q is not the number of a user or a range of them", value)
		}
		r.Users, r.UsersSet = [2]uint32{uint32(low), uint32(high)}, true
		return nil
	},
	"SourcePort":           ports(func(r *Rule) *[2]uint16 { return &r.SourcePort }),
	"DestinationPort":      ports(func(r *Rule) *[2]uint16 { return &r.DestinationPort }),
	"SuppressPrefixLength": number(func(r *Rule) *int { return &r.SuppressPrefixLength }, 0, 128),
}

func ports(of func(*Rule) *[2]uint16) field[Rule] {
	return func(r *Rule, value string) error {
		first, last, isRange := strings.Cut(value, "-")
		if !isRange {
			last = first
		}
		low, err := parseNumber(strings.TrimSpace(first), 1, 65535)
		high, err2 := parseNumber(strings.TrimSpace(last), 1, 65535)
		if err != nil || err2 != nil || high < low {
			return fmt.Errorf("%q is not a port or a range of ports", value)
		}
		*of(r) = [2]uint16{uint16(low), uint16(high)}
		return nil
	}
}

var neighborKeys = table[Neighbor]{
	"Address":          ip(func(n *Neighbor) *netip.Addr { return &n.Address }),
	"LinkLayerAddress": word(func(n *Neighbor) *string { return &n.MAC }, macAddress),
	"MACAddress":       word(func(n *Neighbor) *string { return &n.MAC }, macAddress), // the old name
}
