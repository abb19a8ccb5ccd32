package openstack

import (
	"testing"

	"github.com/coracle-os/coracle/rootfs/userdata/platform"
	"github.com/google/go-cmp/cmp"
)

// TestInjectedNetwork is a drive with a network in Debian's format.
func TestInjectedNetwork(t *testing.T) {
	meta := []byte(`{"network_config": {"content_path": "/content/../content/0000"}}`)
	if name := NetworkConfig(meta); name != "openstack/content/0000" {
		t.Errorf("path %q", name)
	}
	for _, none := range []string{"", "{", "{}", `{"network_config": 1}`} {
		if name := NetworkConfig([]byte(none)); name != "" {
			t.Errorf("%q: path %q", none, name)
		}
	}
	r := ParseDrive(map[string][]byte{MetaData: meta, Injected: []byte("auto eth0\niface eth0 inet dhcp\n")})
	want := []platform.File{{Name: "00-eth0.network", Content: "[Match]\nName=eth0\n\n[Network]\nDHCP=true\n"}}
	if diff := cmp.Diff(want, r.Network); diff != "" || len(r.Notes) > 0 {
		t.Errorf("files (-want +got):\n%s%v", diff, r.Notes)
	}
	r = ParseDrive(map[string][]byte{MetaData: meta, Injected: []byte("iface eth inet static\n  address 192.168.1.100\n")})
	if want := []string{`read network_config: malformed static network config for "eth"; the network is set up by DHCP`}; len(r.Network) > 0 || !cmp.Equal(want, r.Notes) {
		t.Errorf("a bad one: %v, %q", r.Network, r.Notes)
	}
}
