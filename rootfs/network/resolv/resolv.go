// Package resolv writes the resolver's configuration, resolv.conf(5), from what
// the interfaces know. /etc/resolv.conf is a link to StubPath.
package resolv

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Path is where the file with the network's own servers is kept, which Docker
// gives to containers when the machine asks its stub.
const Path = "/run/systemd/resolve/resolv.conf"

// StubPath is where the file for the machine itself is kept: the same, or the
// stub if interfaces have name servers for domains of their own.
const StubPath = "/run/systemd/resolve/stub-resolv.conf"

// LocalPath is where a name server on this machine says that it is there. It
// comes before the network's own, which stay for the time that it is away.
const LocalPath = "/run/coracle/resolver.json"

// Local is a name server on this machine.
type Local struct {
	Server netip.Addr `json:"server"`
	Domain string     `json:"domain"` // that names without a dot are looked for in, too
}

// ReadLocal reads what is at path; ok is false if there is no such server.
func ReadLocal(path string) (l Local, ok bool) {
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &l) != nil {
		return Local{}, false
	}
	return l, l.Server.IsValid()
}

// Limits of the C library: more name servers are ignored, and old versions
// take no more search domains.
const (
	maxServers = 3
	maxDomains = 6
)

// Text is the file for the servers and search domains in order of preference.
func Text(servers []netip.Addr, domains []string) string {
	var b strings.Builder
	b.WriteString("# Written by systemd-networkd from DHCP leases and .network files; do not edit.\n")
	for i, server := range unique(servers) {
		if i == maxServers {
			b.WriteString("# The C library takes no more than three servers:\n")
		}
		if i >= maxServers {
			b.WriteString("# ")
		}
		fmt.Fprintf(&b, "nameserver %v\n", server)
	}
	if domains = unique(domains); len(domains) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(domains[:min(len(domains), maxDomains)], " "))
	}
	return b.String()
}

func unique[T comparable](list []T) []T {
	var kept []T
	for _, item := range list {
		if !slices.Contains(kept, item) {
			kept = append(kept, item)
		}
	}
	return kept
}

// Write replaces the file at path if its text is another.
func Write(path, text string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write resolver configuration: %w", err)
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write resolver configuration: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write resolver configuration: %w", err)
	}
	return nil
}
