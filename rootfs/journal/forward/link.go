package forward

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"golang.org/x/sys/unix"
)

// errClosed says that the receiver closed the connection in order, so it has
// read what its kernel acknowledged before.
var errClosed = errors.New("the receiver closed the connection")

// link is one connection to a receiver.
type link struct {
	conn   net.Conn
	target Target
	ended  chan struct{} // closed when the receiver ends the connection
	mutex  sync.Mutex
	err    error
}

func newLink(conn net.Conn, target Target) *link {
	l := &link{conn: conn, target: target, ended: make(chan struct{})}
	if target.Network == "tcp" {
		go l.listen()
	}
	return l
}

// listen drops what the receiver says, and notices its end.
func (l *link) listen() {
	var b [256]byte
	for {
		if _, err := l.conn.Read(b[:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = errClosed
			}
			l.mutex.Lock()
			l.err = err
			l.mutex.Unlock()
			close(l.ended)
			return
		}
	}
}

func (l *link) reason() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.err
}

func (l *link) close() { l.conn.Close() }

// send sends a batch and waits until the receiver's kernel has it.
func (l *link) send(encoded []byte, records []journal.Record, timeout time.Duration) error {
	if l.target.Network == "udp" {
		return l.datagrams(records)
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := l.conn.Write(encoded); err != nil {
		return l.because(err)
	}
	deadline, pause := time.Now().Add(timeout), 200*time.Microsecond
	for before := -1; ; {
		left, err := l.unacknowledged()
		if err != nil {
			return l.because(err)
		}
		if left == 0 {
			return nil
		}
		if left != before {
			before, deadline = left, time.Now().Add(timeout)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the receiver took nothing for %v", timeout)
		}
		select {
		case <-l.ended:
			return l.reason()
		case <-time.After(pause):
		}
		pause = min(2*pause, 20*time.Millisecond)
	}
}

// because prefers the reason that the receiver gave over the one of a write
// that came too late.
func (l *link) because(err error) error {
	select {
	case <-l.ended:
		// An orderly end does not cover what we wrote after it: that is
		// not counted as received anyway.
		return l.reason()
	default:
		return err
	}
}

// unacknowledged returns the bytes that the receiver's kernel does not have.
func (l *link) unacknowledged() (left int, err error) {
	raw, err := l.conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var ioctlErr error
	err = raw.Control(func(fd uintptr) {
		left, ioctlErr = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	})
	return left, errors.Join(err, ioctlErr)
}

// refusal is how long the answer of a machine where nobody listens may take.
const refusal = 20 * time.Millisecond

// datagrams sends each record by itself, and looks whether they were refused.
func (l *link) datagrams(records []journal.Record) error {
	var b []byte
	for i := range records {
		var err error
		if b, err = l.target.encode(b[:0], &records[i]); err != nil {
			return err
		}
		if err := l.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
			return err
		}
		if _, err := l.conn.Write(b); err != nil {
			return err
		}
	}
	if err := l.conn.SetReadDeadline(time.Now().Add(refusal)); err != nil {
		return err
	}
	var timeout net.Error
	if _, err := l.conn.Read(make([]byte, 1)); err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
		return err
	}
	return nil
}
