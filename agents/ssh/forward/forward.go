package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/ssh/account"
	"github.com/coracle-os/coracle/agents/ssh/authkeys"
	"golang.org/x/crypto/ssh"
)

// dialTimeout bounds how long a connection for a client may take to open.
const dialTimeout = 30 * time.Second

// maxListeners bounds what one client may have listened on.
const maxListeners = 100

// Client is the forwarding state of one authenticated connection.
type Client struct {
	Conn    ssh.Conn
	Account account.Account
	Limits  authkeys.Options

	mu        sync.Mutex
	listeners map[string]net.Listener
	closed    bool
}

// Close ends everything that is listened on for the client.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, l := range c.listeners {
		l.Close()
	}
	c.listeners = nil
}

// DirectTCP serves a channel "direct-tcpip": the client's -L and -D.
func (c *Client) DirectTCP(ctx context.Context, request ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(request.ExtraData(), &to); err != nil {
		request.Reject(ssh.ConnectionFailed, "the request is malformed")
		return
	}
	if !c.Limits.AllowsOpen(to.Host, to.Port) {
		request.Reject(ssh.Prohibited, "the key may not open this address")
		return
	}
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(to.Host, strconv.FormatUint(uint64(to.Port), 10)))
	if err != nil {
		request.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	open(request, conn)
}

// DirectSocket serves a channel "direct-streamlocal@openssh.com": -L to a
// socket's path, opened with the user's rights.
func (c *Client) DirectSocket(request ssh.NewChannel) {
	var to struct {
		Path, Reserved string
		Reserved2      uint32
	}
	if err := ssh.Unmarshal(request.ExtraData(), &to); err != nil {
		request.Reject(ssh.ConnectionFailed, "the request is malformed")
		return
	}
	if !c.Limits.AllowsSocket() {
		request.Reject(ssh.Prohibited, "the key may not open sockets")
		return
	}
	var conn net.Conn
	err := c.Account.Do(func() (err error) {
		conn, err = net.DialTimeout("unix", to.Path, dialTimeout)
		return err
	})
	if err != nil {
		request.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	open(request, conn)
}

func open(request ssh.NewChannel, conn net.Conn) {
	ch, requests, err := request.Accept()
	if err != nil {
		conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	pipe(ch, conn)
}

type tcpForward struct {
	Host string
	Port uint32
}

// ListenTCP answers a global request "tcpip-forward": the client's -R.
func (c *Client) ListenTCP(payload []byte) (ok bool, reply []byte, err error) {
	var at tcpForward
	if err := ssh.Unmarshal(payload, &at); err != nil {
		return false, nil, fmt.Errorf("read forwarding request: %w", err)
	}
	if !c.Limits.AllowsListen(at.Host, at.Port) {
		return false, nil, fmt.Errorf("listen on port %d for the client: its key does not allow it", at.Port)
	}
	if at.Port > 0 && at.Port < 1024 && c.Account.UID != 0 {
		return false, nil, fmt.Errorf("listen on port %d for the client: ports below 1024 are root's", at.Port)
	}
	if at.Port > 65535 {
		return false, nil, fmt.Errorf("listen on port %d for the client: no such port", at.Port)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.FormatUint(uint64(at.Port), 10)))
	if err != nil {
		return false, nil, err
	}
	port := uint32(l.Addr().(*net.TCPAddr).Port)
	if err := c.keep(tcpForward{at.Host, port}.key(), l); err != nil {
		return false, nil, err
	}
	go accept(l, c.Conn, "forwarded-tcpip", func(conn net.Conn) []byte {
		from, _ := conn.RemoteAddr().(*net.TCPAddr)
		return ssh.Marshal(struct {
			Host       string
			Port       uint32
			OriginHost string
			OriginPort uint32
		}{at.Host, port, from.IP.String(), uint32(from.Port)})
	})
	if at.Port == 0 {
		reply = ssh.Marshal(struct{ Port uint32 }{port})
	}
	return true, reply, nil
}

func (f tcpForward) key() string { return fmt.Sprintf("tcp %s %d", f.Host, f.Port) }

// CancelTCP answers "cancel-tcpip-forward".
func (c *Client) CancelTCP(payload []byte) bool {
	var at tcpForward
	return ssh.Unmarshal(payload, &at) == nil && c.drop(at.key())
}

// ListenSocket answers "streamlocal-forward@openssh.com": -R of a socket's
// path, made with the user's rights and for the user alone.
func (c *Client) ListenSocket(payload []byte) (ok bool, err error) {
	var at struct{ Path string }
	if err := ssh.Unmarshal(payload, &at); err != nil {
		return false, fmt.Errorf("read forwarding request: %w", err)
	}
	if !c.Limits.AllowsSocket() {
		return false, fmt.Errorf("listen on socket %q for the client: its key does not allow it", at.Path)
	}
	var l net.Listener
	err = c.Account.Do(func() (err error) {
		if l, err = net.Listen("unix", at.Path); err == nil {
			err = os.Chmod(at.Path, 0o600)
		}
		return err
	})
	if err != nil {
		return false, err
	}
	if err := c.keep("unix "+at.Path, l); err != nil {
		return false, err
	}
	go accept(l, c.Conn, "forwarded-streamlocal@openssh.com", func(net.Conn) []byte {
		return ssh.Marshal(struct{ Path, Reserved string }{Path: at.Path})
	})
	return true, nil
}

// CancelSocket answers "cancel-streamlocal-forward@openssh.com".
func (c *Client) CancelSocket(payload []byte) bool {
	var at struct{ Path string }
	return ssh.Unmarshal(payload, &at) == nil && c.drop("unix "+at.Path)
}

// Agent makes a socket for SSH_AUTH_SOCK, behind which is the client's key
// agent; remove ends it. Only the user can reach it.
func (c *Client) Agent() (socket string, remove func(), err error) {
	if c.Limits.NoAgentForwarding {
		return "", nil, errors.New("forward the client's agent: its key does not allow it")
	}
	dir, err := os.MkdirTemp("", "ssh-")
	if err != nil {
		return "", nil, fmt.Errorf("forward the client's agent: %w", err)
	}
	socket = filepath.Join(dir, "agent")
	l, err := net.Listen("unix", socket)
	if err == nil {
		err = errors.Join(c.own(socket), c.own(dir), c.keep("agent "+socket, l))
	}
	remove = func() {
		c.drop("agent " + socket)
		os.RemoveAll(dir)
	}
	if err != nil {
		remove()
		return "", nil, fmt.Errorf("forward the client's agent: %w", err)
	}
	go accept(l, c.Conn, "auth-agent@openssh.com", func(net.Conn) []byte { return nil })
	return socket, remove, nil
}

func (c *Client) own(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, int(c.Account.UID), int(c.Account.GID))
}

func (c *Client) keep(key string, l net.Listener) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.listeners) >= maxListeners {
		l.Close()
		return fmt.Errorf("listen for the client: more than %d forwardings, or its connection ended", maxListeners)
	}
	if c.listeners == nil {
		c.listeners = map[string]net.Listener{}
	}
	c.listeners[key] = l
	return nil
}

func (c *Client) drop(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.listeners[key]
	if ok {
		l.Close()
		delete(c.listeners, key)
	}
	return ok
}
