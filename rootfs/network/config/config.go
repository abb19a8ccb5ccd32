// Package config reads the files that say what is to be done with which network
// interface: .network, .netdev and .link. systemd.network(5), systemd.netdev(5)
// and systemd.link(5).
//
// It is for the network daemon and knows the part of the formats that servers,
// clouds and container hosts need; its tables say which. A key or a section
// that it does not know is a warning with file and line, never an error, and
// the rest of the file applies. Left out on purpose: wireless and mobile links,
// traffic control, SR-IOV, CAN, InfiniBand, prefix delegation, DHCP servers and
// sending router advertisements, which a machine of a cluster does not need.
package config

import (
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// Config are all files of a machine, each kind in the order in which they are
// tried.
type Config struct {
	Networks []Network
	Netdevs  []Netdev
	Links    []LinkFile
}

// Match says which interfaces a file is for. All that is given must fit. A
// word that begins with "!" before the first one turns the list around.
type Match struct {
	Name, MAC, PermanentMAC, Path, Type, Kind, Driver []string
	// Conditions are of the machine: Host=, Virtualization= and so on. A file
	// for which they do not hold is as if it were not there.
	Conditions []unit.Condition
}

// Link is an interface as Match sees it.
type Link struct {
	Name         string
	MAC          string // lower case with colons
	PermanentMAC string // that the device was made with, "" if it has none
	Path         string // ID_PATH of udev, "pci-0000:00:03.0", "" if it has none
	Type         string // "ether", "loopback", ...
	Kind         string // "veth", "bridge", ...; "" for a device
	Driver       string // of the device, "" if it has none
	AltNames     []string
}

// Empty is true for a file without a [Match] section, which is for no
// interface. One with conditions of the machine only is for all.
func (m Match) Empty() bool {
	return len(m.Conditions)+len(m.Name)+len(m.MAC)+len(m.PermanentMAC)+len(m.Path)+len(m.Type)+len(m.Kind)+len(m.Driver) == 0
}

// Fits tells whether the file is for the interface.
func (m Match) Fits(link Link) bool {
	if m.Empty() {
		return false
	}
	for _, pair := range []struct {
		patterns []string
		values   []string
	}{{m.Name, append([]string{link.Name}, link.AltNames...)}, {m.MAC, []string{link.MAC}}, {m.PermanentMAC, []string{link.PermanentMAC}},
		{m.Path, []string{link.Path}}, {m.Type, []string{link.Type}}, {m.Kind, []string{link.Kind}}, {m.Driver, []string{link.Driver}}} {
		if len(pair.patterns) > 0 && !fits(pair.patterns, pair.values) {
			return false
		}
	}
	return true
}

func fits(patterns, values []string) bool {
	first, negative := strings.CutPrefix(patterns[0], "!")
	for i, pattern := range patterns {
		if i == 0 {
			pattern = first
		}
		for _, value := range values {
			// A star fits what has a value only: "Kind=!*" is for plain devices.
			if ok, err := path.Match(pattern, value); err == nil && ok && value != "" {
				return !negative
			}
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

// matchKeys are those of [Match].
func matchKeys[T any](of func(*T) *Match, name string) table[T] {
	keys := table[T]{
		name:                  list(func(t *T) *[]string { return &of(t).Name }, nil),
		"MACAddress":          list(func(t *T) *[]string { return &of(t).MAC }, negated(macAddress)),
		"PermanentMACAddress": list(func(t *T) *[]string { return &of(t).PermanentMAC }, negated(macAddress)),
		"Path":                list(func(t *T) *[]string { return &of(t).Path }, nil),
		"Type":                list(func(t *T) *[]string { return &of(t).Type }, nil),
		"Kind":                list(func(t *T) *[]string { return &of(t).Kind }, nil),
		"Driver":              list(func(t *T) *[]string { return &of(t).Driver }, nil),
	}
	for _, kind := range []string{"Host", "Virtualization", "KernelCommandLine", "KernelVersion", "Architecture"} {
		keys[kind] = func(t *T, value string) error { return of(t).condition(kind, value) }
	}
	return keys
}

func (m *Match) condition(kind, value string) error {
	c := unit.Condition{Kind: kind}
	c.Value, c.Trigger = strings.CutPrefix(value, "|")
	c.Value, c.Negate = strings.CutPrefix(c.Value, "!")
	if c.Value == "" {
		return fmt.Errorf("%q has no value", value)
	}
	m.Conditions = append(m.Conditions, c)
	return nil
}

// negated lets a check see a word without the "!" in front of it.
func negated(check func(string) (string, error)) func(string) (string, error) {
	return func(word string) (string, error) {
		rest, negative := strings.CutPrefix(word, "!")
		checked, err := check(rest)
		if err == nil && negative {
			checked = "!" + checked
		}
		return checked, err
	}
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

// anywhere is the default destination of an address's family.
func anywhere(ip netip.Addr) netip.Prefix {
	if ip.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}
