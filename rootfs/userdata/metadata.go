package userdata

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
)

// parseMetadata reads what a host says about one of its machines through
// fw_cfg: a config drive's meta_data.json (hostname, public_keys), and the
// addresses by the names of EC2's metadata. Other keys have no effect.
func parseMetadata(data []byte) (cloudconfig.Metadata, error) {
	var meta struct {
		Hostname    string            `json:"hostname"`
		PublicKeys  map[string]string `json:"public_keys"`
		LocalIPv4   netip.Addr        `json:"local-ipv4"`
		PublicIPv4  netip.Addr        `json:"public-ipv4"`
		PrivateIPv6 netip.Addr        `json:"local-ipv6"`
		PublicIPv6  netip.Addr        `json:"public-ipv6"`
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return cloudconfig.Metadata{}, fmt.Errorf("parse the metadata: %w", err)
	}
	text := func(a netip.Addr) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	m := cloudconfig.Metadata{Hostname: meta.Hostname, Addresses: cloudconfig.Addresses{
		PrivateIPv4: text(meta.LocalIPv4), PublicIPv4: text(meta.PublicIPv4),
		PrivateIPv6: text(meta.PrivateIPv6), PublicIPv6: text(meta.PublicIPv6)}}
	for _, name := range slices.Sorted(maps.Keys(meta.PublicKeys)) {
		m.SSHKeys = append(m.SSHKeys, meta.PublicKeys[name])
	}
	return m, nil
}
