package networkd

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/acd"
	"github.com/coracle-os/coracle/rootfs/network/ipv4ll"
	"github.com/coracle-os/coracle/rootfs/network/state"
)

// claimRole tells everybody once that srv0 has the address in the environment.
func claimRole() int {
	device, err := net.InterfaceByName("srv0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	conn, err := acd.Open(device.Name, device.HardwareAddr)
	if err == nil {
		err = conn.Announce(netip.MustParseAddr(os.Getenv("NETWORKD_TEST_ADDRESS")))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// candidates are the first addresses that eth0 tries.
func (w *world) candidates(n int) (all []netip.Addr) {
	w.t.Helper()
	mac, err := net.ParseMAC(strings.TrimSpace(w.must("ip", "netns", "exec", w.client, "cat", "/sys/class/net/eth0/address")))
	if err != nil {
		w.t.Fatal(err)
	}
	candidates := ipv4ll.NewCandidates(mac)
	for range n {
		all = append(all, candidates.Next())
	}
	return all
}

func chose(address netip.Addr) func(state.Interface, state.State) bool {
	return func(i state.Interface, s state.State) bool {
		return i.LinkLocal == address.String() && i.OperState == "degraded" && i.SetupState == "configured"
	}
}

// TestLinkLocal is a machine without servers whose neighbor has the address
// that it tries first, and then wants the one that it has.
func TestLinkLocal(t *testing.T) {
	t.Parallel()
	w := newCable(t)
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nLinkLocalAddressing=ipv4\n")
	all := w.candidates(3)
	w.must("ip", "-n", w.server, "address", "add", all[0].String()+"/16", "dev", "srv0")
	w.startDaemon()
	w.eth0("configured", 30*time.Second, chose(all[1]))
	if out := w.must("ip", "-n", w.client, "address", "show", "dev", "eth0"); !strings.Contains(out, "inet "+all[1].String()+"/16 brd 169.254.255.255 scope link") {
		t.Errorf("the address:\n%s", out)
	}
	w.must("ip", "netns", "exec", w.client, "ping", "-c1", "-W5", all[0].String())

	// It is defended once.
	w.start("claim", w.server, "NETWORKD_TEST_ADDRESS="+all[1].String())
	w.log.wait(t, "says that it has the link-local address "+all[1].String())
	w.start("claim", w.server, "NETWORKD_TEST_ADDRESS="+all[1].String())
	w.log.wait(t, "insists on the link-local address "+all[1].String())
	w.eth0("another one", 30*time.Second, chose(all[2]))
	if out := w.must("ip", "-n", w.client, "address", "show", "dev", "eth0"); strings.Contains(out, all[1].String()) {
		t.Errorf("the lost address stayed:\n%s", out)
	}
}

// TestLinkLocalFallback is DHCP without a server until later.
func TestLinkLocalFallback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=yes\n")
	own := w.candidates(1)[0]
	w.startDaemon()
	w.eth0("by itself", 40*time.Second, chose(own))
	w.stopDaemon()
	w.startDaemon()
	w.eth0("by itself after a restart", 20*time.Second, chose(own))
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.7", Lease: 3600})
	i := w.eth0("configured", 60*time.Second, has("10.99.0.7/24"))
	if i.LinkLocal != "" {
		t.Errorf("beside the lease there is %s", i.LinkLocal)
	}
	w.eth0("without it", 5*time.Second, func(state.Interface, state.State) bool {
		return !strings.Contains(w.must("ip", "-n", w.client, "address", "show", "dev", "eth0"), own.String())
	})
}
