package reach

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace runs the test in a network namespace with a link "out" to another
// one, in which 10.9.0.1 answers.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	peer := exec.Command("unshare", "--net", "sleep", "600")
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = peer.Process.Kill()
		_ = peer.Wait()
	})
	pid := strconv.Itoa(peer.Process.Pid)
	own, _ := exec.Command("readlink", "/proc/thread-self/ns/net").Output()
	wait(t, "the peer's namespace", func() bool {
		theirs, err := exec.Command("readlink", "/proc/"+pid+"/ns/net").Output()
		return err == nil && string(theirs) != string(own) && len(theirs) > 0 && comm(pid) == "sleep"
	})
	ip(t, "link set lo up")
	ip(t, "link add out type veth peer name in netns "+pid)
	ip(t, "address add 10.9.0.2/24 dev out")
	ip(t, "link set out up")
	for _, command := range []string{"address add 10.9.0.1/24 dev in", "link set in up"} {
		run(t, "nsenter", append([]string{"-t", pid, "-n", "ip"}, strings.Fields(command)...)...)
	}
	ip(t, "route add default via 10.9.0.1")
}

func comm(pid string) string {
	out, _ := exec.Command("cat", "/proc/"+pid+"/comm").Output()
	return strings.TrimSpace(string(out))
}

func ip(t *testing.T, command string) { t.Helper(); run(t, "ip", strings.Fields(command)...) }

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in time", what)
		}
	}
}

// TestReach breaks the network in each of the ways that a configuration can.
func TestReach(t *testing.T) {
	inNamespace(t)
	ctx := context.Background()
	listener, err := net.Listen("tcp", "10.9.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	want := Watch{Gateway: true, Peer: netip.MustParseAddr("198.51.100.7"), Server: netip.MustParseAddrPort(listener.Addr().String())}
	if got := Now(ctx, want, 30*time.Second); got != want {
		t.Fatalf("well before: %v, want %v", got, want)
	}
	if err := want.Check(ctx); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, breaks, heals, says string }{
		{"link down", "link set out down", "link set out up", "there is no default route"},
		{"no default route", "route del default", "", "there is no default route"},
		{"another gateway", "route replace default via 10.9.0.9", "", "10.9.0.9 does not answer"},
		{"address gone", "address del 10.9.0.2/24 dev out", "address add 10.9.0.2/24 dev out", "there is no default route"},
	}
	for _, tt := range tests {
		ip(t, tt.breaks)
		wait(t, tt.name, func() bool {
			err := want.Check(ctx)
			return err != nil && strings.Contains(err.Error(), tt.says)
		})
		if tt.heals != "" {
			ip(t, tt.heals)
		}
		ip(t, "route replace default via 10.9.0.1")
		wait(t, tt.name+", healed", func() bool { return want.Check(ctx) == nil })
	}
	listener.Close()
	if err := want.Check(ctx); err == nil || !strings.Contains(err.Error(), "SSH server") {
		t.Errorf("the server is gone: %v", err)
	}
	ip(t, "route del default")
	if got := Now(ctx, want, 0); got.Gateway || got.Server.IsValid() {
		t.Errorf("well afterwards: %v", got)
	}
	if got := (Watch{}).String(); got != "nothing" {
		t.Errorf("String: %q", got)
	}
}
