// Package listen gives fleetd the sockets of its API: those that the service
// manager passed (sd_listen_fds(3)), as fleet.socket and its drop-ins name them.
// Those over TCP speak TLS when certificates are configured: version 1.2 or
// newer, and only with clients that show a certificate of the authority, since
// who speaks to the API runs programs as root on every machine. Sockets outlive
// a restart of the program in its process, so that none is refused meanwhile.
package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Sockets are what was passed.
type Sockets struct {
	Listeners []net.Listener
	passed    []*os.File // as they came; they are closed when nobody refers to them
}

// Passed takes the sockets that were passed to this process, from files of the
// descriptors, as activation.Files gives them. They stay open.
func Passed(files []*os.File) (*Sockets, error) {
	s := &Sockets{passed: files}
	for _, f := range files {
		l, err := net.FileListener(f) // of a copy
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("take the socket %s that was passed: %w", f.Name(), err)
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // the file is the service manager's
		}
		s.Listeners = append(s.Listeners, l)
	}
	return s, nil
}

// Close closes the listeners; the sockets stay with the service manager.
func (s *Sockets) Close() {
	for _, l := range s.Listeners {
		l.Close()
	}
}

// Keep lets the program that this process executes next have the sockets.
// Clients that connect meanwhile wait.
func (s *Sockets) Keep() error {
	for _, f := range s.passed {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("keep the socket %s: %w", f.Name(), err)
		}
	}
	return nil
}

// Files name certificates in PEM; all or none.
type Files struct{ CA, Certificate, Key string }

// Secure puts TLS on listeners over TCP. Without certificates it leaves them as
// they are and returns a warning for each that others can reach.
func (s *Sockets) Secure(f Files) (warnings []string, err error) {
	var config *tls.Config
	if f != (Files{}) {
		if config, err = f.config(); err != nil {
			return nil, err
		}
	}
	for i, l := range s.Listeners {
		address, ok := l.Addr().(*net.TCPAddr)
		switch {
		case !ok:
		case config != nil:
			s.Listeners[i] = tls.NewListener(l, config)
		case !address.IP.IsLoopback():
			warnings = append(warnings, fmt.Sprintf("the API listens on %s without TLS: whoever reaches that address can run programs as root on every machine; "+
				"set FLEET_TLS_CAFILE, FLEET_TLS_CERTFILE and FLEET_TLS_KEYFILE, or listen on 127.0.0.1", address))
		}
	}
	return warnings, nil
}

func (f Files) config() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, fmt.Errorf("read the API's certificate (tls_certfile, tls_keyfile): %w", err)
	}
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("read the authority of the API's clients (tls_cafile): %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read the authority of the API's clients (tls_cafile): %w", errors.New(f.CA+" has no certificate in PEM"))
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2", "http/1.1"}}, nil
}
