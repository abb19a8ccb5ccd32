package stub

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/split"
	"github.com/miekg/dns"
)

// upstream is a server of another maker on an address of the loopback
// interface: it knows every name of which the second part is its own.
func upstream(t *testing.T, address, knows, is string) (asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		m := new(dns.Msg).SetReply(q)
		name := q.Question[0].Name
		switch {
		case strings.HasPrefix(name, "broken."):
			m.Rcode = dns.RcodeServerFailure
		case strings.HasPrefix(name, "forged."):
			other := new(dns.Msg).SetReply(q)
			other.Id++
			w.WriteMsg(other)
			other = new(dns.Msg).SetReply(q)
			other.Question[0].Name = "evil.example."
			w.WriteMsg(other)
			fallthrough
		case strings.HasSuffix(name, knows+"."):
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(is)})
			for i := 0; strings.HasPrefix(name, "big.") && i < 100; i++ {
				m.Answer = append(m.Answer, &dns.A{Hdr: *m.Answer[0].Header(), A: net.IPv4(198, 51, 100, byte(i))})
			}
		default:
			m.Rcode = dns.RcodeNameError
		}
		if w.RemoteAddr().Network() == "udp" {
			m.Truncate(dns.MinMsgSize)
		}
		w.WriteMsg(m)
	})
	for _, network := range []string{"udp", "tcp"} {
		ready := make(chan struct{})
		server := &dns.Server{Addr: address, Net: network, Handler: handler, NotifyStartedFunc: func() { close(ready) }}
		failed := make(chan error, 1)
		go func() { failed <- server.ListenAndServe() }()
		select {
		case <-ready:
		case err := <-failed:
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Shutdown() })
	}
	return asked
}

func TestServer(t *testing.T) {
	corp := upstream(t, "127.53.0.2:5301", "corp.example", "192.0.2.2")
	upstream(t, "127.53.0.3:5301", "a.example", "192.0.2.3")
	upstream(t, "127.53.0.4:5301", "other.example", "192.0.2.4")
	s, err := Listen("127.53.0.1:5302", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.asker.port = 5301
	scope := func(link, server string, route ...string) split.Scope {
		all := split.Scope{Link: link, Route: route}
		for _, text := range strings.Fields(server) {
			all.Servers = append(all.Servers, netip.MustParseAddr(text))
		}
		return all
	}
	s.Use([]split.Scope{scope("eth0", "127.53.0.99 127.53.0.3"), scope("eth1", "127.53.0.2", "corp.example"), scope("eth2", "127.53.0.4")})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Serve(ctx) }()
	defer func() { cancel(); <-ended }()

	ask := func(network, name string) *dns.Msg {
		t.Helper()
		client := &dns.Client{Net: network, Timeout: 20 * time.Second}
		answer, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), "127.53.0.1:5302")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return answer
	}
	for _, test := range []struct{ network, name, want string }{
		{"udp", "www.corp.example.", "192.0.2.2"},
		{"tcp", "www.corp.example.", "192.0.2.2"},
		{"udp", "www.a.example.", "192.0.2.3"},     // the other one says no, and the first server of eth0 is away
		{"udp", "www.other.example.", "192.0.2.4"}, // of two default routes one knows it
		{"udp", "nobody.example.", "NXDOMAIN"},
		{"udp", "broken.corp.example.", "SERVFAIL"},
		{"udp", "forged.corp.example.", "192.0.2.2"},
	} {
		answer := ask(test.network, test.name)
		got := dns.RcodeToString[answer.Rcode]
		if len(answer.Answer) > 0 {
			got = answer.Answer[0].(*dns.A).A.String()
		}
		if got != test.want {
			t.Errorf("%s %s: got %s, want %s", test.network, test.name, got, test.want)
		}
	}
	if answer := ask("udp", "big.corp.example."); !answer.Truncated {
		t.Errorf("a large answer is not cut: %v", answer)
	}
	if answer := ask("tcp", "big.corp.example."); len(answer.Answer) != 101 {
		t.Errorf("%d answers by TCP", len(answer.Answer))
	}
	before := corp.Load()
	if ask("udp", "nobody.example."); corp.Load() != before {
		t.Error("a server was told a name that is none of its business")
	}
	s.Use(nil)
	if answer := ask("udp", "www.a.example."); answer.Rcode != dns.RcodeServerFailure {
		t.Errorf("without servers: %v", answer)
	}
}

// TestAnswer is what is no question.
func TestAnswer(t *testing.T) {
	s := &Server{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	pack := func(m *dns.Msg) []byte {
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	question := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
	notify := new(dns.Msg).SetNotify("a.example.")
	for name, test := range map[string]struct {
		in   []byte
		want int // code, -1 for no answer
	}{
		"nothing": {nil, -1}, "noise": {[]byte("hello"), -1}, "an answer": {pack(new(dns.Msg).SetReply(question)), -1},
		"half a question": {pack(question)[:20], dns.RcodeFormatError}, "a notice": {pack(notify), dns.RcodeNotImplemented},
		"no question": {pack(&dns.Msg{MsgHdr: dns.MsgHdr{Id: 7}}), dns.RcodeNotImplemented},
	} {
		got := -1
		if answer := s.answer(context.Background(), test.in, "udp"); answer != nil {
			var m dns.Msg
			if err := m.Unpack(answer); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got = m.Rcode
		}
		if got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	question, err := new(dns.Msg).SetQuestion("a.example.", dns.TypeA).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(question, question)
	s := &Server{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	f.Fuzz(func(t *testing.T, question, answer []byte) {
		if got := s.answer(context.Background(), question, "udp"); got != nil && (len(got) < 12 || got[2]&0x80 == 0) {
			t.Errorf("answer %x", got)
		}
		if fits(question, answer) && (len(answer) < 12 || answer[0] != question[0]) {
			t.Errorf("%x is taken for an answer to %x", answer, question)
		}
	})
}
