package serve

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

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

// TestEnds: a server that is told to end does, with all its sockets open. The
// ports are those of a network namespace of the test's own.
func TestEnds(t *testing.T) {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ended <- err
			return
		}
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			ended <- fmt.Errorf("%w: %s", err, out)
			return
		}
		s := &Server{Interface: "lo", Answers: answer.Server{IP: net.IPv4(127, 0, 0, 1), HTTP: 8080}, Site: &site.Site{}, Log: t.Logf, Now: time.Now}
		l, err := s.listen()
		if err != nil {
			ended <- err
			return
		}
		ctx, stop := context.WithCancel(context.Background())
		time.AfterFunc(50*time.Millisecond, stop)
		ended <- s.serve(ctx, l)
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on after its end")
	}
}
