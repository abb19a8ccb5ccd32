package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// lingering is how long a terminal's output is waited for after its program
// ended, when what that program left behind keeps the terminal open.
const lingering = 300 * time.Millisecond

// process is the running program of a session.
type process struct {
	s       *session
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	outputs []io.ReadCloser // the terminal, or stdout and stderr
	busy    atomic.Int32    // writers to the client that hold data
}

// spawn starts cmd with the session's terminal or with pipes.
func (s *session) spawn(cmd *exec.Cmd) (*process, error) {
	p := &process{s: s, cmd: cmd}
	var child []*os.File
	if s.pty != nil {
		t := s.pty
		cmd.Stdin, cmd.Stdout, cmd.Stderr = t.slave, t.slave, t.slave
		cmd.SysProcAttr.Setctty = true // of descriptor 0, the slave
		p.stdin, p.outputs = t.master, []io.ReadCloser{t.master}
	} else if err := p.pipes(&child); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	release := s.confine(cmd)
	err := cmd.Start()
	release()
	for _, f := range child {
		f.Close()
	}
	if s.pty != nil {
		s.pty.slave.Close()
	}
	if err != nil {
		p.abandon()
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *process) pipes(child *[]*os.File) error {
	in, stdin, err := os.Pipe()
	if err != nil {
		return err
	}
	*child, p.stdin = append(*child, in), stdin
	p.own(in)
	p.cmd.Stdin = in
	for _, to := range []*io.Writer{&p.cmd.Stdout, &p.cmd.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			for _, f := range *child {
				f.Close()
			}
			p.abandon()
			return err
		}
		p.own(w)
		*to = w
		*child, p.outputs = append(*child, w), append(p.outputs, r)
	}
	return nil
}

// own gives a pipe to the session's user, so that scripts can open /dev/stdout
// and its like. A pipe that stays root's works in all else.
func (p *process) own(pipe *os.File) {
	if as := p.cmd.SysProcAttr.Credential; as != nil {
		_ = pipe.Chown(int(as.Uid), int(as.Gid))
	}
}

// begin copies between the client and the program until it has ended.
func (p *process) begin() {
	s := p.s
	if s.pty != nil && s.Limits.Command == "" && p.cmd.Args[0][0] == '-' && s.Greeting != nil {
		io.WriteString(crlf{s.ch}, s.Greeting())
	}
	go func() {
		io.Copy(p.stdin, s.ch)
		if s.pty == nil {
			p.stdin.Close()
		}
	}()
	var outputs sync.WaitGroup
	for i, r := range p.outputs {
		var to io.Writer = s.ch
		if i == 1 {
			to = s.ch.Stderr()
		}
		outputs.Add(1)
		go func() {
			defer outputs.Done()
			io.Copy(noted{to, &p.busy}, r)
		}()
	}
	go p.finish(&outputs)
}

// finish waits for the program, tells the client how it ended and closes the
// channel when its output is through.
func (p *process) finish(outputs *sync.WaitGroup) {
	s := p.s
	err := p.cmd.Wait()
	drained := make(chan struct{})
	go func() { outputs.Wait(); close(drained) }()
	if s.pty != nil {
		p.drainTerminal(drained)
	} else {
		<-drained
	}
	s.ch.CloseWrite()
	p.report(err)
	s.ch.Close()
}

// drainTerminal waits for the terminal's end of file, or until nothing has
// come from it for a while.
func (p *process) drainTerminal(drained <-chan struct{}) {
	tick := time.NewTicker(lingering)
	defer tick.Stop()
	for {
		select {
		case <-drained:
			return
		case <-tick.C:
			if p.busy.Load() == 0 && p.s.pty.pending() == 0 {
				return
			}
		}
	}
}

// report sends the exit status, or the signal that ended the program.
func (p *process) report(err error) {
	state := p.cmd.ProcessState
	if state == nil {
		p.s.Log.Warn("session: wait for the program", "error", err)
		return
	}
	status, _ := state.Sys().(syscall.WaitStatus)
	if !status.Signaled() {
		p.s.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status.ExitStatus())}))
		return
	}
	p.s.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Name       string
		CoreDumped bool
		Message    string
		Language   string
	}{signalName(status.Signal()), status.CoreDump(), "", ""}))
}

// abandon lets go of the program's streams.
func (p *process) abandon() {
	if p.stdin != nil {
		p.stdin.Close()
	}
	for _, r := range p.outputs {
		r.Close()
	}
}

// signals are those that RFC 4254, section 6.10, names.
var signals = map[string]syscall.Signal{
	"ABRT": unix.SIGABRT, "ALRM": unix.SIGALRM, "FPE": unix.SIGFPE, "HUP": unix.SIGHUP, "ILL": unix.SIGILL,
	"INT": unix.SIGINT, "KILL": unix.SIGKILL, "PIPE": unix.SIGPIPE, "QUIT": unix.SIGQUIT, "SEGV": unix.SIGSEGV,
	"TERM": unix.SIGTERM, "USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2,
}

func signalName(sig syscall.Signal) string {
	for name, s := range signals {
		if s == sig {
			return name
		}
	}
	return fmt.Sprintf("SIG%d@coracle", int(sig))
}

// signal sends a signal from the client to the program's process group.
func (s *session) signal(payload []byte) error {
	var v struct{ Name string }
	if err := ssh.Unmarshal(payload, &v); err != nil {
		return fmt.Errorf("read signal: %w", err)
	}
	sig, ok := signals[v.Name]
	if !ok {
		return fmt.Errorf("send signal %q: there is no such signal", v.Name)
	}
	if s.proc == nil {
		return errors.New("send signal: no program runs")
	}
	pid := s.proc.cmd.Process.Pid
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", pid), &st); err != nil {
		return nil // it has ended
	}
	if s.Account.UID != 0 && st.Uid != s.Account.UID {
		return fmt.Errorf("send signal %q: the program runs as another user", v.Name)
	}
	return unix.Kill(-pid, sig)
}

// noted counts the writes that are on their way to the client.
type noted struct {
	io.Writer
	busy *atomic.Int32
}

func (n noted) Write(b []byte) (int, error) {
	n.busy.Add(1)
	defer n.busy.Add(-1)
	return n.Writer.Write(b)
}

// crlf writes text to a terminal that nothing cooks for.
type crlf struct{ io.Writer }

func (w crlf) Write(b []byte) (int, error) {
	var out []byte
	for _, c := range b {
		if c == '\n' {
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	_, err := w.Writer.Write(out)
	return len(b), err
}
