package lease

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

func ack(t *testing.T, address string, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	t.Helper()
	message, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.ParseIP(address)))
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range options {
		message.UpdateOption(option)
	}
	return message
}

var (
	serverID = dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 1))
	mask     = dhcpv4.OptSubnetMask(net.CIDRMask(24, 32))
)

func seconds(code dhcpv4.OptionCode, n uint32) dhcpv4.Option {
	return dhcpv4.OptGeneric(code, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func text(code dhcpv4.OptionCode, s string) dhcpv4.Option { return dhcpv4.OptGeneric(code, []byte(s)) }

func TestFromACK(t *testing.T) {
	address := netip.MustParsePrefix("10.0.0.7/24")
	server := netip.MustParseAddr("10.0.0.1")
	anywhere := netip.MustParsePrefix("0.0.0.0/0")
	plain := Lease{Address: address, Server: server, Acquired: 100 * time.Second,
		Lifetime: time.Hour, Renew: 30 * time.Minute, Rebind: 52*time.Minute + 30*time.Second}
	with := func(change func(*Lease)) Lease {
		l := plain
		change(&l)
		return l
	}
	tests := []struct {
		name     string
		in       *dhcpv4.DHCPv4
		want     Lease
		wantText string
	}{
		{name: "plain", in: ack(t, "10.0.0.7", serverID, mask), want: plain},
		{name: "all of it", in: ack(t, "10.0.0.7", serverID, mask,
			dhcpv4.OptRouter(net.IPv4(10, 0, 0, 254), net.IPv4(10, 0, 0, 253)),
			dhcpv4.OptDNS(net.IPv4(10, 0, 0, 2), net.IPv4zero), dhcpv4.OptNTPServers(net.IPv4(10, 0, 0, 3)),
			dhcpv4.OptHostName("node-1"), dhcpv4.OptDomainName("example.org"),
			seconds(dhcpv4.OptionIPAddressLeaseTime, 600), seconds(dhcpv4.OptionRenewTimeValue, 100), seconds(dhcpv4.OptionRebindingTimeValue, 500),
			dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{5, 120})),
			want: with(func(l *Lease) {
				l.Routes = []Route{{anywhere, netip.MustParseAddr("10.0.0.254")}}
				l.DNS = []netip.Addr{netip.MustParseAddr("10.0.0.2")}
				l.NTP = []netip.Addr{netip.MustParseAddr("10.0.0.3")}
				l.Hostname, l.Domains, l.MTU = "node-1", []string{"example.org"}, 1400
				l.Lifetime, l.Renew, l.Rebind = 600*time.Second, 100*time.Second, 500*time.Second
			})},
		{name: "classless routes hide the router", in: ack(t, "10.0.0.7", serverID, mask,
			dhcpv4.OptRouter(net.IPv4(10, 0, 0, 254)),
			dhcpv4.OptClasslessStaticRoute(
				&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(192, 168, 7, 9).To4(), Mask: net.CIDRMask(24, 32)}, Router: net.IPv4(10, 0, 0, 9)},
				&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Router: net.IPv4(10, 0, 0, 8)},
				&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(172, 16, 0, 0).To4(), Mask: net.CIDRMask(12, 32)}, Router: net.IPv4zero})),
			want: with(func(l *Lease) {
				l.Routes = []Route{
					{netip.MustParsePrefix("192.168.7.0/24"), netip.MustParseAddr("10.0.0.9")},
					{anywhere, netip.MustParseAddr("10.0.0.8")},
					{Destination: netip.MustParsePrefix("172.16.0.0/12")},
				}
			})},
		{name: "without a mask", in: ack(t, "192.168.1.7", serverID), want: with(func(l *Lease) { l.Address = netip.MustParsePrefix("192.168.1.7/24") })},
		{name: "forever", in: ack(t, "10.0.0.7", serverID, mask, seconds(dhcpv4.OptionIPAddressLeaseTime, 0xffffffff)),
			want: with(func(l *Lease) { l.Lifetime, l.Renew, l.Rebind = Forever, Forever, Forever })},
		{name: "a century", in: ack(t, "10.0.0.7", serverID, mask, seconds(dhcpv4.OptionIPAddressLeaseTime, 3200000000)),
			want: with(func(l *Lease) {
				l.Lifetime, l.Renew, l.Rebind = 3200000000*time.Second, 1600000000*time.Second, 2800000000*time.Second
			})},
		{name: "no time at all", in: ack(t, "10.0.0.7", serverID, mask, seconds(dhcpv4.OptionIPAddressLeaseTime, 0)),
			want: with(func(l *Lease) { l.Lifetime, l.Renew, l.Rebind = Shortest, Shortest/2, Shortest/8*7 })},
		{name: "times in the wrong order", in: ack(t, "10.0.0.7", serverID, mask, seconds(dhcpv4.OptionIPAddressLeaseTime, 3600),
			seconds(dhcpv4.OptionRenewTimeValue, 5000), seconds(dhcpv4.OptionRebindingTimeValue, 100)), want: plain},
		{name: "names that would break files", in: ack(t, "10.0.0.7", serverID, mask,
			text(dhcpv4.OptionHostName, "a b\nc"), text(dhcpv4.OptionDomainName, "a.example\nnameserver\t10.9.9.9")),
			want: plain},
		{name: "host name with a zero at the end", in: ack(t, "10.0.0.7", serverID, mask, text(dhcpv4.OptionHostName, "node\x00"), text(dhcpv4.OptionDomainName, "a.example b.example")),
			want: with(func(l *Lease) { l.Hostname, l.Domains = "node", []string{"a.example", "b.example"} })},
		{name: "no address", in: ack(t, "0.0.0.0", serverID, mask), wantText: "address 0.0.0.0"},
		{name: "multicast address", in: ack(t, "224.0.0.1", serverID, mask), wantText: "address 224.0.0.1"},
		{name: "no server", in: ack(t, "10.0.0.7", mask), wantText: "name the server"},
		{name: "mask with holes", in: ack(t, "10.0.0.7", serverID, dhcpv4.OptSubnetMask(net.IPv4Mask(255, 0, 255, 0))), wantText: "subnet mask"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := FromACK(test.in, 100*time.Second)
			if test.wantText != "" {
				if !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), test.wantText) {
					t.Errorf("got error %v, want %v with %q", err, ErrUnusable, test.wantText)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got.ACK) == 0 {
				t.Error("the message is not kept")
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(Lease{}, "ACK"), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("lease (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzFromACK(f *testing.F) {
	f.Add([]byte{51, 4, 0, 0, 0, 9, 54, 4, 10, 0, 0, 1})
	f.Fuzz(func(t *testing.T, options []byte) {
		message, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 7)))
		if err != nil {
			t.Fatal(err)
		}
		message, err = dhcpv4.FromBytes(append(message.ToBytes()[:240], options...))
		if err != nil {
			return
		}
		l, err := FromACK(message, 0)
		if err == nil && l.Lifetime != Forever && !(0 < l.Renew && l.Renew < l.Rebind && l.Rebind < l.Lifetime) {
			t.Errorf("times %v, %v, %v", l.Renew, l.Rebind, l.Lifetime)
		}
	})
}

// TestMachine plays a lease of 1000 s: renew at 500, rebind at 875.
func TestMachine(t *testing.T) {
	tests := []struct {
		name string
		// answers to the questions in order: "ok", "no" (nobody answers) or
		// "nak"; the last one again and again.
		answers string
		until   time.Duration
		want    []string
	}{
		{"all is well", "ok", 1600 * time.Second, []string{"0s acquire", "8m20s renew", "16m40s renew", "25m0s renew"}},
		{"nobody there", "no", 40 * time.Second, []string{"0s acquire", "1s acquire", "3s acquire", "7s acquire", "15s acquire", "31s acquire"}},
		{"server dies", "ok no", 1010 * time.Second, []string{
			"0s acquire", "8m20s renew", "11m27.5s renew", "13m1.25s renew", "14m1.25s renew", "14m35s rebind", "15m37.5s rebind", "16m37.5s rebind",
			"16m40s expire", "16m40s acquire", "16m41s acquire", "16m43s acquire", "16m47s acquire"}},
		{"another server takes over", "ok no no no no ok", 1200 * time.Second, []string{
			"0s acquire", "8m20s renew", "11m27.5s renew", "13m1.25s renew", "14m1.25s renew", "14m35s rebind"}},
		{"server takes it back", "ok nak ok", 600 * time.Second, []string{"0s acquire", "8m20s renew", "8m22s acquire"}},
		{"DHCPv6 server dies", "ok no6", 1010 * time.Second, []string{
			"0s acquire", "8m20s renew", "8m30s renew", "8m50s renew", "9m30s renew", "10m50s renew", "13m30s renew",
			"14m35s rebind", "14m45s rebind", "15m5s rebind", "15m45s rebind",
			"16m40s expire", "16m40s acquire"}},
		{"server refuses its own offer", "nak nak ok", 100 * time.Second, []string{"0s acquire", "2s acquire", "4s acquire"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var machine Machine
			var got []string
			answers := strings.Fields(test.answers)
			var now time.Duration
			for now < test.until {
				action, at := machine.Next(now)
				if action == Wait {
					if at <= now {
						t.Fatalf("waits at %v until %v", now, at)
					}
					now = at
					continue
				}
				got = append(got, fmt.Sprintf("%v %s", now, action))
				if action == Expire {
					continue
				}
				if at <= now {
					t.Fatalf("%s at %v has time until %v", action, now, at)
				}
				switch answers[0] {
				case "ok":
					machine.Got(Lease{Acquired: now, Renew: 500 * time.Second, Rebind: 875 * time.Second, Lifetime: 1000 * time.Second})
				case "no":
					machine.Failed(now, 0.5)
				case "no6":
					now += min(Question6, at-now)
					machine.Failed6(now, 0.5)
				case "nak":
					if lost := machine.Refused(now); lost != (action != Acquire) {
						t.Errorf("refused after %s: lost %v", action, lost)
					}
				}
				if len(answers) > 1 {
					answers = answers[1:]
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("questions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLinkUp(t *testing.T) {
	l := Lease{Renew: 500 * time.Second, Rebind: 875 * time.Second, Lifetime: 1000 * time.Second}
	machine := Resume(l, 10*time.Second)
	machine.LinkUp()
	if action, at := machine.Next(10 * time.Second); action != Confirm || at != 1000*time.Second {
		t.Errorf("after the link came up: got %v until %v, want to ask whether the lease holds", action, at)
	}
	machine.Failed(11*time.Second, 0.5)
	if action, at := machine.Next(11 * time.Second); action != Wait || at != 12*time.Second || machine.State != Bound {
		t.Errorf("after nobody answered: got %v until %v, want the lease kept", action, at)
	}
	if action, at := machine.Next(12 * time.Second); action != Acquire || at != 1000*time.Second {
		t.Errorf("later: got %v until %v, want to ask for a lease of this network", action, at)
	}
	machine.Failed(12*time.Second, 0.5)
	if action, at := machine.Next(12 * time.Second); action != Wait || at != 14*time.Second || machine.State != Bound {
		t.Errorf("after nobody answered again: got %v until %v, want the lease kept", action, at)
	}
	if action, _ := machine.Next(900 * time.Second); action != Rebind {
		t.Errorf("at the end of the lease: got %v, want to ask everybody", action)
	}
	machine.Got(l)
	if action, at := machine.Next(14 * time.Second); action != Wait || at != 500*time.Second {
		t.Errorf("with a lease: got %v until %v", action, at)
	}
	machine = Machine{}
	machine.Failed(0, 0)
	machine.Failed(0, 0)
	machine.LinkUp()
	if action, _ := machine.Next(0); action != Acquire {
		t.Errorf("without a lease: got %v, want to ask at once", action)
	}
}

func TestResume(t *testing.T) {
	l := Lease{Acquired: 100 * time.Second, Renew: 5 * time.Second, Rebind: 8 * time.Second, Lifetime: 10 * time.Second}
	for now, want := range map[time.Duration]State{50 * time.Second: Init, 105 * time.Second: Bound, 110 * time.Second: Init} {
		if got := Resume(l, now); got.State != want {
			t.Errorf("at %v: got %s, want %s", now, got.State, want)
		}
	}
	l.Lifetime, l.Renew, l.Rebind = Forever, Forever, Forever
	machine := Resume(l, 1000*time.Hour)
	if action, at := machine.Next(1000 * time.Hour); action != Wait || at != Forever {
		t.Errorf("a lease without end: got %v until %v", action, at)
	}
}
