package stub

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/split"
	"golang.org/x/net/dns/dnsmessage"
)

// patience is how long one server is waited for; programs ask again after 5 s.
const patience = 2 * time.Second

// asker asks servers; it remembers which one of an interface answered.
type asker struct {
	port uint16 // 0 = 53

	mu   sync.Mutex
	good map[string]netip.Addr // by interface
}

// reply is what the servers of one interface say.
type reply struct {
	answer []byte
	err    error
}

// all asks the interfaces at the same time: the first one that knows the name
// wins, and only when none does its answer is "no".
func (a *asker) all(ctx context.Context, scopes []split.Scope, question []byte, network string) (answer []byte, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	replies := make(chan reply, len(scopes))
	for _, scope := range scopes {
		go func() {
			answer, err := a.scope(ctx, scope, question, network)
			replies <- reply{answer, err}
		}()
	}
	var problems []error
	for range scopes {
		r := <-replies
		switch {
		case r.err != nil:
			problems = append(problems, r.err)
		case code(r.answer) == dnsmessage.RCodeSuccess:
			return r.answer, nil
		case answer == nil || code(answer) != dnsmessage.RCodeNameError:
			answer = r.answer
		}
	}
	if answer != nil {
		return answer, nil
	}
	return nil, errors.Join(problems...)
}

func code(message []byte) dnsmessage.RCode { return dnsmessage.RCode(message[3] & 15) }

// scope asks the servers of an interface, one after the other.
func (a *asker) scope(ctx context.Context, scope split.Scope, question []byte, network string) ([]byte, error) {
	var problems []error
	var failure []byte // of a server that is there and cannot answer
	for _, server := range a.order(scope) {
		port := a.port
		if port == 0 {
			port = 53
		}
		answer, err := exchange(ctx, netip.AddrPortFrom(server, port), question, network)
		if err == nil && code(answer) != dnsmessage.RCodeServerFailure && code(answer) != dnsmessage.RCodeRefused {
			a.remember(scope.Link, server)
			return answer, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		failure = answer
	}
	if failure != nil {
		return failure, nil
	}
	return nil, fmt.Errorf("the name servers of %s: %w", scope.Link, errors.Join(problems...))
}

// order begins with the server that answered last.
func (a *asker) order(scope split.Scope) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]netip.Addr, 0, len(scope.Servers))
	good := a.good[scope.Link]
	for _, server := range scope.Servers {
		if server == good {
			all = append([]netip.Addr{server}, all...)
			continue
		}
		all = append(all, server)
	}
	return all
}

func (a *asker) remember(link string, server netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.good == nil {
		a.good = map[string]netip.Addr{}
	}
	a.good[link] = server
}

// exchange asks one server, from a port and with a number that nobody guesses.
func exchange(ctx context.Context, server netip.AddrPort, question []byte, network string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	mine := bytes.Clone(question)
	rand.Read(mine[:2])
	if network == "tcp" {
		if err := writeStream(conn, mine); err != nil {
			return nil, err
		}
	} else if _, err := conn.Write(mine); err != nil {
		return nil, err
	}
	buffer := make([]byte, 1<<16)
	for {
		answer := buffer
		if network == "tcp" {
			answer, err = readStream(conn)
		} else {
			var n int
			n, err = conn.Read(buffer)
			answer = buffer[:n]
		}
		if err != nil {
			return nil, err
		}
		if fits(mine, answer) {
			binary.BigEndian.PutUint16(answer, binary.BigEndian.Uint16(question))
			return answer, nil
		}
	}
}

// fits tells whether the answer is one to the question: of its number, and with
// its name, type and class.
func fits(question, answer []byte) bool {
	asked, ok := first(question)
	if !ok || len(answer) < 12 || !bytes.Equal(question[:2], answer[:2]) || answer[2]&0x80 == 0 {
		return false
	}
	said, ok := first(answer)
	// A server that did not understand the question may leave it out.
	return ok && said.Type == asked.Type && said.Class == asked.Class && bytes.EqualFold(said.Name.Data[:said.Name.Length], asked.Name.Data[:asked.Name.Length]) ||
		!ok && code(answer) != dnsmessage.RCodeSuccess && code(answer) != dnsmessage.RCodeNameError
}

func first(message []byte) (q dnsmessage.Question, ok bool) {
	var parser dnsmessage.Parser
	if _, err := parser.Start(message); err != nil {
		return q, false
	}
	q, err := parser.Question()
	return q, err == nil
}
