// Package debian turns Debian's interfaces(5), as OpenStack's config drive gives
// it in network_config, into .network and .netdev files. It does what
// coreos-cloudinit did, whose files it gives byte for byte: IPv4 only, three
// words after "iface", any mistake costs the whole document.
//
// The options of a bond keep Debian's names in [Bond]; package network/config
// takes both. "hwaddress" of anything but a VLAN is checked and not used, as
// with the original.
package debian

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// File is a file for /run/systemd/network.
type File struct{ Name, Content string }

// Network is a document.
type Network struct {
	interfaces []*device // by name
}

// kind of device.
type kind int

const (
	physical kind = iota
	bond
	vlan
)

type device struct {
	name     string
	kind     kind
	dhcp     bool
	static   *static
	options  map[string]string // of a bond
	slaves   []string
	id       int    // of a VLAN
	raw      string // device of a VLAN, "" = none
	children []*device
	depth    int
}

type static struct {
	address     netip.Prefix
	nameservers []netip.Addr
	routes      []route
	hwaddress   net.HardwareAddr
}

type route struct {
	destination netip.Prefix
	gateway     netip.Addr
}

// stanza is "iface" or "auto" with the lines below it.
type stanza struct {
	head    []string
	options []string
}

// maxDevices bounds what a document may ask for.
const maxDevices = 256

// Parse reads a document.
func Parse(text string) (Network, error) {
	if before, _, found := strings.Cut(text, "\x00"); found {
		return Network{}, fmt.Errorf("line %d has a zero byte, so this is no text", 1+strings.Count(before, "\n"))
	}
	stanzas, err := split(text)
	if err != nil {
		return Network{}, err
	}
	devices := map[string]*device{}
	ensure := func(name string) {
		if devices[name] == nil {
			devices[name] = &device{name: name}
		}
	}
	for _, s := range stanzas {
		d, err := s.device()
		if err != nil {
			return Network{}, err
		}
		if d == nil {
			continue
		}
		devices[d.name] = d
		for _, slave := range d.slaves {
			ensure(slave)
		}
		if d.raw != "" {
			ensure(d.raw)
		}
		if len(devices) > maxDevices {
			return Network{}, fmt.Errorf("more than %d interfaces", maxDevices)
		}
	}
	var n Network
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		if !validName(name) {
			return Network{}, fmt.Errorf("%.40q is not the name of an interface", name)
		}
		n.interfaces = append(n.interfaces, devices[name])
	}
	for _, d := range n.interfaces {
		for _, below := range append(slices.Clone(d.slaves), d.raw) {
			if below != "" {
				devices[below].children = append(devices[below].children, d)
			}
		}
	}
	for _, d := range n.interfaces {
		if err := d.deepen(0); err != nil {
			return Network{}, err
		}
	}
	return n, nil
}

// deepen computes how many devices are made on top of one another.
func (d *device) deepen(steps int) error {
	if steps > 8 {
		return fmt.Errorf("%q is made on top of itself", d.name)
	}
	for _, child := range d.children {
		if err := child.deepen(steps + 1); err != nil {
			return err
		}
		d.depth = max(d.depth, child.depth+1)
	}
	return nil
}

func validName(name string) bool {
	return name != "" && len(name) <= 15 && name != "." && name != ".." &&
		!strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`/:%"'\[]*?`, c) })
}

func split(text string) ([]stanza, error) {
	var all []stanza
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\\\n", ""), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		switch first := words[0]; {
		case first == "iface" || first == "auto" || first == "mapping" || strings.HasPrefix(first, "allow-"):
			all = append(all, stanza{head: words})
		case len(all) == 0:
			return nil, fmt.Errorf("missing stanza start %q", line)
		default:
			last := &all[len(all)-1]
			last.options = append(last.options, line)
		}
	}
	return all, nil
}

// device reads a stanza; it is nil for one that makes none.
func (s stanza) device() (*device, error) {
	switch s.head[0] {
	case "auto":
		return nil, nil
	case "iface":
	default:
		return nil, fmt.Errorf("unknown stanza %q", s.head[0])
	}
	if len(s.head) != 4 {
		return nil, errors.New("incorrect number of attributes")
	}
	d := &device{name: s.head[1]}
	options, routes := s.read()
	switch method := s.head[3]; method {
	case "static":
		var err error
		if d.static, err = readStatic(d.name, options, routes); err != nil {
			return nil, err
		}
	case "dhcp":
		if _, err := hardware(d.name, options); err != nil {
			return nil, err
		}
		d.dhcp = true
	case "loopback":
		return nil, nil
	case "manual":
	default:
		return nil, fmt.Errorf("invalid config method %q", method)
	}
	raw, isVLAN := options["vlan_raw_device"]
	slaves, isBond := options["bond-slaves"]
	switch {
	case isVLAN || strings.Contains(d.name, "."):
		d.kind = vlan
		if len(raw) == 1 {
			d.raw = raw[0]
		}
		return d, d.number()
	case isBond:
		d.kind, d.slaves, d.options = bond, slaves, map[string]string{}
		for _, name := range []string{"mode", "miimon", "lacp-rate"} {
			if value := options["bond-"+name]; len(value) > 0 {
				d.options[name] = value[0]
			}
		}
	}
	return d, nil
}

// number takes a VLAN's number from its name.
func (d *device) number() error {
	_, text, ok := strings.Cut(d.name, "vlan")
	if i := strings.LastIndexByte(d.name, '.'); i >= 0 {
		text, ok = d.name[i+1:], true
	}
	id, err := strconv.Atoi(text)
	if !ok || err != nil {
		return fmt.Errorf("malformed vlan name %q", d.name)
	}
	d.id = id
	return nil
}

// read gives the options by name, and the routes of "post-up route add".
func (s stanza) read() (options map[string][]string, routes []route) {
	options = map[string][]string{}
	for _, line := range s.options {
		words := strings.Fields(line)
		if words[0] == "post-up" {
			if r, ok := readRoute(words[1:]); ok {
				routes = append(routes, r)
			}
			continue
		}
		options[words[0]] = words[1:]
	}
	return options, routes
}

// readRoute reads "route add -net N[/p] [netmask M] gw G"; what is incomplete
// is none.
func readRoute(words []string) (r route, ok bool) {
	if len(words) < 2 || words[0] != "route" || words[1] != "add" {
		return r, false
	}
	var destination, mask, gateway string
	for i := 2; i+1 < len(words); i++ {
		switch words[i] {
		case "-net":
			destination = words[i+1]
		case "netmask":
			mask = words[i+1]
		case "gw":
			gateway = words[i+1]
		}
	}
	prefix, err := netip.ParsePrefix(destination)
	if err != nil {
		ip, ipErr := netip.ParseAddr(destination)
		bits, maskOK := maskLength(mask)
		if ipErr != nil || !maskOK || !ip.Is4() {
			return r, false
		}
		prefix = netip.PrefixFrom(ip, bits)
	}
	via, err := netip.ParseAddr(gateway)
	if err != nil || via.Zone() != "" || prefix.Addr().Is4() != via.Is4() {
		return r, false
	}
	return route{prefix.Masked(), via}, true
}

// maskLength reads a dotted mask.
func maskLength(text string) (bits int, ok bool) {
	ip, err := netip.ParseAddr(text)
	if err != nil || !ip.Is4() {
		return 0, false
	}
	bits, size := net.IPMask(ip.AsSlice()).Size()
	return bits, size == 32
}

func readStatic(name string, options map[string][]string, routes []route) (*static, error) {
	malformed := fmt.Errorf("malformed static network config for %q", name)
	one := func(key string) string {
		if values := options[key]; len(values) == 1 {
			return values[0]
		}
		return ""
	}
	ip, err := netip.ParseAddr(one("address"))
	bits, ok := maskLength(one("netmask"))
	if err != nil || !ok || !ip.Is4() {
		return nil, malformed
	}
	s := &static{address: netip.PrefixFrom(ip, bits)}
	for _, text := range options["gateway"] {
		via, err := netip.ParseAddr(text)
		if err != nil || !via.Is4() {
			return nil, malformed
		}
		s.routes = append(s.routes, route{netip.PrefixFrom(netip.IPv4Unspecified(), 0), via})
	}
	if s.hwaddress, err = hardware(name, options); err != nil {
		return nil, err
	}
	for _, text := range options["dns-nameservers"] {
		if server, err := netip.ParseAddr(text); err == nil && server.Zone() == "" {
			s.nameservers = append(s.nameservers, server)
		}
	}
	s.routes = append(s.routes, routes...)
	return s, nil
}

func hardware(name string, options map[string][]string) (net.HardwareAddr, error) {
	words, given := options["hwaddress"]
	if !given {
		return nil, nil
	}
	if len(words) == 2 && words[0] == "ether" {
		if mac, err := net.ParseMAC(words[1]); err == nil && len(mac) == 6 {
			return mac, nil
		}
	}
	return nil, fmt.Errorf("malformed hwaddress option for %q", name)
}
