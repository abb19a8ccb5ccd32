// Package server answers DNS questions (RFC 1035, with github.com/miekg/dns):
// those of the cluster's domain from a zone, all others by asking the servers
// that the machine got from its network.
//
// Answers of the zone live for a second, since a unit can be elsewhere in the
// next. Left out: a cache of others' answers (the servers asked have one),
// recursion, transfers of the zone and DNSSEC signatures of it. It listens
// only on an address that the machine and its containers reach, so it serves
// nobody else.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/names/zone"
	"github.com/miekg/dns"
)

const (
	ttl         = 1 // seconds
	askFor      = 2 * time.Second
	maxInFlight = 512 // questions to other servers at one time
)

// Server answers.
type Server struct {
	Domain   string                             // "coracle.internal", without dots around it
	Zone     func() *zone.Zone                  // the zone as it is now
	Upstream func(name string) []netip.AddrPort // the servers for a name of elsewhere
	Shuffle  func(int, func(i, j int))
	Log      *slog.Logger

	inFlight chan struct{}
}

// Serve answers on address, UDP and TCP, until ctx ends. ready is called when
// both listen.
func (s *Server) Serve(ctx context.Context, address string, ready func()) error {
	if s.Shuffle == nil {
		s.Shuffle = rand.Shuffle
	}
	s.inFlight = make(chan struct{}, maxInFlight)
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return fmt.Errorf("answer names: %w", err)
	}
	defer packets.Close()
	streams, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("answer names: %w", err)
	}
	defer streams.Close()
	servers := []*dns.Server{
		{PacketConn: packets, Handler: s, UDPSize: dns.DefaultMsgSize, ReadTimeout: 5 * time.Second},
		{Listener: streams, Handler: s, ReadTimeout: 5 * time.Second, MaxTCPQueries: 128},
	}
	ended := make(chan error, len(servers))
	for _, server := range servers {
		go func() { ended <- server.ActivateAndServe() }()
	}
	ready()
	select {
	case <-ctx.Done():
		for _, server := range servers {
			server.Shutdown()
		}
		return nil
	case err := <-ended:
		return fmt.Errorf("answer names: %w", err)
	}
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	answer := s.answer(question, w.RemoteAddr().Network() == "tcp")
	if err := w.WriteMsg(answer); err != nil {
		s.Log.Debug("answer not sent", "error", err)
	}
}

func (s *Server) answer(question *dns.Msg, stream bool) *dns.Msg {
	if len(question.Question) != 1 || question.Opcode != dns.OpcodeQuery {
		return new(dns.Msg).SetRcode(question, dns.RcodeNotImplemented)
	}
	q := question.Question[0]
	name, ours := s.relative(q.Name)
	if !ours {
		return s.forward(question, stream)
	}
	answer := s.local(question, name)
	size := dns.MinMsgSize
	if opt := question.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
		answer.SetEdns0(dns.DefaultMsgSize, false)
	}
	if stream {
		size = dns.MaxMsgSize
	}
	answer.Truncate(size)
	return answer
}

// relative is the part of a name before the domain.
func (s *Server) relative(name string) (string, bool) {
	name, domain := strings.ToLower(strings.TrimSuffix(name, ".")), strings.ToLower(s.Domain)
	if name == domain {
		return "", true
	}
	return strings.CutSuffix(name, "."+domain)
}

// local answers from the zone.
func (s *Server) local(question *dns.Msg, name string) *dns.Msg {
	answer := new(dns.Msg).SetReply(question)
	answer.Authoritative, answer.RecursionAvailable = true, true
	q, z := question.Question[0], s.Zone()
	addresses, known := z.Addresses(name)
	if a, ok := zone.FromAddressLabel(name); ok && !known {
		addresses, known = []netip.Addr{a}, true
	}
	var targets []zone.Target
	if q.Qtype == dns.TypeSRV || !known {
		var also bool
		if targets, also = z.Services(name); also {
			known = true
		}
	}
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		answer.Answer = records(q.Name, addresses, q.Qtype)
		s.Shuffle(len(answer.Answer), func(i, j int) { answer.Answer[i], answer.Answer[j] = answer.Answer[j], answer.Answer[i] })
	case dns.TypeSRV:
		for _, t := range targets {
			host := dns.Fqdn(t.Host + "." + s.Domain)
			answer.Answer = append(answer.Answer, &dns.SRV{Hdr: header(q.Name, dns.TypeSRV), Weight: 1, Port: t.Port, Target: host})
			answer.Extra = append(answer.Extra, records(host, t.Addresses[:min(1, len(t.Addresses))], dns.TypeA)...)
			answer.Extra = append(answer.Extra, records(host, t.Addresses[:min(1, len(t.Addresses))], dns.TypeAAAA)...)
		}
	case dns.TypeSOA, dns.TypeNS:
		if name == "" {
			answer.Answer = append(answer.Answer, s.authority())
		}
	}
	if len(answer.Answer) == 0 {
		answer.Ns = append(answer.Ns, s.authority())
		if !known && name != "" {
			answer.Rcode = dns.RcodeNameError
		}
	}
	return answer
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

func records(name string, addresses []netip.Addr, kind uint16) (list []dns.RR) {
	for _, a := range addresses {
		switch {
		case kind == dns.TypeA && a.Is4():
			list = append(list, &dns.A{Hdr: header(name, kind), A: a.AsSlice()})
		case kind == dns.TypeAAAA && a.Is6():
			list = append(list, &dns.AAAA{Hdr: header(name, kind), AAAA: a.AsSlice()})
		}
	}
	return list
}

// authority says for how long "no such name" may be believed.
func (s *Server) authority() dns.RR {
	domain := dns.Fqdn(s.Domain)
	return &dns.SOA{Hdr: header(domain, dns.TypeSOA), Ns: "ns." + domain, Mbox: "root." + domain, Serial: 1, Refresh: 1, Retry: 1, Expire: 1, Minttl: ttl}
}

// errBusy says that too many questions wait for other servers.
var errBusy = errors.New("too many questions wait for other servers")

// forward asks the other servers, one after the other.
func (s *Server) forward(question *dns.Msg, stream bool) *dns.Msg {
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	default:
		s.Log.Warn("question not answered", "name", question.Question[0].Name, "error", errBusy)
		return new(dns.Msg).SetRcode(question, dns.RcodeServerFailure)
	}
	client := &dns.Client{Net: "udp", Timeout: askFor, UDPSize: dns.DefaultMsgSize}
	if stream {
		client.Net = "tcp"
	}
	for _, server := range s.Upstream(question.Question[0].Name) {
		answer, _, err := client.Exchange(question, server.String())
		if err == nil {
			answer.Id = question.Id
			return answer
		}
		s.Log.Debug("server does not answer", "server", server, "error", err)
	}
	return new(dns.Msg).SetRcode(question, dns.RcodeServerFailure)
}
