// Package digitalocean reads the metadata service of DigitalOcean's Droplets, as
// its "Metadata API" has it: one JSON document with everything.
//
// Custom images get their public address by DHCP; the private one, which they
// do not, becomes a network file. Left out on purpose: anchor and reserved
// addresses beyond naming the reserved one as public.
package digitalocean

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/coracle-os/coracle/rootfs/userdata/imds"
	"github.com/coracle-os/coracle/rootfs/userdata/netconfig"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

const path = "/metadata/v1.json"

type address struct {
	IPAddress string `json:"ip_address"`
	Netmask   string `json:"netmask"`
	CIDR      int    `json:"cidr"`
}

type link struct {
	MAC  string   `json:"mac"`
	IPv4 *address `json:"ipv4"`
	IPv6 *address `json:"ipv6"`
}

type droplet struct {
	Hostname   string   `json:"hostname"`
	UserData   string   `json:"user_data"`
	PublicKeys []string `json:"public_keys"`
	Interfaces struct {
		Public, Private []link
	} `json:"interfaces"`
}

// Parse makes the result from the document.
func Parse(data []byte) (platform.Result, error) {
	var r platform.Result
	var d droplet
	if err := json.Unmarshal(data, &d); err != nil {
		return r, fmt.Errorf("read DigitalOcean's metadata: %w", err)
	}
	r.SetUserData([]byte(d.UserData))
	r.SetHostname(d.Hostname)
	for _, key := range d.PublicKeys {
		r.AddKey(key)
	}
	for _, l := range d.Interfaces.Public {
		for _, a := range []*address{l.IPv4, l.IPv6} {
			if a != nil {
				r.Public(a.IPAddress)
			}
		}
	}
	var static []netconfig.Link
	for _, l := range d.Interfaces.Private {
		if l.IPv4 == nil {
			continue
		}
		r.Private(l.IPv4.IPAddress)
		static = append(static, netconfig.Link{
			MAC:       l.MAC,
			Addresses: []netconfig.Address{{IP: l.IPv4.IPAddress, Netmask: l.IPv4.Netmask}},
		})
	}
	files, notes := netconfig.Files(netconfig.Config{Links: static})
	r.Network, r.Notes = files, append(r.Notes, notes...)
	return r, nil
}

// Fetch asks the service.
func Fetch(ctx context.Context, c *imds.Client) (platform.Result, error) {
	data, err := c.Get(ctx, path)
	if err != nil {
		return platform.Result{}, err
	}
	return Parse(data)
}
