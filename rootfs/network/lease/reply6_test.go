package lease

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

func reply(t testing.TB, t1, t2, preferred, valid time.Duration, address string) *dhcpv6.Message {
	t.Helper()
	m, err := dhcpv6.NewMessage()
	if err != nil {
		t.Fatal(err)
	}
	m.MessageType = dhcpv6.MessageTypeReply
	m.AddOption(&dhcpv6.OptIANA{T1: t1, T2: t2, Options: dhcpv6.IdentityOptions{Options: dhcpv6.Options{
		&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(address), PreferredLifetime: preferred, ValidLifetime: valid}}}})
	m.AddOption(dhcpv6.OptDNS(net.ParseIP("2001:db8::53"), net.ParseIP("::")))
	return m
}

func TestFromReply(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		name                            string
		t1, t2, preferred, valid        time.Duration
		renew, rebind, lifetime, prefer time.Duration
	}{
		{"as given", 100 * s, 160 * s, 200 * s, 300 * s, 100 * s, 160 * s, 300 * s, 200 * s},
		{"left to us", 0, 0, 200 * s, 300 * s, 100 * s, 160 * s, 300 * s, 200 * s},
		{"in the wrong order", 500 * s, 100 * s, 300 * s, 300 * s, 150 * s, 240 * s, 300 * s, 300 * s},
		{"too short", 0, 0, s, s, s / 2, 4 * s / 5, Shortest, s},
		{"forever", infinite, infinite, infinite, infinite, Forever, Forever, Forever, Forever},
	} {
		l, err := FromReply(reply(t, test.t1, test.t2, test.preferred, test.valid, "2001:db8::5"), false, 7*s)
		if err != nil || l.Address != netip.MustParsePrefix("2001:db8::5/128") || len(l.DNS) != 1 || l.Renew != test.renew || l.Rebind != test.rebind ||
			l.Lifetime != test.lifetime || (test.prefer != Forever && l.PreferredUntil() != 7*s+test.prefer) {
			t.Errorf("%s: %+v, %v", test.name, l, err)
		}
	}
	for _, bad := range []string{"fe80::5", "ff02::1", "::1", "::"} {
		if _, err := FromReply(reply(t, 0, 0, s, s, bad), false, 0); err == nil {
			t.Errorf("%s: taken", bad)
		}
	}
	if l, err := FromReply(reply(t, 0, 0, s, s, "2001:db8::5"), true, 0); err != nil || l.Address.IsValid() || l.Lifetime != refresh || len(l.DNS) != 1 {
		t.Errorf("stateless: %+v, %v", l, err)
	}
}

func FuzzFromReply(f *testing.F) {
	f.Add(reply(f, 1, 2, 3, 4, "2001:db8::5").ToBytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := dhcpv6.MessageFromBytes(data)
		if err != nil {
			return
		}
		l, err := FromReply(m, false, 0)
		if err == nil && l.Lifetime != Forever && !(0 < l.Renew && l.Renew < l.Rebind && l.Rebind < l.Lifetime) {
			t.Errorf("times %v, %v, %v", l.Renew, l.Rebind, l.Lifetime)
		}
	})
}
