package netconfig

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// list is one text or several.
type list []string

func (l *list) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*l = list{node.Value}
		return nil
	}
	return node.Decode((*[]string)(l))
}

// text is a scalar, taken as it is written.
type text string

func (t *text) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: want a text", node.Line)
	}
	*t = text(node.Value)
	return nil
}

type document struct {
	Version   int                 `yaml:"version"`
	Config    yaml.Node           `yaml:"config"`
	Ethernets map[string]ethernet `yaml:"ethernets"`
	Bonds     map[string]ethernet `yaml:"bonds"`
	VLANs     map[string]ethernet `yaml:"vlans"`
	Bridges   map[string]ethernet `yaml:"bridges"`
	Others    map[string]any      `yaml:",inline"`
}

type ethernet struct {
	Match struct {
		MAC  string `yaml:"macaddress"`
		Name string `yaml:"name"`
	} `yaml:"match"`
	DHCP4, DHCP6 bool
	MTU          int    `yaml:"mtu"`
	Addresses    []text `yaml:"addresses"`
	Gateway4     string `yaml:"gateway4"`
	Gateway6     string `yaml:"gateway6"`
	Nameservers  struct{ Addresses, Search list }
	Routes       []struct{ To, Via string }

	MAC        string   `yaml:"macaddress"`
	Interfaces []string `yaml:"interfaces"` // of a bond or a bridge
	ID         int      `yaml:"id"`         // of a VLAN
	Link       string   `yaml:"link"`
	Parameters struct {
		Mode       text `yaml:"mode"`
		MIIMon     text `yaml:"mii-monitor-interval"`
		LACPRate   text `yaml:"lacp-rate"`
		HashPolicy text `yaml:"transmit-hash-policy"`
		Primary    text `yaml:"primary"`
	} `yaml:"parameters"`
}

type item struct {
	Type    string `yaml:"type"`
	Name    string `yaml:"name"`
	MAC     string `yaml:"mac_address"`
	MTU     int    `yaml:"mtu"`
	Address list   `yaml:"address"`

	Parts   list            `yaml:"bond_interfaces"`
	Ports   list            `yaml:"bridge_interfaces"`
	On      string          `yaml:"vlan_link"`
	VLAN    int             `yaml:"vlan_id"`
	Params  map[string]text `yaml:"params"`
	Search  list            `yaml:"search"`
	Subnets []struct {
		Type    string `yaml:"type"`
		Address string `yaml:"address"`
		Netmask text   `yaml:"netmask"`
		Gateway string `yaml:"gateway"`
		DNS     list   `yaml:"dns_nameservers"`
		Search  list   `yaml:"dns_search"`
		Routes  []struct {
			Network     string `yaml:"network"`
			Destination string `yaml:"destination"`
			Netmask     text   `yaml:"netmask"`
			Gateway     string `yaml:"gateway"`
		} `yaml:"routes"`
	} `yaml:"subnets"`
}

// param is one of a bond's parameters, with either separator in its name.
func (i item) param(name string) string {
	if value, ok := i.Params[name]; ok {
		return string(value)
	}
	return string(i.Params[strings.ReplaceAll(name, "-", "_")])
}

// ParseNoCloud reads cloud-init's network-config, with or without the key
// "network" around it.
func ParseNoCloud(data []byte) (Config, error) {
	var outer struct {
		Network yaml.Node `yaml:"network"`
	}
	var d document
	err := yaml.Unmarshal(data, &outer)
	if err == nil && !outer.Network.IsZero() {
		err = outer.Network.Decode(&d)
	} else if err == nil {
		err = yaml.Unmarshal(data, &d)
	}
	if err != nil {
		return Config{}, fmt.Errorf("read network-config: %w", err)
	}
	switch d.Version {
	case 1:
		var items []item
		if !d.Config.IsZero() {
			if err := d.Config.Decode(&items); err != nil {
				return Config{}, fmt.Errorf("read network-config: %w", err)
			}
		}
		return version1(items), nil
	case 2:
		return version2(d), nil
	}
	return Config{}, fmt.Errorf("read network-config: version %d; this program knows 1 and 2", d.Version)
}

func version1(items []item) Config {
	var c Config
	var servers, domains []string
	for _, i := range items {
		switch i.Type {
		case "nameserver":
			servers, domains = append(servers, i.Address...), append(domains, i.Search...)
		case "physical", "bond", "vlan", "bridge":
			link := physical(i, &c.Notes)
			if i.Type != "physical" {
				link.Kind, link.VLAN = i.Type, i.VLAN
				link.Parts = slices.Concat(i.Parts, i.Ports)
				if i.On != "" {
					link.Parts = append(link.Parts, i.On)
				}
				link.Bond = Bond{Mode: i.param("bond-mode"), MIIMon: i.param("bond-miimon"), LACPRate: i.param("bond-lacp-rate"),
					HashPolicy: i.param("bond-xmit-hash-policy"), Primary: i.param("bond-primary")}
			}
			c.Links = append(c.Links, link)
		case "loopback":
		default:
			c.Notes = append(c.Notes, fmt.Sprintf("the platform's network: %.40q of type %.20q is not set up by this version", i.Name, i.Type))
		}
	}
	for i := range c.Links {
		c.Links[i].DNS = append(c.Links[i].DNS, servers...)
		c.Links[i].Domains = append(c.Links[i].Domains, domains...)
	}
	return c
}

func physical(i item, notes *[]string) Link {
	link := Link{MAC: i.MAC, Name: i.Name, MTU: i.MTU}
	for _, s := range i.Subnets {
		switch s.Type {
		case "dhcp", "dhcp4":
			link.DHCP = true
		case "dhcp6", "ipv6_dhcpv6-stateful", "ipv6_dhcpv6-stateless":
			link.DHCP6 = true
		case "static", "static6":
			link.Addresses = append(link.Addresses, Address{s.Address, string(s.Netmask)})
			if s.Gateway != "" {
				link.Routes = append(link.Routes, Route{Via: s.Gateway})
			}
		case "manual", "ipv6_slaac":
		default:
			*notes = append(*notes, fmt.Sprintf("the platform's network: %.40q: %.20q is not set up by this version", i.Name, s.Type))
		}
		for _, r := range s.Routes {
			to := r.Network
			if to == "" {
				to = r.Destination
			}
			link.Routes = append(link.Routes, Route{To: defaultFor(to, string(r.Netmask)), Netmask: string(r.Netmask), Via: r.Gateway})
		}
		link.DNS, link.Domains = append(link.DNS, s.DNS...), append(link.Domains, s.Search...)
	}
	return link
}

func version2(d document) Config {
	var c Config
	for _, group := range []struct {
		kind  string
		links map[string]ethernet
	}{{"", d.Ethernets}, {"bond", d.Bonds}, {"vlan", d.VLANs}, {"bridge", d.Bridges}} {
		for _, name := range slices.Sorted(maps.Keys(group.links)) {
			c.Links = append(c.Links, group.links[name].link(name, group.kind))
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(d.Others)) {
		if slices.Contains([]string{"wifis", "tunnels", "modems", "vrfs", "dummy-devices"}, kind) {
			c.Notes = append(c.Notes, fmt.Sprintf("the platform's network: %s are not set up by this version", kind))
		}
	}
	return c
}

// link is one of the second version.
func (e ethernet) link(name, kind string) Link {
	link := Link{ID: name, MAC: e.Match.MAC, Name: e.Match.Name, DHCP: e.DHCP4, DHCP6: e.DHCP6, MTU: e.MTU, DNS: e.Nameservers.Addresses, Domains: e.Nameservers.Search}
	if link.MAC == "" && link.Name == "" {
		link.Name = name
	}
	if kind != "" {
		link.Kind, link.Name, link.MAC, link.Parts, link.VLAN = kind, name, e.MAC, e.Interfaces, e.ID
		if kind == "vlan" {
			link.Parts = []string{e.Link}
		}
		p := e.Parameters
		link.Bond = Bond{Mode: string(p.Mode), MIIMon: string(p.MIIMon), LACPRate: string(p.LACPRate), HashPolicy: string(p.HashPolicy), Primary: string(p.Primary)}
	}
	for _, a := range e.Addresses {
		link.Addresses = append(link.Addresses, Address{IP: string(a)})
	}
	for _, via := range []string{e.Gateway4, e.Gateway6} {
		if via != "" {
			link.Routes = append(link.Routes, Route{Via: via})
		}
	}
	for _, r := range e.Routes {
		link.Routes = append(link.Routes, Route{To: r.To, Via: r.Via})
	}
	return link
}
