package netconfig

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

type openStack struct {
	Links []struct {
		ID   string `json:"id"`
		Type string `json:"type"`
		MAC  string `json:"ethernet_mac_address"`
		MTU  *int   `json:"mtu"`
	} `json:"links"`
	Networks []struct {
		Link    string `json:"link"`
		Type    string `json:"type"`
		IP      string `json:"ip_address"`
		Netmask string `json:"netmask"`
		Gateway string `json:"gateway"`
		Routes  []struct {
			Network string `json:"network"`
			Netmask string `json:"netmask"`
			Gateway string `json:"gateway"`
		} `json:"routes"`
		Services []service `json:"services"`
	} `json:"networks"`
	Services []service `json:"services"`
}

type service struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

// ParseOpenStack reads network_data.json.
func ParseOpenStack(data []byte) (Config, error) {
	var o openStack
	var c Config
	if err := json.Unmarshal(data, &o); err != nil {
		return c, fmt.Errorf("read network_data.json: %w", err)
	}
	for _, l := range o.Links {
		if slices.Contains([]string{"bond", "vlan"}, l.Type) {
			c.Notes = append(c.Notes, fmt.Sprintf("the platform's network: link %.40q is a %s, which this version does not set up", l.ID, l.Type))
			continue
		}
		link := Link{MAC: l.MAC}
		if l.MTU != nil {
			link.MTU = *l.MTU
		}
		for _, n := range o.Networks {
			if n.Link != l.ID {
				continue
			}
			switch n.Type {
			case "ipv4_dhcp":
				link.DHCP = true
			case "ipv4", "ipv6":
				link.Addresses = append(link.Addresses, Address{n.IP, n.Netmask})
				if n.Gateway != "" {
					link.Routes = append(link.Routes, Route{Via: n.Gateway})
				}
			default: // by router advertisement, which needs no file
				if strings.Contains(n.Type, "stateful") {
					c.Notes = append(c.Notes, fmt.Sprintf("the platform's network: %.40q is not set up by this version", n.Type))
				}
			}
			for _, r := range n.Routes {
				link.Routes = append(link.Routes, Route{To: defaultFor(r.Network, r.Netmask), Netmask: r.Netmask, Via: r.Gateway})
			}
			link.DNS = append(link.DNS, nameServers(n.Services)...)
		}
		link.DNS = append(link.DNS, nameServers(o.Services)...)
		c.Links = append(c.Links, link)
	}
	return c, nil
}

// defaultFor recognizes the default routes among those with a mask.
func defaultFor(network, mask string) string {
	if (network == "0.0.0.0" || network == "::") && (mask == "0.0.0.0" || mask == "::" || mask == "0") {
		return ""
	}
	return network
}

func nameServers(services []service) (servers []string) {
	for _, s := range services {
		if s.Type == "dns" {
			servers = append(servers, s.Address)
		}
	}
	return servers
}
