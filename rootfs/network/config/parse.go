package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit/syntax"
	"github.com/coracle-os/coracle/rootfs/unit/words"
)

// parser collects one file. Address and route sections may occur more than
// once, so that each is kept apart until the end.
type parser struct {
	file     string // the source that is being read
	network  Network
	warnings []Warning
	routes   []*Route
}

// setter takes one value. The error says what is wrong with it.
type setter func(p *parser, value string) error

// source is one file: the .network file itself or a drop-in.
type source struct {
	file string
	text []byte
}

// Parse reads the text of a file.
func Parse(file string, text []byte) (Network, []Warning) {
	return parse([]source{{file, text}})
}

// parse reads a file and its drop-ins. Section heads are needed to tell two
// [Route] sections apart, so that package syntax is given a section at a time.
func parse(sources []source) (Network, []Warning) {
	p := &parser{network: Network{
		File:              sources[0].file,
		RequiredForOnline: true,
		DHCPv4: DHCPv4{UseDNS: true, UseNTP: true, UseHostname: true, UseRoutes: true, UseGateway: true,
			SendHostname: true, RouteMetric: DefaultRouteMetric},
	}}
	for _, source := range sources {
		p.file = source.file
		for _, part := range sections(string(source.text)) {
			p.section(part)
		}
	}
	p.file = p.network.File
	for _, route := range p.routes {
		p.network.addRoute(p, *route)
	}
	if p.network.Match.Empty() {
		p.warn(0, "no [Match] section with a known key: the file is for no interface")
	}
	return p.network, p.warnings
}

type part struct {
	text string
	line int // number of its first line, minus 1
}

// sections cuts a text in front of every line that begins a section.
func sections(text string) []part {
	parts := []part{{}}
	number, continued := 0, false
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "[") && !continued {
			parts = append(parts, part{line: number})
		}
		parts[len(parts)-1].text += line
		continued = strings.HasSuffix(trimmed, `\`)
		number++
	}
	return parts
}

func (p *parser) section(part part) {
	file, err := syntax.Parse([]byte(part.text), nil)
	for _, warning := range file.Warnings {
		p.warn(part.line+warning.Line, "%s", warning.Text)
	}
	if err != nil {
		p.warn(part.line, "%v", err)
		return
	}
	var route *Route
	for _, assignment := range file.Assignments {
		line := part.line + assignment.Line
		if assignment.Section == "Route" {
			if route == nil {
				route = &Route{}
				p.routes = append(p.routes, route)
			}
			p.route(route, assignment.Key, assignment.Value, line)
			continue
		}
		table, known := keys[assignment.Section]
		if !known {
			if !strings.HasPrefix(assignment.Section, "X-") {
				p.warn(line, "section [%s] is not supported", assignment.Section)
			}
			return
		}
		set, known := table[assignment.Key]
		if !known {
			p.warn(line, "%s= in [%s] is not supported", assignment.Key, assignment.Section)
			continue
		}
		if err := set(p, assignment.Value); err != nil {
			p.warn(line, "%s=: %v", assignment.Key, err)
		}
	}
}

func (p *parser) warn(line int, format string, args ...any) {
	p.warnings = append(p.warnings, Warning{File: p.file, Line: line, Text: fmt.Sprintf(format, args...)})
}

// keys are the known ones by section. [DHCP] is the old name of [DHCPv4].
var keys = map[string]map[string]setter{
	"Match": {
		"Name":       list(func(n *Network) *[]string { return &n.Match.Name }, nil),
		"MACAddress": list(func(n *Network) *[]string { return &n.Match.MAC }, macAddress),
		"Type":       list(func(n *Network) *[]string { return &n.Match.Type }, nil),
		"Kind":       list(func(n *Network) *[]string { return &n.Match.Kind }, nil),
		"Driver":     list(func(n *Network) *[]string { return &n.Match.Driver }, nil),
	},
	"Link": {
		"Unmanaged":         boolean(func(n *Network) *bool { return &n.Unmanaged }),
		"RequiredForOnline": requiredForOnline,
		"MTUBytes":          number(func(n *Network) *int { return &n.MTU }, 68, 65535),
	},
	"Network": {
		"Description": func(*parser, string) error { return nil },
		"DHCP":        dhcp,
		"Address":     address,
		"Gateway":     gateway,
		"DNS":         dns,
		"Domains":     list(func(n *Network) *[]string { return &n.Domains }, domain),
		"NTP":         list(func(n *Network) *[]string { return &n.NTP }, server),
	},
	"Address": {"Address": address},
	"DHCPv4":  dhcpKeys,
	"DHCP":    dhcpKeys,
}

var dhcpKeys = map[string]setter{
	"UseDNS":       boolean(func(n *Network) *bool { return &n.DHCPv4.UseDNS }),
	"UseNTP":       boolean(func(n *Network) *bool { return &n.DHCPv4.UseNTP }),
	"UseHostname":  boolean(func(n *Network) *bool { return &n.DHCPv4.UseHostname }),
	"UseDomains":   boolean(func(n *Network) *bool { return &n.DHCPv4.UseDomains }),
	"UseRoutes":    boolean(func(n *Network) *bool { return &n.DHCPv4.UseRoutes }),
	"UseGateway":   boolean(func(n *Network) *bool { return &n.DHCPv4.UseGateway }),
	"UseMTU":       boolean(func(n *Network) *bool { return &n.DHCPv4.UseMTU }),
	"SendHostname": boolean(func(n *Network) *bool { return &n.DHCPv4.SendHostname }),
	"RouteMetric":  number(func(n *Network) *int { return &n.DHCPv4.RouteMetric }, 0, 1<<31-1),
	"Hostname": func(p *parser, value string) error {
		if value != "" && !ValidName(value) {
			return fmt.Errorf("%q is not a host name", value)
		}
		p.network.DHCPv4.Hostname = value
		return nil
	},
}

// list makes a setter for words; an empty value resets the list. A word that
// check refuses is left out.
func list(field func(*Network) *[]string, check func(string) (string, error)) setter {
	return func(p *parser, value string) error {
		target := field(&p.network)
		if value == "" {
			*target = nil
			return nil
		}
		var problem error
		for _, word := range words.SplitRelaxed(value) {
			if check != nil {
				var err error
				if word, err = check(word); err != nil {
					problem = err
					continue
				}
			}
			*target = append(*target, word)
		}
		return problem
	}
}

func boolean(field func(*Network) *bool) setter {
	return func(p *parser, value string) error {
		b, err := syntax.Bool(value)
		if err != nil {
			return fmt.Errorf("%q is not a boolean; write yes or no", value)
		}
		*field(&p.network) = b
		return nil
	}
}

func number(field func(*Network) *int, low, high int) setter {
	return func(p *parser, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < low || n > high {
			return fmt.Errorf("%q is not a number from %d to %d", value, low, high)
		}
		*field(&p.network) = n
		return nil
	}
}

// requiredForOnline takes a boolean or an operational state; any state means
// that the interface is waited for.
func requiredForOnline(p *parser, value string) error {
	b, err := syntax.Bool(value)
	if err != nil {
		b = true
	}
	p.network.RequiredForOnline = b
	return nil
}

func dhcp(p *parser, value string) error {
	switch value {
	case "ipv4", "v4":
		p.network.DHCP = true
		return nil
	case "ipv6", "v6":
		p.network.DHCP = false
		return fmt.Errorf("DHCPv6 is not supported")
	}
	b, err := syntax.Bool(value)
	if err != nil {
		return fmt.Errorf("%q is not known; write yes, ipv4 or no", value)
	}
	p.network.DHCP = b
	return nil
}

func address(p *parser, value string) error {
	if value == "" {
		p.network.Addresses = nil
		return nil
	}
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		ip, ipErr := netip.ParseAddr(value)
		if ipErr != nil {
			return fmt.Errorf("%q is not an address with prefix length", value)
		}
		prefix = netip.PrefixFrom(ip, ip.BitLen())
	}
	if ip := prefix.Addr(); ip.IsUnspecified() || ip.IsMulticast() {
		return fmt.Errorf("%q cannot be the address of an interface", value)
	}
	p.network.Addresses = append(p.network.Addresses, prefix)
	return nil
}

func gateway(p *parser, value string) error {
	if value == "" {
		p.network.Routes = nil
		return nil
	}
	ip, err := netip.ParseAddr(value)
	if err != nil {
		return fmt.Errorf("%q is not an address", value)
	}
	p.network.Routes = append(p.network.Routes, Route{Destination: anywhere(ip), Gateway: ip})
	return nil
}

// anywhere is the default destination of a gateway's family.
func anywhere(ip netip.Addr) netip.Prefix {
	if ip.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func dns(p *parser, value string) error {
	if value == "" {
		p.network.DNS = nil
		return nil
	}
	for _, word := range words.SplitRelaxed(value) {
		// "address#name" is for DNS over TLS; the plain part of it works too.
		plain, _, _ := strings.Cut(word, "#")
		ip, err := netip.ParseAddr(plain)
		if err != nil {
			return fmt.Errorf("%q is not an address", word)
		}
		p.network.DNS = append(p.network.DNS, ip)
	}
	return nil
}

func (p *parser) route(route *Route, key, value string, line int) {
	var err error
	switch key {
	case "Destination":
		if value == "default" {
			break
		}
		route.Destination, err = netip.ParsePrefix(value)
		if err != nil {
			var ip netip.Addr
			if ip, err = netip.ParseAddr(value); err == nil {
				route.Destination = netip.PrefixFrom(ip, ip.BitLen())
			}
		}
		route.Destination = route.Destination.Masked()
	case "Gateway":
		route.Gateway, err = netip.ParseAddr(value)
	case "PreferredSource":
		route.Source, err = netip.ParseAddr(value)
	case "Metric":
		route.Metric, err = strconv.Atoi(value)
		if err == nil && route.Metric < 0 {
			err = fmt.Errorf("%q is negative", value)
		}
	case "GatewayOnLink":
		route.OnLink, err = syntax.Bool(value)
	default:
		err = fmt.Errorf("not supported in [Route]")
	}
	if err != nil {
		p.warn(line, "%s=: %v", key, err)
	}
}

func (n *Network) addRoute(p *parser, route Route) {
	switch {
	case !route.Destination.IsValid() && !route.Gateway.IsValid():
		p.warn(0, "a [Route] without Destination= and Gateway= is ignored")
		return
	case !route.Destination.IsValid():
		route.Destination = anywhere(route.Gateway)
	case route.Gateway.IsValid() && route.Gateway.Is4() != route.Destination.Addr().Is4():
		p.warn(0, "a [Route] to %v by gateway %v is ignored: one is IPv4, the other IPv6", route.Destination, route.Gateway)
		return
	}
	n.Routes = append(n.Routes, route)
}

func macAddress(word string) (string, error) {
	mac, err := net.ParseMAC(word)
	if err != nil {
		return "", fmt.Errorf("%q is not a hardware address", word)
	}
	return mac.String(), nil
}

// domain takes a search domain. "~domain" routes questions, which needs a
// resolver of one's own; as a search domain it would change what names mean.
func domain(word string) (string, error) {
	if strings.HasPrefix(word, "~") {
		return "", fmt.Errorf("routing domain %q is not supported", word)
	}
	return server(word)
}

func server(word string) (string, error) {
	if _, err := netip.ParseAddr(word); err == nil {
		return word, nil
	}
	if !ValidName(strings.TrimSuffix(word, ".")) {
		return "", fmt.Errorf("%q is not a domain name", word)
	}
	return word, nil
}

// ValidName tells whether a text is a host or domain name of at most 253
// characters: labels of letters, digits, hyphens and underscores. Names come
// from DHCP servers too, and end up in files with a format of their own.
func ValidName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
