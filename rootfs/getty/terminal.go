package getty

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is an opened and set up terminal, the controlling one.
type terminal struct {
	file *os.File
	fd   int
}

// Size of a serial terminal that does not say its own.
const (
	defaultRows    = 24
	defaultColumns = 80
)

// openTerminal opens path, begins a session on it and sets it up.
func openTerminal(path string) (*terminal, error) {
	unix.Setsid() // fails when this is a session leader already, which is as good
	// A serial line without carrier blocks in open: so not at first.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open terminal %q: %w", path, err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		return nil, fmt.Errorf("open terminal %q: %w", path, err)
	}
	t := &terminal{file: os.NewFile(uintptr(fd), path), fd: fd}
	if err := t.setUp(); err != nil {
		return nil, fmt.Errorf("set up terminal %q: %w", path, err)
	}
	// 1 takes the terminal away from a session that is left over.
	if err := unix.IoctlSetInt(fd, unix.TIOCSCTTY, 1); err != nil {
		return nil, fmt.Errorf("take terminal %q: %w", path, err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, unix.Getpgrp()); err != nil {
		return nil, fmt.Errorf("take terminal %q: %w", path, err)
	}
	return t, nil
}

// setUp makes the terminal sane, as agetty does, and keeps its speed.
func (t *terminal) setUp() error {
	settings, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	if err != nil {
		return err
	}
	settings.Iflag = unix.ICRNL | unix.IXON | unix.IUTF8
	settings.Oflag = unix.OPOST | unix.ONLCR
	settings.Cflag = settings.Cflag&(unix.CBAUD|unix.CBAUDEX) | unix.CS8 | unix.CREAD | unix.HUPCL | unix.CLOCAL
	settings.Lflag = unix.ISIG | unix.ICANON | unix.IEXTEN | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.ECHOKE | unix.ECHOCTL
	for key, value := range map[int]byte{unix.VINTR: 3, unix.VQUIT: 28, unix.VERASE: 127, unix.VKILL: 21, unix.VEOF: 4, unix.VSTART: 17, unix.VSTOP: 19,
		unix.VSUSP: 26, unix.VREPRINT: 18, unix.VDISCARD: 15, unix.VWERASE: 23, unix.VLNEXT: 22, unix.VMIN: 1, unix.VTIME: 0, unix.VEOL: 0, unix.VEOL2: 0} {
		settings.Cc[key] = value
	}
	if err := unix.IoctlSetTermios(t.fd, unix.TCSETSW, settings); err != nil {
		return err
	}
	size, err := unix.IoctlGetWinsize(t.fd, unix.TIOCGWINSZ)
	if err == nil && (size.Row == 0 || size.Col == 0) {
		return unix.IoctlSetWinsize(t.fd, unix.TIOCSWINSZ, &unix.Winsize{Row: defaultRows, Col: defaultColumns})
	}
	return nil
}

// Line reads a line; see lineReader.
func (t *terminal) Line(prompt string, echo bool, limit time.Duration) (string, error) {
	if !echo {
		restore, err := t.hide()
		if err != nil {
			return "", err
		}
		defer restore()
	}
	// Only now: what is typed at the sight of the prompt must not be dropped.
	if _, err := io.WriteString(t.file, prompt); err != nil {
		return "", io.EOF
	}
	milliseconds := -1
	if limit > 0 {
		milliseconds = int(limit.Milliseconds())
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}, milliseconds)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("wait for input: %w", err)
		}
		if n == 0 {
			return "", os.ErrDeadlineExceeded
		}
		break
	}
	var line [1024]byte // the terminal gives one line at a time
	n, err := t.file.Read(line[:])
	if err != nil || n == 0 {
		return "", io.EOF
	}
	if line[n-1] == '\n' {
		n--
	}
	return string(line[:n]), nil
}

// hide switches echo off until restore is called.
func (t *terminal) hide() (restore func(), err error) {
	settings, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("hide the password: %w", err)
	}
	hidden := *settings
	hidden.Lflag &^= unix.ECHO | unix.ECHOE | unix.ECHOK
	// TCSETSF drops what was typed ahead, where it would have been seen.
	if err := unix.IoctlSetTermios(t.fd, unix.TCSETSF, &hidden); err != nil {
		return nil, fmt.Errorf("hide the password: %w", err)
	}
	return func() { unix.IoctlSetTermios(t.fd, unix.TCSETSW, settings) }, nil
}
