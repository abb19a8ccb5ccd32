// Package split chooses whose name servers are asked for a name, where several
// interfaces have servers: split DNS, by the rules of systemd-resolved.service(8),
// "Protocols and Routing". It is for the daemon's stub, for the name server of
// the cluster and for resolvectl.
//
// A domain of an interface, to be searched or for routing ("~x"), sends the
// names in it to the interface's servers; the longest one wins. All other names
// go to the interfaces that are "default routes": those that DNSDefaultRoute=
// says, or else those without routing domains.
//
// Left out on purpose: a way of their own for names without a dot and for
// reverse lookups, which go where other names go.
package split

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/network/state"
)

// Scope is an interface with name servers.
type Scope struct {
	Index   int
	Link    string // its name
	Servers []netip.Addr
	Search  []string // without a dot at the end
	Route   []string // without "~"; "." is every name
	Default *bool    // DNSDefaultRoute=; nil = without routing domains
}

// IsDefault tells whether names that are in nobody's domain are asked here.
func (s Scope) IsDefault() bool {
	switch {
	case len(s.Servers) == 0:
		return false
	case s.Default != nil:
		return *s.Default
	}
	return len(s.Route) == 0 || slices.Contains(s.Route, ".")
}

// FromState are the interfaces as the network daemon tells of them.
func FromState(s state.State) []Scope {
	var all []Scope
	for _, i := range s.Interfaces {
		isDefault := !i.DNSRouteOnly
		scope := Scope{Index: i.Index, Link: i.Name, Search: strings.Fields(i.Domain), Route: i.RouteDomains, Default: &isDefault}
		for _, text := range i.DNS {
			if server, err := netip.ParseAddr(text); err == nil {
				scope.Servers = append(scope.Servers, server)
			}
		}
		if len(scope.Servers) > 0 {
			all = append(all, scope)
		}
	}
	return all
}

// Choose gives the interfaces whose servers are asked for the name. It is none
// when no interface is for it.
func Choose(name string, scopes []Scope) []Scope {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	best := 0
	var chosen []Scope
	for _, scope := range scopes {
		score := scope.score(name)
		if score == 0 || score < best {
			continue
		}
		if score > best {
			best, chosen = score, nil
		}
		chosen = append(chosen, scope)
	}
	return chosen
}

// score is 0 for an interface that is not for the name, 1 for a default route,
// and more the more labels its domain shares with the name.
func (s Scope) score(name string) int {
	if len(s.Servers) == 0 {
		return 0
	}
	best := 0
	if s.IsDefault() {
		best = 1
	}
	for _, domain := range slices.Concat(s.Search, s.Route) {
		domain = strings.ToLower(strings.Trim(domain, "."))
		switch {
		case domain == "":
			best = max(best, 2)
		case name == domain || strings.HasSuffix(name, "."+domain):
			best = max(best, 3+strings.Count(domain, "."))
		}
	}
	return best
}

// Needed tells whether it matters whom one asks: else every program can ask
// the servers by itself.
func Needed(scopes []Scope) bool {
	servers, domains := 0, false
	for _, scope := range scopes {
		if len(scope.Servers) == 0 {
			continue
		}
		if !scope.IsDefault() {
			return true
		}
		servers++
		domains = domains || len(scope.Search)+len(scope.Route) > 0
	}
	return servers > 1 && domains
}

// Uplinks are the servers for names that are in nobody's domain.
func Uplinks(scopes []Scope) []netip.Addr {
	var all []netip.Addr
	for _, scope := range scopes {
		if scope.IsDefault() {
			all = append(all, scope.Servers...)
		}
	}
	return all
}
