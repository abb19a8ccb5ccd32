package config

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit/words"
)

// Netdev is one .netdev file: an interface to make.
type Netdev struct {
	File  string
	Match Match // conditions of the machine only
	Name  string
	Kind  string // one of Kinds
	MTU   int    // 0 = the kernel's
	MAC   string // "" = made from the machine's identity, "none" = the kernel's

	VLAN      VLAN
	Bond      Bond
	Bridge    []Setting // files of the kernel below "bridge"
	VXLAN     VXLAN
	WireGuard WireGuard
	Peer      string // of a veth
	PeerMAC   string
	Mode      string // of macvlan, macvtap, ipvlan and ipvtap; "" = the kernel's
	Flags     string // of ipvlan and ipvtap
	Table     int    // of a vrf
	Tun       Tun
}

// Kinds are those of netdevs that can be made.
var Kinds = []string{"bond", "bridge", "dummy", "ipvlan", "ipvtap", "macvlan", "macvtap", "tap", "tun", "veth", "vlan", "vrf", "vxlan", "wireguard"}

// Stacks tells whether a netdev of the kind is made on top of another link,
// whose .network file names it.
func Stacks(kind string) bool {
	return slices.Contains([]string{"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"}, kind)
}

// VLAN is of 802.1Q or, with AD, 802.1ad.
type VLAN struct {
	ID                                      int
	AD                                      bool
	GVRP, MVRP, LooseBinding, ReorderHeader *bool
}

// Bond is several links that act as one. Words are those of the file; zero
// values are the kernel's choice.
type Bond struct {
	Mode, TransmitHashPolicy, LACPRate, ADSelect, FailOverMAC, PrimaryReselect, ARPValidate, ARPAllTargets string
	MIIMon, UpDelay, DownDelay, ARPInterval, LearnPacketInterval                                           time.Duration
	ARPTargets                                                                                             []netip.Addr
	MinLinks, ResendIGMP, PacketsPerSlave, GratuitousARP                                                   int // -1 = the kernel's
	AllSlavesActive                                                                                        *bool
}

// VXLAN is an overlay over UDP.
type VXLAN struct {
	ID                               int        // -1 = not given
	Local, Remote                    netip.Addr // Remote is a group if it is multicast
	Port                             int
	TTL, TOS                         int
	Learning                         bool
	ReduceARP, L2Miss, L3Miss        bool
	UDPChecksum, Zero6Send, Zero6Get bool
	Aging                            time.Duration
	Limit                            int
	PortLow, PortHigh                int
	Independent                      bool
}

// WireGuard is a tunnel.
type WireGuard struct {
	PrivateKey     [32]byte
	PrivateKeyFile string // of base64 text; read when the link is set up
	Port           int    // 0 = any
	Mark           int
	Table, Metric  int // of the routes to allowed addresses; Table -1 = none
	Peers          []Peer
}

// Peer is one of a WireGuard link.
type Peer struct {
	PublicKey        [32]byte
	PresharedKey     [32]byte
	PresharedKeyFile string
	Allowed          []netip.Prefix
	Endpoint         string // host:port; "" = the peer begins
	Keepalive        int    // in seconds, 0 = off
	Table, Metric    int    // 0 = those of the link
}

// Tun is a tun or a tap.
type Tun struct {
	MultiQueue, PacketInfo, VNetHeader bool
	User, Group                        string
}

// ParseNetdev reads the text of a .netdev file. ok is false if no interface
// can be made of it.
func ParseNetdev(file string, text []byte) (n Netdev, ok bool, warnings []Warning) {
	return parseNetdev([]source{{file, text}})
}

func parseNetdev(sources []source) (Netdev, bool, []Warning) {
	n := Netdev{File: sources[0].file, VXLAN: VXLAN{ID: -1, Learning: true}, WireGuard: WireGuard{Table: -1},
		Bond: Bond{MinLinks: -1, ResendIGMP: -1, PacketsPerSlave: -1, GratuitousARP: -1}}
	r := &reader{}
	r.each(sources, func(s section) { n.section(r, s) })
	problem := n.problem()
	if problem != "" {
		r.warn(0, "no interface is made: %s", problem)
	}
	return n, problem == "", r.warnings
}

func (n *Netdev) section(r *reader, s section) {
	switch s.name {
	case "Match":
		fill(r, s, matchKeys(func(n *Netdev) *Match { return &n.Match }, "Name"), n)
	case "NetDev":
		fill(r, s, netdevKeys, n)
	case "VLAN":
		fill(r, s, vlanKeys, &n.VLAN)
	case "Bond":
		fill(r, s, bondKeys, &n.Bond)
	case "Bridge":
		fill(r, s, bridgeKeys, n)
	case "VXLAN":
		fill(r, s, vxlanKeys, &n.VXLAN)
	case "Peer":
		fill(r, s, table[Netdev]{
			"Name":       word(func(n *Netdev) *string { return &n.Peer }, linkName),
			"MACAddress": word(func(n *Netdev) *string { return &n.PeerMAC }, macAddress),
		}, n)
	case "MACVLAN", "MACVTAP":
		fill(r, s, table[Netdev]{"Mode": oneOf(func(n *Netdev) *string { return &n.Mode }, "private", "vepa", "bridge", "passthru", "source")}, n)
	case "IPVLAN", "IPVTAP":
		fill(r, s, table[Netdev]{
			"Mode":  oneOf(func(n *Netdev) *string { return &n.Mode }, "L2", "L3", "L3S"),
			"Flags": oneOf(func(n *Netdev) *string { return &n.Flags }, "bridge", "private", "vepa"),
		}, n)
	case "VRF":
		fill(r, s, table[Netdev]{"Table": tableField, "TableId": tableField}, n)
	case "Tun", "Tap":
		fill(r, s, tunKeys, &n.Tun)
	case "WireGuard":
		fill(r, s, wireGuardKeys, &n.WireGuard)
	case "WireGuardPeer":
		peer := Peer{}
		fill(r, s, peerKeys, &peer)
		if peer.PublicKey == ([32]byte{}) {
			r.warn(s.line, "a [WireGuardPeer] without a usable PublicKey= is ignored")
			return
		}
		n.WireGuard.Peers = append(n.WireGuard.Peers, peer)
	default:
		r.unknown(s, "Match", "NetDev", "VLAN", "Bond", "Bridge", "VXLAN", "Peer", "MACVLAN", "MACVTAP", "IPVLAN", "IPVTAP", "VRF", "Tun", "Tap",
			"Tunnel", "WireGuard", "WireGuardPeer")
	}
}

// problem is why the file is of no use.
func (n *Netdev) problem() string {
	switch {
	case n.Name == "":
		return "[NetDev] has no usable Name="
	case n.Kind == "":
		return "[NetDev] has no usable Kind="
	case n.Kind == "vlan" && n.VLAN.ID == 0:
		return "[VLAN] has no usable Id="
	case n.Kind == "vxlan" && n.VXLAN.ID < 0:
		return "[VXLAN] has no usable VNI="
	case n.Kind == "vrf" && n.Table == 0:
		return "[VRF] has no usable Table="
	case n.Kind == "wireguard" && n.WireGuard.PrivateKey == [32]byte{} && n.WireGuard.PrivateKeyFile == "":
		return "[WireGuard] has neither a usable PrivateKey= nor PrivateKeyFile="
	case n.Kind == "veth" && n.Peer == "":
		return "[Peer] has no usable Name="
	}
	return ""
}

func tableField(n *Netdev, value string) (err error) {
	n.Table, err = routeTable(value)
	return err
}

var netdevKeys = table[Netdev]{
	"Description": ignored[Netdev],
	"Name":        word(func(n *Netdev) *string { return &n.Name }, linkName),
	"Kind":        oneOf(func(n *Netdev) *string { return &n.Kind }, Kinds...),
	"MTUBytes":    mtu(func(n *Netdev) *int { return &n.MTU }),
	"MACAddress": word(func(n *Netdev) *string { return &n.MAC }, func(text string) (string, error) {
		if text == "none" {
			return text, nil
		}
		return macAddress(text)
	}),
}

var vlanKeys = table[VLAN]{
	"Id": number(func(v *VLAN) *int { return &v.ID }, 1, 4094),
	"Protocol": func(v *VLAN, value string) error {
		switch value {
		case "802.1q", "802.1Q", "802.1ad":
			v.AD = value == "802.1ad"
			return nil
		}
		return fmt.Errorf("%q is not known; write 802.1q or 802.1ad", value)
	},
	"GVRP":          maybe(func(v *VLAN) **bool { return &v.GVRP }),
	"MVRP":          maybe(func(v *VLAN) **bool { return &v.MVRP }),
	"LooseBinding":  maybe(func(v *VLAN) **bool { return &v.LooseBinding }),
	"ReorderHeader": maybe(func(v *VLAN) **bool { return &v.ReorderHeader }),
}

var bondKeys = table[Bond]{
	"Mode": oneOf(func(b *Bond) *string { return &b.Mode },
		"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"),
	"TransmitHashPolicy": oneOf(func(b *Bond) *string { return &b.TransmitHashPolicy },
		"layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"),
	"LACPTransmitRate":       oneOf(func(b *Bond) *string { return &b.LACPRate }, "slow", "fast"),
	"AdSelect":               oneOf(func(b *Bond) *string { return &b.ADSelect }, "stable", "bandwidth", "count"),
	"FailOverMACPolicy":      oneOf(func(b *Bond) *string { return &b.FailOverMAC }, "none", "active", "follow"),
	"PrimaryReselectPolicy":  oneOf(func(b *Bond) *string { return &b.PrimaryReselect }, "always", "better", "failure"),
	"ARPValidate":            oneOf(func(b *Bond) *string { return &b.ARPValidate }, "none", "active", "backup", "all"),
	"ARPAllTargets":          oneOf(func(b *Bond) *string { return &b.ARPAllTargets }, "any", "all"),
	"MIIMonitorSec":          span(func(b *Bond) *time.Duration { return &b.MIIMon }),
	"UpDelaySec":             span(func(b *Bond) *time.Duration { return &b.UpDelay }),
	"DownDelaySec":           span(func(b *Bond) *time.Duration { return &b.DownDelay }),
	"ARPIntervalSec":         span(func(b *Bond) *time.Duration { return &b.ARPInterval }),
	"LearnPacketIntervalSec": span(func(b *Bond) *time.Duration { return &b.LearnPacketInterval }),
	"ARPIPTargets": func(b *Bond, value string) error {
		for _, text := range words.SplitRelaxed(value) {
			a, err := parseAddr(text)
			if err != nil || !a.Is4() || len(b.ARPTargets) == 16 {
				return fmt.Errorf("%q is not an IPv4 address, or the 17th", text)
			}
			b.ARPTargets = append(b.ARPTargets, a)
		}
		return nil
	},
	"MinLinks":        number(func(b *Bond) *int { return &b.MinLinks }, 0, 1<<31-1),
	"ResendIGMP":      number(func(b *Bond) *int { return &b.ResendIGMP }, 0, 255),
	"PacketsPerSlave": number(func(b *Bond) *int { return &b.PacketsPerSlave }, 0, 65535),
	"GratuitousARP":   number(func(b *Bond) *int { return &b.GratuitousARP }, 0, 255),
	"AllSlavesActive": maybe(func(b *Bond) **bool { return &b.AllSlavesActive }),
	// Debian's names and the kernel's numbers, in files that were made of a
	// config drive's network_config.
	"mode": word(func(b *Bond) *string { return &b.Mode },
		numbered("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")),
	"lacp-rate": word(func(b *Bond) *string { return &b.LACPRate }, numbered("slow", "fast")),
	"miimon": func(b *Bond, value string) error {
		n, err := parseNumber(value, 0, 1<<31-1)
		b.MIIMon = time.Duration(n) * time.Millisecond
		return err
	},
}

// numbered takes one of some words, or its number.
func numbered(choices ...string) func(string) (string, error) {
	return func(value string) (string, error) {
		if n, err := strconv.Atoi(value); err == nil && n >= 0 && n < len(choices) {
			return choices[n], nil
		}
		return choice(value, choices)
	}
}

// bridgeKeys are files of the kernel below "bridge"; times there are in
// hundredths of a second.
var bridgeKeys = table[Netdev]{
	"STP":                  bridgeFlag("stp_state"),
	"VLANFiltering":        bridgeFlag("vlan_filtering"),
	"MulticastSnooping":    bridgeFlag("multicast_snooping"),
	"MulticastQuerier":     bridgeFlag("multicast_querier"),
	"Priority":             bridgeNumber("priority", 0, 65535),
	"GroupForwardMask":     bridgeNumber("group_fwd_mask", 0, 65535),
	"DefaultPVID":          bridgePVID,
	"MulticastIGMPVersion": bridgeNumber("multicast_igmp_version", 2, 3),
	"VLANProtocol": func(n *Netdev, value string) error {
		protocol, ok := map[string]string{"802.1q": "0x8100", "802.1ad": "0x88a8"}[strings.ToLower(value)]
		if !ok {
			return fmt.Errorf("%q is not known; write 802.1q or 802.1ad", value)
		}
		n.Bridge = append(n.Bridge, Setting{"vlan_protocol", protocol})
		return nil
	},
	"ForwardDelaySec": bridgeTime("forward_delay"),
	"HelloTimeSec":    bridgeTime("hello_time"),
	"MaxAgeSec":       bridgeTime("max_age"),
	"AgeingTimeSec":   bridgeTime("ageing_time"),
}

func bridgeFlag(file string) field[Netdev] {
	return func(n *Netdev, value string) error {
		b, err := truth(value)
		if err == nil {
			n.Bridge = append(n.Bridge, Setting{file, map[bool]string{true: "1", false: "0"}[b]})
		}
		return err
	}
}

func bridgeNumber(file string, low, high int) field[Netdev] {
	return func(n *Netdev, value string) error {
		number, err := parseNumber(value, low, high)
		if err == nil {
			n.Bridge = append(n.Bridge, Setting{file, strconv.Itoa(number)})
		}
		return err
	}
}

func bridgePVID(n *Netdev, value string) error {
	if value == "none" {
		value = "0"
	}
	return bridgeNumber("default_pvid", 0, 4094)(n, value)
}

func bridgeTime(file string) field[Netdev] {
	return func(n *Netdev, value string) error {
		var d time.Duration
		err := span(func(d *time.Duration) *time.Duration { return d })(&d, value)
		if err == nil {
			n.Bridge = append(n.Bridge, Setting{file, strconv.Itoa(int(d / (10 * time.Millisecond)))})
		}
		return err
	}
}

var vxlanKeys = table[VXLAN]{
	"VNI":    number(func(v *VXLAN) *int { return &v.ID }, 0, 1<<24-1),
	"Id":     number(func(v *VXLAN) *int { return &v.ID }, 0, 1<<24-1), // the old name
	"Local":  ip(func(v *VXLAN) *netip.Addr { return &v.Local }),
	"Remote": ip(func(v *VXLAN) *netip.Addr { return &v.Remote }),
	"Group": func(v *VXLAN, value string) error {
		a, err := parseAddr(value)
		if err == nil && !a.IsMulticast() {
			err = fmt.Errorf("%q is not a multicast address", value)
		}
		if err == nil {
			v.Remote = a
		}
		return err
	},
	"DestinationPort":    number(func(v *VXLAN) *int { return &v.Port }, 1, 65535),
	"TTL":                number(func(v *VXLAN) *int { return &v.TTL }, 0, 255),
	"TOS":                number(func(v *VXLAN) *int { return &v.TOS }, 0, 255),
	"MacLearning":        boolean(func(v *VXLAN) *bool { return &v.Learning }),
	"ReduceARPProxy":     boolean(func(v *VXLAN) *bool { return &v.ReduceARP }),
	"L2MissNotification": boolean(func(v *VXLAN) *bool { return &v.L2Miss }),
	"L3MissNotification": boolean(func(v *VXLAN) *bool { return &v.L3Miss }),
	"UDPChecksum":        boolean(func(v *VXLAN) *bool { return &v.UDPChecksum }),
	"UDP6ZeroChecksumTx": boolean(func(v *VXLAN) *bool { return &v.Zero6Send }),
	"UDP6ZeroChecksumRx": boolean(func(v *VXLAN) *bool { return &v.Zero6Get }),
	"FDBAgeingSec":       span(func(v *VXLAN) *time.Duration { return &v.Aging }),
	"MaximumFDBEntries":  number(func(v *VXLAN) *int { return &v.Limit }, 1, 1<<31-1),
	"Independent":        boolean(func(v *VXLAN) *bool { return &v.Independent }),
	"PortRange": func(v *VXLAN, value string) error {
		var rule Rule
		if err := ports(func(r *Rule) *[2]uint16 { return &r.SourcePort })(&rule, value); err != nil {
			return err
		}
		v.PortLow, v.PortHigh = int(rule.SourcePort[0]), int(rule.SourcePort[1])
		return nil
	},
}

var tunKeys = table[Tun]{
	"MultiQueue": boolean(func(t *Tun) *bool { return &t.MultiQueue }),
	"PacketInfo": boolean(func(t *Tun) *bool { return &t.PacketInfo }),
	"VNetHeader": boolean(func(t *Tun) *bool { return &t.VNetHeader }),
	"User":       word(func(t *Tun) *string { return &t.User }, nil),
	"Group":      word(func(t *Tun) *string { return &t.Group }, nil),
}

var wireGuardKeys = table[WireGuard]{
	"PrivateKey":     func(w *WireGuard, value string) error { return key(&w.PrivateKey, value) },
	"PrivateKeyFile": word(func(w *WireGuard) *string { return &w.PrivateKeyFile }, absolute),
	"ListenPort": func(w *WireGuard, value string) error {
		if value == "auto" {
			w.Port = 0
			return nil
		}
		return number(func(w *WireGuard) *int { return &w.Port }, 1, 65535)(w, value)
	},
	"FirewallMark": number(func(w *WireGuard) *int { return &w.Mark }, 0, 1<<32-1),
	"RouteTable": func(w *WireGuard, value string) (err error) {
		if value == "off" {
			w.Table = -1
			return nil
		}
		n, err := routeTable(value)
		if err == nil {
			w.Table = n
		}
		return err
	},
	"RouteMetric": number(func(w *WireGuard) *int { return &w.Metric }, 0, 1<<32-1),
}

var peerKeys = table[Peer]{
	"PublicKey":        func(p *Peer, value string) error { return key(&p.PublicKey, value) },
	"PresharedKey":     func(p *Peer, value string) error { return key(&p.PresharedKey, value) },
	"PresharedKeyFile": word(func(p *Peer) *string { return &p.PresharedKeyFile }, absolute),
	"AllowedIPs": func(p *Peer, value string) error {
		if value == "" {
			p.Allowed = nil
			return nil
		}
		var problem error
		for text := range strings.FieldsFuncSeq(value, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' }) {
			prefix, err := parsePrefix(text)
			if err != nil {
				problem = err
				continue
			}
			p.Allowed = append(p.Allowed, prefix.Masked())
		}
		return problem
	},
	"Endpoint": word(func(p *Peer) *string { return &p.Endpoint }, endpoint),
	"PersistentKeepalive": func(p *Peer, value string) error {
		if value == "off" {
			p.Keepalive = 0
			return nil
		}
		return number(func(p *Peer) *int { return &p.Keepalive }, 0, 65535)(p, value)
	},
	"RouteTable": func(p *Peer, value string) (err error) {
		if value == "off" {
			p.Table = -1
			return nil
		}
		p.Table, err = routeTable(value)
		return err
	},
	"RouteMetric": number(func(p *Peer) *int { return &p.Metric }, 0, 1<<32-1),
}

// key reads a key in base64. The text of a bad one is not repeated: it may be
// a secret with a slip in it.
func key(target *[32]byte, value string) error {
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil || len(raw) != len(target) {
		return fmt.Errorf("the value of %d characters is not a key: 32 bytes in base64", len(value))
	}
	copy(target[:], raw)
	return nil
}

// Key reads a key from a file's text.
func Key(text string) (key32 [32]byte, err error) {
	err = key(&key32, strings.TrimSpace(text))
	return key32, err
}

func absolute(path string) (string, error) {
	if !strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("%q is not an absolute path", path)
	}
	return path, nil
}

// endpoint checks host:port, with an IPv6 address in brackets.
func endpoint(value string) (string, error) {
	i := strings.LastIndexByte(value, ':')
	if i > 0 {
		host := strings.TrimSuffix(strings.TrimPrefix(value[:i], "["), "]")
		_, hostErr := server(host)
		if _, err := parseNumber(value[i+1:], 1, 65535); err == nil && hostErr == nil {
			return value, nil
		}
	}
	return "", fmt.Errorf("%q is not an endpoint such as 192.0.2.1:51820 or [2001:db8::1]:51820", value)
}
