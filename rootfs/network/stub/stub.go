// Package stub is the name server on 127.0.0.53 that programs of the machine
// ask where it matters whom one asks: it hands each question to the servers of
// the interfaces that are for the name, as package split chooses, and their
// answer back. RFC 1035, RFC 7766; the message's header and question are read
// with golang.org/x/net/dns/dnsmessage, the rest passes as it is.
//
// It is for the network daemon. Left out on purpose: a cache, DNSSEC, DNS over
// TLS, LLMNR and mDNS. The servers asked have caches, and answers that are
// signed pass whole.
package stub

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/split"
	"golang.org/x/net/dns/dnsmessage"
)

// Address is where it listens, as systemd-resolved does.
const Address = "127.0.0.53:53"

const (
	maxInFlight = 256 // questions at one time; more are dropped and come again
	maxStreams  = 64
	idle        = 10 * time.Second // of a TCP connection
)

// Server hands questions on.
type Server struct {
	packets net.PacketConn
	streams net.Listener
	log     *slog.Logger
	asker   asker

	mu     sync.Mutex
	scopes []split.Scope
}

// Listen opens the sockets.
func Listen(address string, log *slog.Logger) (*Server, error) {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for questions about names: %w", err)
	}
	streams, err := net.Listen("tcp", address)
	if err != nil {
		packets.Close()
		return nil, fmt.Errorf("listen for questions about names: %w", err)
	}
	return &Server{packets: packets, streams: streams, log: log}, nil
}

// Use has the next questions go to these interfaces.
func (s *Server) Use(scopes []split.Scope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scopes = scopes
}

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.packets.Close(); s.streams.Close() })
	defer stop()
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() { s.serveStreams(ctx, &wait) })
	places := make(chan struct{}, maxInFlight)
	for {
		buffer := make([]byte, 4096) // more than any question
		n, from, err := s.packets.ReadFrom(buffer)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue // news of a program that did not wait for its answer
		}
		select {
		case places <- struct{}{}:
		default:
			continue
		}
		wait.Go(func() {
			defer func() { <-places }()
			if answer := s.answer(ctx, buffer[:n], "udp"); answer != nil {
				s.packets.WriteTo(answer, from)
			}
		})
	}
}

func (s *Server) serveStreams(ctx context.Context, wait *sync.WaitGroup) {
	places := make(chan struct{}, maxStreams)
	for {
		conn, err := s.streams.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			select { // too many open files, perhaps
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		wait.Go(func() {
			defer func() { conn.Close(); <-places }()
			end := context.AfterFunc(ctx, func() { conn.Close() })
			defer end()
			s.serveStream(ctx, conn)
		})
	}
}

func (s *Server) serveStream(ctx context.Context, conn net.Conn) {
	for {
		conn.SetDeadline(time.Now().Add(idle))
		question, err := readStream(conn)
		if err != nil {
			return
		}
		answer := s.answer(ctx, question, "tcp")
		if answer == nil {
			return
		}
		conn.SetDeadline(time.Now().Add(idle))
		if err := writeStream(conn, answer); err != nil {
			return
		}
	}
}

// answer is nil for what deserves none.
func (s *Server) answer(ctx context.Context, question []byte, network string) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(question)
	if err != nil || header.Response {
		return nil
	}
	asked, err := parser.AllQuestions()
	switch {
	case err != nil:
		return refuse(header, nil, dnsmessage.RCodeFormatError)
	case header.OpCode != 0 || len(asked) != 1:
		return refuse(header, nil, dnsmessage.RCodeNotImplemented)
	}
	s.mu.Lock()
	scopes := s.scopes
	s.mu.Unlock()
	name := asked[0].Name.String()
	chosen := split.Choose(name, scopes)
	if len(chosen) == 0 {
		s.log.Debug(fmt.Sprintf("%s: no interface with name servers is for the name", name))
		return refuse(header, asked, dnsmessage.RCodeServerFailure)
	}
	answer, err := s.asker.all(ctx, chosen, question, network)
	if err != nil {
		s.log.Debug(fmt.Sprintf("%s: %v", name, err))
		return refuse(header, asked, dnsmessage.RCodeServerFailure)
	}
	return answer
}

func refuse(header dnsmessage.Header, asked []dnsmessage.Question, code dnsmessage.RCode) []byte {
	m := dnsmessage.Message{Questions: asked, Header: dnsmessage.Header{ID: header.ID, Response: true, OpCode: header.OpCode,
		RecursionDesired: header.RecursionDesired, RecursionAvailable: true, RCode: code}}
	answer, err := m.Pack()
	if err != nil {
		return nil // a question that cannot be written again
	}
	return answer
}

func readStream(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeStream(w io.Writer, message []byte) error {
	if len(message) > 1<<16-1 {
		return errors.New("the message is too long for TCP")
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	return err
}
