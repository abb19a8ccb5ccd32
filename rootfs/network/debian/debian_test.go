package debian

import (
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/google/go-cmp/cmp"
)

// The recorded cases of coreos-cloudinit are played in package cloudconfig;
// here is what they do not show.

func TestVLANOnBond(t *testing.T) {
	n, err := Parse(`# a comment \
goes on
auto lo eth0
iface lo inet loopback
iface vlan25 inet static
  address 10.0.0.5
  netmask 255.255.255.0
  gateway 10.0.0.1
  dns-nameservers 10.0.0.2 nonsense 10.0.0.3
  hwaddress ether 02:00:00:00:00:01
  post-up route add -net 10.8.0.0 netmask 255.255.0.0 gw 10.0.0.9
  post-up route add -net 10.9.0.0/16 gw 10.0.0.9
  post-up route add -net 10.9.0.0
  vlan_raw_device bond0
iface bond0 inet manual
  bond-slaves eth0
  bond-mode active-backup
iface eth9.7 inet dhcp
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []File{
		{"01-bond0.netdev", "[NetDev]\nKind=bond\nName=bond0\n\n[Bond]\nmode=active-backup\n"},
		{"01-bond0.network", "[Match]\nName=bond0\n\n[Network]\nVLAN=vlan25\n"},
		{"02-eth0.network", "[Match]\nName=eth0\n\n[Network]\nBond=bond0\n"},
		{"00-eth9.7.netdev", "[NetDev]\nKind=vlan\nName=eth9.7\n\n[VLAN]\nId=7\n"},
		{"00-eth9.7.network", "[Match]\nName=eth9.7\n\n[Network]\nDHCP=true\n"},
		{"00-vlan25.netdev", "[NetDev]\nKind=vlan\nName=vlan25\nMACAddress=02:00:00:00:00:01\n\n[VLAN]\nId=25\n"},
		{"00-vlan25.network", `[Match]
Name=vlan25

[Network]
DNS=10.0.0.2
DNS=10.0.0.3

[Address]
Address=10.0.0.5/24

[Route]
Destination=0.0.0.0/0
Gateway=10.0.0.1

[Route]
Destination=10.8.0.0/16
Gateway=10.0.0.9

[Route]
Destination=10.9.0.0/16
Gateway=10.0.0.9
`},
	}
	if diff := cmp.Diff(want, n.Files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"down bond0", "down eth0", "down eth9.7", "down vlan25", "modprobe 8021q", "modprobe bonding mode=active-backup",
		"restart systemd-networkd.service"}, n.Operations()); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
}

func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"address 10.0.0.1":                                  `missing stanza start "address 10.0.0.1"`,
		"allow-hotplug eth0":                                `unknown stanza "allow-hotplug"`,
		"mapping eth0":                                      `unknown stanza "mapping"`,
		"iface eth0 inet":                                   "incorrect number of attributes",
		"iface eth0 inet ppp":                               `invalid config method "ppp"`,
		"iface eth0 inet static\naddress 1.2.3.4/24":        `malformed static network config for "eth0"`,
		"iface eth0 inet dhcp\nhwaddress 02:00:00:00:00:01": `malformed hwaddress option for "eth0"`,
		"iface x inet manual\nvlan_raw_device eth0":         `malformed vlan name "x"`,
		"iface vlan1 inet manual\nvlan_raw_device vlan1":    "on top of itself",
		"iface x inet dhcp\nx \x00":                         "line 2 has a zero byte",
		"iface averyverylongname inet dhcp":                 "not the name of an interface",
		"iface a/b inet dhcp":                               "not the name of an interface",
		strings.Repeat("iface e0 inet manual\nbond-slaves ", 2) + strings.Repeat("b ", 3): "",
	} {
		_, err := Parse(text)
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// FuzzParse checks that the network daemon's reader takes what is written.
func FuzzParse(f *testing.F) {
	f.Add("iface eth0 inet dhcp\n")
	f.Add("auto a\niface bond0 inet static\n address 10.0.0.5\n netmask 255.255.255.0\n gateway 10.0.0.1\n bond-slaves eth0 eth1\n bond-mode 4\n bond-miimon 100\n bond-lacp-rate 1\n")
	f.Add("iface vlan25 inet static\naddress 10.0.0.5\nnetmask 255.255.0.0\nvlan_raw_device bond0\npost-up route add -net 1.2.3.0/24 gw 10.0.0.1\n")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Parse(text)
		if err != nil {
			return
		}
		for _, file := range n.Files() {
			var warnings []config.Warning
			if strings.HasSuffix(file.Name, ".network") {
				_, warnings = config.Parse(file.Name, []byte(file.Content))
			} else {
				_, _, warnings = config.ParseNetdev(file.Name, []byte(file.Content))
			}
			for _, warning := range warnings {
				// Values of bonds and the numbers of VLANs are passed on as they are.
				if !strings.Contains(warning.Text, "mode=") && !strings.Contains(warning.Text, "miimon=") && !strings.Contains(warning.Text, "lacp-rate=") &&
					!strings.Contains(warning.Text, "Id=") && !strings.Contains(warning.Text, "cannot be the address") && !strings.Contains(warning.Text, "Address=") && !strings.Contains(warning.Text, "none of its") {
					t.Errorf("%v\n%s", warning, file.Content)
				}
			}
		}
	})
}
