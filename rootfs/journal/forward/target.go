// Package forward sends a machine's journal to a receiver elsewhere: syslog of
// RFC 5424 over TCP (RFC 6587, octet counting) or UDP (RFC 5426), or one JSON
// object a line over TCP, the objects of "journalctl -o json". journald runs it.
//
// Its queue is the journal itself: it reads the segments behind the writer and
// remembers how far the receiver got. So it cannot hold up logging, needs no
// memory for a receiver that is away, sends what was logged before the network
// was there and before the machine restarted, and loses only what the journal's
// bounds deleted; then it says how many records that were.
//
// Neither protocol acknowledges a record. Over TCP a record counts as received
// when the receiver's kernel has acknowledged its bytes; when the connection
// ends otherwise than by an orderly close, the last seconds are sent again,
// because the receiver may have died with them unread. So a record can come
// twice, but is not lost; its cursor says which it is. Over UDP only a receiver
// whose machine says that nobody listens is noticed.
//
// Left out on purpose: TLS (a machine has no certificate to show, and one that
// checks nothing hides nothing; use the overlay or WireGuard) and RELP.
// Libraries for RFC 5424 parse, or depend on a logger; the format is one line.
package forward

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Target is where records go, and how.
type Target struct {
	Network string // tcp or udp
	JSON    bool   // JSON lines instead of RFC 5424
	Address string // host:port
}

// ParseTarget reads tcp://HOST:PORT, udp://HOST:PORT (RFC 5424) or
// tcp+json://HOST:PORT. Without a port, syslog goes to 514.
func ParseTarget(s string) (Target, error) {
	scheme, address, ok := strings.Cut(s, "://")
	var t Target
	switch scheme {
	case "tcp", "tcp+syslog":
		t.Network = "tcp"
	case "udp", "udp+syslog":
		t.Network = "udp"
	case "tcp+json":
		t = Target{Network: "tcp", JSON: true}
	default:
		ok = false
	}
	if !ok {
		return Target{}, fmt.Errorf("receiver %q: write tcp://HOST:PORT or udp://HOST:PORT for syslog, tcp+json://HOST:PORT for JSON", s)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil && !t.JSON {
		host, port, err = net.SplitHostPort(address + ":514")
	}
	if err != nil {
		return Target{}, fmt.Errorf("receiver %q: %w; write HOST:PORT", s, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ \t") {
		return Target{}, fmt.Errorf("receiver %q: expected a host and a port from 1 to 65535", s)
	}
	t.Address = net.JoinHostPort(host, port)
	return t, nil
}

// String returns the target as ParseTarget reads it.
func (t Target) String() string {
	if t.JSON {
		return t.Network + "+json://" + t.Address
	}
	return t.Network + "://" + t.Address
}
