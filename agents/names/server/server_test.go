package server

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/names/zone"
	"github.com/miekg/dns"
)

// serve starts a server of a cluster of 10,000 names on the loopback.
func serve(t testing.TB) string {
	t.Helper()
	var services []zone.Service
	for n := range 10000 {
		a := netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})
		services = append(services, zone.Service{Name: fmt.Sprintf("unit%d.service", n), Machine: "m", Addresses: []netip.Addr{a}, Ports: []zone.Port{{Name: "http", Number: 80, Proto: "tcp"}}})
		services = append(services, zone.Service{Name: "all.service", Machine: fmt.Sprintf("m%d", n%100), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 2, 0, byte(n % 100)})}})
	}
	z := zone.New(nil, services)
	s := &Server{Domain: "coracle.internal", Zone: func() *zone.Zone { return z }, Upstream: func(string) []netip.AddrPort { return nil }, Log: slog.New(slog.DiscardHandler)}
	const address = "127.53.53.53:5353" // no other program's
	ready, ended := make(chan struct{}), make(chan error, 1)
	ctx := t.Context()
	go func() { ended <- s.Serve(ctx, address, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	return address
}

// TestAnswers has what clients may ask.
func TestAnswers(t *testing.T) {
	address := serve(t)
	for _, test := range []struct {
		net, name string
		kind      uint16
		code      int
		answers   int
		truncated bool
	}{
		{"udp", "unit7.coracle.internal.", dns.TypeA, dns.RcodeSuccess, 1, false},
		{"udp", "UNIT7.Coracle.Internal.", dns.TypeA, dns.RcodeSuccess, 1, false},
		{"udp", "unit7.coracle.internal.", dns.TypeAAAA, dns.RcodeSuccess, 0, false},
		{"udp", "unit7.coracle.internal.", dns.TypeMX, dns.RcodeSuccess, 0, false},
		{"udp", "_http._tcp.unit7.coracle.internal.", dns.TypeSRV, dns.RcodeSuccess, 1, false},
		{"udp", "nobody.coracle.internal.", dns.TypeA, dns.RcodeNameError, 0, false},
		{"udp", "coracle.internal.", dns.TypeSOA, dns.RcodeSuccess, 1, false},
		{"udp", "all.coracle.internal.", dns.TypeA, dns.RcodeSuccess, 28, true}, // what 512 bytes hold
		{"tcp", "all.coracle.internal.", dns.TypeA, dns.RcodeSuccess, 100, false},
		{"udp", "www.example.org.", dns.TypeA, dns.RcodeServerFailure, 0, false}, // no server to ask
		{"udp", "notcoracle.internal.", dns.TypeA, dns.RcodeServerFailure, 0, false},
	} {
		client := &dns.Client{Net: test.net, Timeout: 5 * time.Second}
		got, _, err := client.Exchange(new(dns.Msg).SetQuestion(test.name, test.kind), address)
		if err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		// How many fit depends on the compression of names; that some do not is what counts.
		count := len(got.Answer) == test.answers || test.truncated && len(got.Answer) > 0 && len(got.Answer) < 100
		if got.Rcode != test.code || !count || got.Truncated != test.truncated {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// BenchmarkLookups asks 20,000 questions by UDP, one after the other, from two
// clients; the clients' work is in it.
func BenchmarkLookups(b *testing.B) {
	address := serve(b)
	const clients, questions = 2, 10000
	client := &dns.Client{Timeout: 5 * time.Second}
	for b.Loop() {
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				conn, err := client.Dial(address)
				if err != nil {
					b.Error(err)
					return
				}
				defer conn.Close()
				for n := range questions {
					question := new(dns.Msg).SetQuestion(fmt.Sprintf("unit%d.coracle.internal.", n), dns.TypeA)
					if got, _, err := client.ExchangeWithConn(question, conn); err != nil || len(got.Answer) != 1 {
						b.Errorf("%v: %v", got, err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	b.ReportMetric(float64(b.N*clients*questions)/b.Elapsed().Seconds(), "look-ups/s")
}
