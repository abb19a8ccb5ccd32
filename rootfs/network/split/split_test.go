package split

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/google/go-cmp/cmp"
)

func scope(link, domains string, isDefault ...bool) Scope {
	s := Scope{Link: link, Servers: []netip.Addr{netip.MustParseAddr("192.0.2.53")}}
	for _, domain := range strings.Fields(domains) {
		if route, ok := strings.CutPrefix(domain, "~"); ok {
			s.Route = append(s.Route, route)
		} else {
			s.Search = append(s.Search, domain)
		}
	}
	if len(isDefault) > 0 {
		s.Default = &isDefault[0]
	}
	return s
}

// TestChoose: the first three machines and whom they ask are those of
// systemd-resolved 252 with a name server on each link.
func TestChoose(t *testing.T) {
	yes, no := true, false
	tests := []struct {
		name   string
		scopes []Scope
		needed bool
		routes string // default-route of each link
		want   map[string]string
	}{
		{"domains", []Scope{scope("eth0", "a.example"), scope("eth1", "~corp.example b.example"), scope("eth2", "~x.corp.example", yes)}, true, "yes no yes",
			map[string]string{"www.a.example": "eth0", "www.corp.example": "eth1", "www.x.corp.example": "eth2", "other.org": "eth0 eth2", "b.example": "eth1",
				"corp.example": "eth1", "CORP.example.": "eth1", "notcorp.example": "eth0 eth2"}},
		{"everything to one", []Scope{scope("eth0", "a.example"), scope("eth1", "~."), scope("eth2", "~x.corp.example a.example")}, true, "yes yes no",
			map[string]string{"www.a.example": "eth0 eth2", "www.x.corp.example": "eth2", "other.org": "eth1"}},
		{"nobody for it", []Scope{scope("eth0", "~a.example"), scope("eth1", "~b.example"), scope("eth2", "", no)}, true, "no no no",
			map[string]string{"www.a.example": "eth0", "other.org": ""}},
		{"alike", []Scope{scope("eth0", ""), scope("eth1", "")}, false, "yes yes", map[string]string{"other.org": "eth0 eth1", ".": "eth0 eth1"}},
		{"one", []Scope{scope("eth0", "a.example")}, false, "yes", map[string]string{"other.org": "eth0", "www.a.example": "eth0"}},
		{"without servers", []Scope{{Link: "eth0", Route: []string{"a.example"}}, scope("eth1", "")}, false, "no yes", map[string]string{"www.a.example": "eth1"}},
		{"none", nil, false, "", map[string]string{"other.org": ""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Needed(test.scopes); got != test.needed {
				t.Errorf("needed: %v", got)
			}
			var routes []string
			for _, s := range test.scopes {
				routes = append(routes, map[bool]string{true: "yes", false: "no"}[s.IsDefault()])
			}
			if got := strings.Join(routes, " "); got != test.routes {
				t.Errorf("default routes: %s, want %s", got, test.routes)
			}
			for name, want := range test.want {
				var got []string
				for _, s := range Choose(name, test.scopes) {
					got = append(got, s.Link)
				}
				if strings.Join(got, " ") != want {
					t.Errorf("%s: asks %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestFromState(t *testing.T) {
	got := FromState(state.State{Interfaces: []state.Interface{
		{Index: 2, Name: "eth0", DNS: []string{"192.0.2.53", "fe80::1%eth0", "nonsense"}, Domain: "a.example b.example", RouteDomains: []string{"corp.example"}},
		{Index: 3, Name: "eth1"},
	}})
	yes := true
	want := []Scope{{Index: 2, Link: "eth0", Servers: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("fe80::1%eth0")},
		Search: []string{"a.example", "b.example"}, Route: []string{"corp.example"}, Default: &yes}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := Uplinks(got); len(got) != 2 {
		t.Errorf("uplinks: %v", got)
	}
}
