package netconfig

import (
	"fmt"
	"net"
	"strings"

	"github.com/coracle-os/coracle/rootfs/network/config"
)

// above are the lines of [Network] for what is made of a link or on it.
func (c Config) above(l Link) (lines []string) {
	for _, other := range c.Links {
		for _, part := range other.Parts {
			if part == "" || part != l.id() || !linkName.MatchString(other.Name) {
				continue
			}
			switch other.Kind {
			case "vlan":
				lines = append(lines, "VLAN="+other.Name)
			case "bond":
				lines = append(lines, "Bond="+other.Name)
				if other.Bond.Primary == part {
					lines = append(lines, "PrimarySlave=yes")
				}
			case "bridge":
				lines = append(lines, "Bridge="+other.Name)
			}
		}
	}
	return lines
}

// netdev is the .netdev file of a link that is made. The daemon's own reader
// judges it.
func (l Link) netdev() (text, problem string) {
	var b strings.Builder
	fmt.Fprintf(&b, "[NetDev]\nName=%s\nKind=%s\n", l.Name, l.Kind)
	if mac, err := net.ParseMAC(l.MAC); err == nil && len(mac) == 6 {
		fmt.Fprintf(&b, "MACAddress=%s\n", mac)
	}
	switch l.Kind {
	case "vlan":
		fmt.Fprintf(&b, "\n[VLAN]\nId=%d\n", l.VLAN)
	case "bond":
		b.WriteString("\n[Bond]\n")
		for _, option := range [][2]string{{"mode", l.Bond.Mode}, {"miimon", l.Bond.MIIMon}, {"lacp-rate", l.Bond.LACPRate}, {"TransmitHashPolicy", l.Bond.HashPolicy}} {
			if option[1] != "" {
				fmt.Fprintf(&b, "%s=%s\n", option[0], strings.Join(strings.Fields(option[1]), " "))
			}
		}
	}
	if _, _, warnings := config.ParseNetdev(l.Name, []byte(b.String())); len(warnings) > 0 {
		return "", warnings[0].Text + "; it is not set up"
	}
	return b.String(), ""
}
