// Package ssh is the SSH server of a Coracle machine: the way in for its owner,
// from the first seconds of a boot. It lets in with public keys only.
//
// Shells with and without a terminal, commands, sftp (and scp, which uses it),
// forwarding of ports, Unix sockets and key agents work as with OpenSSH's sshd
// in its usual configuration. Every program runs as its user, sftp too.
//
// Left out on purpose: passwords, certificates, X11, host-based logins,
// configuration files, PAM. `scp -O` needs a program scp on the machine.
//
// The protocol is golang.org/x/crypto/ssh, under gliderlabs/ssh, which accepts
// connections and hands out requests. What the sub-packages do in its place is
// said there.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coracle-os/coracle/agents/ssh/account"
	"github.com/coracle-os/coracle/agents/ssh/authkeys"
	"github.com/coracle-os/coracle/agents/ssh/forward"
	"github.com/coracle-os/coracle/agents/ssh/session"
	gssh "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"
)

// The limits are OpenSSH's, except that keep-alives are on.
const (
	maxAuthTries    = 6
	maxSessions     = 10               // per connection
	maxStartups     = 100              // connections that have not logged in yet
	defaultGrace    = 2 * time.Minute  // to log in
	keepAliveEvery  = 60 * time.Second // while connected
	keepAliveMisses = 3
)

// Server says how to serve. Root and Log are required.
type Server struct {
	Root       string // where etc/passwd and etc/group are: "/"
	Log        *slog.Logger
	HostKeys   []ssh.Signer
	Greeting   func() string // shown to people at login, may be nil
	SFTP       []string      // the program that serves sftp, with its arguments
	CgroupRoot string        // see session.Config
	Grace      time.Duration // time to log in, 0 for the default
	Now        func() time.Time

	server   *gssh.Server
	startups atomic.Int32
}

// identity is what a key proved: whose it is and what it may do.
type identity struct {
	account account.Account
	limits  authkeys.Options
}

// identityKey is the key of identity in the permissions' data.
type identityKey struct{}

// Serve answers connections to l until ctx ends. Sessions that are open then
// are cut. More host keys can be added meanwhile with AddHostKey.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for delay := time.Duration(0); ; {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept connections: %w", err)
		case err != nil: // for example out of descriptors: it may pass
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.Log.Warn("accept a connection: " + err.Error())
			time.Sleep(delay)
		default:
			delay = 0
			go s.connection(conn)
		}
	}
}

// Prepare makes the server ready; it must be called before Serve.
func (s *Server) Prepare() {
	if s.Grace == 0 {
		s.Grace = defaultGrace
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	none := map[string]gssh.SubsystemHandler{}
	s.server = &gssh.Server{
		Version:              "Coracle",
		PublicKeyHandler:     s.authenticate,
		ServerConfigCallback: s.config,
		ConnCallback: func(ctx gssh.Context, conn net.Conn) net.Conn {
			ctx.SetValue(startingKey{}, conn)
			return conn
		},
		ChannelHandlers:   map[string]gssh.ChannelHandler{"default": s.reject},
		RequestHandlers:   map[string]gssh.RequestHandler{"default": s.global},
		SubsystemHandlers: none,
	}
	for _, kind := range []string{"session", "direct-tcpip", "direct-streamlocal@openssh.com"} {
		s.server.ChannelHandlers[kind] = s.channel
	}
	for _, k := range s.HostKeys {
		s.server.AddHostKey(k)
	}
}

// AddHostKey adds a key for the connections that come from now on.
func (s *Server) AddHostKey(k ssh.Signer) { s.server.AddHostKey(k) }

// connection serves one client. A panic in its own goroutine ends only it.
func (s *Server) connection(conn net.Conn) {
	defer s.contain("connection from " + conn.RemoteAddr().String())
	defer conn.Close()
	if s.startups.Add(1) > maxStartups {
		s.startups.Add(-1)
		s.Log.Warn(fmt.Sprintf("connection from %s dropped: %d others have not logged in yet", conn.RemoteAddr(), maxStartups))
		return
	}
	c := &starting{Conn: conn}
	c.leave = sync.OnceFunc(func() { s.startups.Add(-1) })
	timer := time.AfterFunc(s.Grace, func() {
		if !c.in.Load() {
			s.Log.Info("connection from " + conn.RemoteAddr().String() + " closed: no login in time")
			conn.Close()
		}
	})
	defer timer.Stop()
	defer c.leave()
	s.server.HandleConn(c)
}

// starting is a connection that may not have logged in yet.
type starting struct {
	net.Conn
	in    atomic.Bool
	leave func()
}

// startingKey is the key of starting in the connection's context.
type startingKey struct{}

// SetDeadline is for the server library, which would clear deadlines on every
// read; there are none to set.
func (*starting) SetDeadline(time.Time) error { return nil }

// contain keeps a panic to what it was about. It is deferred.
func (s *Server) contain(what string) {
	if p := recover(); p != nil {
		s.Log.Error(fmt.Sprintf("%s: panic: %v", what, p), "stack", string(debug.Stack()))
	}
}

// config is called for each connection.
func (s *Server) config(ctx gssh.Context) *ssh.ServerConfig {
	start, _ := ctx.Value(startingKey{}).(*starting)
	return &ssh.ServerConfig{
		MaxAuthTries: maxAuthTries,
		AuthLogCallback: func(c ssh.ConnMetadata, method string, err error) {
			if err == nil && start != nil {
				start.in.Store(true)
				start.leave()
			}
			if err != nil && method != "none" {
				s.Log.Info(fmt.Sprintf("Failed %s for %q from %s", method, c.User(), c.RemoteAddr()))
			}
		},
	}
}

// authenticate says whether a key lets the user in. Clients ask before they
// prove that they have the key: what is found out here is kept in permissions
// of its own for each key, of which the library keeps those that were proved.
func (s *Server) authenticate(ctx gssh.Context, key gssh.PublicKey) (ok bool) {
	defer s.contain("login of " + ctx.User())
	id, err := s.identify(ctx.User(), key, ctx.RemoteAddr())
	if err != nil {
		s.Log.Info(fmt.Sprintf("key %s refused for %q from %s: %v", ssh.FingerprintSHA256(key), ctx.User(), ctx.RemoteAddr(), err))
		return false
	}
	p := &ssh.Permissions{Extensions: map[string]string{}, ExtraData: map[any]any{identityKey{}: id}}
	if id.limits.NoTouchRequired {
		p.Extensions["no-touch-required"] = ""
	}
	ctx.Permissions().Permissions = p
	return true
}

func (s *Server) identify(name string, key ssh.PublicKey, from net.Addr) (*identity, error) {
	a, ok, err := account.Lookup(s.Root, name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errors.New("there is no such user")
	}
	files, problems := a.KeyFiles()
	for path, data := range files {
		entries, bad := authkeys.Parse(data)
		for _, b := range bad {
			problems = append(problems, fmt.Errorf("%s: %w", path, b))
		}
		for _, e := range entries {
			if !gssh.KeysEqual(e.Key, key) {
				continue
			}
			if err := e.Options.Allows(address(from), s.Now()); err != nil {
				problems = append(problems, err)
				continue
			}
			return &identity{a, e.Options}, nil
		}
	}
	return nil, errors.Join(append([]error{errors.New("it is in none of the user's authorized_keys")}, problems...)...)
}

func address(a net.Addr) netip.Addr {
	if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		return ap.Addr().Unmap()
	}
	return netip.Addr{}
}

// login is one authenticated connection.
type login struct {
	*identity
	forward  *forward.Client
	session  session.Config
	sessions atomic.Int32
}

// loginKey is the key of login in the connection's context.
type loginKey struct{}

// login returns the connection's login, made at the first request.
func (s *Server) login(ctx gssh.Context) *login {
	ctx.Lock()
	defer ctx.Unlock()
	if l, ok := ctx.Value(loginKey{}).(*login); ok {
		return l
	}
	conn := ctx.Value(gssh.ContextKeyConn).(*ssh.ServerConn)
	id := conn.Permissions.ExtraData[identityKey{}].(*identity)
	l := &login{identity: id, forward: &forward.Client{Conn: conn, Account: id.account, Limits: id.limits}}
	l.session = session.Config{
		Account: id.account, Limits: id.limits, Log: s.Log, SFTP: s.SFTP, Greeting: s.Greeting,
		CgroupRoot: s.CgroupRoot, Environ: connectionEnviron(conn), ForwardAgent: l.forward.Agent,
	}
	ctx.SetValue(loginKey{}, l)
	go s.watch(ctx, conn, l)
	return l
}
