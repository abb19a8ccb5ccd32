// Package netconfig turns what platforms say about the network into .network
// files: OpenStack's network_data.json and cloud-init's network-config, versions
// 1 and 2 (the documentation of each is the specification). It is for clouds
// where DHCP does not give every address.
//
// Ethernet links, bonds, VLANs and bridges become files: static addresses,
// routes, name servers, MTU and DHCP. Links that need DHCPv4 and nothing else get
// none, for that is the default. Wireless links and tunnels are notes, and the
// network comes up without them. Every value is checked before it is written: the
// documents are outside input.
package netconfig

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// Address is an address with its mask, as text: the prefix length stands in IP
// ("10.0.0.2/24") or the mask in Netmask (as such, or as a length).
type Address struct{ IP, Netmask string }

// Route is a static route; To is "" or "default" for the default route.
type Route struct{ To, Netmask, Via string }

// Link is one interface, known by its MAC address or its name.
type Link struct {
	MAC, Name string
	DHCP      bool // DHCPv4
	DHCP6     bool
	MTU       int
	Addresses []Address
	Routes    []Route
	DNS       []string
	Domains   []string

	// ID is what other links call it, Name if "".
	ID string
	// Kind is "" for a device, or "bond", "vlan" or "bridge": one that is made,
	// by its Name, of Parts or on one of them.
	Kind  string
	Parts []string // IDs
	VLAN  int
	Bond  Bond
}

// Bond are the options of a bond, in the kernel's words and numbers; "" is the
// kernel's choice.
type Bond struct{ Mode, MIIMon, LACPRate, HashPolicy, Primary string }

func (l Link) id() string {
	if l.ID != "" {
		return l.ID
	}
	return l.Name
}

// Config is a network.
type Config struct {
	Links []Link
	// Notes say what of the document is not in Links.
	Notes []string
}

var linkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)

// maxLinks bounds how many files there are.
const maxLinks = 64

// Files makes the files, and notes about what they can not hold.
func Files(c Config) (files []platform.File, notes []string) {
	notes = append(notes, c.Notes...)
	for i, link := range c.Links {
		if i == maxLinks {
			notes = append(notes, fmt.Sprintf("the platform's network has %d links; %d are set up", len(c.Links), maxLinks))
			break
		}
		above := c.above(link)
		if len(link.Addresses) == 0 && len(link.Routes) == 0 && link.MTU == 0 && len(above) == 0 && link.Kind == "" && (link.DHCP || !link.DHCP6) {
			continue
		}
		text, problems := file(link, above)
		if link.Kind != "" && text != "" {
			device, problem := link.netdev()
			if problem != "" {
				text, problems = "", append(problems, problem)
			} else {
				files = append(files, platform.File{Name: fmt.Sprintf("10-cloud-%d.netdev", i), Content: device})
			}
		}
		for _, p := range problems {
			notes = append(notes, fmt.Sprintf("the platform's network, link %s: %s", link.label(i), p))
		}
		if text != "" {
			files = append(files, platform.File{Name: fmt.Sprintf("10-cloud-%d.network", i), Content: text})
		}
	}
	return files, notes
}

func (l Link) label(i int) string {
	for _, s := range []string{l.Name, l.MAC} {
		if s != "" {
			return strconv.Quote(s)
		}
	}
	return strconv.Itoa(i)
}

func file(l Link, above []string) (text string, problems []string) {
	var b strings.Builder
	mac, err := net.ParseMAC(l.MAC)
	switch {
	case err == nil && len(mac) == 6 && l.Kind == "":
		fmt.Fprintf(&b, "[Match]\nMACAddress=%s\n", mac)
	case linkName.MatchString(l.Name):
		fmt.Fprintf(&b, "[Match]\nName=%s\n", l.Name)
	default:
		return "", []string{fmt.Sprintf("neither a MAC address (%.40q) nor a name of an interface (%.40q); it is not set up", l.MAC, l.Name)}
	}
	if l.MTU >= 68 && l.MTU <= 65535 {
		fmt.Fprintf(&b, "\n[Link]\nMTUBytes=%d\n", l.MTU)
	}
	b.WriteString("\n[Network]\n")
	if slices.ContainsFunc(above, func(line string) bool { return strings.HasPrefix(line, "Bond=") }) {
		if l.DHCP || l.DHCP6 || len(l.Addresses)+len(l.Routes) > 0 {
			problems = append(problems, "it is a part of a bond: addresses, routes and DHCP of its own are left out")
		}
		l.DHCP, l.DHCP6, l.Addresses, l.Routes, l.DNS, l.Domains = false, false, nil, nil, nil, nil
	}
	switch {
	case l.DHCP && l.DHCP6:
		b.WriteString("DHCP=yes\n")
	case l.DHCP:
		b.WriteString("DHCP=ipv4\n")
	case l.DHCP6:
		b.WriteString("DHCP=ipv6\n")
	}
	for _, line := range above {
		b.WriteString(line + "\n")
	}
	bad := func(what string, err error) { problems = append(problems, fmt.Sprintf("%s: %v", what, err)) }
	for _, a := range l.Addresses {
		prefix, err := a.prefix()
		if ip := prefix.Addr(); err == nil && (ip.IsUnspecified() || ip.IsMulticast()) {
			err = fmt.Errorf("%v can not be the address of an interface", prefix)
		}
		if err != nil {
			bad("address", err)
			continue
		}
		fmt.Fprintf(&b, "Address=%s\n", prefix)
	}
	for _, text := range l.DNS {
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" {
			bad("name server", fmt.Errorf("%.60q is not an address", text))
			continue
		}
		fmt.Fprintf(&b, "DNS=%s\n", ip)
	}
	for _, name := range l.Domains {
		if config.ValidName(name) {
			fmt.Fprintf(&b, "Domains=%s\n", name)
		}
	}
	for _, r := range l.Routes {
		section, err := r.section(l)
		if err != nil {
			bad("route", err)
			continue
		}
		b.WriteString(section)
	}
	return b.String(), problems
}

func (a Address) prefix() (netip.Prefix, error) {
	if strings.Contains(a.IP, "/") {
		return parsePrefix(a.IP)
	}
	bits, err := maskBits(a.Netmask)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%.60q: %w", a.IP, err)
	}
	if bits < 0 {
		ip, err := netip.ParseAddr(a.IP)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%.60q is not an address", a.IP)
		}
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	return parsePrefix(a.IP + "/" + strconv.Itoa(bits))
}

func parsePrefix(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return prefix, fmt.Errorf("%.60q is not an address with a prefix length", text)
	}
	return prefix, nil
}

// maskBits reads "255.255.255.0", "ffff:ffff::" or "24"; "" is -1.
func maskBits(mask string) (int, error) {
	if mask == "" {
		return -1, nil
	}
	if n, err := strconv.Atoi(mask); err == nil && n >= 0 && n <= 128 {
		return n, nil
	}
	if ip, err := netip.ParseAddr(mask); err == nil && ip.Zone() == "" {
		if ones, size := net.IPMask(ip.AsSlice()).Size(); size > 0 {
			return ones, nil
		}
	}
	return 0, fmt.Errorf("%.60q is not a netmask", mask)
}

func (r Route) section(l Link) (string, error) {
	via, err := netip.ParseAddr(r.Via)
	if err != nil || via.Zone() != "" {
		return "", fmt.Errorf("gateway %.60q is not an address", r.Via)
	}
	to := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if via.Is6() {
		to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if r.To != "" && r.To != "default" {
		if to, err = (Address{r.To, r.Netmask}).prefix(); err != nil {
			return "", err
		}
	}
	if to.Addr().Is4() != via.Is4() {
		return "", fmt.Errorf("%v by way of %v mixes IPv4 and IPv6", to, via)
	}
	text := fmt.Sprintf("\n[Route]\nDestination=%s\nGateway=%s\n", to.Masked(), via)
	if !l.reaches(via) {
		text += "GatewayOnLink=yes\n"
	}
	return text, nil
}

// reaches tells whether an address of the link has the gateway in its network.
func (l Link) reaches(via netip.Addr) bool {
	if via.IsLinkLocalUnicast() {
		return true
	}
	for _, a := range l.Addresses {
		if prefix, err := a.prefix(); err == nil && prefix.Contains(via) {
			return true
		}
	}
	return l.DHCP && len(l.Addresses) == 0
}
