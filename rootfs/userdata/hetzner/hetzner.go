// Package hetzner reads the metadata service of Hetzner Cloud ("Server
// metadata"): YAML, and the user-data as it was given. The IPv6 address, which
// no DHCP gives, becomes a network file; private networks have DHCP.
package hetzner

import (
	"context"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/coracle-os/coracle/rootfs/userdata/imds"
	"github.com/coracle-os/coracle/rootfs/userdata/netconfig"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

const (
	metaData = "/hetzner/v1/metadata"
	private  = "/hetzner/v1/metadata/private-networks"
	userData = "/hetzner/v1/userdata"
)

// Documents are the service's; those that are not there are nil.
type Documents struct{ MetaData, Private, UserData []byte }

// Parse makes the result from the documents.
func Parse(d Documents) platform.Result {
	var r platform.Result
	r.SetUserData(d.UserData)
	var meta struct {
		Hostname   string    `yaml:"hostname"`
		PublicIPv4 string    `yaml:"public-ipv4"`
		LocalIPv4  string    `yaml:"local-ipv4"`
		PublicKeys []string  `yaml:"public-keys"`
		Network    yaml.Node `yaml:"network-config"`
	}
	if err := yaml.Unmarshal(d.MetaData, &meta); err != nil {
		r.Fail(fmt.Errorf("read Hetzner's metadata: %w", err))
	}
	r.SetHostname(meta.Hostname)
	r.Public(meta.PublicIPv4)
	for _, key := range meta.PublicKeys {
		r.AddKey(key)
	}
	var networks []struct {
		IP string `yaml:"ip"`
	}
	if err := yaml.Unmarshal(d.Private, &networks); err != nil {
		r.Fail(fmt.Errorf("read Hetzner's private networks: %w", err))
	}
	for _, n := range networks {
		r.Private(n.IP)
	}
	r.Private(meta.LocalIPv4)
	network(&r, meta.Network)
	return r
}

// network reads the part that is as cloud-init's network-config.
func network(r *platform.Result, node yaml.Node) {
	if node.IsZero() {
		return
	}
	text, err := yaml.Marshal(&node)
	var config netconfig.Config
	if err == nil {
		config, err = netconfig.ParseNoCloud(text)
	}
	if err != nil {
		r.Notes = append(r.Notes, err.Error()+"; the network is set up by DHCP")
		return
	}
	for _, l := range config.Links {
		for _, a := range l.Addresses {
			r.Sort(a.IP)
		}
	}
	files, notes := netconfig.Files(config)
	r.Network, r.Notes = files, append(r.Notes, notes...)
}

// Fetch asks the service.
func Fetch(ctx context.Context, c *imds.Client) (platform.Result, error) {
	found, problems := c.Collect(ctx, nil, metaData, userData, private)
	if len(found) == 0 && len(problems) > 0 {
		return platform.Result{}, errors.Join(problems...)
	}
	r := Parse(Documents{MetaData: found[metaData], Private: found[private], UserData: found[userData]})
	for _, problem := range problems {
		r.Fail(problem)
	}
	return r, nil
}
