package settings

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
)

var socketSettings = map[string]setting{
	"ListenStream":            listen(unit.ListenStream),
	"ListenDatagram":          listen(unit.ListenDatagram),
	"ListenSequentialPacket":  listen(unit.ListenSequentialPacket),
	"ListenFIFO":              listen(unit.ListenFIFO),
	"ListenSpecial":           listen(unit.ListenSpecial),
	"ListenNetlink":           listen(unit.ListenNetlink),
	"SocketMode":              octal(func(u *unit.Unit) *int { return &u.Socket.SocketMode }),
	"DirectoryMode":           octal(func(u *unit.Unit) *int { return &u.Socket.DirectoryMode }),
	"SocketUser":              text(func(u *unit.Unit) *string { return &u.Socket.SocketUser }),
	"SocketGroup":             text(func(u *unit.Unit) *string { return &u.Socket.SocketGroup }),
	"Accept":                  boolean(func(u *unit.Unit) *bool { return &u.Socket.Accept }),
	"FileDescriptorName":      text(func(u *unit.Unit) *string { return &u.Socket.FileDescriptorName }),
	"Service":                 unitName(func(u *unit.Unit) *string { return &u.Socket.Service }, "service"),
	"Symlinks":                list(func(u *unit.Unit) *[]string { return &u.Socket.Symlinks }, nil),
	"RemoveOnStop":            boolean(func(u *unit.Unit) *bool { return &u.Socket.RemoveOnStop }),
	"MaxConnections":          number(func(u *unit.Unit) *int { return &u.Socket.MaxConnections }, 0, 1<<31-1),
	"MaxConnectionsPerSource": number(func(u *unit.Unit) *int { return &u.Socket.MaxConnectionsPer }, 0, 1<<31-1),
	"Backlog":                 number(func(u *unit.Unit) *int { return &u.Socket.Backlog }, 0, 1<<31-1),
	"KeepAlive":               boolean(func(u *unit.Unit) *bool { return &u.Socket.KeepAlive }),
	"NoDelay":                 boolean(func(u *unit.Unit) *bool { return &u.Socket.NoDelay }),
	"FreeBind":                boolean(func(u *unit.Unit) *bool { return &u.Socket.FreeBind }),
	"ReusePort":               boolean(func(u *unit.Unit) *bool { return &u.Socket.ReusePort }),
	"Transparent":             boolean(func(u *unit.Unit) *bool { return &u.Socket.Transparent }),
	"Broadcast":               boolean(func(u *unit.Unit) *bool { return &u.Socket.Broadcast }),
	"PassCredentials":         boolean(func(u *unit.Unit) *bool { return &u.Socket.PassCredentials }),
	"PassSecurity":            boolean(func(u *unit.Unit) *bool { return &u.Socket.PassSecurity }),
	"BindIPv6Only":            oneOf(func(u *unit.Unit) *string { return &u.Socket.BindIPv6Only }, "default", "both", "ipv6-only"),
	"BindToDevice":            text(func(u *unit.Unit) *string { return &u.Socket.BindToDevice }),
	"ReceiveBuffer":           size(func(u *unit.Unit) *uint64 { return &u.Socket.ReceiveBuffer }),
	"SendBuffer":              size(func(u *unit.Unit) *uint64 { return &u.Socket.SendBuffer }),
	"PipeSize":                size(func(u *unit.Unit) *uint64 { return &u.Socket.PipeSize }),
	"Writable":                boolean(func(u *unit.Unit) *bool { return &u.Socket.Writable }),
	"IPTOS":                   serviceTOS,
	"IPTTL":                   number(func(u *unit.Unit) *int { return &u.Socket.IPTTL }, 0, 255),
	"Priority":                number(func(u *unit.Unit) *int { return &u.Socket.Priority }, 0, 1<<31-1),
	"Mark":                    number(func(u *unit.Unit) *int { return &u.Socket.Mark }, 0, 1<<31-1),
	"DeferAcceptSec":          span(func(u *unit.Unit) *time.Duration { return &u.Socket.DeferAccept }),
	"KeepAliveTimeSec":        span(func(u *unit.Unit) *time.Duration { return &u.Socket.KeepAliveTime }),
	"KeepAliveIntervalSec":    span(func(u *unit.Unit) *time.Duration { return &u.Socket.KeepAliveInterval }),
	"KeepAliveProbes":         number(func(u *unit.Unit) *int { return &u.Socket.KeepAliveProbes }, 0, 1<<31-1),
	"TCPCongestion":           text(func(u *unit.Unit) *string { return &u.Socket.TCPCongestion }),
	"FlushPending":            boolean(func(u *unit.Unit) *bool { return &u.Socket.FlushPending }),
	"TriggerLimitIntervalSec": span(func(u *unit.Unit) *time.Duration { return &u.Socket.TriggerLimit.Interval }),
	"TriggerLimitBurst":       number(func(u *unit.Unit) *int { return &u.Socket.TriggerLimit.Burst }, 0, 1<<31-1),
	"TimeoutSec":              limit(func(u *unit.Unit) *time.Duration { return &u.Socket.Timeout }),
	"ExecStartPre":            commands(func(u *unit.Unit) *[]unit.Command { return &u.Socket.ExecStartPre }),
	"ExecStartPost":           commands(func(u *unit.Unit) *[]unit.Command { return &u.Socket.ExecStartPost }),
	"ExecStopPre":             commands(func(u *unit.Unit) *[]unit.Command { return &u.Socket.ExecStopPre }),
	"ExecStopPost":            commands(func(u *unit.Unit) *[]unit.Command { return &u.Socket.ExecStopPost }),
}

// serviceTOS takes the type of service of packets, by name or number.
func serviceTOS(p *pass, value string) error {
	names := map[string]int{"low-delay": 0x10, "throughput": 8, "reliability": 4, "low-cost": 2}
	if n, ok := names[value]; ok {
		p.u.Socket.IPTOS = n
		return nil
	}
	return number(func(u *unit.Unit) *int { return &u.Socket.IPTOS }, 0, 255)(p, value)
}

// listen adds an address; an empty value resets the addresses of every kind.
func listen(kind unit.ListenKind) setting {
	return func(p *pass, value string) error {
		if value == "" {
			p.u.Socket.Listen = nil
			return nil
		}
		v, err := p.x.Expand(value)
		if err != nil {
			return fmt.Errorf("Failed to resolve unit specifiers in %q, ignoring: %w", value, err)
		}
		l, err := parseListen(kind, v)
		if err == nil {
			p.u.Socket.Listen = append(p.u.Socket.Listen, l)
		}
		return err
	}
}

func parseListen(kind unit.ListenKind, s string) (unit.Listen, error) {
	l := unit.Listen{Kind: kind, Address: s}
	bad := func() (unit.Listen, error) {
		return l, fmt.Errorf("Failed to parse address value %q, ignoring: write a path, @name, a port, or ADDRESS:PORT", s)
	}
	switch {
	case kind == unit.ListenNetlink:
		return l, nil
	case kind == unit.ListenFIFO || kind == unit.ListenSpecial:
		file, err := absolute(s)
		l.Address = file
		return l, err
	case strings.HasPrefix(s, "/"):
		l.Network, l.Address = "unix", path.Clean(s)
		if len(l.Address) > 107 {
			return l, fmt.Errorf("Path %q is too long for a socket, ignoring: at most 107 bytes", s)
		}
		return l, nil
	case strings.HasPrefix(s, "@") && len(s) > 1:
		l.Network = "unix"
		return l, nil
	}
	if port, err := strconv.ParseUint(s, 10, 16); err == nil && port > 0 {
		l.Network, l.Address = "ip", ":"+s
		return l, nil
	}
	host, port, err := net.SplitHostPort(s)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
		return bad()
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return bad()
	}
	l.Network, l.Address = "ip6", net.JoinHostPort(addr.String(), port)
	if addr.Is4() {
		l.Network = "ip4"
	}
	return l, nil
}
