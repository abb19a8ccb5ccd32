package plan

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/network/lease"
	"github.com/google/go-cmp/cmp"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr       { return netip.MustParseAddr(s) }

func TestMake(t *testing.T) {
	a, b := Address{Prefix: prefix("10.0.0.7/24"), Left: Forever}, Address{Prefix: prefix("10.0.0.8/24"), Left: time.Hour}
	later := Address{Prefix: prefix("10.0.0.8/24"), Left: 2 * time.Hour}
	soon := Address{Prefix: prefix("10.0.0.8/24"), Left: time.Hour - 3*time.Second}
	viaA := Route{Destination: prefix("0.0.0.0/0"), Gateway: ip("10.0.0.1"), Metric: 1024, Origin: DHCP}
	viaB := Route{Destination: prefix("0.0.0.0/0"), Gateway: ip("10.0.0.2"), Metric: 1024, Origin: DHCP}
	onLink := Route{Destination: prefix("192.168.0.0/16"), Origin: Static}
	kernels := Route{Destination: prefix("10.0.0.0/24")}
	tests := []struct {
		name       string
		want, have Config
		own        []netip.Prefix
		tasks      []string
	}{
		{"nothing to do", Config{Up: true, Addresses: []Address{a}, Routes: []Route{viaA}},
			Config{Up: true, MTU: 1500, Addresses: []Address{a}, Routes: []Route{kernels, viaA}}, nil, nil},
		{"from nothing", Config{Up: true, MTU: 1400, Addresses: []Address{a, b}, Routes: []Route{viaA, onLink}}, Config{MTU: 1500}, nil, []string{
			"up: it is managed", "mtu: it is 1500, want 1400", "add address 10.0.0.7/24: the interface does not have it",
			"add address 10.0.0.8/24: the interface does not have it", "add route 192.168.0.0/16: the interface does not have it",
			"add route 0.0.0.0/0 via 10.0.0.1: the interface does not have it"}},
		{"renewed", Config{Up: true, Addresses: []Address{later}}, Config{Up: true, Addresses: []Address{b}}, nil,
			[]string{"add address 10.0.0.8/24: its lifetime changed"}},
		{"time passes", Config{Up: true, Addresses: []Address{b}}, Config{Up: true, Addresses: []Address{soon}}, nil, nil},
		{"another address and gateway", Config{Up: true, Addresses: []Address{b}, Routes: []Route{viaB}},
			Config{Up: true, Addresses: []Address{a}, Routes: []Route{kernels, viaA}}, []netip.Prefix{a.Prefix}, []string{
				"add address 10.0.0.8/24: the interface does not have it", "add route 0.0.0.0/0 via 10.0.0.2: it went elsewhere",
				"remove route 0.0.0.0/0 via 10.0.0.1: no longer wanted", "remove address 10.0.0.7/24: no longer wanted"}},
		{"lease lost", Config{Up: true}, Config{Up: true, Addresses: []Address{b}, Routes: []Route{kernels, viaA}}, []netip.Prefix{b.Prefix},
			[]string{"remove route 0.0.0.0/0 via 10.0.0.1: no longer wanted", "remove address 10.0.0.8/24: no longer wanted"}},
		{"somebody else's", Config{Up: true}, Config{Up: true, Addresses: []Address{a}, Routes: []Route{kernels}}, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, task := range Make(test.want, test.have, test.own) {
				got = append(got, task.String())
			}
			if diff := cmp.Diff(test.tasks, got); diff != "" {
				t.Errorf("tasks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWant(t *testing.T) {
	l := &lease.Lease{Address: prefix("10.0.0.7/24"), MTU: 1400, Acquired: 10 * time.Second, Lifetime: time.Minute, Routes: []lease.Route{
		{Destination: prefix("0.0.0.0/0"), Gateway: ip("10.0.0.1")},
		{Destination: prefix("172.16.0.0/12")},
	}}
	use := config.DHCPv4{UseRoutes: true, UseGateway: true, RouteMetric: 1024}
	tests := []struct {
		name    string
		network config.Network
		lease   *lease.Lease
		want    string
	}{
		{"nothing", config.Network{}, nil, ""},
		{"static", config.Network{MTU: 9000, Addresses: []config.Address{{Prefix: prefix("192.0.2.5/24")}, {Prefix: prefix("2001:db8::5/64")}}, Routes: []config.Route{
			{Destination: prefix("0.0.0.0/0"), Gateway: ip("192.0.2.1")},
			{Destination: prefix("::/0"), Gateway: ip("fe80::1")},
			{Destination: prefix("10.0.0.0/8"), Gateway: ip("198.51.100.1")}, // not reachable
			{Destination: prefix("10.1.0.0/16"), Gateway: ip("198.51.100.1"), OnLink: true},
		}}, nil, "mtu 9000\n192.0.2.5/24 forever\n2001:db8::5/64 forever\n0.0.0.0/0 via 192.0.2.1 metric 0\n::/0 via fe80::1 metric 1024\n10.1.0.0/16 via 198.51.100.1 metric 0 onlink\n"},
		{"lease", config.Network{DHCPv4: use}, l,
			"10.0.0.7/24 50s\n0.0.0.0/0 via 10.0.0.1 metric 1024 from 10.0.0.7\n172.16.0.0/12 metric 1024 from 10.0.0.7\n"},
		{"lease without gateway", config.Network{DHCPv4: config.DHCPv4{UseRoutes: true, UseMTU: true, RouteMetric: 7}}, l,
			"mtu 1400\n10.0.0.7/24 50s\n172.16.0.0/12 metric 7 from 10.0.0.7\n"},
		{"lease without routes", config.Network{}, l, "10.0.0.7/24 50s\n"},
		{"the owner wrote the same", config.Network{DHCPv4: use, Addresses: []config.Address{{Prefix: prefix("10.0.0.7/24")}}, Routes: []config.Route{
			{Destination: prefix("0.0.0.0/0"), Gateway: ip("10.0.0.99"), Metric: 1024}}}, l,
			"10.0.0.7/24 forever\n0.0.0.0/0 via 10.0.0.1 metric 1024 from 10.0.0.7\n172.16.0.0/12 metric 1024 from 10.0.0.7\n"},
		{"gateway beside the address", config.Network{DHCPv4: use}, &lease.Lease{Address: prefix("10.128.0.2/32"), Lifetime: lease.Forever,
			Routes: []lease.Route{{Destination: prefix("0.0.0.0/0"), Gateway: ip("10.128.0.1")}}},
			"10.128.0.2/32 forever\n0.0.0.0/0 via 10.128.0.1 metric 1024 from 10.128.0.2 onlink\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Want(test.network, "eth0", Facts{Lease: test.lease}, 20*time.Second)
			if !got.Up {
				t.Error("a managed interface is not up")
			}
			if diff := cmp.Diff(test.want, render(got)); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

func render(c Config) string {
	var b strings.Builder
	if c.MTU != 0 {
		b.WriteString("mtu " + strconv.Itoa(c.MTU) + "\n")
	}
	for _, a := range c.Addresses {
		left := a.Left.String()
		if a.Left == Forever {
			left = "forever"
		}
		b.WriteString(a.Prefix.String() + " " + left + "\n")
	}
	for _, r := range c.Routes {
		b.WriteString(r.Destination.String())
		if r.Gateway.IsValid() {
			b.WriteString(" via " + r.Gateway.String())
		}
		b.WriteString(" metric " + strconv.Itoa(r.Metric))
		if r.Source.IsValid() {
			b.WriteString(" from " + r.Source.String())
		}
		if r.OnLink {
			b.WriteString(" onlink")
		}
		b.WriteString("\n")
	}
	return b.String()
}
