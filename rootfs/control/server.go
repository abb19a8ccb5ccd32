package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Server accepts connections and gives their requests to Handler.
type Server struct {
	Handler Handler
	Log     *slog.Logger
	// RequestTimeout bounds how long a peer may take to send its request and
	// to take a response; 0 means 30 s.
	RequestTimeout time.Duration
	// MaxConnections bounds how many peers are served at once; further ones
	// wait. 0 means 128.
	MaxConnections int
}

// Listen makes the socket at path, replacing a stale one. Everybody may
// connect: what one may do is decided by uid.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	return l, nil
}

// Inherit takes over a socket that Listen made from the copy of this program that
// was executed before; it closes f.
func Inherit(f *os.File) (*net.UnixListener, error) {
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over the control socket: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("take over the control socket: it is a %T", l)
	}
	return u, nil
}

// Serve answers on l until ctx ends or l fails; it returns when all
// connections are closed.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	limit := s.MaxConnections
	if limit == 0 {
		limit = 128
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	slots := make(chan struct{}, limit)
	var group sync.WaitGroup
	defer group.Wait()
	for {
		slots <- struct{}{}
		conn, err := l.AcceptUnix()
		if err != nil {
			<-slots
			if ctx.Err() != nil {
				return nil
			}
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
				s.Log.Warn("accept control connection", "err", err)
				time.Sleep(100 * time.Millisecond)
				continue
			}
			return fmt.Errorf("accept control connection: %w", err)
		}
		group.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			s.serve(ctx, conn)
		})
	}
}

// serve answers one connection. A panic of the handler ends this one only.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	timeout := s.RequestTimeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	var mu sync.Mutex
	enc := json.NewEncoder(conn)
	send := func(r Response) error {
		mu.Lock()
		defer mu.Unlock()
		conn.SetWriteDeadline(time.Now().Add(timeout))
		return enc.Encode(r)
	}
	peer, err := peerOf(conn)
	if err != nil {
		s.Log.Warn("control connection", "err", err)
		return
	}
	conn.SetReadDeadline(time.Now().Add(timeout))
	reader := bufio.NewReader(io.LimitReader(conn, MaxLine))
	req, err := readRequest(reader)
	if err == nil && !req.Verb.ReadOnly() && peer.UID != 0 {
		err = Errorf(Denied, "Access denied: %q needs root; use sudo.", req.Verb)
	}
	if err == nil {
		conn.SetReadDeadline(time.Time{})
		err = s.handle(ctx, conn, peer, req, send)
	}
	last := Response{Done: true}
	if err != nil {
		last.Error = asError(err)
	}
	if err := send(last); err != nil {
		s.Log.Debug("answer control request", "verb", req.Verb, "err", err)
	}
}

// handle runs the handler with a context that ends when the peer hangs up.
func (s *Server) handle(ctx context.Context, conn net.Conn, peer Peer, req Request, send func(Response) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		io.Copy(io.Discard, conn)
	}()
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("control request panicked", "verb", req.Verb, "units", req.Units, "panic", p)
			err = Errorf(Internal, "Internal fault while handling %q: %v. It is in the journal; the other units are not affected.", req.Verb, p)
		}
	}()
	return s.Handler.Handle(ctx, peer, req, send)
}

func readRequest(r *bufio.Reader) (Request, error) {
	line, err := r.ReadBytes('\n')
	if err != nil && (err != io.EOF || len(line) == 0) {
		return Request{}, Errorf(BadRequest, "Read request: %v.", err)
	}
	var req Request
	if err := json.Unmarshal(line, &req); err != nil {
		return Request{}, Errorf(BadRequest, "Read request: %v: send one JSON object on one line.", err)
	}
	if req.Verb == "" {
		return Request{}, Errorf(BadRequest, "Read request: it has no verb.")
	}
	return req, nil
}

func asError(err error) *Error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	return Errorf(Internal, "%s", err.Error())
}

// peerOf asks the kernel who is at the other end.
func peerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("ask for peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Peer{}, fmt.Errorf("ask for peer credentials: %w", err)
	}
	if credErr != nil {
		return Peer{}, fmt.Errorf("ask for peer credentials: %w", credErr)
	}
	return Peer{PID: int(cred.Pid), UID: int(cred.Uid), GID: int(cred.Gid)}, nil
}
