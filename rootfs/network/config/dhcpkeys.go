package config

import (
	"fmt"
	"net/netip"
)

var dhcp4Keys = table[DHCPv4]{
	"UseDNS":       boolean(func(d *DHCPv4) *bool { return &d.UseDNS }),
	"UseNTP":       boolean(func(d *DHCPv4) *bool { return &d.UseNTP }),
	"UseHostname":  boolean(func(d *DHCPv4) *bool { return &d.UseHostname }),
	"UseDomains":   useDomains(func(d *DHCPv4) (*bool, *bool) { return &d.UseDomains, &d.UseDomainsRoute }),
	"UseRoutes":    boolean(func(d *DHCPv4) *bool { return &d.UseRoutes }),
	"UseGateway":   boolean(func(d *DHCPv4) *bool { return &d.UseGateway }),
	"UseMTU":       boolean(func(d *DHCPv4) *bool { return &d.UseMTU }),
	"SendHostname": boolean(func(d *DHCPv4) *bool { return &d.SendHostname }),
	"SendDecline":  boolean(func(d *DHCPv4) *bool { return &d.SendDecline }),
	"SendRelease":  ignored[DHCPv4], // the machine comes back with the same address
	"UseTimezone":  never[DHCPv4]("clocks are in UTC"),
	"UseSIP":       never[DHCPv4]("nothing here asks SIP servers"),
	"Use6RD":       never[DHCPv4]("tunnels of this kind are not made"),
	// The old name of KeepConfiguration=dhcp.
	"CriticalConnection": boolean(func(d *DHCPv4) *bool { return &d.KeepLease }),
	"RouteMetric":        number(func(d *DHCPv4) *int { return &d.RouteMetric }, 0, 1<<31-1),
	// RFC 7844: nothing is sent that tells who the machine is.
	"Anonymize": func(d *DHCPv4, value string) error {
		b, err := truth(value)
		if err == nil && b {
			d.SendHostname, d.Hostname, d.VendorClass, d.ClientIdentifier = false, "", "", "mac"
		}
		return err
	},
	"RouteTable": func(d *DHCPv4, value string) (err error) {
		d.RouteTable, err = routeTable(value)
		return err
	},
	"Hostname": word(func(d *DHCPv4) *string { return &d.Hostname }, hostName),
	"VendorClassIdentifier": word(func(d *DHCPv4) *string { return &d.VendorClass }, func(text string) (string, error) {
		if len(text) > 255 {
			return "", fmt.Errorf("a text of %d bytes is too long; 255 is the most", len(text))
		}
		return text, nil
	}),
	"ClientIdentifier": oneOf(func(d *DHCPv4) *string { return &d.ClientIdentifier }, "mac", "duid"),
	"RequestAddress":   ip(func(d *DHCPv4) *netip.Addr { return &d.RequestAddress }),
}

var dhcp6Keys = table[DHCPv6]{
	"UseAddress":         boolean(func(d *DHCPv6) *bool { return &d.UseAddress }),
	"UseDNS":             boolean(func(d *DHCPv6) *bool { return &d.UseDNS }),
	"UseNTP":             boolean(func(d *DHCPv6) *bool { return &d.UseNTP }),
	"UseHostname":        boolean(func(d *DHCPv6) *bool { return &d.UseHostname }),
	"UseDomains":         useDomains(func(d *DHCPv6) (*bool, *bool) { return &d.UseDomains, &d.UseDomainsRoute }),
	"SendHostname":       boolean(func(d *DHCPv6) *bool { return &d.SendHostname }),
	"UseDelegatedPrefix": never[DHCPv6]("prefixes are not asked for"),
	"SendRelease":        ignored[DHCPv6],
	"RapidCommit":        boolean(func(d *DHCPv6) *bool { return &d.RapidCommit }),
	"Hostname":           word(func(d *DHCPv6) *string { return &d.Hostname }, hostName),
	"WithoutRA":          oneOf(func(d *DHCPv6) *string { return &d.Without }, "no", "solicit", "information-request"),
}

var raKeys = table[RA]{
	"UseDNS":              boolean(func(r *RA) *bool { return &r.UseDNS }),
	"UseDomains":          useDomains(func(r *RA) (*bool, *bool) { return &r.UseDomains, &r.UseDomainsRoute }),
	"UseMTU":              boolean(func(r *RA) *bool { return &r.UseMTU }),
	"UseGateway":          boolean(func(r *RA) *bool { return &r.UseGateway }),
	"UseAutonomousPrefix": boolean(func(r *RA) *bool { return &r.UsePrefix }),
	"DHCPv6Client": func(r *RA, value string) error {
		if value == "always" {
			r.Client = value
			return nil
		}
		b, err := truth(value)
		if err == nil {
			r.Client = map[bool]string{true: "yes", false: "no"}[b]
		}
		return err
	},
}

func useDomains[T any](of func(*T) (use, route *bool)) field[T] {
	return func(target *T, value string) error {
		use, route := of(target)
		if value == "route" {
			*use, *route = true, true
			return nil
		}
		b, err := truth(value)
		if err == nil {
			*use, *route = b, false
		}
		return err
	}
}

func hostName(name string) (string, error) {
	if !ValidName(name) {
		return "", fmt.Errorf("%q is not a host name", name)
	}
	return name, nil
}
