package networkd

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/program"
	"golang.org/x/sys/unix"
)

func has(address string) func(state.Interface, state.State) bool {
	return func(i state.Interface, s state.State) bool {
		return slices.Equal(i.Addresses, []string{address}) && i.SetupState == "configured" && s.Online
	}
}

func hasNone(i state.Interface, s state.State) bool { return len(i.Addresses) == 0 && !s.Online }

// TestNoServer is a network where nobody answers until later.
func TestNoServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startDaemon() // ready without a lease
	w.messages.wait(t, "DISCOVER")
	i := w.eth0("asking", 15*time.Second, func(i state.Interface, s state.State) bool { return i.Problem != "" })
	if i.Problem != "no DHCP server answers" || i.SetupState != "configuring" {
		t.Errorf("got problem %q, state %q", i.Problem, i.SetupState)
	}
	w.log.wait(t, "<4>eth0: no DHCP server answers (1 times); still trying")
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.7", Lease: 3600})
	w.eth0("configured", 20*time.Second, has("10.99.0.7/24"))
}

// TestLease is the life of a short lease.
func TestLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.7", Lease: 8})
	w.startDaemon()
	i := w.eth0("configured", 10*time.Second, has("10.99.0.7/24"))
	if i.Gateway != "10.99.0.1" || !slices.Equal(i.DNS, []string{"10.99.0.53"}) || i.Domain != "test.example" || i.Hostname != "from-dhcp" ||
		!slices.Equal(i.NTP, []string{"10.99.0.1"}) || i.DHCPServer != "10.99.0.1" || i.OperState != "routable" || i.Problem != "" {
		t.Errorf("got %+v", i)
	}
	w.log.wait(t, `<6>the host name is "from-dhcp", from DHCP`)
	if resolv, err := os.ReadFile(testPaths(w.directory).Resolv); err != nil || !strings.Contains(string(resolv), "nameserver 10.99.0.53\nsearch test.example\n") {
		t.Errorf("resolv.conf: %q, %v", resolv, err)
	}
	// A name server on the machine comes first; its interface tells of it.
	os.WriteFile(testPaths(w.directory).Local, []byte(`{"server":"169.254.53.53","domain":"coracle.internal"}`), 0o644)
	w.must("ip", "-n", w.client, "link", "add", "names0", "type", "bridge")
	w.eth0("configured still", 10*time.Second, func(state.Interface, state.State) bool {
		text, _ := os.ReadFile(testPaths(w.directory).Resolv)
		return strings.Contains(string(text), "nameserver 169.254.53.53\nnameserver 10.99.0.53\nsearch coracle.internal test.example\n")
	})
	if routes := w.must("ip", "-n", w.client, "route"); !strings.Contains(routes, "default via 10.99.0.1 dev eth0 proto dhcp src 10.99.0.7 metric 1024") {
		t.Errorf("routes:\n%s", routes)
	}
	// Renewed, by unicast, and with the name that it has now.
	w.messages.waitCount(t, "REQUEST unicast=true mode=answer", 2)
	if out := w.must("ip", "-n", w.client, "address", "show", "dev", "eth0"); !strings.Contains(out, "valid_lft") || strings.Contains(out, "inet 10.99.0.7/24 scope global eth0\n       valid_lft forever") {
		t.Errorf("the address has no end:\n%s", out)
	}
	if out := w.must("ip", "-n", w.client, "route", "get", "192.0.2.1"); !strings.Contains(out, "via 10.99.0.1 dev eth0 src 10.99.0.7") {
		t.Errorf("the way out:\n%s", out)
	}

	// The server dies: the address goes when the lease ends, not before.
	w.behave(behaviour{Mode: "silent"})
	w.messages.wait(t, "REQUEST unicast=true mode=silent")
	w.eth0("still configured", time.Second, has("10.99.0.7/24"))
	w.eth0("without address", 20*time.Second, hasNone)
	w.log.wait(t, "the lease expired")

	// It comes back.
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.7", Lease: 8})
	w.eth0("configured again", 30*time.Second, has("10.99.0.7/24"))

	// It takes the address back and gives another.
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.8", Lease: 3600})
	w.eth0("moved", 20*time.Second, has("10.99.0.8/24"))
	if routes := w.must("ip", "-n", w.client, "route"); strings.Contains(routes, "10.99.0.7") {
		t.Errorf("routes of the old address:\n%s", routes)
	}
}

// TestRestart checks that the daemon can be replaced without the address going
// away, and that it asks whether the lease still holds.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.7", Lease: 3600})
	w.startDaemon()
	w.eth0("configured", 10*time.Second, has("10.99.0.7/24"))
	w.stopDaemon()
	if out := w.must("ip", "-n", w.client, "address", "show", "dev", "eth0"); !strings.Contains(out, "10.99.0.7/24") {
		t.Errorf("the address went with the daemon:\n%s", out)
	}
	w.behave(behaviour{Mode: "silent"})
	w.startDaemon()
	w.messages.wait(t, "REQUEST unicast=false mode=silent")
	w.eth0("still configured", time.Second, has("10.99.0.7/24"))
	if w.messages.count("DISCOVER") != 1 {
		t.Errorf("the lease was not taken over:\n%s", w.messages.text())
	}
}

// TestStatic is the owner's own file, taken up by SIGHUP.
func TestStatic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.7", Lease: 3600})
	w.startDaemon()
	w.eth0("configured", 10*time.Second, has("10.99.0.7/24"))
	// Somebody else's address is left alone.
	w.must("ip", "-n", w.client, "address", "add", "10.99.0.200/24", "dev", "eth0")
	w.write("etc/systemd/network/10-mine.network", `[Match]
Name=eth0
[Network]
Address=10.99.0.50/24
Gateway=10.99.0.1
DNS=192.0.2.53
LLMNR=yes
[Route]
Destination=172.20.0.0/16
Gateway=10.99.0.2
`)
	if err := w.daemon.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	w.eth0("static", 10*time.Second, func(i state.Interface, s state.State) bool {
		return slices.Equal(i.Addresses, []string{"10.99.0.200/24", "10.99.0.50/24"}) && s.Online && i.DHCPServer == "" &&
			slices.Equal(i.DNS, []string{"192.0.2.53"}) && i.File == "/etc/systemd/network/10-mine.network"
	})
	w.log.wait(t, "<4>/etc/systemd/network/10-mine.network:7: LLMNR=: \"yes\" is ignored: names are asked of DNS servers only")
	routes := w.must("ip", "-n", w.client, "route")
	for _, want := range []string{"default via 10.99.0.1 dev eth0 proto static", "172.20.0.0/16 via 10.99.0.2 dev eth0 proto static"} {
		if !strings.Contains(routes, want) {
			t.Errorf("%q is not among the routes:\n%s", want, routes)
		}
	}
	if strings.Contains(routes, "proto dhcp") {
		t.Errorf("routes of the lease stayed:\n%s", routes)
	}
	// What somebody takes away comes back.
	w.must("ip", "-n", w.client, "address", "delete", "10.99.0.50/24", "dev", "eth0")
	w.eth0("mended", 10*time.Second, func(i state.Interface, s state.State) bool { return slices.Contains(i.Addresses, "10.99.0.50/24") })
}

// TestLink is a cable that is pulled, and a device that comes and goes.
func TestLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.7", Lease: 3600})
	w.startDaemon()
	w.eth0("configured", 10*time.Second, has("10.99.0.7/24"))
	w.must("ip", "-n", w.server, "link", "set", "srv0", "down")
	w.eth0("without carrier", 10*time.Second, func(i state.Interface, s state.State) bool { return i.OperState == "no-carrier" && !s.Online })
	w.must("ip", "-n", w.server, "link", "set", "srv0", "up")
	w.messages.waitCount(t, "REQUEST unicast=false", 2) // does the lease still hold?
	w.eth0("back", 10*time.Second, has("10.99.0.7/24"))

	w.must("ip", "-n", w.client, "link", "add", "other0", "type", "veth", "peer", "name", "other1")
	w.must("ip", "-n", w.client, "link", "delete", "eth0")
	deadline := time.Now().Add(10 * time.Second)
	for {
		current, err := state.Read(testPaths(w.directory).State)
		if err == nil && len(current.Interfaces) == 2 && current.Interfaces[0].SetupState == "unmanaged" && !current.Online {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after eth0 went: %+v, %v", current, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.must("ip", "link", "add", "eth0", "netns", w.client, "type", "veth", "peer", "name", "srv0", "netns", w.server)
	w.eth0("plugged in again", 10*time.Second, func(i state.Interface, s state.State) bool { return i.SetupState == "configuring" })
}

// TestOwnersName checks that a machine with a name keeps it and tells servers.
func TestOwnersName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("etc/hostname", "mine\n")
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nDHCP=yes\n[DHCPv4]\nHostname=told\n")
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.7", Lease: 3600})
	w.startDaemon()
	w.eth0("configured", 10*time.Second, has("10.99.0.7/24"))
	w.messages.wait(t, "name=told")
	if strings.Contains(w.log.text(), "host name") {
		t.Errorf("the name was changed:\n%s", w.log.text())
	}
}

// TestCommandLine is a machine whose network is on the kernel's command line.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	w := newCable(t)
	w.write("cmdline", "quiet ip=10.99.0.70::10.99.0.1:255.255.255.0::eth0:off:10.99.0.53 rd.neednet=1\n")
	w.startDaemon()
	i := w.eth0("configured", 10*time.Second, has("10.99.0.70/24"))
	if i.File != "/run/systemd/network/70-eth0.network" || !slices.Equal(i.DNS, []string{"10.99.0.53"}) || i.Gateway != "10.99.0.1" {
		t.Errorf("got %+v", i)
	}
	w.log.wait(t, `"rd.neednet=1" on the kernel's command line: rd.neednet= is not supported`)
}

// TestMistakes is a machine whose files are wrong: it can be reached.
func TestMistakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("etc/systemd/network/10-address.network", "[Match]\nName=eth0\n[Network]\nAddress=10.99.0.5/240\nGateway=10.99.0.1\n")
	w.write("etc/systemd/network/05-noise.network", "\xff\xfe[Match]\nName=eth0\n")
	w.write("etc/systemd/network/06-section.network", "[Match\nName=eth0\n")
	w.behave(behaviour{Mode: "answer", Address: "10.99.0.7", Lease: 3600})
	w.startDaemon()
	w.eth0("configured", 20*time.Second, has("10.99.0.7/24"))
	for _, want := range []string{"/etc/systemd/network/10-address.network:4: Address=: \"10.99.0.5/240\" is not an address with prefix length",
		"DHCP is asked instead", "/etc/systemd/network/05-noise.network:1: String is not UTF-8 clean", "/etc/systemd/network/06-section.network:1: "} {
		w.log.wait(t, want)
	}
}

func TestArguments(t *testing.T) {
	var out bytes.Buffer
	if code := Main(context.Background(), []string{"systemd-networkd", "x"}, program.Stdio{Out: &out, Err: &out}); code != 2 || !strings.Contains(out.String(), "no arguments") {
		t.Errorf("got code %d and %q", code, out.String())
	}
}
