// Package forward carries connections between an SSH client and the machine:
// TCP in both directions (RFC 4254, section 7), Unix sockets in both (OpenSSH
// PROTOCOL, section 2.4) and the client's key agent (section 2.3). It is for
// the SSH server.
//
// The server library has handlers for TCP. These are used instead because
// theirs end both directions of a connection when one ends, which cuts off
// answers, share one table of listeners among all clients, and know neither
// sockets nor the limits that a key can carry. As with OpenSSH's
// `GatewayPorts no`, a port listened on for a client is reachable from this
// machine only. X11 and tunnel devices are left out on purpose.
package forward

import (
	"io"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"
)

// pipe copies in both directions until both have ended, each end passing on
// the end of its data, then closes both.
func pipe(ch ssh.Channel, conn net.Conn) {
	defer ch.Close()
	defer conn.Close()
	var both sync.WaitGroup
	both.Add(2)
	go func() {
		defer both.Done()
		io.Copy(ch, conn)
		ch.CloseWrite()
	}()
	go func() {
		defer both.Done()
		io.Copy(conn, ch)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	}()
	both.Wait()
}

// accept hands each connection of l to the client as a channel, until l is
// closed.
func accept(l net.Listener, client ssh.Conn, kind string, payload func(net.Conn) []byte) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			ch, requests, err := client.OpenChannel(kind, payload(conn))
			if err != nil {
				conn.Close()
				return
			}
			go ssh.DiscardRequests(requests)
			pipe(ch, conn)
		}()
	}
}
