package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/term"
)

// lost is the exit code of a command whose end is not known, as of ssh(1).
const lost = 255

// ForwardAgent lets programs on the machine use the own key agent.
func (c *Client) ForwardAgent() error {
	if c.agent == "" {
		return errors.New("forward the key agent: SSH_AUTH_SOCK is not set; start ssh-agent, or leave -A out")
	}
	if err := agent.ForwardToRemote(c.Client, c.agent); err != nil {
		return fmt.Errorf("forward the key agent: %w", err)
	}
	return nil
}

// Run runs a shell command on the machine and returns its exit code; 255 and
// an error when that is not known. forward asks for the agent; ForwardAgent
// must have been called. With an empty command it is the user's shell, with a
// terminal when stdio.In is one. When ctx ends the connection is cut.
func (c *Client) Run(ctx context.Context, command string, forward bool, stdio program.Stdio) (int, error) {
	session, err := c.NewSession()
	if err != nil {
		return lost, fmt.Errorf("open a session: %w", err)
	}
	defer session.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	session.Stdin, session.Stdout, session.Stderr = stdio.In, stdio.Out, stdio.Err
	if forward {
		if err := agent.RequestAgentForwarding(session); err != nil {
			return lost, fmt.Errorf("forward the key agent: %w", err)
		}
	}
	if command != "" {
		return exitCode(ctx, session.Run(command))
	}
	restore, err := terminal(session, stdio.In)
	if err != nil {
		return lost, err
	}
	defer restore()
	if err := session.Shell(); err != nil {
		return lost, fmt.Errorf("start a shell: %w", err)
	}
	return exitCode(ctx, session.Wait())
}

func exitCode(ctx context.Context, err error) (int, error) {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case ctx.Err() != nil:
		return lost, ctx.Err()
	case errors.As(err, &exit) && exit.Signal() != "":
		return lost, fmt.Errorf("the command was ended by signal %s", exit.Signal())
	case errors.As(err, &exit):
		return exit.ExitStatus(), nil
	}
	return lost, fmt.Errorf("the connection was lost before the command's end: %w", err)
}

// terminal asks for a terminal like the one that in is, if it is one, and
// makes that pass every key on. restore undoes that.
func terminal(session *ssh.Session, in io.Reader) (restore func(), err error) {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return func() {}, nil
	}
	fd := int(file.Fd())
	width, height, err := term.GetSize(fd)
	if err != nil {
		width, height = 80, 24
	}
	name := os.Getenv("TERM")
	if name == "" {
		name = "vt100"
	}
	if err := session.RequestPty(name, height, width, ssh.TerminalModes{}); err != nil {
		return nil, fmt.Errorf("ask for a terminal: %w", err)
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("prepare the terminal: %w", err)
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	go func() {
		for range resized {
			if w, h, err := term.GetSize(fd); err == nil {
				session.WindowChange(h, w) // an old size is no harm
			}
		}
	}()
	return func() {
		signal.Stop(resized)
		close(resized)
		term.Restore(fd, old)
	}, nil
}

// Pipe runs a command on the machine whose standard input and output are the
// connection that it returns, as `fleetctl fd-forward SOCKET` is made for.
func (c *Client) Pipe(command string) (net.Conn, error) {
	session, err := c.NewSession()
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	p := &pipe{session: session}
	if p.in, err = session.StdinPipe(); err == nil {
		p.out, err = session.StdoutPipe()
	}
	session.Stderr = &p.said
	if err == nil {
		err = session.Start(command)
	}
	if err != nil {
		session.Close()
		return nil, fmt.Errorf("run %q on the tunnel's machine: %w", command, err)
	}
	return p, nil
}

// pipe is a net.Conn on a command. Deadlines are not kept: the caller's
// context closes it.
type pipe struct {
	session *ssh.Session
	in      io.WriteCloser
	out     io.Reader
	said    words
	got     bool
}

func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	p.got = p.got || n > 0
	if errors.Is(err, io.EOF) && !p.got {
		waited := p.session.Wait() // for all of its words
		if said := p.said.String(); said != "" || waited != nil {
			return n, fmt.Errorf("the tunnel's machine cannot forward to its API: %s", strings.TrimSpace(said+" "+errorText(waited)))
		}
	}
	return n, err
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return "(" + err.Error() + ")"
}

func (p *pipe) Write(b []byte) (int, error)      { return p.in.Write(b) }
func (p *pipe) Close() error                     { p.in.Close(); return p.session.Close() }
func (p *pipe) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "ssh", Net: "unix"} }
func (p *pipe) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "ssh", Net: "unix"} }
func (p *pipe) SetDeadline(time.Time) error      { return nil }
func (p *pipe) SetReadDeadline(time.Time) error  { return nil }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

// words keeps the first of what a command says.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if free := 4096 - w.b.Len(); free > 0 {
		w.b.Write(p[:min(free, len(p))])
	}
	return len(p), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
