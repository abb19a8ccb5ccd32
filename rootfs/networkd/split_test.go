package networkd

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/network/stub"
	"golang.org/x/sys/unix"
)

// lookupRole looks the names in the environment up with the stub.
func lookupRole() int {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, stub.Address)
	}}
	for _, name := range strings.Fields(os.Getenv("NETWORKD_TEST_NAMES")) {
		found, err := resolver.LookupNetIP(context.Background(), "ip4", name+".")
		if err != nil {
			found = nil
		}
		fmt.Println(name, found)
	}
	fmt.Println("done")
	return 0
}

func (w *world) lookup(names string) string {
	w.t.Helper()
	_, out := w.start("lookup", w.client, "NETWORKD_TEST_NAMES="+names)
	out.wait(w.t, "done")
	return strings.TrimSuffix(out.text(), "\ndone")
}

// TestSplit is a machine with two networks, each with a name server for its
// own names.
func TestSplit(t *testing.T) {
	t.Parallel()
	w := newCable(t)
	w.must("ip", "link", "add", "eth1", "netns", w.client, "type", "veth", "peer", "name", "srv1", "netns", w.server)
	w.must("ip", "-n", w.server, "address", "add", "10.98.0.1/24", "dev", "srv1")
	w.must("ip", "-n", w.server, "link", "set", "srv1", "up")
	for i, address := range []string{"10.99.0.1", "10.98.0.1"} {
		_, out := w.program(w.server, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file=",
			"--listen-address="+address, "--bind-interfaces", fmt.Sprintf("--address=/#/192.0.2.%d", i))
		out.wait(t, "started")
	}
	w.write("etc/systemd/network/10-eth0.network", "[Match]\nName=eth0\n[Network]\nAddress=10.99.0.5/24\nDNS=10.99.0.1\nDomains=home.example\n")
	corp := func(more string) {
		w.write("etc/systemd/network/10-eth1.network", "[Match]\nName=eth1\n[Network]\nAddress=10.98.0.5/24\nDNS=10.98.0.1\n"+more)
	}
	corp("Domains=~corp.example work.example\n")
	w.startDaemon()
	files := func(what, machine, containers string) {
		t.Helper()
		w.eth0(what, 20*time.Second, func(state.Interface, state.State) bool {
			for path, want := range map[string]string{testPaths(w.directory).Stub: machine, testPaths(w.directory).Resolv: containers} {
				text, _ := os.ReadFile(path)
				if !strings.HasSuffix(string(text), "do not edit.\n"+want) {
					return false
				}
			}
			return true
		})
	}
	files("split", "nameserver 127.0.0.53\nsearch home.example work.example\n", "nameserver 10.99.0.1\nsearch home.example work.example\n")
	want := "www.corp.example [192.0.2.1]\nwork.example [192.0.2.1]\nwww.home.example [192.0.2.0]\nother.org [192.0.2.0]"
	if got := w.lookup("www.corp.example work.example www.home.example other.org"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	reload := func() {
		t.Helper()
		if err := w.daemon.Process.Signal(unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	corp("Domains=~.\n")
	reload()
	files("all to eth1", "nameserver 127.0.0.53\nsearch home.example\n", "nameserver 10.99.0.1\nnameserver 10.98.0.1\nsearch home.example\n")
	if got, want := w.lookup("other.org www.home.example"), "other.org [192.0.2.1]\nwww.home.example [192.0.2.0]"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	w.write("etc/systemd/network/10-eth0.network", "[Match]\nName=eth0\n[Network]\nAddress=10.99.0.5/24\nDNS=10.99.0.1\n")
	corp("")
	reload()
	files("alike", "nameserver 10.99.0.1\nnameserver 10.98.0.1\n", "nameserver 10.99.0.1\nnameserver 10.98.0.1\n")
}
