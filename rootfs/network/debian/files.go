package debian

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Operations are what coreos-cloudinit did before it wrote the files, in its
// recorded terms. The network daemon here does without: it makes a link a part
// of a bond or a VLAN's parent whatever state it is in, and the kernel loads the
// modules by itself.
func (n Network) Operations() (operations []string) {
	modules := map[kind]string{}
	for _, d := range n.interfaces {
		operations = append(operations, "down "+d.name)
		switch {
		case d.kind == vlan:
			modules[vlan] = "modprobe 8021q"
		case d.kind == bond && modules[bond] == "":
			modules[bond] = "modprobe bonding"
			for _, name := range slices.Sorted(maps.Keys(d.options)) {
				modules[bond] += " " + name + "=" + d.options[name]
			}
		}
	}
	for _, k := range []kind{vlan, bond} {
		if modules[k] != "" {
			operations = append(operations, modules[k])
		}
	}
	return append(operations, "restart systemd-networkd.service")
}

// Files are the network as files, whose names bring them into the order in
// which the interfaces are made.
func (n Network) Files() (files []File) {
	for _, d := range n.interfaces {
		name := fmt.Sprintf("%02x-%s", d.depth, d.name)
		if text := d.netdev(); text != "" {
			files = append(files, File{name + ".netdev", text})
		}
		files = append(files, File{name + ".network", d.network()})
	}
	return files
}

func (d *device) netdev() string {
	var b strings.Builder
	switch d.kind {
	case bond:
		fmt.Fprintf(&b, "[NetDev]\nKind=bond\nName=%s\n\n[Bond]\n", d.name)
		for _, name := range slices.Sorted(maps.Keys(d.options)) {
			fmt.Fprintf(&b, "%s=%s\n", name, d.options[name])
		}
	case vlan:
		fmt.Fprintf(&b, "[NetDev]\nKind=vlan\nName=%s\n", d.name)
		if d.static != nil && d.static.hwaddress != nil {
			fmt.Fprintf(&b, "MACAddress=%s\n", d.static.hwaddress)
		}
		fmt.Fprintf(&b, "\n[VLAN]\nId=%d\n", d.id)
	}
	return b.String()
}

func (d *device) network() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[Match]\nName=%s\n\n[Network]\n", d.name)
	for _, child := range d.children {
		if child.kind == vlan {
			fmt.Fprintf(&b, "VLAN=%s\n", child.name)
		} else {
			fmt.Fprintf(&b, "Bond=%s\n", child.name)
		}
	}
	if d.dhcp {
		b.WriteString("DHCP=true\n")
	}
	if s := d.static; s != nil {
		for _, server := range s.nameservers {
			fmt.Fprintf(&b, "DNS=%s\n", server)
		}
		fmt.Fprintf(&b, "\n[Address]\nAddress=%s\n", s.address)
		for _, r := range s.routes {
			fmt.Fprintf(&b, "\n[Route]\nDestination=%s\nGateway=%s\n", r.destination, r.gateway)
		}
	}
	return b.String()
}
