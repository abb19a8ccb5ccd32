// Package config reads .network files: what is to be done with which network
// interface. systemd.network(5).
//
// It is for the network daemon and knows the part of the format that a server
// with Ethernet needs; its tables say which. A key or a section that it does
// not know is a warning with file and line, never an error, and the rest of
// the file applies. Left out on purpose: IPv6 addresses by DHCPv6, bonds,
// bridges and tunnels, routing policy.
package config

import (
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"
)

// Network is one .network file.
type Network struct {
	File  string // its path
	Match Match

	// [Link]
	Unmanaged         bool
	MTU               int  // 0 = as it is
	RequiredForOnline bool // default true

	// [Network]
	DHCP      bool // DHCPv4
	Addresses []netip.Prefix
	DNS       []netip.Addr
	Domains   []string
	NTP       []string
	Routes    []Route // Gateway= is a Route to 0.0.0.0/0 or ::/0

	DHCPv4 DHCPv4
}

// Route is a static route.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr // not valid: on the link
	Source      netip.Addr // not valid: the kernel chooses
	Metric      int        // 0 = the kernel's default
	OnLink      bool       // the gateway is reachable although no address says so
}

// DHCPv4 is what is taken of a lease and sent for one.
type DHCPv4 struct {
	UseDNS, UseNTP, UseHostname, UseDomains, UseRoutes, UseGateway, UseMTU bool
	SendHostname                                                           bool
	Hostname                                                               string // to send, "" = the machine's
	RouteMetric                                                            int
}

// DefaultRouteMetric is that of routes from DHCP, as systemd-networkd has it:
// routes that the owner wrote win.
const DefaultRouteMetric = 1024

// Match says which interfaces a file is for. All that is given must fit. A
// word that begins with "!" before the first one turns the list around.
type Match struct {
	Name, MAC, Type, Kind, Driver []string
}

// Link is an interface as Match sees it.
type Link struct {
	Name   string
	MAC    string // lower case with colons
	Type   string // "ether", "loopback", ...
	Kind   string // "veth", "bridge", ...; "" for a device
	Driver string // of the device, "" if it has none
}

// Empty is true for a file without a [Match] section, which is for no
// interface.
func (m Match) Empty() bool {
	return len(m.Name)+len(m.MAC)+len(m.Type)+len(m.Kind)+len(m.Driver) == 0
}

// Fits tells whether the file is for the interface.
func (m Match) Fits(link Link) bool {
	if m.Empty() {
		return false
	}
	for _, pair := range []struct {
		patterns []string
		value    string
	}{{m.Name, link.Name}, {m.MAC, link.MAC}, {m.Type, link.Type}, {m.Kind, link.Kind}, {m.Driver, link.Driver}} {
		if len(pair.patterns) > 0 && !fits(pair.patterns, pair.value) {
			return false
		}
	}
	return true
}

func fits(patterns []string, value string) bool {
	first, negative := strings.CutPrefix(patterns[0], "!")
	for i, pattern := range patterns {
		if i == 0 {
			pattern = first
		}
		// A star fits what has a value only: "Kind=!*" is for plain devices.
		if ok, err := path.Match(pattern, value); err == nil && ok && value != "" {
			return !negative
		}
	}
	return negative
}

// Select gives the first of the files, in their order, that is for the
// interface.
func Select(files []Network, link Link) (Network, bool) {
	for _, file := range files {
		if file.Match.Fits(link) {
			return file, true
		}
	}
	return Network{}, false
}

// Warning is something in a file that was ignored.
type Warning struct {
	File string
	Line int // 0 = the file as a whole
	Text string
}

func (w Warning) String() string {
	if w.Line == 0 {
		return fmt.Sprintf("%s: %s", w.File, w.Text)
	}
	return fmt.Sprintf("%s:%d: %s", w.File, w.Line, w.Text)
}

// Time is the part of timesyncd.conf(5) that is used.
type Time struct {
	Servers  []string // NTP=: asked before those of the network
	Fallback []string // FallbackNTP=: when there are no others
	// PollMin and PollMax bound the time between two questions.
	PollMin, PollMax time.Duration
}
