package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// ttyGroup is the group "tty", that programs such as write(1) run as.
const ttyGroup = 5

// terminal is a session's pseudo-terminal.
type terminal struct {
	master, slave *os.File
	name          string // "/dev/pts/0"
	term          string // "xterm-256color"
}

type windowSize struct{ Columns, Rows, Width, Height uint32 }

// newTerminal opens a pair. The library's system calls put the master into
// blocking mode, in which a read cannot be ended by closing it, so that a lost
// client's programs would live on: a fresh descriptor undoes that.
func newTerminal(term string) (*terminal, error) {
	blocking, slave, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer blocking.Close()
	fd, err := unix.FcntlInt(blocking.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		slave.Close()
		return nil, err
	}
	return &terminal{master: os.NewFile(uintptr(fd), "/dev/ptmx"), slave: slave, name: slave.Name(), term: term}, nil
}

func (t *terminal) resize(w windowSize) error {
	raw, err := t.master.SyscallConn()
	if err != nil {
		return err
	}
	clamp := func(n uint32) uint16 { return uint16(min(n, 1<<16-1)) }
	size := &unix.Winsize{Row: clamp(w.Rows), Col: clamp(w.Columns), Xpixel: clamp(w.Width), Ypixel: clamp(w.Height)}
	return errors.Join(raw.Control(func(fd uintptr) { err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) }), err)
}

// ptyRequest makes the session's terminal.
func (s *session) ptyRequest(payload []byte) error {
	var v struct {
		Term string
		Size []byte `ssh:"rest"`
	}
	if s.pty != nil || s.proc != nil {
		return errors.New("make a terminal: too late")
	}
	if s.Limits.NoPTY {
		return errors.New("make a terminal: the key does not allow it")
	}
	if err := ssh.Unmarshal(payload, &v); err != nil {
		return fmt.Errorf("make a terminal: %w", err)
	}
	var rest struct {
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if err := ssh.Unmarshal(v.Size, &rest); err != nil {
		return fmt.Errorf("make a terminal: %w", err)
	}
	t, err := newTerminal(v.Term)
	if err != nil {
		return fmt.Errorf("make a terminal: %w", err)
	}
	s.pty = t
	size := windowSize{rest.Columns, rest.Rows, rest.Width, rest.Height}
	if err := errors.Join(t.resize(size), t.apply([]byte(rest.Modes))); err != nil {
		s.Log.Warn("session: " + err.Error())
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(t.slave.Chown(int(s.Account.UID), ttyGroup), t.slave.Chmod(0o620)); err != nil {
			return fmt.Errorf("make a terminal: %w", err)
		}
	}
	return nil
}

func (s *session) windowChange(payload []byte) error {
	var v windowSize
	if err := ssh.Unmarshal(payload, &v); err != nil || s.pty == nil {
		return errors.New("change the window: malformed, or there is no terminal")
	}
	return s.pty.resize(v)
}

func (t *terminal) close() {
	t.master.Close()
	t.slave.Close()
}

// pending returns how many bytes wait to be read from the terminal.
func (t *terminal) pending() (n int) {
	raw, err := t.master.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}

// apply sets the modes of the client's terminal (RFC 4254, section 8).
func (t *terminal) apply(modes []byte) error {
	raw, err := t.slave.SyscallConn()
	if err != nil {
		return fmt.Errorf("set terminal modes: %w", err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var io *unix.Termios
		if io, inner = unix.IoctlGetTermios(int(fd), unix.TCGETS); inner != nil {
			return
		}
		for len(modes) >= 5 && modes[0] != 0 {
			set(io, modes[0], binary.BigEndian.Uint32(modes[1:5]))
			modes = modes[5:]
		}
		inner = unix.IoctlSetTermios(int(fd), unix.TCSETS, io)
	})
	if err = errors.Join(err, inner); err != nil {
		return fmt.Errorf("set terminal modes: %w", err)
	}
	return nil
}

// set changes one mode; one that Linux does not have is passed over.
func set(io *unix.Termios, mode uint8, value uint32) {
	if index, ok := characters[mode]; ok {
		if value == 255 { // "disabled"
			value = 0
		}
		io.Cc[index] = uint8(value)
		return
	}
	f, ok := flags[mode]
	if !ok {
		return
	}
	word := map[byte]*uint32{'i': &io.Iflag, 'o': &io.Oflag, 'l': &io.Lflag, 'c': &io.Cflag}[f.word]
	*word &^= f.mask
	if value != 0 {
		*word |= f.bits
	}
}

// characters are the modes that are a control character.
var characters = map[uint8]int{
	ssh.VINTR: unix.VINTR, ssh.VQUIT: unix.VQUIT, ssh.VERASE: unix.VERASE, ssh.VKILL: unix.VKILL, ssh.VEOF: unix.VEOF,
	ssh.VEOL: unix.VEOL, ssh.VEOL2: unix.VEOL2, ssh.VSTART: unix.VSTART, ssh.VSTOP: unix.VSTOP, ssh.VSUSP: unix.VSUSP,
	ssh.VREPRINT: unix.VREPRINT, ssh.VWERASE: unix.VWERASE, ssh.VLNEXT: unix.VLNEXT, ssh.VDISCARD: unix.VDISCARD,
}

// flag is a bit of one of the terminal's four words; mask is cleared first.
type flag struct {
	word       byte
	mask, bits uint32
}

func bit(word byte, b uint32) flag { return flag{word, b, b} }

var flags = map[uint8]flag{
	ssh.IGNPAR: bit('i', unix.IGNPAR), ssh.PARMRK: bit('i', unix.PARMRK), ssh.INPCK: bit('i', unix.INPCK),
	ssh.ISTRIP: bit('i', unix.ISTRIP), ssh.INLCR: bit('i', unix.INLCR), ssh.IGNCR: bit('i', unix.IGNCR),
	ssh.ICRNL: bit('i', unix.ICRNL), ssh.IXON: bit('i', unix.IXON), ssh.IXANY: bit('i', unix.IXANY),
	ssh.IXOFF: bit('i', unix.IXOFF), ssh.IMAXBEL: bit('i', unix.IMAXBEL), ssh.IUTF8: bit('i', unix.IUTF8),
	ssh.ISIG: bit('l', unix.ISIG), ssh.ICANON: bit('l', unix.ICANON), ssh.ECHO: bit('l', unix.ECHO),
	ssh.ECHOE: bit('l', unix.ECHOE), ssh.ECHOK: bit('l', unix.ECHOK), ssh.ECHONL: bit('l', unix.ECHONL),
	ssh.NOFLSH: bit('l', unix.NOFLSH), ssh.TOSTOP: bit('l', unix.TOSTOP), ssh.IEXTEN: bit('l', unix.IEXTEN),
	ssh.ECHOCTL: bit('l', unix.ECHOCTL), ssh.ECHOKE: bit('l', unix.ECHOKE), ssh.PENDIN: bit('l', unix.PENDIN),
	ssh.OPOST: bit('o', unix.OPOST), ssh.ONLCR: bit('o', unix.ONLCR), ssh.OCRNL: bit('o', unix.OCRNL),
	ssh.ONOCR: bit('o', unix.ONOCR), ssh.ONLRET: bit('o', unix.ONLRET),
	ssh.CS7: {'c', unix.CSIZE, unix.CS7}, ssh.CS8: {'c', unix.CSIZE, unix.CS8},
	ssh.PARENB: bit('c', unix.PARENB), ssh.PARODD: bit('c', unix.PARODD),
}
