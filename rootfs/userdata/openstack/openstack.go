// Package openstack reads OpenStack's metadata, from its service or from a
// config drive, which hold the same documents (OpenStack Compute, "Metadata").
// Package service asks the service.
//
// Left out on purpose: vendor data and passwords.
package openstack

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/coracle-os/coracle/rootfs/network/debian"
	"github.com/coracle-os/coracle/rootfs/userdata/netconfig"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// Label is the file system label of a config drive; case does not matter.
const Label = "config-2"

// The documents, by their paths on a drive and below the service's address.
const (
	MetaData    = "openstack/latest/meta_data.json"
	UserData    = "openstack/latest/user_data"
	NetworkData = "openstack/latest/network_data.json"
)

// Injected stands for the file that NetworkConfig names.
const Injected = "network_config"

// NetworkConfig is the path on the drive of the network in Debian's format that
// the metadata names, "" if it names none.
func NetworkConfig(metadata []byte) string {
	var meta struct {
		Network struct {
			Path string `json:"content_path"`
		} `json:"network_config"`
	}
	if json.Unmarshal(metadata, &meta) != nil || meta.Network.Path == "" {
		return ""
	}
	// Cleaned as an absolute path, so that it does not lead out of the folder.
	return "openstack" + path.Clean("/"+meta.Network.Path)
}

// DriveFiles are the documents.
func DriveFiles() []string { return []string{UserData, MetaData, NetworkData} }

// ParseDrive is Parse for the files of a drive.
func ParseDrive(files map[string][]byte) platform.Result {
	return Parse(Documents{MetaData: files[MetaData], UserData: files[UserData], NetworkData: files[NetworkData], NetworkConfig: files[Injected]})
}

// Documents are the documents of a service or a drive; those that are not there
// are nil.
type Documents struct {
	MetaData, UserData, NetworkData []byte
	NetworkConfig                   []byte // of a drive, in Debian's format
	LocalIPv4, PublicIPv4           string
}

// Parse makes the result from the documents.
func Parse(d Documents) platform.Result {
	var r platform.Result
	r.SetUserData(d.UserData)
	if d.MetaData != nil {
		var meta struct {
			Hostname   string            `json:"hostname"`
			PublicKeys map[string]string `json:"public_keys"`
		}
		if err := json.Unmarshal(d.MetaData, &meta); err != nil {
			r.Fail(fmt.Errorf("read meta_data.json: %w", err))
		}
		r.SetHostname(meta.Hostname)
		for _, name := range slices.Sorted(maps.Keys(meta.PublicKeys)) {
			r.AddKey(meta.PublicKeys[name])
		}
	}
	r.Public(d.PublicIPv4)
	r.Private(d.LocalIPv4)
	if d.NetworkData == nil && d.NetworkConfig != nil {
		network, err := debian.Parse(string(d.NetworkConfig))
		if err != nil {
			r.Notes = append(r.Notes, fmt.Sprintf("read network_config: %v; the network is set up by DHCP", err))
			return r
		}
		for _, f := range network.Files() {
			r.Network = append(r.Network, platform.File{Name: f.Name, Content: f.Content})
		}
	}
	if d.NetworkData != nil {
		config, err := netconfig.ParseOpenStack(d.NetworkData)
		if err != nil {
			r.Notes = append(r.Notes, err.Error()+"; the network is set up by DHCP")
			return r
		}
		for _, l := range config.Links {
			for _, a := range l.Addresses {
				r.Sort(a.IP)
			}
		}
		files, notes := netconfig.Files(config)
		r.Network, r.Notes = files, append(r.Notes, notes...)
	}
	return r
}
