// Package answer decides what a boot server says to a machine that asks by DHCP:
// nothing, where to boot from (as a proxy beside the network's own DHCP server),
// or an address too (in a network of its own). It is pure: a message in, a
// message out.
//
// It follows the Preboot Execution Environment 2.1 (Intel), RFC 4578 for the
// architectures, and UEFI 2.10 chapter 24 for HTTP boot. DHCP itself is
// insomniacslk/dhcp. Machines boot in two steps: their firmware loads iPXE, and
// iPXE loads a script by HTTP. Left out on purpose: IPv6, menus of boot servers,
// and architectures other than x86-64.
package answer

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Kind is what asks.
type Kind string

// Kinds of clients.
const (
	Plain       Kind = "no network boot" // an installed system
	BIOS        Kind = "BIOS"
	UEFI        Kind = "UEFI"
	UEFIHTTP    Kind = "UEFI HTTP"
	IPXE        Kind = "iPXE"
	Unsupported Kind = "unsupported firmware"
)

// Boot programs of Debian's package ipxe, by what they are for.
const (
	BIOSProgram = "undionly.kpxe"
	UEFIProgram = "snponly.efi"
)

// ScriptPath is the script that iPXE loads first, on the HTTP server.
const ScriptPath = "/boot.ipxe"

// Server is a boot server.
type Server struct {
	IP   net.IP // of its interface; IPv4
	HTTP int    // port
	// Pool gives addresses; nil leaves that to the network's own DHCP server.
	Pool *Pool
}

// KindOf tells from a request what the client is.
func KindOf(request *dhcpv4.DHCPv4) Kind {
	class := request.ClassIdentifier()
	// iPXE says its name as user class; other users of it have option 175.
	if string(request.Options.Get(dhcpv4.OptionUserClassInformation)) == "iPXE" || request.Options.Has(dhcpv4.GenericOptionCode(175)) {
		return IPXE
	}
	arch := iana.INTEL_X86PC
	if list := request.ClientArch(); len(list) > 0 {
		arch = list[0]
	} else if parts := strings.Split(class, ":"); len(parts) > 2 {
		_, _ = fmt.Sscanf(parts[2], "%d", &arch)
	}
	switch {
	case strings.HasPrefix(class, "HTTPClient") && arch == iana.EFI_X86_64_HTTP:
		return UEFIHTTP
	case strings.HasPrefix(class, "PXEClient") && arch == iana.INTEL_X86PC:
		return BIOS
	case strings.HasPrefix(class, "PXEClient") && (arch == iana.EFI_X86_64 || arch == iana.EFI_BC):
		return UEFI
	case strings.HasPrefix(class, "PXEClient") || strings.HasPrefix(class, "HTTPClient"):
		return Unsupported
	}
	return Plain
}

// url is an address on the HTTP server.
func (s *Server) url(path string) string {
	return fmt.Sprintf("http://%s:%d%s", s.IP, s.HTTP, path)
}

// bootFile is what a client is to load.
func (s *Server) bootFile(kind Kind) string {
	switch kind {
	case BIOS:
		return BIOSProgram
	case UEFI:
		return UEFIProgram
	case UEFIHTTP:
		return s.url("/" + UEFIProgram)
	case IPXE:
		return s.url(ScriptPath)
	}
	return ""
}

// Ports that requests come in on.
const (
	PortDHCP = 67
	PortPXE  = 4011
)

// Answer returns the answer to a request that came in on a port, or nil, and
// what was said, for people; "" for nothing worth a word.
func (s *Server) Answer(request *dhcpv4.DHCPv4, port int, now time.Time) (*dhcpv4.DHCPv4, string) {
	if request.OpCode != dhcpv4.OpcodeBootRequest {
		return nil, ""
	}
	kind := KindOf(request)
	file := s.bootFile(kind)
	if kind == Unsupported {
		return nil, fmt.Sprintf("%s: not answered: its architecture %v is not x86-64", request.ClassIdentifier(), request.ClientArch())
	}
	if s.Pool == nil {
		return s.proxy(request, port, kind, file)
	}
	return s.full(request, port, kind, file, now)
}

// proxy answers beside another DHCP server, only clients that boot.
func (s *Server) proxy(request *dhcpv4.DHCPv4, port int, kind Kind, file string) (*dhcpv4.DHCPv4, string) {
	if kind == Plain {
		return nil, ""
	}
	var answer dhcpv4.MessageType
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		answer = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform:
		// One on port 67 is for the DHCP server, unless it names this one.
		if id := request.ServerIdentifier(); port == PortDHCP && (id == nil || !id.Equal(s.IP)) {
			return nil, ""
		}
		answer = dhcpv4.MessageTypeAck
	default:
		return nil, ""
	}
	reply, err := s.reply(request, answer, kind, file)
	if err != nil {
		return nil, err.Error()
	}
	return reply, fmt.Sprintf("%s: boot %s", kind, file)
}

// full answers as the network's DHCP server.
func (s *Server) full(request *dhcpv4.DHCPv4, port int, kind Kind, file string, now time.Time) (*dhcpv4.DHCPv4, string) {
	if port != PortDHCP {
		return s.proxy(request, port, kind, file)
	}
	var answer dhcpv4.MessageType
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		answer = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		if id := request.ServerIdentifier(); id != nil && !id.Equal(s.IP) {
			return nil, "" // it has chosen another server
		}
		answer = dhcpv4.MessageTypeAck
	default:
		return nil, ""
	}
	ip, err := s.Pool.Lease(request.ClientHWAddr, now)
	if err != nil {
		return nil, err.Error()
	}
	asked := request.RequestedIPAddress()
	if asked == nil && !request.ClientIPAddr.IsUnspecified() {
		asked = request.ClientIPAddr
	}
	if answer == dhcpv4.MessageTypeAck && asked != nil && !asked.Equal(ip) {
		reply, err := dhcpv4.NewReplyFromRequest(request, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.IP)))
		if err != nil {
			return nil, err.Error()
		}
		return reply, fmt.Sprintf("address %s refused, %s is for it", asked, ip)
	}
	reply, err := s.reply(request, answer, kind, file)
	if err != nil {
		return nil, err.Error()
	}
	reply.YourIPAddr = ip
	s.Pool.options(reply)
	if file == "" {
		return reply, fmt.Sprintf("address %s", ip)
	}
	return reply, fmt.Sprintf("address %s, %s: boot %s", ip, kind, file)
}

// reply makes the message, without an address.
func (s *Server) reply(request *dhcpv4.DHCPv4, answer dhcpv4.MessageType, kind Kind, file string) (*dhcpv4.DHCPv4, error) {
	reply, err := dhcpv4.NewReplyFromRequest(request, dhcpv4.WithMessageType(answer), dhcpv4.WithServerIP(s.IP),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.IP)))
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	if file == "" {
		reply.ServerIPAddr = net.IPv4zero
		return reply, nil
	}
	reply.BootFileName = file
	reply.UpdateOption(dhcpv4.OptBootFileName(file))
	class := "PXEClient"
	if kind == UEFIHTTP {
		class = "HTTPClient"
	} else {
		reply.ServerHostName = s.IP.String()
		reply.UpdateOption(dhcpv4.OptTFTPServerName(s.IP.String()))
		// PXE_DISCOVERY_CONTROL 8: load the file, ask no further servers.
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
	}
	reply.UpdateOption(dhcpv4.OptClassIdentifier(class))
	// The client's own identifier comes back to it (PXE 2.1, 2.2.1).
	if id := request.Options.Get(dhcpv4.OptionClientMachineIdentifier); id != nil {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, id))
	}
	return reply, nil
}

// Pool is the addresses of a network that has no other DHCP server.
type Pool struct {
	First, Last net.IP
	Mask        net.IPMask
	Router      net.IP // nil for none
	DNS         []net.IP
	Time        time.Duration // of a lease

	leases map[string]lease // by hardware address
}

type lease struct {
	ip    net.IP
	until time.Time
}

// ParseRange reads "FIRST-LAST" of a network.
func ParseRange(text string, network *net.IPNet) (*Pool, error) {
	first, last, ok := strings.Cut(text, "-")
	p := &Pool{First: net.ParseIP(first).To4(), Last: net.ParseIP(last).To4(), Mask: network.Mask, Time: time.Hour}
	switch {
	case !ok || p.First == nil || p.Last == nil || number(p.First) > number(p.Last):
		return nil, fmt.Errorf("addresses %q: write FIRST-LAST, such as 10.0.0.100-10.0.0.200", text)
	case !network.Contains(p.First) || !network.Contains(p.Last):
		return nil, fmt.Errorf("addresses %q are not in the interface's network %s", text, network)
	}
	return p, nil
}

func number(ip net.IP) uint32 {
	b := ip.To4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// Lease gives a machine its address: the one that it had, or the first that no
// other has now.
func (p *Pool) Lease(machine net.HardwareAddr, now time.Time) (net.IP, error) {
	if p.leases == nil {
		p.leases = map[string]lease{}
	}
	key := machine.String()
	if l, ok := p.leases[key]; ok {
		p.leases[key] = lease{l.ip, now.Add(p.Time)}
		return l.ip, nil
	}
	taken := map[uint32]string{}
	for machine, l := range p.leases {
		taken[number(l.ip)] = machine
	}
	oldest := ""
	for n := number(p.First); n <= number(p.Last); n++ {
		holder, ok := taken[n]
		if !ok {
			ip := net.IPv4(byte(n>>24), byte(n>>16), byte(n>>8), byte(n)).To4()
			p.leases[key] = lease{ip, now.Add(p.Time)}
			return ip, nil
		}
		if p.leases[holder].until.Before(now) && (oldest == "" || p.leases[holder].until.Before(p.leases[oldest].until)) {
			oldest = holder
		}
	}
	if oldest == "" {
		return nil, fmt.Errorf("no address is left for %s in %s-%s; make the range larger", key, p.First, p.Last)
	}
	ip := p.leases[oldest].ip
	delete(p.leases, oldest)
	p.leases[key] = lease{ip, now.Add(p.Time)}
	return ip, nil
}

func (p *Pool) options(reply *dhcpv4.DHCPv4) {
	reply.UpdateOption(dhcpv4.OptSubnetMask(p.Mask))
	reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(p.Time))
	if p.Router != nil {
		reply.UpdateOption(dhcpv4.OptRouter(p.Router))
	}
	if len(p.DNS) > 0 {
		reply.UpdateOption(dhcpv4.OptDNS(slices.Clone(p.DNS)...))
	}
}
