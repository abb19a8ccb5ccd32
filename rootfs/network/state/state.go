// Package state is what the network daemon tells the rest of the machine: one
// JSON file, replaced as a whole whenever something changes. Provisioning
// waits for it to substitute addresses, the login banner and networkctl show
// it, systemd-networkd-wait-online waits for Online.
package state

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Path is where the daemon keeps the file.
const Path = "/run/systemd/netif/state.json"

// State is the network of the machine.
type State struct {
	Interfaces []Interface `json:"interfaces"`
	// Online is true when an interface that the daemon manages has an address
	// that other machines can reach, and no interface that is required for
	// being online still waits for one.
	Online bool `json:"online"`
}

// Interface is one network interface, the loopback interface left out.
type Interface struct {
	Index     int      `json:"index"`
	Name      string   `json:"name"`
	MAC       string   `json:"mac"`
	Type      string   `json:"type"`      // "ether", "bridge", "veth", ...
	Addresses []string `json:"addresses"` // with prefix length, "10.0.2.15/24"
	Gateway   string   `json:"gateway"`   // of the default route, "" if there is none
	DNS       []string `json:"dns"`
	Domain    string   `json:"domain"` // "" if there is none; several are separated by spaces
	// RouteDomains are those that only the interface's own servers are for.
	RouteDomains []string `json:"routeDomains,omitempty"`
	// DNSRouteOnly tells that its servers are asked for names in its domains only.
	DNSRouteOnly bool     `json:"dnsRouteOnly,omitempty"`
	NTP          []string `json:"ntp"`
	Hostname     string   `json:"hostname"` // that DHCP gave, "" if none
	// OperState is "off", "no-carrier", "carrier", "degraded" (only link-local
	// addresses), "enslaved" (a part of another) or "routable", as networkctl(1)
	// has them.
	OperState string `json:"operState"`
	// SetupState is "pending", "configuring", "configured", "failed" or
	// "unmanaged".
	SetupState string `json:"setupState"`
	// File is the .network file that applies, "" if unmanaged.
	File string `json:"file,omitempty"`
	// DHCPServer is the server of the current lease, "" if there is none.
	DHCPServer string `json:"dhcpServer,omitempty"`
	// DHCPAddress and DHCP6Address are those of leases, "" if there is none.
	DHCPAddress  string `json:"dhcpAddress,omitempty"`
	DHCP6Address string `json:"dhcp6Address,omitempty"`
	// LinkLocal is the IPv4 address that the machine chose by itself, "" if none.
	LinkLocal string `json:"linkLocal,omitempty"`
	// Problem is what the owner should know, such as "no DHCP server answers".
	Problem string `json:"problem,omitempty"`
}

// Read reads the file at path. The error wraps fs.ErrNotExist before the
// daemon has written it for the first time.
func Read(path string) (State, error) {
	var s State
	data, err := os.ReadFile(path)
	if err != nil {
		return s, fmt.Errorf("read network state: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("read network state %q: %w", path, err)
	}
	return s, nil
}

// Write replaces the file at path. It reports whether the content is new; an
// unchanged file is not touched, so that those who watch it are not woken.
func Write(path string, s State) (changed bool, err error) {
	if s.Interfaces == nil {
		s.Interfaces = []Interface{}
	}
	for i := range s.Interfaces {
		for _, list := range []*[]string{&s.Interfaces[i].Addresses, &s.Interfaces[i].DNS, &s.Interfaces[i].NTP} {
			if *list == nil {
				*list = []string{}
			}
		}
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return false, fmt.Errorf("write network state: %w", err)
	}
	data = append(data, '\n')
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("write network state: %w", err)
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		return false, fmt.Errorf("write network state: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return false, fmt.Errorf("write network state: %w", err)
	}
	return true, nil
}
