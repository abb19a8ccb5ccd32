// Package session runs what an SSH client asks for in a session channel (RFC
// 4254, section 6): a login shell or a command, with or without a terminal, or
// the sftp subsystem, as the user's own process. It is for the SSH server.
//
// The server library's own session handler is not used: it rewrites line ends
// in what a terminal sends, which breaks programs that draw the screen, and it
// cannot tell the client that a signal ended the command.
//
// Left out on purpose: X11, user files that run at login (~/.ssh/rc) and utmp.
package session

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/coracle-os/coracle/agents/ssh/account"
	"github.com/coracle-os/coracle/agents/ssh/authkeys"
	"golang.org/x/crypto/ssh"
)

// Config is what all sessions of one connection share.
type Config struct {
	Account      account.Account
	Limits       authkeys.Options
	Log          *slog.Logger
	Environ      []string // what every session gets, for example SSH_CONNECTION
	SFTP         []string // the program and arguments that serve sftp
	Greeting     func() string
	CgroupRoot   string // "/sys/fs/cgroup", or empty for none
	ForwardAgent func() (socket string, remove func(), err error)
}

// maxEnviron bounds the variables that a client may send.
const maxEnviron = 128

// session is one channel. Only the goroutine of Serve touches it before the
// program runs; afterwards the fields are not changed.
type session struct {
	Config
	ch      ssh.Channel
	environ []string
	pty     *terminal
	agent   string
	cleanup []func()

	mu   sync.Mutex
	proc *process
}

// Serve answers the requests of one channel until the client closes it, and
// ends what belongs to it.
func (c Config) Serve(ch ssh.Channel, requests <-chan *ssh.Request) {
	s := &session{Config: c, ch: ch}
	defer s.close()
	for r := range requests {
		ok := s.handle(r)
		if r.WantReply {
			r.Reply(ok, nil)
		}
		if ok && s.startable(r.Type) {
			s.proc.begin()
		}
	}
}

func (s *session) startable(kind string) bool {
	return kind == "shell" || kind == "exec" || kind == "subsystem"
}

// handle acts on one request and says whether it succeeded.
func (s *session) handle(r *ssh.Request) bool {
	var err error
	switch r.Type {
	case "env":
		err = s.env(r.Payload)
	case "pty-req":
		err = s.ptyRequest(r.Payload)
	case "window-change":
		err = s.windowChange(r.Payload)
	case "auth-agent-req@openssh.com":
		err = s.agentRequest()
	case "shell", "exec", "subsystem":
		err = s.start(r.Type, r.Payload)
	case "signal":
		err = s.signal(r.Payload)
	default:
		return false
	}
	if err != nil {
		s.Log.Warn("session: "+err.Error(), "user", s.Account.Name, "request", r.Type)
	}
	return err == nil
}

// accepted are the variables that a client may set, as in Debian's OpenSSH,
// and those that tell a program what the terminal can do.
func accepted(name string) bool {
	switch name {
	case "LANG", "LANGUAGE", "COLORTERM", "NO_COLOR", "TZ":
		return true
	}
	return strings.HasPrefix(name, "LC_")
}

func (s *session) env(payload []byte) error {
	var v struct{ Name, Value string }
	if err := ssh.Unmarshal(payload, &v); err != nil {
		return fmt.Errorf("read variable: %w", err)
	}
	if !accepted(v.Name) || len(s.environ) >= maxEnviron || strings.ContainsRune(v.Value, 0) {
		return nil // refused silently, as clients send what they have
	}
	s.environ = append(s.environ, v.Name+"="+v.Value)
	return nil
}

func (s *session) agentRequest() error {
	if s.agent != "" {
		return nil
	}
	socket, remove, err := s.ForwardAgent()
	if err != nil {
		return err
	}
	s.agent = socket
	s.cleanup = append(s.cleanup, remove)
	return nil
}

// start prepares the program that a request asks for; begin runs it on.
func (s *session) start(kind string, payload []byte) error {
	if s.proc != nil {
		return fmt.Errorf("start a program: the session has one already")
	}
	var asked struct{ Text string }
	if kind != "shell" {
		if err := ssh.Unmarshal(payload, &asked); err != nil {
			return fmt.Errorf("read request: %w", err)
		}
	}
	cmd, err := s.command(kind, asked.Text)
	if err != nil {
		return err
	}
	proc, err := s.spawn(cmd)
	if err != nil {
		fmt.Fprintf(s.ch.Stderr(), "%v\r\n", err)
		return err
	}
	s.mu.Lock()
	s.proc = proc
	s.mu.Unlock()
	return nil
}

// close ends what the session holds; its program gets SIGHUP by losing its
// terminal, or sees the end of its input.
func (s *session) close() {
	if s.proc != nil {
		s.proc.abandon()
	}
	for _, f := range s.cleanup {
		f()
	}
	if s.pty != nil {
		s.pty.close()
	}
	s.ch.Close()
}
