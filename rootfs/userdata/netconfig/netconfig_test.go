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
    nic2: {match: {name: eth9}}
  bonds: {bond0: {interfaces: [nic2], dhcp4: true, dhcp6: true, parameters: {mode: 802.3ad, lacp-rate: fast, mii-monitor-interval: 100, primary: nic2}}}
  vlans: {v5: {id: 5, link: bond0, addresses: [192.0.2.7/24]}, v0: {id: 5000, link: bond0}}
  wifis: {w: {}}
`

const version1Document = `version: 1
config:
- type: physical
  name: eth0
  mac_address: "52:54:00:12:34:57"
  subnets: [{type: static, address: 192.0.2.6, netmask: 255.255.255.0, gateway: 198.51.100.1, dns_nameservers: 192.0.2.53}]
- {type: physical, name: eth1, subnets: [{type: dhcp}]}
- {type: vlan, name: eth0.5, vlan_link: eth0, vlan_id: 5, subnets: [{type: dhcp6}]}
- {type: bond, name: bond1, bond_interfaces: [eth2], params: {bond-mode: active-backup, bond_miimon: 100}}
- {type: physical, name: eth2}
- {type: wifi, name: w0}
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
`},
			{Name: "10-cloud-1.network", Content: "[Match]\nName=eth9\n\n[Network]\nBond=bond0\nPrimarySlave=yes\n"},
			{Name: "10-cloud-2.netdev", Content: "[NetDev]\nName=bond0\nKind=bond\n\n[Bond]\nmode=802.3ad\nmiimon=100\nlacp-rate=fast\n"},
			{Name: "10-cloud-2.network", Content: "[Match]\nName=bond0\n\n[Network]\nDHCP=yes\nVLAN=v0\nVLAN=v5\n"},
			{Name: "10-cloud-4.netdev", Content: "[NetDev]\nName=v5\nKind=vlan\n\n[VLAN]\nId=5\n"},
			{Name: "10-cloud-4.network", Content: "[Match]\nName=v5\n\n[Network]\nAddress=192.0.2.7/24\n"},
		}, 2},
		{"version 1", version1Document, []platform.File{{Name: "10-cloud-0.network", Content: `[Match]
MACAddress=52:54:00:12:34:57

[Network]
VLAN=eth0.5
Address=192.0.2.6/24
DNS=192.0.2.53
DNS=9.9.9.9

[Route]
Destination=0.0.0.0/0
Gateway=198.51.100.1
GatewayOnLink=yes
`},
			{Name: "10-cloud-2.netdev", Content: "[NetDev]\nName=eth0.5\nKind=vlan\n\n[VLAN]\nId=5\n"},
			{Name: "10-cloud-2.network", Content: "[Match]\nName=eth0.5\n\n[Network]\nDHCP=ipv6\nDNS=9.9.9.9\n"},
			{Name: "10-cloud-3.netdev", Content: "[NetDev]\nName=bond1\nKind=bond\n\n[Bond]\nmode=active-backup\nmiimon=100\n"},
			{Name: "10-cloud-3.network", Content: "[Match]\nName=bond1\n\n[Network]\nDNS=9.9.9.9\n"},
			{Name: "10-cloud-4.network", Content: "[Match]\nName=eth2\n\n[Network]\nBond=bond1\n"},
		}, 1},
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
		{Name: "10-cloud-0.network", Content: "[Match]\nMACAddress=fa:16:3e:05:30:fe\n\n[Link]\nMTUBytes=1450\n\n[Network]\nBond=bond0\n"},
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
		{Name: "10-cloud-2.netdev", Content: "[NetDev]\nName=bond0\nKind=bond\nMACAddress=fa:16:3e:d4:57:ae\n\n[Bond]\n"},
		{Name: "10-cloud-2.network", Content: "[Match]\nName=bond0\n\n[Network]\nDNS=8.8.8.8\n"},
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
		_, warnings := config.Parse(f.Name, []byte(f.Content))
		if strings.HasSuffix(f.Name, ".netdev") {
			_, _, warnings = config.ParseNetdev(f.Name, []byte(f.Content))
		}
		if len(warnings) > 0 {
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
