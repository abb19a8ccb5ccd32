package provision

import (
	"net/netip"
	"strings"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
)

// Interface is what a plan may know about a network interface.
type Interface struct {
	Name       string
	Addresses  []netip.Prefix
	HasGateway bool
}

var sharedRange = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598, behind the carrier's NAT

// addressesOf chooses the machine's addresses: of the interfaces with a gateway
// before those without, the first private and the first public address of each
// family. A machine with only one of the kinds has that one for both, as CoreOS
// had it on bare metal.
func addressesOf(interfaces []Interface) cloudconfig.Addresses {
	var a cloudconfig.Addresses
	for _, withGateway := range []bool{true, false} {
		for _, i := range interfaces {
			if i.Name == "lo" || i.HasGateway != withGateway {
				continue
			}
			for _, prefix := range i.Addresses {
				choose(&a, prefix.Addr().Unmap())
			}
		}
	}
	both := func(public, private *string) {
		if *public == "" {
			*public = *private
		}
		if *private == "" {
			*private = *public
		}
	}
	both(&a.PublicIPv4, &a.PrivateIPv4)
	both(&a.PublicIPv6, &a.PrivateIPv6)
	return a
}

func choose(a *cloudconfig.Addresses, ip netip.Addr) {
	if !ip.IsGlobalUnicast() {
		return
	}
	private := ip.IsPrivate() || sharedRange.Contains(ip)
	field := &a.PublicIPv6
	switch {
	case ip.Is4() && private:
		field = &a.PrivateIPv4
	case ip.Is4():
		field = &a.PublicIPv4
	case private:
		field = &a.PrivateIPv6
	}
	if *field == "" {
		*field = ip.String()
	}
}

// chosenAddresses returns the addresses in the text of /etc/environment that an
// interface has: the choice of whoever wrote the file. Those that no interface
// has are of an earlier boot.
func chosenAddresses(environment string, interfaces []Interface) cloudconfig.Addresses {
	current := map[string]bool{}
	for _, i := range interfaces {
		for _, prefix := range i.Addresses {
			current[prefix.Addr().Unmap().String()] = true
		}
	}
	var a cloudconfig.Addresses
	for line := range strings.Lines(environment) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		if !current[value] {
			continue
		}
		switch key {
		case "COREOS_PUBLIC_IPV4":
			a.PublicIPv4 = value
		case "COREOS_PRIVATE_IPV4":
			a.PrivateIPv4 = value
		case "COREOS_PUBLIC_IPV6":
			a.PublicIPv6 = value
		case "COREOS_PRIVATE_IPV6":
			a.PrivateIPv6 = value
		}
	}
	return a
}
