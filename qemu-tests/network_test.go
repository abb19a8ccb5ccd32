package qemutests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/qemu-tests/machine"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// networkUnits are interfaces of the kinds that the machines which run the unit
// tests may lack: a bond of two cables with a VLAN on it, and a tunnel whose
// two ends are both here. Each unit is indented as an item of coreos.units.
func networkUnits(t *testing.T) string {
	t.Helper()
	var keys [2]wgtypes.Key
	for i := range keys {
		var err error
		if keys[i], err = wgtypes.GeneratePrivateKey(); err != nil {
			t.Fatal(err)
		}
	}
	files := [][2]string{
		{"20-cable.netdev", "[NetDev]\nName=cable0\nKind=veth\n[Peer]\nName=far0\n"},
		{"21-cable.netdev", "[NetDev]\nName=cable1\nKind=veth\n[Peer]\nName=far1\n"},
		{"20-far.network", "[Match]\nName=far*\n[Link]\nRequiredForOnline=no\n[Network]\nLinkLocalAddressing=no\n"},
		{"20-cable.network", "[Match]\nName=cable0\n[Network]\nBond=bond7\nPrimarySlave=yes\n"},
		{"21-cable.network", "[Match]\nName=cable1\n[Network]\nBond=bond7\n"},
		{"22-bond.netdev", "[NetDev]\nName=bond7\nKind=bond\n[Bond]\nMode=active-backup\nMIIMonitorSec=200ms\nPrimaryReselectPolicy=always\n"},
		{"22-bond.network", "[Match]\nName=bond7\n[Network]\nVLAN=bond7.33\nLinkLocalAddressing=no\n"},
		{"23-vlan.netdev", "[NetDev]\nName=bond7.33\nKind=vlan\n[VLAN]\nId=33\n"},
		{"23-vlan.network", "[Match]\nName=bond7.33\n[Network]\nAddress=198.18.33.1/24\n"},
		{"24-tunnel.network", "[Match]\nName=tunnel0\n[Network]\nAddress=198.18.40.1/24\n"},
		{"24-tunnel1.network", "[Match]\nName=tunnel1\n[Network]\nAddress=198.18.41.1/24\n"},
		{"26-vrf.netdev", "[NetDev]\nName=blue\nKind=vrf\n[VRF]\nTable=60\n"},
		{"26-vrf.network", "[Match]\nName=blue\n"},
		{"27-dummy.netdev", "[NetDev]\nName=dummy7\nKind=dummy\nMACAddress=02:00:00:00:00:77\n"},
		{"27-dummy.network", "[Match]\nName=dummy7\n[Network]\nVRF=blue\nAddress=198.18.60.1/24\nIPVLAN=ipv7\n[Route]\nDestination=198.18.61.0/24\nGateway=198.18.60.9\n"},
		{"29-bridge.netdev", "[NetDev]\nName=br7\nKind=bridge\n[Bridge]\nVLANFiltering=yes\nSTP=no\n"},
		{"29-bridge.network", "[Match]\nName=br7\n[Network]\nLinkLocalAddressing=no\n[BridgeVLAN]\nVLAN=5\n"},
		{"29-port.netdev", "[NetDev]\nName=port7\nKind=veth\n[Peer]\nName=far7\n"},
		{"29-port.network", "[Match]\nName=port7\n[Network]\nBridge=br7\n[BridgeVLAN]\nVLAN=5-6\n[BridgeVLAN]\nPVID=7\nEgressUntagged=7\n"},
		{"28-ipvlan.netdev", "[NetDev]\nName=ipv7\nKind=ipvlan\n[IPVLAN]\nMode=L3\n"},
	}
	for i := range keys {
		files = append(files, [2]string{fmt.Sprintf("24-tunnel%d.netdev", i), fmt.Sprintf(
			"[NetDev]\nName=tunnel%d\nKind=wireguard\n[WireGuard]\nPrivateKey=%s\nListenPort=%d\nRouteTable=main\n[WireGuardPeer]\nPublicKey=%s\nEndpoint=127.0.0.1:%d\nAllowedIPs=198.18.%d.0/24\nPersistentKeepalive=1\n",
			i, keys[i], 51870+i, keys[1-i].PublicKey(), 51870+1-i, 42+i)})
	}
	var units strings.Builder
	for _, file := range files {
		fmt.Fprintf(&units, "    - name: %s\n      content: |\n        %s\n", file[0], strings.ReplaceAll(strings.TrimSpace(file[1]), "\n", "\n        "))
	}
	return units.String()
}

func checkNetwork(t *testing.T, m *machine.Machine) {
	const soon = time.Minute
	m.Eventually("networkctl --no-legend list bond7.33 | grep -o 'vlan.*' | tr -s ' '", "vlan routable configured\n", soon)
	for _, test := range []struct{ command, want string }{
		{"cat /proc/net/bonding/bond7", "fault-tolerance (active-backup)"},
		{"cat /proc/net/bonding/bond7", "Primary Slave: cable0 (primary_reselect always)"},
		{"cat /proc/net/bonding/bond7", "MII Polling Interval (ms): 200"},
		{"cat /proc/net/bonding/bond7", "Slave Interface: cable1"},
		{"sudo cat /proc/net/vlan/config", "bond7.33       | 33  | bond7"},
		{"networkctl status dummy7", "Hardware Address: 02:00:00:00:00:77"},
		{"networkctl status bond7.33", "Network File: /etc/systemd/network/23-vlan.network"},
		{"networkctl status", "198.18.33.1 on bond7.33"},
		{"networkctl list", "ipvlan"},
		{"resolvectl dns", "(eth0): 10.0.2.3"},
		{"resolvectl --legend=no query localhost", "127.0.0.1"},
		{"ping -c1 -W10 10.0.2.2 && ping -6 -c1 -W10 ::1", "1 received, 0% packet loss"},
		{"cat /sys/class/net/br7/bridge/vlan_filtering", "1"},
		{"cat /sys/class/net/br7/brif/port7/state", "3"},
	} {
		if got := m.Run(test.command); !strings.Contains(got, test.want) {
			t.Errorf("%s lacks %q:\n%s", test.command, test.want, got)
		}
	}
	// The ends of the tunnel found one another: bytes came in through it.
	m.Eventually("test $(cat /sys/class/net/tunnel1/statistics/rx_bytes) -gt 0 && echo yes", "yes\n", soon)
	// A cable is pulled.
	m.Run("sudo networkctl down far0")
	m.Eventually("grep 'Currently Active' /proc/net/bonding/bond7", "Currently Active Slave: cable1\n", soon)
	m.Run("sudo networkctl up far0")
	m.Eventually("grep 'Currently Active' /proc/net/bonding/bond7", "Currently Active Slave: cable0\n", soon)
	m.Run("sudo networkctl renew eth0")
}
