// Package nocloud reads the documents of cloud-init's NoCloud: a disk or CD
// labelled cidata with user-data and meta-data (YAML), as libvirt, Proxmox and
// others make for their machines. The disk is read by package configdrive.
//
// Left out on purpose: vendor-data, and the seed by a URL in the SMBIOS serial
// number: cloud-config-url= does that here.
package nocloud

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/coracle-os/coracle/rootfs/userdata/netconfig"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// Label is the file system label; case does not matter.
const Label = "cidata"

// The files on the disk.
const (
	UserData      = "user-data"
	MetaData      = "meta-data"
	NetworkConfig = "network-config"
)

// Parse makes the result from the files by name; those that are not there are
// missing.
func Parse(files map[string][]byte) platform.Result {
	var r platform.Result
	r.SetUserData(files[UserData])
	var meta struct {
		LocalHostname string    `yaml:"local-hostname"`
		Hostname      string    `yaml:"hostname"`
		PublicKeys    yaml.Node `yaml:"public-keys"`
	}
	if err := yaml.Unmarshal(files[MetaData], &meta); err != nil {
		r.Fail(fmt.Errorf("read meta-data: %w", err))
	}
	r.SetHostname(meta.Hostname)
	r.SetHostname(meta.LocalHostname)
	for _, key := range keys(meta.PublicKeys) {
		r.AddKey(key)
	}
	if data := files[NetworkConfig]; data != nil {
		config, err := netconfig.ParseNoCloud(data)
		if err != nil {
			r.Notes = append(r.Notes, err.Error()+"; the network is set up by DHCP")
			return r
		}
		for _, l := range config.Links {
			for _, a := range l.Addresses {
				r.Sort(a.IP)
			}
		}
		network, notes := netconfig.Files(config)
		r.Network, r.Notes = network, append(r.Notes, notes...)
	}
	return r
}

// keys reads a key, a list of keys, or a mapping of names to keys: all are in
// use.
func keys(node yaml.Node) (keys []string) {
	switch node.Kind {
	case yaml.ScalarNode:
		return []string{node.Value}
	case yaml.SequenceNode:
		_ = node.Decode(&keys)
	case yaml.MappingNode:
		var named map[string]any
		_ = node.Decode(&named)
		for _, name := range slices.Sorted(maps.Keys(named)) {
			switch value := named[name].(type) {
			case string:
				keys = append(keys, value)
			case map[string]any: // EC2's form: 0: {openssh-key: KEY}
				if key, ok := value["openssh-key"].(string); ok {
					keys = append(keys, key)
				}
			}
		}
	}
	return keys
}
