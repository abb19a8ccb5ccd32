package cmdline

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/network/config"
)

// section is a [Route]; "" is everywhere.
func section(destination string, via netip.Addr, onLink bool) string {
	text := "\n[Route]\n"
	if destination != "" {
		text += "Destination=" + destination + "\n"
	}
	if via.IsValid() {
		text += fmt.Sprintf("Gateway=%v\n", via)
		if onLink && !via.IsLinkLocalUnicast() {
			text += "GatewayOnLink=yes\n"
		}
	}
	return text
}

func (r *reader) file(l *link) File {
	var b strings.Builder
	name := "71-default.network"
	match := "Kind=!*\nType=!loopback\n"
	if l.name != "" {
		name, match = "70-"+l.name+".network", "Name="+l.name+"\n"
	}
	b.WriteString("# Made of the kernel's command line.\n[Match]\n" + match)
	if l.mtu != 0 || l.mac != "" {
		b.WriteString("\n[Link]\n")
		if l.mac != "" {
			b.WriteString("MACAddress=" + l.mac + "\n")
		}
		if l.mtu != 0 {
			fmt.Fprintf(&b, "MTUBytes=%d\n", l.mtu)
		}
	}
	b.WriteString("\n[Network]\n")
	if l.dhcp != "" {
		b.WriteString("DHCP=" + l.dhcp + "\n")
	}
	for _, line := range l.lines {
		b.WriteString(line + "\n")
	}
	for _, text := range l.addresses {
		b.WriteString("Address=" + text + "\n")
	}
	for _, server := range slices.Concat(l.dns, r.dns) {
		fmt.Fprintf(&b, "DNS=%v\n", server)
	}
	for _, server := range l.ntp {
		fmt.Fprintf(&b, "NTP=%v\n", server)
	}
	if l.hostname != "" || r.noPeer {
		b.WriteString("\n[DHCPv4]\n")
		if l.hostname != "" {
			b.WriteString("Hostname=" + l.hostname + "\n")
		}
		if r.noPeer {
			b.WriteString("UseDNS=no\n\n[DHCPv6]\nUseDNS=no\n\n[IPv6AcceptRA]\nUseDNS=no\n")
		}
	}
	for _, text := range l.routes {
		b.WriteString(text)
	}
	return File{name, b.String()}
}

// ifname is INTERFACE:MAC.
func (r *reader) ifname(value string) error {
	name, text, _ := strings.Cut(value, ":")
	mac, err := net.ParseMAC(text)
	if err != nil || !validName(name) {
		return errors.New("want INTERFACE:MAC")
	}
	r.files = append(r.files, File{"70-" + name + ".link", fmt.Sprintf("# Made of the kernel's command line.\n[Match]\nMACAddress=%s\n\n[Link]\nName=%s\n", mac, name)})
	return nil
}

// route is DESTINATION/LENGTH:GATEWAY[:INTERFACE].
func (r *reader) route(value string) error {
	f := fields(value)
	if len(f) < 2 || len(f) > 3 {
		return errors.New("want DESTINATION/LENGTH:GATEWAY[:INTERFACE]")
	}
	text, mask, hasMask := strings.Cut(strings.NewReplacer("[", "", "]", "").Replace(f[0]), "/")
	to, err := address(text)
	if err != nil {
		return err
	}
	bits := to.BitLen()
	if hasMask {
		if bits, err = length(mask, to); err != nil {
			return err
		}
	}
	var via netip.Addr
	if f[1] != "" {
		if via, err = address(f[1]); err != nil {
			return err
		}
		if via.Is4() != to.Is4() {
			return errors.New("one is IPv4, the other IPv6")
		}
	}
	name := ""
	if len(f) == 3 && f[2] != "" {
		if name = f[2]; !validName(name) {
			return fmt.Errorf("%q is not the name of an interface", name)
		}
	}
	l := r.get(name)
	if !l.given && l.dhcp == "" {
		l.dhcp = "yes"
	}
	l.routes = append(l.routes, section(netip.PrefixFrom(to, bits).Masked().String(), via, false))
	return nil
}

func (r *reader) netdev(name, kind, more string) {
	r.files = append(r.files, File{"70-" + name + ".netdev", fmt.Sprintf("# Made of the kernel's command line.\n[NetDev]\nName=%s\nKind=%s\n%s", name, kind, more)})
}

// vlan is NAME:DEVICE; the name ends in the number: vlan5, eth0.5.
func (r *reader) vlan(value string) error {
	f := fields(value)
	if len(f) != 2 || !validName(f[0]) || !validName(f[1]) {
		return errors.New("want NAME:DEVICE")
	}
	digits := strings.TrimLeft(f[0][len(strings.TrimRight(f[0], "0123456789")):], "0")
	text := fmt.Sprintf("\n[VLAN]\nId=%s\n", digits)
	if _, ok, _ := config.ParseNetdev("x", []byte("[NetDev]\nName=x\nKind=vlan\n"+text)); !ok {
		return fmt.Errorf("%q does not end in a number from 1 to 4094", f[0])
	}
	r.netdev(f[0], "vlan", text)
	r.get(f[1]).lines = append(r.get(f[1]).lines, "VLAN="+f[0])
	return nil
}

var bondOptions = map[string]string{"mode": "mode", "miimon": "miimon", "lacp_rate": "lacp-rate"}

// bond is NAME[:PART,PART[:OPTION=VALUE,...[:MTU]]].
func (r *reader) bond(value string) error {
	f := append(fields(value), "", "", "")
	name, parts, options := f[0], f[1], f[2]
	if name == "" {
		name = "bond0"
	}
	if parts == "" {
		parts = "eth0,eth1"
	}
	if !validName(name) {
		return fmt.Errorf("%q is not the name of an interface", name)
	}
	text := "\n[Bond]\n"
	if options == "" {
		options = "mode=balance-rr"
	}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		known, ok := bondOptions[key]
		if !ok {
			return fmt.Errorf("option %q of a bond is not supported", key)
		}
		text += known + "=" + value + "\n"
	}
	if _, _, warnings := config.ParseNetdev("x", []byte("[NetDev]\nName=x\nKind=bond\n"+text)); len(warnings) > 0 {
		return errors.New(warnings[0].Text)
	}
	if err := r.parts(parts, "Bond="+name); err != nil {
		return err
	}
	r.netdev(name, "bond", text)
	if f[3] != "" {
		return r.get(name).hardware(f[3], "")
	}
	return nil
}

// bridge is NAME:PART,PART.
func (r *reader) bridge(value string) error {
	f := append(fields(value), "")
	name, parts := f[0], f[1]
	if name == "" {
		name = "br0"
	}
	if parts == "" {
		parts = "eth0"
	}
	if !validName(name) {
		return fmt.Errorf("%q is not the name of an interface", name)
	}
	if err := r.parts(parts, "Bridge="+name); err != nil {
		return err
	}
	r.netdev(name, "bridge", "")
	return nil
}

func (r *reader) parts(list, line string) error {
	names := strings.Split(list, ",")
	for _, name := range names {
		if !validName(name) {
			return fmt.Errorf("%q is not the name of an interface", name)
		}
	}
	for _, name := range names {
		r.get(name).lines = append(r.get(name).lines, line)
	}
	return nil
}
