package answer

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

var (
	server = net.IPv4(10, 0, 0, 1).To4()
	mac    = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	now    = time.Unix(1000, 0)
)

// ask makes a request; class and user are "" for none.
func ask(t *testing.T, kind dhcpv4.MessageType, class, user string, arch iana.Arch, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m := append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(kind)}, more...)
	if class != "" {
		m = append(m, dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)), dhcpv4.WithOption(dhcpv4.OptClientArch(arch)))
	}
	if user != "" {
		m = append(m, dhcpv4.WithOption(dhcpv4.OptUserClass(user)))
	}
	request, err := dhcpv4.New(m...)
	if err != nil {
		t.Fatal(err)
	}
	// As it comes from the network.
	request, err = dhcpv4.FromBytes(request.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	return request
}

const (
	discover = dhcpv4.MessageTypeDiscover
	request  = dhcpv4.MessageTypeRequest
)

func TestProxy(t *testing.T) {
	s := &Server{IP: server, HTTP: 8069}
	ours := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server))
	for _, c := range []struct {
		name        string
		request     *dhcpv4.DHCPv4
		port        int
		file, class string // "" for no answer
	}{
		{"BIOS", ask(t, discover, "PXEClient:Arch:00000:UNDI:002001", "", iana.INTEL_X86PC), PortDHCP, BIOSProgram, "PXEClient"},
		{"UEFI", ask(t, discover, "PXEClient:Arch:00007:UNDI:003001", "", iana.EFI_X86_64), PortDHCP, UEFIProgram, "PXEClient"},
		{"UEFI, other number", ask(t, discover, "PXEClient:Arch:00009:UNDI:003001", "", iana.EFI_BC), PortDHCP, UEFIProgram, "PXEClient"},
		{"UEFI, second step", ask(t, request, "PXEClient:Arch:00007:UNDI:003001", "", iana.EFI_X86_64), PortPXE, UEFIProgram, "PXEClient"},
		{"UEFI HTTP", ask(t, discover, "HTTPClient:Arch:00016:UNDI:003001", "", iana.EFI_X86_64_HTTP), PortDHCP, "http://10.0.0.1:8069/" + UEFIProgram, "HTTPClient"},
		{"iPXE", ask(t, discover, "PXEClient:Arch:00007:UNDI:003010", "iPXE", iana.EFI_X86_64), PortDHCP, "http://10.0.0.1:8069" + ScriptPath, "PXEClient"},
		{"iPXE by its option", ask(t, discover, "PXEClient:Arch:00000:UNDI:002001", "", iana.INTEL_X86PC, dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(175), []byte{1, 1, 1})), PortDHCP, "http://10.0.0.1:8069" + ScriptPath, "PXEClient"},
		{"request to us", ask(t, request, "PXEClient:Arch:00000:UNDI:002001", "", iana.INTEL_X86PC, ours), PortDHCP, BIOSProgram, "PXEClient"},
		{"request to the DHCP server", ask(t, request, "PXEClient:Arch:00000:UNDI:002001", "", iana.INTEL_X86PC), PortDHCP, "", ""},
		{"installed system", ask(t, discover, "", "", 0), PortDHCP, "", ""},
		{"installed system, 4011", ask(t, request, "", "", 0), PortPXE, "", ""},
		{"release", ask(t, dhcpv4.MessageTypeRelease, "PXEClient:Arch:00000:UNDI:002001", "", iana.INTEL_X86PC), PortDHCP, "", ""},
		{"32-bit UEFI", ask(t, discover, "PXEClient:Arch:00006:UNDI:003001", "", iana.EFI_IA32), PortDHCP, "", ""},
		{"ARM", ask(t, discover, "PXEClient:Arch:00011:UNDI:003001", "", iana.EFI_ARM64), PortDHCP, "", ""},
	} {
		reply, said := s.Answer(c.request, c.port, now)
		if c.file == "" {
			if reply != nil {
				t.Errorf("%s: answered with %s", c.name, reply.Summary())
			}
			continue
		}
		if reply == nil {
			t.Errorf("%s: no answer (%s)", c.name, said)
			continue
		}
		if reply.BootFileNameOption() != c.file || reply.BootFileName != c.file || reply.ClassIdentifier() != c.class || !strings.Contains(said, c.file) {
			t.Errorf("%s: %q, %s", c.name, said, reply.Summary())
		}
		if !reply.YourIPAddr.IsUnspecified() || reply.Options.Has(dhcpv4.OptionSubnetMask) || reply.Options.Has(dhcpv4.OptionIPAddressLeaseTime) {
			t.Errorf("%s: a proxy gives no address: %s", c.name, reply.Summary())
		}
		if reply.TransactionID != c.request.TransactionID || !reply.ServerIdentifier().Equal(server) {
			t.Errorf("%s: not an answer to the request: %s", c.name, reply.Summary())
		}
	}
	answer, err := dhcpv4.NewReplyFromRequest(ask(t, discover, "PXEClient:Arch:00000", "", 0))
	if err != nil {
		t.Fatal(err)
	}
	if reply, _ := s.Answer(answer, PortDHCP, now); reply != nil {
		t.Error("an answer of another server was answered")
	}
}

func TestUnsupportedIsSaid(t *testing.T) {
	s := &Server{IP: server}
	if _, said := s.Answer(ask(t, discover, "PXEClient:Arch:00006", "", iana.EFI_IA32), PortDHCP, now); !strings.Contains(said, "not x86-64") {
		t.Errorf("said %q", said)
	}
}

func network(t *testing.T) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR("10.0.0.0/24")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFull has two machines get an address, and a third that finds none left
// until a lease has ended.
func TestFull(t *testing.T) {
	pool, err := ParseRange("10.0.0.100-10.0.0.101", network(t))
	if err != nil {
		t.Fatal(err)
	}
	pool.Router, pool.DNS = server, []net.IP{server}
	s := &Server{IP: server, HTTP: 80, Pool: pool}
	give := func(last byte, kind dhcpv4.MessageType, at time.Time, more ...dhcpv4.Modifier) (*dhcpv4.DHCPv4, string) {
		r := ask(t, kind, "", "", 0, more...)
		r.ClientHWAddr = net.HardwareAddr{2, 0, 0, 0, 0, last}
		return s.Answer(r, PortDHCP, at)
	}
	for range 2 { // the second time it is the same
		for i, want := range []string{"10.0.0.100", "10.0.0.101"} {
			offer, _ := give(byte(i), discover, now)
			if offer == nil || offer.YourIPAddr.String() != want || offer.MessageType() != dhcpv4.MessageTypeOffer {
				t.Fatalf("machine %d: %v", i, offer)
			}
			ack, _ := give(byte(i), request, now, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server)))
			if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck || ack.IPAddressLeaseTime(0) != time.Hour || len(ack.Router()) != 1 || len(ack.DNS()) != 1 || ack.SubnetMask().String() != "ffffff00" || ack.BootFileName != "" {
				t.Fatalf("machine %d: %v", i, ack)
			}
		}
	}
	if nak, _ := give(0, request, now, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 0, 0, 7)))); nak == nil || nak.MessageType() != dhcpv4.MessageTypeNak {
		t.Errorf("another address than its own: %v", nak)
	}
	if r, _ := give(0, request, now, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 9)))); r != nil {
		t.Errorf("a request to another server: %v", r)
	}
	if r, said := give(9, discover, now); r != nil || !strings.Contains(said, "no address is left") {
		t.Errorf("a third machine: %v, %q", r, said)
	}
	if r, _ := give(1, discover, now.Add(59*time.Minute)); r == nil {
		t.Error("machine 1 does not keep its address")
	}
	if r, _ := give(9, discover, now.Add(61*time.Minute)); r == nil || r.YourIPAddr.String() != "10.0.0.100" {
		t.Errorf("a third machine after the first's lease: %v", r)
	}
	if r, _ := s.Answer(ask(t, discover, "PXEClient:Arch:00000", "", 0), PortDHCP, now.Add(3*time.Hour)); r == nil || r.BootFileName != BIOSProgram || r.YourIPAddr.IsUnspecified() {
		t.Errorf("a machine that boots: %v", r)
	}
}

func TestParseRange(t *testing.T) {
	for _, text := range []string{"", "10.0.0.1", "10.0.0.9-10.0.0.1", "10.0.0.1-x", "10.0.1.1-10.0.1.9", "fe80::1-fe80::2"} {
		if _, err := ParseRange(text, network(t)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

// FuzzAnswer: whatever comes from the network, the server goes on.
func FuzzAnswer(f *testing.F) {
	d, err := dhcpv4.NewDiscovery(mac, dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d.ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		_, network, _ := net.ParseCIDR("10.0.0.0/24")
		pool, _ := ParseRange("10.0.0.2-10.0.0.3", network)
		for _, s := range []*Server{{IP: server}, {IP: server, Pool: pool}} {
			for _, port := range []int{PortDHCP, PortPXE} {
				if reply, _ := s.Answer(r, port, now); reply != nil {
					reply.ToBytes()
				}
			}
		}
	})
}
