package netconfig

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

const version2Document = `network:
  version: 2
  ethernets:
    nic:
      match: {macaddress: "52:54:00:12:34:56"}
      dhcp4: true
      addresses: [192.0.2.5/24, "2001:db8::5/64"]
      gateway4: 192.0.2.1
      nameservers: {addresses: [192.0.2.53], search: [example.com]}
      routes: [{to: 10.0.0.0/8, via: 192.0.2.2}, {to: default, via: "fe80::1"}]
      mtu: 1400
  bonds: {bond0: {}}
`

const version1Document = `version: 1
config:
- type: physical
  name: eth0
  mac_address: "52:54:00:12:34:57"
  subnets: [{type: static, address: 192.0.2.6, netmask: 255.255.255.0, gateway: 198.51.100.1, dns_nameservers: 192.0.2.53}]
- {type: physical, name: eth1, subnets: [{type: dhcp}]}
- {type: vlan, name: eth0.5}
- {type: nameserver, address: [9.9.9.9]}
`

func TestNoCloud(t *testing.T) {
	tests := []struct {
		name, document string
		want           []platform.File
		notes          int
	}{
		{"version 2", version2Document, []platform.File{{Name: "10-cloud-0.network", Content: `[Match]
MACAddress=52:54:00:12:34:56

[Link]
MTUBytes=1400

[Network]
DHCP=ipv4
Address=192.0.2.5/24
Address=2001:db8::5/64
DNS=192.0.2.53
Domains=example.com

[Route]
Destination=0.0.0.0/0
Gateway=192.0.2.1

[Route]
Destination=10.0.0.0/8
Gateway=192.0.2.2

[Route]
Destination=::/0
Gateway=fe80::1
`}}, 1},
		{"version 1", version1Document, []platform.File{{Name: "10-cloud-0.network", Content: `[Match]
MACAddress=52:54:00:12:34:57

[Network]
Address=192.0.2.6/24
DNS=192.0.2.53
DNS=9.9.9.9

[Route]
Destination=0.0.0.0/0
Gateway=198.51.100.1
GatewayOnLink=yes
`}}, 1},
		{"values that are none", `version: 2
ethernets:
  "a b": {addresses: [10.0.0.1/24]}
  eth0: {addresses: ["10.0.0.1/24\n[Route]", 10.0.0.2/24], nameservers: {addresses: ["x"]}, routes: [{to: 10.0.0.0/8, via: "fe80::1"}, {to: x, via: 10.0.0.1}]}
`, []platform.File{{Name: "10-cloud-1.network", Content: "[Match]\nName=eth0\n\n[Network]\nAddress=10.0.0.2/24\n"}}, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseNoCloud([]byte(tt.document))
			if err != nil {
				t.Fatal(err)
			}
			files, notes := Files(c)
			if diff := cmp.Diff(tt.want, files); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(notes) != tt.notes {
				t.Errorf("notes %q", notes)
			}
		})
	}
	for _, bad := range []string{"version: 3", "{", "version: 1\nconfig: x", "[]"} {
		if _, err := ParseNoCloud([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestOpenStack(t *testing.T) {
	data, err := os.ReadFile("../openstack/testdata/network_data.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseOpenStack(data)
	if err != nil {
		t.Fatal(err)
	}
	files, notes := Files(c)
	want := []platform.File{
		{Name: "10-cloud-0.network", Content: "[Match]\nMACAddress=fa:16:3e:05:30:fe\n\n[Link]\nMTUBytes=1450\n\n[Network]\nDHCP=ipv4\nDNS=8.8.8.8\n"},
		{Name: "10-cloud-1.network", Content: `[Match]
MACAddress=fa:16:3e:d4:57:ad

[Network]
Address=172.16.8.9/20
Address=2001:db8::3257:9652/64
DNS=9.9.9.9
DNS=8.8.8.8

[Route]
Destination=0.0.0.0/0
Gateway=172.16.0.1

[Route]
Destination=192.168.1.0/24
Gateway=172.16.0.2

[Route]
Destination=::/0
Gateway=2001:db8::1
`},
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "bond") {
		t.Errorf("notes %q", notes)
	}
}

// check has the network daemon's own reader judge the files.
func check(t *testing.T, c Config) {
	files, _ := Files(c)
	for _, f := range files {
		if _, warnings := config.Parse(f.Name, []byte(f.Content)); len(warnings) > 0 {
			t.Errorf("%v\n%s", warnings, f.Content)
		}
	}
}

func FuzzNoCloud(f *testing.F) {
	f.Add([]byte(version1Document))
	f.Add([]byte(version2Document))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseNoCloud(data); err == nil {
			check(t, c)
		}
	})
}

func FuzzOpenStack(f *testing.F) {
	data, err := os.ReadFile("../openstack/testdata/network_data.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseOpenStack(data); err == nil {
			check(t, c)
		}
	})
}
