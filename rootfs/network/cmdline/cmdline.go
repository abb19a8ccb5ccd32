// Package cmdline turns what the kernel's command line says about the network
// into .network, .netdev and .link files, for the network daemon: ip=, ifname=,
// nameserver=, rd.route=, rd.peerdns=, vlan=, bond= and bridge=, in the forms of
// the kernel (nfsroot.rst) and of dracut.cmdline(7), where they make sense
// after the root is mounted.
//
// Files of the owner with smaller numbers win. What is not understood is a note
// that names the parameter; left out on purpose: ibft, team=, link6 and the
// boot server's address, which only a root on the network needs.
package cmdline

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/network/config"
)

// File is a file for /run/systemd/network.
type File struct{ Name, Content string }

// link is one interface; its name is "" for all that have no parameter.
type link struct {
	name      string
	given     bool // by ip=
	dhcp      string
	mtu       int
	mac       string
	hostname  string
	addresses []string
	routes    []string // sections
	dns, ntp  []netip.Addr
	lines     []string // of [Network]: masters and VLANs
}

type reader struct {
	links   map[string]*link
	files   []File
	dns     []netip.Addr
	noPeer  bool // DNS of leases is not used
	notes   []string
	netdevs int
}

// Parse reads a command line.
func Parse(line string) (files []File, notes []string) {
	r := &reader{links: map[string]*link{}}
	for _, word := range split(line) {
		name, value, _ := strings.Cut(word, "=")
		if err := r.take(name, value); err != nil {
			r.notes = append(r.notes, fmt.Sprintf("%.200q on the kernel's command line: %v", word, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.links)) {
		r.files = append(r.files, r.file(r.links[name]))
	}
	if len(r.links) == 0 && len(r.dns) > 0 {
		r.files = append(r.files, r.file(&link{dhcp: "yes"}))
	}
	return r.files, r.notes
}

// split cuts at blanks outside of double quotes.
func split(line string) []string {
	quoted := false
	words := strings.FieldsFunc(line, func(c rune) bool {
		quoted = quoted != (c == '"')
		return !quoted && (c == ' ' || c == '\t' || c == '\n')
	})
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], `"`, "")
	}
	return words
}

func (r *reader) take(name, value string) error {
	switch name {
	case "ip":
		return r.ip(value)
	case "ifname":
		return r.ifname(value)
	case "nameserver":
		server, err := address(value)
		if err == nil {
			r.dns = append(r.dns, server)
		}
		return err
	case "rd.route":
		return r.route(value)
	case "rd.peerdns":
		r.noPeer = value == "0" || value == "no"
		return nil
	case "vlan":
		return r.vlan(value)
	case "bond":
		return r.bond(value)
	case "bridge":
		return r.bridge(value)
	case "team", "rd.net.dhcp.retry", "rd.net.timeout.dhcp", "rd.net.timeout.carrier", "rd.net.timeout.iflink", "rd.neednet", "rd.bootif", "rd.znet", "netroot", "nfsaddrs":
		return fmt.Errorf("%s= is not supported", name)
	}
	return nil
}

func (r *reader) get(name string) *link {
	if r.links[name] == nil {
		r.links[name] = &link{name: name}
	}
	return r.links[name]
}

var methods = map[string]string{"dhcp": "ipv4", "on": "yes", "any": "yes", "both": "yes", "bootp": "ipv4", "rarp": "", "all": "yes",
	"dhcp6": "ipv6", "auto6": "no", "either6": "ipv6", "none": "no", "off": "no", "": "no"}

// fields splits at colons outside of brackets, which hold IPv6 addresses.
func fields(value string) []string {
	var all []string
	depth, begin := 0, 0
	for i, c := range value {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ':' && depth <= 0:
			all, begin = append(all, value[begin:i]), i+1
		}
	}
	return append(all, value[begin:])
}

func (r *reader) ip(value string) error {
	f := fields(value)
	for len(f) < 11 {
		f = append(f, "")
	}
	if method, ok := methods[f[0]]; ok && f[0] != "" && f[1] == "" {
		return r.method("", f[0], method)
	}
	if _, err := address(f[0]); f[0] != "" && err != nil {
		// INTERFACE:METHOD[:[MTU][:MAC]]
		if !validName(f[0]) {
			return fmt.Errorf("%q is neither an address nor an interface nor a method", f[0])
		}
		method, ok := methods[f[1]]
		if !ok || f[1] == "" {
			return fmt.Errorf("method %q is not supported", f[1])
		}
		if err := r.method(f[0], f[1], method); err != nil {
			return err
		}
		return r.get(f[0]).hardware(f[2], strings.Join(f[3:9], ":"))
	}
	return r.static(f)
}

func (r *reader) method(name, word, method string) error {
	if method == "" {
		return fmt.Errorf("method %q is not supported", word)
	}
	l := r.get(name)
	l.given = true
	if l.dhcp != "" && l.dhcp != method && (method == "ipv4" || method == "ipv6") && (l.dhcp == "ipv4" || l.dhcp == "ipv6") {
		method = "yes"
	}
	l.dhcp = method
	return nil
}

// static reads CLIENT:PEER:GATEWAY:NETMASK:HOSTNAME:INTERFACE:METHOD and what
// may follow: DNS, DNS, NTP; or MTU, MAC.
func (r *reader) static(f []string) error {
	if f[5] != "" && !validName(f[5]) {
		return fmt.Errorf("%q is not the name of an interface", f[5])
	}
	method, ok := methods[f[6]]
	if !ok {
		return fmt.Errorf("method %q is not supported", f[6])
	}
	if f[6] == "" && f[0] == "" {
		method = "yes" // the kernel's default
	}
	next := link{given: true, dhcp: method}
	if f[0] != "" {
		if err := next.address(f[0], f[3]); err != nil {
			return err
		}
	}
	if f[2] != "" {
		via, err := address(f[2])
		if err != nil {
			return err
		}
		next.routes = append(next.routes, section("", via, true))
	}
	if f[4] != "" {
		if !config.ValidName(f[4]) {
			return fmt.Errorf("%q is not a host name", f[4])
		}
		next.hostname = f[4]
	}
	if err := next.rest(f[7:]); err != nil {
		return err
	}
	l := r.get(f[5])
	l.given = true
	if l.dhcp == "" || l.dhcp == "no" {
		l.dhcp = next.dhcp
	}
	l.addresses, l.routes = append(l.addresses, next.addresses...), append(l.routes, next.routes...)
	l.dns, l.ntp = append(l.dns, next.dns...), append(l.ntp, next.ntp...)
	l.mtu, l.mac, l.hostname = max(l.mtu, next.mtu), l.mac+next.mac, next.hostname
	return nil
}

func (l *link) address(text, mask string) error {
	ip, err := address(text)
	if err != nil {
		return err
	}
	bits := ip.BitLen()
	if ip.Is4() && mask == "" {
		bits, _ = net.IP(ip.AsSlice()).DefaultMask().Size() // as the kernel has it
	}
	if mask != "" {
		if bits, err = length(mask, ip); err != nil {
			return err
		}
	}
	if ip.IsUnspecified() || ip.IsMulticast() {
		return fmt.Errorf("%v cannot be the address of an interface", ip)
	}
	l.addresses = append(l.addresses, netip.PrefixFrom(ip, bits).String())
	return nil
}

func (l *link) rest(f []string) error {
	if _, err := strconv.Atoi(f[0]); err == nil {
		return l.hardware(f[0], strings.Join(f[1:], ":"))
	}
	for i, text := range f[:3] {
		if text == "" {
			continue
		}
		server, err := address(text)
		if err != nil {
			return err
		}
		if i < 2 {
			l.dns = append(l.dns, server)
		} else {
			l.ntp = append(l.ntp, server)
		}
	}
	return nil
}

// hardware takes an MTU and a hardware address; each may be "".
func (l *link) hardware(mtu, mac string) error {
	if mtu != "" {
		n, err := strconv.Atoi(mtu)
		if err != nil || n < 68 || n > 65535 {
			return fmt.Errorf("MTU %q is not a number from 68 to 65535", mtu)
		}
		l.mtu = n
	}
	if mac = strings.Trim(mac, ":"); mac != "" {
		parsed, err := net.ParseMAC(mac)
		if err != nil || len(parsed) != 6 {
			return fmt.Errorf("%q is not a hardware address", mac)
		}
		l.mac = parsed.String()
	}
	return nil
}

func address(text string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil || ip.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is not an address", text)
	}
	return ip, nil
}

// length reads a mask or a prefix length.
func length(mask string, ip netip.Addr) (int, error) {
	if n, err := strconv.Atoi(mask); err == nil && n >= 0 && n <= ip.BitLen() {
		return n, nil
	}
	if m, err := netip.ParseAddr(mask); err == nil && m.Is4() && ip.Is4() {
		if bits, size := net.IPMask(m.AsSlice()).Size(); size == 32 {
			return bits, nil
		}
	}
	return 0, fmt.Errorf("%q is not a netmask", mask)
}

func validName(name string) bool {
	return name != "" && len(name) <= 15 && name != "." && name != ".." &&
		!strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`/:%"'\[]*?!`, c) })
}
