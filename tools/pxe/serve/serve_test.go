package serve

import (
	"net"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/tools/pxe/answer"
	"github.com/coracle-os/coracle/tools/pxe/site"
)

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err      error
		protocol string
		want     string
	}{
		{unix.EACCES, "udp", "use sudo, or -no-dhcp"},
		{unix.EPERM, "udp", "use sudo, or -no-dhcp"},
		{unix.EADDRINUSE, "udp", "dnsmasq"},
		{unix.EADDRINUSE, "tcp", "-http-port"},
		{unix.EIO, "udp", "open port 67/udp"},
	} {
		if got := Explain(c.err, c.protocol, 67); !strings.Contains(got.Error(), c.want) {
			t.Errorf("%v, %s: %v, want %q", c.err, c.protocol, got, c.want)
		}
	}
}

func TestDestination(t *testing.T) {
	any4 := &net.UDPAddr{IP: net.IPv4zero, Port: 68}
	one := net.IPv4(10, 0, 0, 5).To4()
	for _, c := range []struct {
		name   string
		peer   net.Addr
		port   int
		change func(*dhcpv4.DHCPv4)
		want   string
	}{
		{"no address yet", any4, answer.PortDHCP, func(*dhcpv4.DHCPv4) {}, "255.255.255.255:68"},
		{"renewal", any4, answer.PortDHCP, func(r *dhcpv4.DHCPv4) { r.ClientIPAddr = one }, "10.0.0.5:68"},
		{"relay", any4, answer.PortDHCP, func(r *dhcpv4.DHCPv4) { r.GatewayIPAddr = one }, "10.0.0.5:67"},
		{"boot service", &net.UDPAddr{IP: one, Port: 4011}, answer.PortPXE, func(r *dhcpv4.DHCPv4) { r.ClientIPAddr = one }, "10.0.0.5:4011"},
	} {
		r, err := dhcpv4.New()
		if err != nil {
			t.Fatal(err)
		}
		c.change(r)
		if got := destination(c.peer, c.port, r).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestPortTaken: nothing is served when a port cannot be had.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &Server{NoDHCP: true, Answers: answer.Server{HTTP: l.Addr().(*net.TCPAddr).Port}, Site: &site.Site{}}
	if _, err := s.listen(); err == nil || !strings.Contains(err.Error(), "another program has it") {
		t.Errorf("a port that is taken: %v", err)
	}
}
