package resolvectl

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/google/go-cmp/cmp"
)

// table is a resolver that knows two names.
type table struct{}

func (table) LookupNetIP(_ context.Context, network, name string) ([]netip.Addr, error) {
	switch {
	case name == "slow.example":
		return nil, &net.DNSError{Name: name, IsTimeout: true}
	case name != "boat.example":
		return nil, &net.DNSError{Name: name, IsNotFound: true}
	case network == "ip4":
		return []netip.Addr{netip.MustParseAddr("192.0.2.5")}, nil
	}
	return []netip.Addr{netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("2001:db8::5")}, nil
}

func (table) LookupAddr(_ context.Context, address string) ([]string, error) {
	return []string{"boat.example."}, nil
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	p := places{dir + "/state.json", dir + "/local.json"}
	if _, err := state.Write(p.state, state.State{Interfaces: []state.Interface{
		{Index: 2, Name: "eth0", DNS: []string{"192.0.2.53", "2001:db8::53"}, Domain: "a.example b.example", RouteDomains: []string{"corp.example"}},
		{Index: 3, Name: "eth1"},
	}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.local, []byte(`{"server":"169.254.53.53","domain":"coracle.internal"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args string
		code int
		want string
	}{
		{"", 0, `Global
         Protocols: -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
  resolv.conf mode: uplink
Current DNS Server: 169.254.53.53
       DNS Servers: 169.254.53.53
        DNS Domain: coracle.internal

Link 2 (eth0)
    Current Scopes: DNS
         Protocols: +DefaultRoute -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
Current DNS Server: 192.0.2.53
       DNS Servers: 192.0.2.53 2001:db8::53
        DNS Domain: a.example b.example ~corp.example

Link 3 (eth1)
Current Scopes: none
     Protocols: -DefaultRoute -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported
`},
		{"dns", 0, "Global: 169.254.53.53\nLink 2 (eth0): 192.0.2.53 2001:db8::53\nLink 3 (eth1):\n"},
		{"domain eth0", 0, "Link 2 (eth0): a.example b.example ~corp.example\n"},
		{"default-route 3", 0, "Link 3 (eth1): no\n"},
		{"flush-caches", 0, ""},
		{"--legend=no query boat.example", 0, "boat.example: 192.0.2.5                                     -- link: eth0\n" +
			"              2001:db8::5                                   -- link: eth0\n"},
		{"--legend=no -4 query boat.example 192.0.2.5", 0, "boat.example: 192.0.2.5                                     -- link: eth0\n192.0.2.5: boat.example\n"},
		{"query no.example slow.example", 1, "no.example: resolve call failed: 'no.example' not found\nslow.example: resolve call failed: query timed out; see resolvectl status for the servers\n"},
		{"query", 1, "resolvectl: too few arguments: name what to look up\n"},
		{"status eth9", 1, "resolvectl: failed to resolve interface \"eth9\": no such device; see networkctl list\n"},
		{"dns eth0 1.2.3.4", 1, "resolvectl: dns of a link is set by its .network file; see systemd.network(5) and networkctl reload\n"},
		{"mdns", 1, "resolvectl: mdns is not supported: there is no systemd-resolved here\n"},
		{"dance", 1, "resolvectl: unknown command verb \"dance\"; see resolvectl --help\n"},
		{"--dance", 1, "resolvectl: unrecognized option \"--dance\"; see resolvectl --help\n"},
	}
	for _, test := range tests {
		var out bytes.Buffer
		code := run(context.Background(), strings.Fields(test.args), p, table{}, program.Stdio{Out: &out, Err: &out})
		if diff := cmp.Diff(test.want, out.String()); diff != "" || code != test.code {
			t.Errorf("resolvectl %s: code %d, want %d (-want +got):\n%s", test.args, code, test.code, diff)
		}
	}
	var out bytes.Buffer
	if run(context.Background(), []string{"query", "boat.example"}, p, table{}, program.Stdio{Out: &out, Err: &out}); !strings.Contains(out.String(), "\n-- Information acquired via protocol DNS in ") {
		t.Errorf("query: %s", &out)
	}
	if code := run(context.Background(), nil, places{dir + "/none", dir + "/none"}, table{}, program.Stdio{Out: &out, Err: &out}); code != 0 {
		t.Errorf("before the network daemon ran: code %d", code)
	}
}

// TestSplit: the text is that of resolvectl 252 for the same links, whose third
// line of a link is of the last question.
func TestSplit(t *testing.T) {
	p := places{t.TempDir() + "/state.json", t.TempDir() + "/local.json"}
	if _, err := state.Write(p.state, state.State{Interfaces: []state.Interface{
		{Index: 3, Name: "eth0", DNS: []string{"10.90.0.53"}, DNSRouteOnly: true, RouteDomains: []string{"a.example"}},
		{Index: 5, Name: "eth1", DNS: []string{"10.91.0.53"}, Domain: "b.example", DNSRouteOnly: true, RouteDomains: []string{"corp.example"}},
	}}); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"status eth1": "Link 5 (eth1)\n    Current Scopes: DNS\n         Protocols: -DefaultRoute -LLMNR -mDNS -DNSOverTLS DNSSEC=no/unsupported\n" +
			"Current DNS Server: 10.91.0.53\n       DNS Servers: 10.91.0.53\n        DNS Domain: b.example ~corp.example\n",
		"domain":          "Global:\nLink 3 (eth0): ~a.example\nLink 5 (eth1): b.example ~corp.example\n",
		"default-route":   "Link 3 (eth0): no\nLink 5 (eth1): no\n",
		"query other.org": "other.org: resolve call failed: No appropriate name servers or networks for name found\n",
	} {
		var out bytes.Buffer
		run(context.Background(), strings.Fields(args), p, table{}, program.Stdio{Out: &out, Err: &out})
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("resolvectl %s (-want +got):\n%s", args, diff)
		}
	}
	var out bytes.Buffer
	if run(context.Background(), nil, p, table{}, program.Stdio{Out: &out, Err: &out}); !strings.Contains(out.String(), "resolv.conf mode: stub\n") {
		t.Errorf("status: %s", &out)
	}
}
