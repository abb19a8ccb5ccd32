// Package serve is the sockets of a boot server: DHCP or proxy-DHCP, TFTP for the
// first program, HTTP for all else. What they say is in packages answer and site.
// TFTP is pin/tftp.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/pin/tftp/v3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/tools/pxe/answer"
	"github.com/coracle-os/coracle/tools/pxe/site"
)

// Server is a boot server on one interface.
type Server struct {
	Interface string
	Answers   answer.Server
	Site      *site.Site
	NoDHCP    bool // only HTTP: the network's own DHCP server names the script
	Log       func(format string, args ...any)
	Now       func() time.Time

	mu sync.Mutex // for Answers, whose pool changes
}

// listeners are all sockets.
type listeners struct {
	dhcp map[int]net.PacketConn // by port
	tftp *net.UDPConn
	http net.Listener
}

// Run opens all sockets, and serves until ctx ends. Nothing is served if one of
// the sockets cannot be had.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Site.Check(); err != nil {
		return err
	}
	l, err := s.listen()
	if err != nil {
		return err
	}
	return s.serve(ctx, l)
}

// serve answers until ctx ends, and closes the sockets.
func (s *Server) serve(ctx context.Context, l *listeners) error {
	group, ctx := errgroup.WithContext(ctx)
	web := &http.Server{Handler: s.Site.Handler(), ReadHeaderTimeout: 10 * time.Second}
	group.Go(func() error {
		if err := web.Serve(l.http); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	for port, conn := range l.dhcp {
		group.Go(func() error { return ended(ctx, s.dhcp(conn, port)) })
	}
	files := tftp.NewServer(s.read, nil)
	files.SetTimeout(3 * time.Second)
	if l.tftp != nil {
		group.Go(func() error { return ended(ctx, files.Serve(l.tftp)) })
	}
	group.Go(func() error {
		<-ctx.Done()
		web.Close()
		for _, conn := range l.dhcp {
			conn.Close()
		}
		if l.tftp != nil {
			files.Shutdown() // a closed socket alone would have it try again for ever
			l.tftp.Close()
		}
		return nil
	})
	return group.Wait()
}

// ended drops the error of a socket that was closed at the end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Server) listen() (*listeners, error) {
	l := &listeners{dhcp: map[int]net.PacketConn{}}
	if err := s.open(l); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (s *Server) open(l *listeners) (err error) {
	if l.http, err = net.Listen("tcp4", fmt.Sprintf(":%d", s.Answers.HTTP)); err != nil {
		return Explain(err, "tcp", s.Answers.HTTP)
	}
	if s.NoDHCP {
		return nil
	}
	for _, port := range []int{answer.PortDHCP, answer.PortPXE} {
		conn, err := server4.NewIPv4UDPConn(s.Interface, &net.UDPAddr{IP: net.IPv4zero, Port: port})
		if err != nil {
			return Explain(err, "udp", port)
		}
		l.dhcp[port] = conn
	}
	const tftpPort = 69
	if l.tftp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: s.Answers.IP, Port: tftpPort}); err != nil {
		return Explain(err, "udp", tftpPort)
	}
	return nil
}

func (l *listeners) close() {
	if l.http != nil {
		l.http.Close()
	}
	for _, conn := range l.dhcp {
		conn.Close()
	}
	if l.tftp != nil {
		l.tftp.Close()
	}
}

// Explain says what to do about a port that cannot be had.
func Explain(err error, protocol string, port int) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		hint = "ports below 1024 need root's rights: use sudo, or -no-dhcp"
	case errors.Is(err, unix.EADDRINUSE) && protocol == "tcp":
		hint = "another program has it; choose another with -http-port"
	case errors.Is(err, unix.EADDRINUSE):
		hint = "another program of this machine has it, perhaps dnsmasq or a DHCP server; stop it, or use -no-dhcp and have it name the script"
	default:
		return fmt.Errorf("open port %d/%s: %w", port, protocol, err)
	}
	return fmt.Errorf("open port %d/%s: %w; %s", port, protocol, err, hint)
}

// dhcp answers what comes in on a port.
func (s *Server) dhcp(conn net.PacketConn, port int) error {
	buffer := make([]byte, 1<<16)
	for {
		n, peer, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		request, err := dhcpv4.FromBytes(buffer[:n])
		if err != nil {
			continue // not DHCP: anybody may send anything
		}
		s.mu.Lock()
		reply, said := s.Answers.Answer(request, port, s.Now())
		s.mu.Unlock()
		if said != "" {
			s.Log("dhcp %s: %s", request.ClientHWAddr, said)
		}
		if reply == nil {
			continue
		}
		if _, err := conn.WriteTo(reply.ToBytes(), destination(peer, port, request)); err != nil {
			s.Log("dhcp %s: the answer cannot be sent: %v", request.ClientHWAddr, err)
		}
	}
}

// destination is where an answer goes: to the relay, to a client that has an
// address, or to all, since a client without one cannot be found.
func destination(peer net.Addr, port int, request *dhcpv4.DHCPv4) net.Addr {
	from, ok := peer.(*net.UDPAddr)
	switch {
	case !request.GatewayIPAddr.IsUnspecified():
		return &net.UDPAddr{IP: request.GatewayIPAddr, Port: answer.PortDHCP}
	case ok && port == answer.PortPXE && !from.IP.IsUnspecified():
		return from
	case !request.ClientIPAddr.IsUnspecified() && !request.IsBroadcast():
		return &net.UDPAddr{IP: request.ClientIPAddr, Port: dhcpv4.ClientPort}
	}
	return &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
}

// read serves the boot programs by TFTP, and nothing else.
func (s *Server) read(name string, to io.ReaderFrom) error {
	who := "?"
	if t, ok := to.(tftp.OutgoingTransfer); ok {
		remote := t.RemoteAddr()
		who = remote.IP.String()
	}
	name = strings.TrimPrefix(name, "/")
	if name != answer.BIOSProgram && name != answer.UEFIProgram {
		s.Log("tftp %s: %q: no such file", who, name)
		return fmt.Errorf("%q: %w", name, os.ErrNotExist)
	}
	f, err := os.Open(filepath.Join(s.Site.Programs, name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if t, ok := to.(tftp.OutgoingTransfer); ok {
		t.SetSize(info.Size())
	}
	n, err := to.ReadFrom(f)
	if err != nil {
		// Firmware asks for the size first and breaks off, which is no fault.
		s.Log("tftp %s: %s: after %d bytes: %v", who, name, n, err)
		return err
	}
	s.Log("tftp %s: %s: %d bytes", who, name, n)
	return nil
}
