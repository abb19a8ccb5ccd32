// Package publish puts together what a machine says of itself: its own name
// and addresses, the units that the scheduler gave it and that run, and its
// containers. It is a function of what is there; the watching is done
// elsewhere.
package publish

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/names/containers"
	"github.com/coracle-os/coracle/agents/names/directory"
	"github.com/coracle-os/coracle/agents/names/zone"
	"github.com/coreos/go-systemd/v22/unit"
)

// Machine is what there is.
type Machine struct {
	ID         string
	Hostname   string
	Addresses  []netip.Addr      // by which other machines reach it
	Units      map[string]string // running units of the scheduler, with their files' text
	Containers []containers.Container
}

// Entries are the machine's names, by their keys in the directory.
func Entries(m Machine) map[string]directory.Entry {
	all := map[string]directory.Entry{"machines/" + m.ID: {Name: m.Hostname, Addresses: m.Addresses}}
	for _, c := range m.Containers {
		all["services/"+m.ID+"/"+c.Name] = directory.Entry{Container: true, Addresses: or(c.Addresses, m.Addresses), Ports: ports(c.Ports)}
	}
	for name, file := range m.Units {
		e := directory.Entry{Addresses: m.Addresses, Ports: Ports(file)}
		for _, c := range m.Containers {
			if belongs(c, name) {
				e.Addresses = or(c.Addresses, m.Addresses)
				if len(e.Ports) == 0 {
					e.Ports = ports(c.Ports)
				}
				break
			}
		}
		all["services/"+m.ID+"/"+name] = e
	}
	return all
}

func or(a, b []netip.Addr) []netip.Addr {
	if len(a) > 0 {
		return a
	}
	return b
}

func ports(list []containers.Port) (all []zone.Port) {
	for _, p := range list {
		all = append(all, zone.Port{Number: p.Number, Proto: p.Proto})
	}
	return all
}

// belongs tells whether a container is a unit's: it says so with its label, or
// it has one of the names that people give with %n, %p and %i.
func belongs(c containers.Container, name string) bool {
	if c.Unit != "" {
		return c.Unit == name
	}
	prefix, instance, _, templated := fleet.SplitName(name)
	if c.Name == name || !templated && c.Name == prefix {
		return true
	}
	for _, separator := range []string{"-", ".", "_", ""} {
		if templated && c.Name == prefix+separator+instance {
			return true
		}
	}
	return false
}

// Ports are those that a unit's file names: in the section [X-Names] lines
// "Port=8080/tcp http", the name and "/tcp" may be left out. What is no port
// is passed over.
func Ports(file string) (all []zone.Port) {
	options, err := unit.DeserializeOptions(strings.NewReader(file))
	if err != nil {
		return nil
	}
	for _, o := range options {
		if o.Section != "X-Names" || o.Name != "Port" {
			continue
		}
		fields := strings.Fields(o.Value)
		if len(fields) == 0 || len(fields) > 2 {
			continue
		}
		number, proto, _ := strings.Cut(fields[0], "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			continue
		}
		p := zone.Port{Number: uint16(n), Proto: "tcp"}
		if proto != "" {
			p.Proto = strings.ToLower(proto)
		}
		if len(fields) == 2 {
			p.Name = fields[1]
		}
		all = append(all, p)
	}
	return all
}
