package ssh

import (
	"fmt"
	"net"
	"time"

	gssh "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"
)

// channel serves one channel that the client opened.
func (s *Server) channel(_ *gssh.Server, _ *ssh.ServerConn, request ssh.NewChannel, ctx gssh.Context) {
	defer s.contain("channel " + request.ChannelType())
	l := s.login(ctx)
	switch request.ChannelType() {
	case "direct-tcpip":
		l.forward.DirectTCP(ctx, request)
	case "direct-streamlocal@openssh.com":
		l.forward.DirectSocket(request)
	case "session":
		defer l.sessions.Add(-1)
		if l.sessions.Add(1) > maxSessions {
			request.Reject(ssh.ResourceShortage, fmt.Sprintf("more than %d sessions", maxSessions))
			return
		}
		ch, requests, err := request.Accept()
		if err != nil {
			return
		}
		l.session.Serve(ch, requests)
	}
}

func (s *Server) reject(_ *gssh.Server, _ *ssh.ServerConn, request ssh.NewChannel, _ gssh.Context) {
	request.Reject(ssh.UnknownChannelType, fmt.Sprintf("there are no channels %q here", request.ChannelType()))
}

// global answers a request about the whole connection.
func (s *Server) global(ctx gssh.Context, _ *gssh.Server, r *ssh.Request) (ok bool, reply []byte) {
	defer s.contain("request " + r.Type)
	l := s.login(ctx)
	var err error
	switch r.Type {
	case "tcpip-forward":
		ok, reply, err = l.forward.ListenTCP(r.Payload)
	case "cancel-tcpip-forward":
		ok = l.forward.CancelTCP(r.Payload)
	case "streamlocal-forward@openssh.com":
		ok, err = l.forward.ListenSocket(r.Payload)
	case "cancel-streamlocal-forward@openssh.com":
		ok = l.forward.CancelSocket(r.Payload)
	}
	if err != nil {
		s.Log.Warn(err.Error(), "user", l.account.Name)
	}
	return ok, reply
}

// watch keeps an eye on a connection until it ends: a client that does not
// answer is dropped, and what was listened on for it ends with it.
func (s *Server) watch(ctx gssh.Context, conn *ssh.ServerConn, l *login) {
	defer s.contain("watch of a connection")
	defer l.forward.Close()
	s.Log.Info(fmt.Sprintf("Accepted publickey for %s from %s", l.account.Name, conn.RemoteAddr()))
	tick := time.NewTicker(keepAliveEvery)
	defer tick.Stop()
	answers := make(chan struct{}, 1)
	for missed := 0; ; missed++ {
		select {
		case <-ctx.Done():
			s.Log.Info(fmt.Sprintf("Disconnected %s from %s", l.account.Name, conn.RemoteAddr()))
			return
		case <-answers:
			missed = -1
			continue
		case <-tick.C:
		}
		if missed >= keepAliveMisses {
			s.Log.Info(fmt.Sprintf("connection of %s from %s closed: no answer", l.account.Name, conn.RemoteAddr()))
			conn.Close()
			continue
		}
		go func() {
			if _, _, err := conn.SendRequest("keepalive@openssh.com", true, nil); err == nil {
				select {
				case answers <- struct{}{}:
				default: // one is enough
				}
			}
		}()
	}
}

// connectionEnviron tells programs who is connected, as OpenSSH does.
func connectionEnviron(c ssh.ConnMetadata) []string {
	rhost, rport, err1 := net.SplitHostPort(c.RemoteAddr().String())
	lhost, lport, err2 := net.SplitHostPort(c.LocalAddr().String())
	if err1 != nil || err2 != nil {
		return nil
	}
	return []string{
		fmt.Sprintf("SSH_CLIENT=%s %s %s", rhost, rport, lport),
		fmt.Sprintf("SSH_CONNECTION=%s %s %s %s", rhost, rport, lhost, lport),
	}
}
