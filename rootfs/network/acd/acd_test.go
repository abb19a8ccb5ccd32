package acd

import (
	"net"
	"net/netip"
	"testing"
)

func TestConflicts(t *testing.T) {
	ours, theirs := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	address, other := netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("192.0.2.6")
	answer := func(mac net.HardwareAddr, from netip.Addr) []byte {
		b := encode(mac, other)
		b[7] = 2
		copy(b[14:], from.AsSlice())
		return b
	}
	for name, test := range map[string]struct {
		message []byte
		want    bool
	}{
		"our own probe":             {encode(ours, address), false},
		"another's probe":           {encode(theirs, address), true},
		"another's probe elsewhere": {encode(theirs, other), false},
		"its owner":                 {answer(theirs, address), true},
		"somebody else":             {answer(theirs, other), false},
		"our own answer":            {answer(ours, address), false},
	} {
		m, ok := decode(test.message)
		if got := m.conflicts(ours, address); !ok || got != test.want {
			t.Errorf("%s: %v, %v", name, ok, got)
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, 27), make([]byte, 28), append([]byte{0, 1, 8, 0, 6, 4, 0, 9}, make([]byte, 20)...)} {
		if _, ok := decode(bad); ok {
			t.Errorf("%v: taken", bad)
		}
	}
}
