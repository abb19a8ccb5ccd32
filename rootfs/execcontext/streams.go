package execcontext

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/spawn"
	"github.com/coracle-os/coracle/rootfs/unit"
)

func closeFD(fd int) { _ = unix.Close(fd) }

// openStreams fills in the three standard streams and returns JOURNAL_STREAM
// when one of them is the journal.
func (sys System) openStreams(p *Prepared, r Request) ([]string, error) {
	c := r.Context
	in, err := sys.input(p, r)
	if err != nil {
		return nil, &spawn.Error{Status: spawn.StatusStdin, Err: err}
	}
	p.Spec.Streams[0] = in
	out, err := sys.output(p, r, c.StandardOutput, in)
	if err != nil {
		return nil, &spawn.Error{Status: spawn.StatusStdout, Err: err}
	}
	p.Spec.Streams[1] = out
	errOut := out
	if c.StandardError.Kind != unit.StreamInherit && c.StandardError.Kind != "" && !sameStream(c.StandardError, c.StandardOutput) {
		if errOut, err = sys.output(p, r, c.StandardError, in); err != nil {
			return nil, &spawn.Error{Status: spawn.StatusStdout, Err: err}
		}
	}
	p.Spec.Streams[2] = errOut
	return sys.journalVariable(p, c), nil
}

func sameStream(a, b unit.Stream) bool {
	return a.Kind == b.Kind && a.Path == b.Path && a.Name == b.Name
}

// journalVariable tells the command which of its streams is the journal.
func (sys System) journalVariable(p *Prepared, c *unit.ExecContext) []string {
	if c.StandardOutput.Kind != unit.StreamJournal && c.StandardError.Kind != unit.StreamJournal {
		return nil
	}
	var st unix.Stat_t
	fd := p.Spec.Streams[2]
	if fd < 0 || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil
	}
	return []string{"JOURNAL_STREAM=" + strconv.FormatUint(st.Dev, 10) + ":" + strconv.FormatUint(st.Ino, 10)}
}

func (sys System) input(p *Prepared, r Request) (int, error) {
	s := r.Context.StandardInput
	switch s.Kind {
	case unit.StreamTTY, unit.StreamTTYForce, unit.StreamTTYFail:
		p.Spec.TTY = sys.terminal(r.Context)
		return -1, nil
	case unit.StreamSocket:
		if r.Socket < 0 {
			return -1, errors.New("StandardInput=socket: there is no connection; the unit is for a socket with Accept=yes")
		}
		return r.Socket, nil
	case unit.StreamFile, unit.StreamAppend, unit.StreamTruncate:
		return p.openFile(filepath.Join(sys.Root, s.Path), unix.O_RDONLY)
	case unit.StreamFD:
		return passedNamed(r, s.Name)
	case unit.StreamData:
		return p.data(s.Data)
	default:
		return p.openFile("/dev/null", unix.O_RDONLY)
	}
}

func (sys System) terminal(c *unit.ExecContext) string {
	if c.TTYPath != "" {
		return c.TTYPath
	}
	return sys.Console
}

func passedNamed(r Request, name string) (int, error) {
	for i, n := range r.Names {
		if n == name {
			return r.Passed[i], nil
		}
	}
	return -1, fmt.Errorf("no passed descriptor is named %q", name)
}

func (sys System) output(p *Prepared, r Request, s unit.Stream, in int) (int, error) {
	path := filepath.Join(sys.Root, s.Path)
	switch s.Kind {
	case unit.StreamNull:
		return p.openFile("/dev/null", unix.O_WRONLY)
	case unit.StreamTTY, unit.StreamTTYForce, unit.StreamTTYFail:
		if p.Spec.TTY != "" {
			return -1, nil
		}
		return p.openFile(sys.terminal(r.Context), unix.O_WRONLY|unix.O_NOCTTY)
	case unit.StreamFile:
		return p.openFile(path, unix.O_WRONLY|unix.O_CREAT)
	case unit.StreamAppend:
		return p.openFile(path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND)
	case unit.StreamTruncate:
		return p.openFile(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	case unit.StreamKmsg, unit.StreamKmsgConsole:
		return p.openFile("/dev/kmsg", unix.O_WRONLY)
	case unit.StreamSocket:
		return r.Socket, nil
	case unit.StreamFD:
		return passedNamed(r, s.Name)
	case unit.StreamInherit:
		switch r.Context.StandardInput.Kind {
		case unit.StreamTTY, unit.StreamTTYForce, unit.StreamTTYFail, unit.StreamSocket, unit.StreamFD:
			return in, nil
		}
	}
	return sys.journal(p, r)
}

func (p *Prepared) openFile(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return -1, fmt.Errorf("open %q: %w", path, err)
	}
	_ = unix.SetNonblock(fd, false)
	p.open = append(p.open, fd)
	return fd, nil
}

// data returns a descriptor from which the given bytes can be read.
func (p *Prepared) data(b []byte) (int, error) {
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("hold the input: %w", err)
	}
	p.open = append(p.open, fd)
	if _, err := unix.Write(fd, b); err != nil {
		return -1, fmt.Errorf("hold the input: %w", err)
	}
	_, err = unix.Seek(fd, 0, 0)
	return fd, err
}

// journal connects to the journal's stream socket on the command's behalf. It
// never waits for the journal: when that is not there or does not take the
// connection, the output goes to the kernel's log, or nowhere.
func (sys System) journal(p *Prepared, r Request) (int, error) {
	fd, err := sys.connectJournal(r)
	if err == nil {
		p.open = append(p.open, fd)
		return fd, nil
	}
	if fd, err := p.openFile("/dev/kmsg", unix.O_WRONLY); err == nil {
		return fd, nil
	}
	return p.openFile("/dev/null", unix.O_WRONLY)
}

func (sys System) connectJournal(r Request) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	for try := 0; ; try++ {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: sys.JournalSocket})
		if err != unix.EAGAIN || try == 20 {
			break
		}
		time.Sleep(time.Millisecond) // its queue is full: it is reading
	}
	if err == nil {
		_ = unix.Shutdown(fd, unix.SHUT_RD)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<20)
		_, err = unix.Write(fd, []byte(journalHeader(r)))
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// journalHeader is the head of a journal stream: identifier, unit, priority,
// then whether lines may begin with <N>, and whether to forward to syslog, the
// kernel's log and the console.
func journalHeader(r Request) string {
	c := r.Context
	id := c.SyslogIdentifier
	if id == "" {
		id = filepath.Base(r.Command.Path)
	}
	flag := func(b bool) string {
		if b {
			return "1"
		}
		return "0"
	}
	console := c.StandardOutput.Kind == unit.StreamJournalConsole
	return strings.Join([]string{id, r.Unit, strconv.Itoa(c.SyslogFacility<<3 | c.SyslogLevel), flag(c.SyslogLevelPrefix),
		"0", "0", flag(console), ""}, "\n")
}
