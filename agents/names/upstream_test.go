package names

import (
	"net/netip"
	"testing"

	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/google/go-cmp/cmp"
)

// TestUpstream: containers' questions go where the machine's own go.
func TestUpstream(t *testing.T) {
	path := t.TempDir() + "/state.json"
	if _, err := state.Write(path, state.State{Interfaces: []state.Interface{
		{Name: "eth0", DNS: []string{"192.0.2.1", "169.254.53.53"}},
		{Name: "eth1", DNS: []string{"192.0.2.2"}, RouteDomains: []string{"corp.example"}, DNSRouteOnly: true},
	}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"www.corp.example.": "192.0.2.2:53", "example.org.": "192.0.2.1:53"} {
		got := upstream(path, name, netip.MustParseAddr("169.254.53.53"))
		if diff := cmp.Diff([]netip.AddrPort{netip.MustParseAddrPort(want)}, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := upstream(path+"x", "example.org.", netip.Addr{}); got != nil {
		t.Errorf("without a network: %v", got)
	}
}
