package networkd

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/state"
)

// TestNetdevs makes what this machine's kernel can make; bonds, VLANs and
// WireGuard are made in QEMU.
func TestNetdevs(t *testing.T) {
	t.Parallel()
	w := newCable(t)
	w.write("machine-id", "0123456789abcdef0123456789abcdef\n")
	w.must("ip", "link", "add", "old0", "netns", w.client, "address", "02:00:00:00:00:77", "type", "veth", "peer", "name", "old1", "netns", w.client)
	for name, text := range map[string]string{
		"10-br.netdev":    "[NetDev]\nName=br0\nKind=bridge\n[Bridge]\nSTP=yes\nForwardDelaySec=2\nMulticastSnooping=no\nPriority=4096\n",
		"10-br.network":   "[Match]\nName=br0\n[Network]\nAddress=10.99.0.60/24\nIPv6AcceptRA=no\n[Route]\nDestination=10.50.0.0/16\nGateway=10.99.0.1\nTable=50\nMetric=9\nMTUBytes=1300\n[Route]\nDestination=10.66.0.0/16\nType=blackhole\n[RoutingPolicyRule]\nFrom=10.99.0.60\nTable=50\nPriority=700\n[RoutingPolicyRule]\nFirewallMark=7/15\nTable=50\nFamily=both\nInvertRule=yes\n",
		"20-port.network": "[Match]\nName=eth0\n[Network]\nBridge=br0\n[Bridge]\nCost=77\nHairPin=yes\n",
		"30-v.netdev":     "[NetDev]\nName=vt0\nKind=veth\nMACAddress=02:00:00:00:00:10\n[Peer]\nName=vt1\nMACAddress=02:00:00:00:00:11\n",
		"30-v.network":    "[Match]\nName=vt0\n[Network]\nMACVLAN=mv0\nLinkLocalAddressing=no\n[Address]\nAddress=10.77.0.1/24\nPreferredLifetime=0\nLabel=vt0:one\n[Link]\nMTUBytes=1444\nARP=no\nMulticast=no\n[Neighbor]\nAddress=10.77.0.9\nLinkLayerAddress=02:00:00:00:00:99\n",
		"30-w.network":    "[Match]\nName=vt1 mv0\n[Link]\nActivationPolicy=up\nRequiredForOnline=no\n",
		"40-mv.netdev":    "[NetDev]\nName=mv0\nKind=macvlan\n[MACVLAN]\nMode=bridge\n",
		"50-vx.netdev":    "[NetDev]\nName=vx0\nKind=vxlan\n[VXLAN]\nVNI=42\nLocal=10.99.0.60\nRemote=10.99.0.1\nDestinationPort=4790\nIndependent=yes\n",
		"60-lost.netdev":  "[NetDev]\nName=vl0\nKind=vlan\n[VLAN]\nId=5\n",
		"70-bad.netdev":   "[NetDev]\nName=eth0\nKind=bridge\n",
		"80-tap.netdev":   "[NetDev]\nName=tap7\nKind=tap\n[Tap]\nUser=root\n",
		"10-old.link":     "[Match]\nOriginalName=old0\nMACAddress=02:00:00:00:00:77\n[Link]\nName=new0\nMTUBytes=1333\nAlias=the old one\n",
	} {
		w.write("etc/systemd/network/"+name, text)
	}
	w.startDaemon()
	var current state.State
	deadline := time.Now().Add(20 * time.Second)
	for {
		current, _ = state.Read(testPaths(w.directory).State)
		i := slices.IndexFunc(current.Interfaces, func(i state.Interface) bool { return i.Name == "br0" && i.SetupState == "configured" })
		if i >= 0 && current.Online {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("br0 is not configured: %+v", current)
		}
		time.Sleep(20 * time.Millisecond)
	}
	ip := func(args string) string { return w.must("ip", strings.Fields("-d -n "+w.client+" "+args)...) }
	for _, test := range []struct{ command, want string }{
		{"link show br0", "forward_delay 200 "}, {"link show br0", "stp_state 1 priority 4096 "}, {"link show br0", "mcast_snooping 0 "},
		{"link show eth0", "master br0 "}, {"link show eth0", "cost 77 hairpin on"},
		{"link show vt0", "link/ether 02:00:00:00:00:10"}, {"link show vt0", "mtu 1444"}, {"link show vt0", "NOARP"},
		{"link show vt1", "link/ether 02:00:00:00:00:11"},
		{"link show mv0", "macvlan mode bridge"}, {"link show vx0", "vxlan id 42 remote 10.99.0.1 local 10.99.0.60"}, {"link show vx0", "dstport 4790"},
		{"link show new0", "alias the old one"}, {"link show new0", "mtu 1333"}, {"link show tap7", "tun type tap pi off vnet_hdr off persist on user root"},
		{"address show vt0", "scope global deprecated vt0:one"},
		{"route show table 50", "10.50.0.0/16 via 10.99.0.1 dev br0 proto static scope global metric 9 mtu 1300"},
		{"route show", "blackhole 10.66.0.0/16 proto static"},
		{"rule", "700:\tfrom 10.99.0.60 lookup 50"}, {"rule", "not from all fwmark 0x7/0xf lookup 50"}, {"-6 rule", "not from all fwmark 0x7/0xf lookup 50"},
		{"neighbor show dev vt0", "10.77.0.9 lladdr 02:00:00:00:00:99 "},
	} {
		if out := ip(test.command); !strings.Contains(out, test.want) {
			t.Errorf("ip %s lacks %q:\n%s", test.command, test.want, out)
		}
	}
	for _, want := range []string{"vl0: /etc/systemd/network/60-lost.netdev: it waits for an interface whose .network file says VLAN=vl0",
		`eth0: /etc/systemd/network/70-bad.netdev: an interface of this name is there, and is of kind "veth", not bridge`} {
		w.log.wait(t, want)
	}
	mac := macOf(current, "br0")

	// Nothing is done twice, and the daemon's next run knows its own.
	before := w.log.count("")
	if err := Ask(testPaths(w.directory).Control, "reload"); err != nil {
		t.Error(err)
	}
	w.stopDaemon()
	if after := w.log.text(); strings.Contains(after, "<3>") || before == 0 {
		t.Errorf("errors:\n%s", after)
	}
	os.Remove(w.directory + "/etc/systemd/network/20-port.network")
	w.write("etc/systemd/network/10-br.network", "[Match]\nName=br0\n[Network]\nAddress=10.99.0.61/24\n")
	w.must("ip", "-n", w.client, "link", "delete", "br0")
	w.startDaemon()
	deadline = time.Now().Add(20 * time.Second)
	for strings.Contains(ip("rule"), "lookup 50") || strings.Contains(ip("route show"), "blackhole") || !strings.Contains(ip("address show br0"), "10.99.0.61/24") {
		if time.Now().After(deadline) {
			t.Fatalf("what is no longer wanted stayed:\n%s%s%s", ip("rule"), ip("route show"), ip("address show br0"))
		}
		time.Sleep(20 * time.Millisecond)
	}
	current, _ = state.Read(testPaths(w.directory).State)
	if again := macOf(current, "br0"); again != mac || mac == "" {
		t.Errorf("the bridge's address was %q and is %q now", mac, again)
	}
}

func macOf(s state.State, name string) string {
	for _, i := range s.Interfaces {
		if i.Name == name {
			return i.MAC
		}
	}
	return ""
}
