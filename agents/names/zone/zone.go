// Package zone is what the cluster's names mean: records in, answers to
// questions out. It knows nothing of the network, the KV or the clock.
//
// In the domain DOMAIN these names exist, without regard to case:
//
//	MACHINE.DOMAIN         a machine by its host name, or by its machine id or the first 8 characters of that
//	UNIT.DOMAIN            where the unit runs: NAME.service without its type, or with it; of a template
//	                       all instances (web), one instance (web@1, or web-1 where "@" is not allowed)
//	CONTAINER.DOMAIN       a container by its name
//	_PORT._PROTO.X.DOMAIN  SRV: the port PORT of X, by its name or number
//
// Who has a name that others have too is one of several answers, as with a
// unit that runs on several machines.
package zone

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Port is where something listens.
type Port struct {
	Name   string // "http"; "" if it has none
	Number uint16
	Proto  string // "tcp" or "udp"
}

// Machine is a machine of the cluster.
type Machine struct {
	ID        string
	Name      string // host name
	Addresses []netip.Addr
}

// Service is a unit or a container that runs somewhere.
type Service struct {
	Name      string // of the unit, with its type, or of the container
	Machine   string // id
	Container bool
	Addresses []netip.Addr
	Ports     []Port
}

// Target is one answer for a service with a port.
type Target struct {
	Port      uint16
	Host      string // a name in the domain that has Addresses, without the domain
	Addresses []netip.Addr
}

// Zone answers questions. It does not change; the zero Zone is empty.
type Zone struct {
	names map[string][]Service // label, in lower case, to who has it
}

// New makes a zone of what is there. Records that nobody can ask for are left
// out.
func New(machines []Machine, services []Service) *Zone {
	z := &Zone{names: map[string][]Service{}}
	for _, m := range machines {
		for _, label := range machineLabels(m) {
			z.add(label, Service{Machine: m.ID, Addresses: m.Addresses})
		}
	}
	for _, s := range services {
		for _, label := range serviceLabels(s) {
			z.add(label, s)
		}
	}
	for _, list := range z.names {
		slices.SortStableFunc(list, func(a, b Service) int {
			return cmp.Or(strings.Compare(a.Machine, b.Machine), strings.Compare(a.Name, b.Name))
		})
	}
	return z
}

func (z *Zone) add(label string, s Service) {
	if label = strings.ToLower(label); label != "" && len(label) <= 63 {
		z.names[label] = append(z.names[label], s)
	}
}

func machineLabels(m Machine) []string {
	name, _, _ := strings.Cut(m.Name, ".")
	labels := []string{name, m.ID}
	if len(m.ID) > 8 {
		labels = append(labels, m.ID[:8])
	}
	slices.Sort(labels)
	return slices.Compact(labels)
}

// serviceLabels are the names of a unit: web@1.service is web@1, web-1 and web.
// Its full name has a dot more and is looked for in Lookup.
func serviceLabels(s Service) []string {
	if s.Container {
		return []string{s.Name}
	}
	name := s.Name
	if dot := strings.LastIndexByte(name, '.'); dot > 0 {
		name = name[:dot]
	}
	prefix, instance, templated := strings.Cut(name, "@")
	if !templated {
		return []string{name}
	}
	return []string{name, prefix + "-" + instance, prefix}
}

// types are the ends that a unit's name may be asked with.
var types = []string{".service", ".socket", ".timer", ".path"}

// find gives those who have the name, which is relative to the domain.
func (z *Zone) find(name string) []Service {
	name = strings.ToLower(name)
	for _, end := range types {
		if short, ok := strings.CutSuffix(name, end); ok {
			var found []Service
			for _, s := range z.names[short] {
				if strings.EqualFold(s.Name, name) {
					found = append(found, s)
				}
			}
			return found
		}
	}
	return z.names[name]
}

// Addresses are the addresses that name has; known tells whether the name
// exists at all.
func (z *Zone) Addresses(name string) (addresses []netip.Addr, known bool) {
	found := z.find(name)
	for _, s := range found {
		for _, a := range s.Addresses {
			if !slices.Contains(addresses, a) {
				addresses = append(addresses, a)
			}
		}
	}
	return addresses, len(found) > 0
}

// Services are the ports that name has; name may begin with _PORT._PROTO to
// ask for one. known tells whether the name exists.
func (z *Zone) Services(name string) (targets []Target, known bool) {
	port, proto, rest := cutService(name)
	found := z.find(rest)
	for _, s := range found {
		for _, p := range s.Ports {
			if proto != "" && (!strings.EqualFold(proto, p.Proto) || !strings.EqualFold(port, p.Name) && port != strconv.Itoa(int(p.Number))) {
				continue
			}
			targets = append(targets, Target{Port: p.Number, Host: hostOf(s), Addresses: s.Addresses})
		}
	}
	return targets, len(found) > 0
}

// cutService takes _PORT._PROTO off a name.
func cutService(name string) (port, proto, rest string) {
	first, after, ok := strings.Cut(name, ".")
	second, last, also := strings.Cut(after, ".")
	if ok && also && strings.HasPrefix(first, "_") && strings.HasPrefix(second, "_") {
		return first[1:], second[1:], last
	}
	return "", "", name
}

// hostOf is a name that stands for this one service only: a label of its
// address, as one name may be on many machines.
func hostOf(s Service) string {
	if len(s.Addresses) == 0 {
		return ""
	}
	return AddressLabel(s.Addresses[0])
}

// AddressLabel is the name in the domain that every address has: 10-1-15-2, or
// fd00--2 with IPv6. Lookup of it needs no record.
func AddressLabel(a netip.Addr) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
}

// FromAddressLabel is AddressLabel's reverse.
func FromAddressLabel(label string) (netip.Addr, bool) {
	for _, separator := range []string{".", ":"} {
		if a, err := netip.ParseAddr(strings.ReplaceAll(label, "-", separator)); err == nil {
			return a, true
		}
	}
	return netip.Addr{}, false
}
