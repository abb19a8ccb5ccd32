package socket

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Watcher tells when descriptors become readable, each once per Arm, through
// one epoll instance for all of them.
type Watcher struct {
	fd int

	mu    sync.Mutex
	ready map[int32]func()
}

// NewWatcher returns a Watcher; call Run to receive its reports.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch sockets: %w", err)
	}
	return &Watcher{fd: fd, ready: map[int32]func(){}}, nil
}

// Arm asks for one call of ready when something can be read from fd.
func (w *Watcher) Arm(fd int, ready func()) error { return w.arm(fd, unix.EPOLLIN, ready) }

// ArmHangup asks for one call of gone when the other end of fd is closed.
func (w *Watcher) ArmHangup(fd int, gone func()) error { return w.arm(fd, 0, gone) }

func (w *Watcher) arm(fd int, events uint32, ready func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready[int32(fd)] = ready
	ev := unix.EpollEvent{Events: events | unix.EPOLLONESHOT, Fd: int32(fd)}
	err := unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, fd, &ev)
	if errors.Is(err, unix.EEXIST) {
		err = unix.EpollCtl(w.fd, unix.EPOLL_CTL_MOD, fd, &ev)
	}
	if err != nil {
		return fmt.Errorf("watch a socket: %w", err)
	}
	return nil
}

// Disarm forgets fd, which must still be open.
func (w *Watcher) Disarm(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.ready[int32(fd)]; ok {
		delete(w.ready, int32(fd))
		_ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

// Run reports until waiting fails, which happens after Close.
func (w *Watcher) Run() error {
	events := make([]unix.EpollEvent, 32)
	for {
		n, err := unix.EpollWait(w.fd, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("watch sockets: %w", err)
		}
		for _, ev := range events[:n] {
			w.mu.Lock()
			f := w.ready[ev.Fd]
			w.mu.Unlock()
			if f != nil {
				f()
			}
		}
	}
}

// Close ends watching.
func (w *Watcher) Close() error { return unix.Close(w.fd) }
