package zone

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addrs(texts ...string) (list []netip.Addr) {
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

var world = New([]Machine{
	{ID: "aaaaaaaa111111111111111111111111", Name: "Alpha.example.org", Addresses: addrs("10.0.0.1", "fd00::1")},
	{ID: "bbbbbbbb222222222222222222222222", Name: "beta", Addresses: addrs("10.0.0.2")},
}, []Service{
	{Name: "nginx.service", Machine: "bbbbbbbb222222222222222222222222", Addresses: addrs("10.1.2.3"), Ports: []Port{{"http", 80, "tcp"}, {"", 443, "tcp"}}},
	{Name: "nginx.service", Machine: "aaaaaaaa111111111111111111111111", Addresses: addrs("10.1.1.3"), Ports: []Port{{"http", 80, "tcp"}}},
	{Name: "web@1.service", Machine: "aaaaaaaa111111111111111111111111", Addresses: addrs("10.1.1.4")},
	{Name: "web@2.service", Machine: "bbbbbbbb222222222222222222222222", Addresses: addrs("10.1.2.4", "fd10::2:4")},
	{Name: "dns.socket", Machine: "bbbbbbbb222222222222222222222222", Addresses: addrs("10.0.0.2")},
	{Name: "registry", Container: true, Machine: "bbbbbbbb222222222222222222222222", Addresses: addrs("10.1.2.9")},
	{Name: "alpha.service", Machine: "bbbbbbbb222222222222222222222222", Addresses: addrs("10.1.2.5")},
})

func TestAddresses(t *testing.T) {
	for name, want := range map[string][]netip.Addr{
		"ALPHA":         addrs("10.0.0.1", "fd00::1", "10.1.2.5"), // a machine's and a unit's
		"aaaaaaaa":      addrs("10.0.0.1", "fd00::1"),
		"beta":          addrs("10.0.0.2"),
		"nginx":         addrs("10.1.1.3", "10.1.2.3"),
		"nginx.service": addrs("10.1.1.3", "10.1.2.3"),
		"nginx.socket":  nil,
		"web":           addrs("10.1.1.4", "10.1.2.4", "fd10::2:4"),
		"web@2":         addrs("10.1.2.4", "fd10::2:4"),
		"web-1":         addrs("10.1.1.4"),
		"web@1.service": addrs("10.1.1.4"),
		"dns.socket":    addrs("10.0.0.2"),
		"registry":      addrs("10.1.2.9"),
		"nobody":        nil,
	} {
		got, known := world.Addresses(name)
		if diff := cmp.Diff(want, got, sameAddr); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if known != (want != nil) {
			t.Errorf("%s: known is %v", name, known)
		}
	}
}

func TestServices(t *testing.T) {
	for name, want := range map[string][]Target{
		"nginx": {
			{80, "10-1-1-3", addrs("10.1.1.3")},
			{80, "10-1-2-3", addrs("10.1.2.3")}, {443, "10-1-2-3", addrs("10.1.2.3")},
		},
		"_http._tcp.nginx":        {{80, "10-1-1-3", addrs("10.1.1.3")}, {80, "10-1-2-3", addrs("10.1.2.3")}},
		"_443._TCP.nginx.service": {{443, "10-1-2-3", addrs("10.1.2.3")}},
		"_http._udp.nginx":        nil,
		"web":                     nil,
	} {
		got, known := world.Services(name)
		if diff := cmp.Diff(want, got, sameAddr); diff != "" || !known {
			t.Errorf("%s: known %v, %s", name, known, diff)
		}
	}
	if _, known := world.Services("_http._tcp.nobody"); known {
		t.Error("nobody is known")
	}
}

func TestAddressLabel(t *testing.T) {
	for _, a := range addrs("10.1.2.3", "fd00::2", "::1") {
		if got, ok := FromAddressLabel(AddressLabel(a)); !ok || got != a {
			t.Errorf("%v is %s is %v", a, AddressLabel(a), got)
		}
	}
	if _, ok := FromAddressLabel("web-1"); ok {
		t.Error("web-1 is an address")
	}
}

// TestLongNames: a label has at most 63 bytes (RFC 1035); what has a longer
// name is still found by its other names.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("x", 63)
	z := New(nil, []Service{
		{Name: long + ".service", Machine: "m", Addresses: addrs("10.1.1.1")},
		{Name: long + "y.service", Machine: "m", Addresses: addrs("10.1.1.2")},
		{Name: "web@" + long + ".service", Machine: "m", Addresses: addrs("10.1.1.3")},
	})
	for name, want := range map[string]bool{long: true, long + "y": false, "web": true, "web-" + long: false} {
		if _, known := z.Addresses(name); known != want {
			t.Errorf("%d bytes, %.8s...: known is %v", len(name), name, known)
		}
	}
}

// many is a cluster of 100 machines with 100 units each.
func many() (machines []Machine, services []Service) {
	for m := range 100 {
		id := fmt.Sprintf("%032x", m)
		a := addrs(fmt.Sprintf("10.0.0.%d", m))
		machines = append(machines, Machine{ID: id, Name: fmt.Sprintf("m%d", m), Addresses: a})
		for u := range 100 {
			services = append(services, Service{Name: fmt.Sprintf("unit%d@%d.service", u, m), Machine: id, Addresses: a, Ports: []Port{{"http", 80, "tcp"}}})
		}
	}
	return machines, services
}

// TestMany asks for each of 10,000 names.
func TestMany(t *testing.T) {
	z := New(many())
	for m := range 100 {
		for u := range 100 {
			if a, known := z.Addresses(fmt.Sprintf("unit%d-%d", u, m)); !known || len(a) != 1 {
				t.Fatalf("unit%d-%d: %v", u, m, a)
			}
		}
	}
	if a, _ := z.Addresses("unit7"); len(a) != 100 {
		t.Errorf("unit7 has %d addresses", len(a))
	}
}

// BenchmarkNew is what one change costs in a cluster of 10,000 names.
func BenchmarkNew(b *testing.B) {
	machines, services := many()
	for b.Loop() {
		New(machines, services)
	}
}
