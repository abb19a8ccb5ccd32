package netconfig

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

type openStack struct {
	Links []struct {
		ID   string `json:"id"`
		Type string `json:"type"`
		MAC  string `json:"ethernet_mac_address"`
		MTU  *int   `json:"mtu"`

		Parts      []string `json:"bond_links"`
		Mode       string   `json:"bond_mode"`
		MIIMon     any      `json:"bond_miimon"`
		HashPolicy string   `json:"bond_xmit_hash_policy"`
		On         string   `json:"vlan_link"`
		VLAN       any      `json:"vlan_id"`
		VLANMAC    string   `json:"vlan_mac_address"`
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

// number is a number that may be written as one or as a text.
func number(v any) string {
	switch v := v.(type) {
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		return v
	}
	return ""
}

// ParseOpenStack reads network_data.json.
func ParseOpenStack(data []byte) (Config, error) {
	var o openStack
	var c Config
	if err := json.Unmarshal(data, &o); err != nil {
		return c, fmt.Errorf("read network_data.json: %w", err)
	}
	for _, l := range o.Links {
		link := Link{ID: l.ID, MAC: l.MAC}
		switch l.Type {
		case "bond":
			link.Kind, link.Name, link.Parts = "bond", "bond"+strconv.Itoa(len(c.Links)), l.Parts
			link.Bond = Bond{Mode: l.Mode, MIIMon: number(l.MIIMon), HashPolicy: l.HashPolicy}
			if linkName.MatchString(l.ID) {
				link.Name = l.ID
			}
		case "vlan":
			link.Kind, link.MAC, link.Parts = "vlan", l.VLANMAC, []string{l.On}
			link.VLAN, _ = strconv.Atoi(number(l.VLAN))
			link.Name = "vlan" + strconv.Itoa(link.VLAN)
		}
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
				link.DHCP6 = link.DHCP6 || strings.Contains(n.Type, "dhcp")
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
