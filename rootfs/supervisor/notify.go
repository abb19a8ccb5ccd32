package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/cgroup"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// Notifications receives what services send to $NOTIFY_SOCKET; sd_notify(3).
type Notifications struct {
	fd int
	mu sync.Mutex // held while notifications are taken, and while they are not to be
}

// InheritNotify takes over the notification socket of the copy of PID 1 that was
// executed before, with what waits in it.
func InheritNotify(fd int) *Notifications { return &Notifications{fd: fd} }

// FD returns the socket.
func (n *Notifications) FD() int { return n.fd }

// Pause leaves what is sent in the socket until Pause(false).
func (n *Notifications) Pause(on bool) {
	if on {
		n.mu.Lock()
	} else {
		n.mu.Unlock()
	}
}

// ListenNotify makes the notification socket at path.
func ListenNotify(socketPath string) (*Notifications, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("listen for notifications: %w", err)
	}
	_ = os.Remove(socketPath)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1),
		unix.Bind(fd, &unix.SockaddrUnix{Name: socketPath}),
		os.Chmod(socketPath, 0o777))
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen for notifications: %w", err)
	}
	return &Notifications{fd: fd}, nil
}

// message is one notification.
type message struct {
	pid    int
	group  string // control group of the sender
	fields [][2]string
	fds    []int
}

// Run hands notifications to the supervisor until waiting fails.
func (n *Notifications) Run(s *Supervisor) error {
	for {
		fds := []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for notifications: %w", err)
		}
		n.Drain(s)
	}
}

// Drain hands over what has been sent so far. The reaper calls it before it
// collects a child, so that the last words of a process come before its exit.
func (n *Notifications) Drain(s *Supervisor) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		m, ok, err := n.receive(s.cfg.Proc)
		if err != nil {
			return
		}
		if ok {
			s.Post(func() { s.notify(m) })
		}
	}
}

// receive reads one datagram; ok is false for one that says nothing.
func (n *Notifications) receive(proc string) (m message, ok bool, err error) {
	buf := make([]byte, 4096)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*maxFDs))
	size, oobn, flags, _, err := unix.Recvmsg(n.fd, buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if errors.Is(err, unix.EINTR) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	control, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return m, false, nil
	}
	for _, c := range control {
		if cred, err := unix.ParseUnixCredentials(&c); err == nil {
			m.pid = int(cred.Pid)
		}
		if fds, err := unix.ParseUnixRights(&c); err == nil {
			m.fds = append(m.fds, fds...)
		}
	}
	if m.pid <= 0 || flags&unix.MSG_TRUNC != 0 {
		closeAll(m.fds)
		return m, false, nil
	}
	m.group = cgroup.Of(proc, m.pid)
	for line := range strings.Lines(string(buf[:size])) {
		if k, v, found := strings.Cut(strings.TrimSuffix(line, "\n"), "="); found {
			m.fields = append(m.fields, [2]string{k, v})
		}
	}
	return m, len(m.fields) > 0, nil
}

// notify gives a notification to the unit of its sender.
func (s *Supervisor) notify(m message) {
	l := s.pids[m.pid]
	if l == nil {
		l = s.ofGroup(m.group)
	}
	d, ok := (*serviceDriver)(nil), false
	if l != nil {
		d, ok = l.d.(*serviceDriver)
	}
	if !ok {
		closeAll(m.fds)
		return
	}
	s.guard(l, func() {
		d.keepFDs(m)
		d.m.Notify(m.pid, m.fields)
	})
}

// ofGroup returns the unit whose control group the path is in, or nil.
func (s *Supervisor) ofGroup(group string) *live {
	for ; group != "/" && group != "" && group != "."; group = path.Dir(group) {
		if l := s.units[path.Base(group)]; l != nil && l.u.Kind == unit.KindService {
			return l
		}
	}
	return nil
}

// GroupEmpty tells the supervisor that a control group holds no process any
// more.
func (s *Supervisor) GroupEmpty(g cgroup.Group) {
	s.Post(func() {
		l := s.ofGroup(g.Path())
		if l == nil {
			return
		}
		if d, ok := l.d.(*serviceDriver); ok && d.group.Path() == g.Path() {
			s.guard(l, d.groupEmpty)
		}
	})
}

// cgroupPath returns where a unit's control group is.
func (s *Supervisor) cgroupPath(u *unit.Unit) string {
	slice := u.Slice
	if slice == "" {
		slice = "system.slice"
	}
	return slicePath(slice) + "/" + u.Name
}

// slicePath returns a slice's control group: a-b.slice is below a.slice.
func slicePath(slice string) string {
	base := strings.TrimSuffix(slice, ".slice")
	if base == "-" {
		return ""
	}
	p := ""
	for i, c := range base {
		if c == '-' {
			p += "/" + base[:i] + ".slice"
		}
	}
	return p + "/" + base + ".slice"
}

// WatchGroups hands the ends of control groups to the loop until watching
// fails.
func (s *Supervisor) WatchGroups() error { return s.cfg.Watcher.Run(s.GroupEmpty) }

// WatchSockets hands what comes in at sockets to the loop until watching
// fails.
func (s *Supervisor) WatchSockets() error { return s.cfg.Sockets.Run() }
