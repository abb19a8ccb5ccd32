package ipv4ll

import (
	"net"
	"net/netip"
	"testing"
)

func TestCandidates(t *testing.T) {
	a, b := NewCandidates(net.HardwareAddr{2, 0, 0, 0, 0, 1}), NewCandidates(net.HardwareAddr{2, 0, 0, 0, 0, 1})
	other := NewCandidates(net.HardwareAddr{2, 0, 0, 0, 0, 2})
	low, high := netip.MustParseAddr("169.254.1.0"), netip.MustParseAddr("169.254.254.255")
	same := 0
	for range 10000 {
		address := a.Next()
		if address != b.Next() {
			t.Fatal("a machine does not try the same addresses each time")
		}
		if address == other.Next() {
			same++
		}
		if address.Less(low) || high.Less(address) {
			t.Fatalf("%v is reserved", address)
		}
	}
	if same > 10 {
		t.Errorf("two machines try the same address %d times", same)
	}
}
