package networkd

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/state"
)

// elsewhere is another network, without a cable: a namespace with a server of
// it to come.
func (w *world) elsewhere() string {
	w.t.Helper()
	ns := w.server + "e"
	w.must("ip", "netns", "add", ns)
	w.t.Cleanup(func() { exec.Command("ip", "netns", "delete", ns).Run() })
	return ns
}

// move plugs the other end of the cable in elsewhere, with the addresses.
func (w *world) move(from, to string, addresses ...string) {
	w.t.Helper()
	w.must("ip", "-n", from, "link", "set", "srv0", "netns", to)
	w.eth0("without a cable", 10*time.Second, func(i state.Interface, s state.State) bool { return i.OperState == "no-carrier" })
	for _, address := range addresses {
		args := []string{"-n", to, "address", "add", address, "dev", "srv0"}
		if strings.Contains(address, ":") {
			args = append(args, "nodad")
		}
		w.must("ip", args...)
	}
	w.must("ip", "-n", to, "link", "set", "srv0", "up")
}

// TestMoved is a cable that is plugged into another network while leases of
// both protocols are held, first one with a server that says no, then one whose
// server never heard of the address and says nothing, then into the first.
func TestMoved(t *testing.T) {
	t.Parallel()
	w := newCable(t)
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nDHCP=yes\nIPv6AcceptRA=no\n[DHCPv6]\nWithoutRA=solicit\n")
	w.must("ip", "-n", w.server, "address", "add", "fd00:99::1/64", "dev", "srv0", "nodad")
	serve := func(ns string, net int, more ...string) (stop func()) {
		w.must("rm", "-f", w.directory+"/leases")
		stop, _ = w.program(ns, append([]string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=srv0", "--bind-dynamic", "--log-dhcp",
			"--no-ping", "--user=root", "--pid-file=", "--dhcp-leasefile=" + w.directory + "/leases",
			fmt.Sprintf("--dhcp-range=10.%d.0.100,10.%d.0.100,255.255.255.0,1h", net, net),
			fmt.Sprintf("--dhcp-range=fd00:%d::100,fd00:%d::100,64,1h", net, net)}, more...)...)
		return stop
	}
	at := func(net int) func(state.Interface, state.State) bool {
		return func(i state.Interface, s state.State) bool {
			return slices.Equal(i.Addresses, []string{fmt.Sprintf("10.%d.0.100/24", net), fmt.Sprintf("fd00:%d::100/128", net)}) && i.Gateway == fmt.Sprintf("10.%d.0.1", net)
		}
	}
	stop := serve(w.server, 99)
	w.startDaemon()
	w.eth0("configured", 30*time.Second, at(99))

	other := w.elsewhere()
	stop()
	w.move(w.server, other, "10.98.0.1/24", "fd00:98::1/64")
	stop = serve(other, 98, "--dhcp-authoritative")
	w.eth0("in a network that says no", 60*time.Second, at(98))
	w.log.wait(t, "eth0: DHCP server")

	stop()
	w.move(other, w.server, "10.99.0.1/24", "fd00:99::1/64")
	serve(w.server, 99, "--dhcp-ignore-names", "--dhcp-option=option:router,10.99.0.1")
	w.eth0("back", 60*time.Second, at(99))
	if routes := w.must("ip", "-n", w.client, "route"); strings.Contains(routes, "10.98.") {
		t.Errorf("routes of the network before:\n%s", routes)
	}
}

// TestHotplug is a device that goes while it holds leases, and comes again.
func TestHotplug(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.7", Lease: 3600})
	w.startDaemon()
	w.eth0("configured", 10*time.Second, has("10.99.0.7/24"))
	for range 3 {
		w.must("ip", "-n", w.client, "link", "set", "eth0", "netns", w.server, "name", "away0")
		w.gone("eth0")
		w.must("ip", "-n", w.server, "link", "set", "away0", "netns", w.client, "name", "eth0")
		w.eth0("configured again", 20*time.Second, has("10.99.0.7/24"))
	}
	// A cable that is loose: however often it flaps, the address is there.
	for range 20 {
		w.must("ip", "-n", w.server, "link", "set", "srv0", "down")
		w.must("ip", "-n", w.server, "link", "set", "srv0", "up")
	}
	w.eth0("configured still", 20*time.Second, has("10.99.0.7/24"))
	if out := w.must("ip", "-n", w.client, "route"); !strings.Contains(out, "default via 10.99.0.1") {
		t.Errorf("routes:\n%s", out)
	}
}

// gone waits until the daemon has no such interface.
func (w *world) gone(name string) {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		current, err := state.Read(testPaths(w.directory).State)
		if err == nil && !slices.ContainsFunc(current.Interfaces, func(i state.Interface) bool { return i.Name == name }) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s is still there: %+v, %v", name, current, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
