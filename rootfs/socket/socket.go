// Package socket opens what .socket units listen on and tells when something
// comes in, so that PID 1 can start the service then and hand the descriptors
// over; systemd.socket(5).
//
// Streams, datagrams and sequential packets over Unix, IPv4 and IPv6, and
// FIFOs. Left out on purpose: ListenSpecial=, ListenNetlink= and
// ListenMessageQueue=, USB functions and security labels.
package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// Owner is who owns the socket files.
type Owner struct{ UID, GID int }

// Open opens everything that the unit listens on, in its order. When one
// fails the others are closed again.
func Open(cfg *unit.Socket, owner Owner) ([]int, error) {
	var fds []int
	for _, l := range cfg.Listen {
		fd, err := listen(cfg, l, owner)
		if err != nil {
			Close(fds)
			return nil, fmt.Errorf("listen on %q: %w", l.Address, err)
		}
		fds = append(fds, fd)
	}
	return fds, links(cfg)
}

// Close closes descriptors.
func Close(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// Remove removes the unit's socket files and links, for RemoveOnStop=.
func Remove(cfg *unit.Socket) {
	if !cfg.RemoveOnStop {
		return
	}
	for _, l := range cfg.Listen {
		if strings.HasPrefix(l.Address, "/") {
			_ = os.Remove(l.Address)
		}
	}
	for _, s := range cfg.Symlinks {
		_ = os.Remove(s)
	}
}

// links makes Symlinks=, which point to the one path that is listened on.
func links(cfg *unit.Socket) error {
	for _, l := range cfg.Listen {
		if !strings.HasPrefix(l.Address, "/") {
			continue
		}
		for _, s := range cfg.Symlinks {
			if err := parents(s, cfg.DirectoryMode); err != nil {
				return err
			}
			_ = os.Remove(s)
			if err := os.Symlink(l.Address, s); err != nil {
				return fmt.Errorf("link to the socket: %w", err)
			}
		}
		return nil
	}
	return nil
}

func parents(path string, mode int) error {
	if mode == 0 {
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(path), os.FileMode(mode)); err != nil {
		return fmt.Errorf("make the socket's directory: %w", err)
	}
	return nil
}

func listen(cfg *unit.Socket, l unit.Listen, owner Owner) (int, error) {
	if l.Kind == unit.ListenFIFO {
		return openFIFO(cfg, l.Address, owner)
	}
	kind, stream := unix.SOCK_STREAM, true
	switch l.Kind {
	case unit.ListenDatagram:
		kind, stream = unix.SOCK_DGRAM, false
	case unit.ListenSequentialPacket:
		kind = unix.SOCK_SEQPACKET
	case unit.ListenStream:
	default:
		return -1, fmt.Errorf("Listen%s= is not supported", l.Kind)
	}
	family, addr, err := address(l)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = options(fd, family, cfg)
	if err == nil {
		err = bind(fd, addr, cfg, l, owner)
	}
	if err == nil && stream {
		backlog := cfg.Backlog
		if backlog <= 0 {
			backlog = unix.SOMAXCONN
		}
		if family != unix.AF_UNIX && kind == unix.SOCK_STREAM {
			tcpOptions(fd, cfg)
		}
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// address returns the family and address of a listener.
func address(l unit.Listen) (int, unix.Sockaddr, error) {
	if l.Network == "unix" {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: l.Address}, nil
	}
	host, port := l.Address[:strings.LastIndexByte(l.Address, ':')], l.Address[strings.LastIndexByte(l.Address, ':')+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, nil, fmt.Errorf("parse the port %q: %w", port, err)
	}
	if l.Network == "ip" {
		if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
			return unix.AF_INET, &unix.SockaddrInet4{Port: int(n)}, nil
		}
		return unix.AF_INET6, &unix.SockaddrInet6{Port: int(n)}, nil
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return 0, nil, err
	}
	if ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(n), Addr: ip.As4()}, nil
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(n), Addr: ip.As16()}, nil
}

// options sets what must be set before bind.
func options(fd, family int, cfg *unit.Socket) error {
	set := func(on bool, level, option, value int) error {
		if !on {
			return nil
		}
		return unix.SetsockoptInt(fd, level, option, value)
	}
	ip := family == unix.AF_INET || family == unix.AF_INET6
	only := 0
	if cfg.BindIPv6Only == "ipv6-only" {
		only = 1
	}
	return errors.Join(
		set(ip, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		set(family == unix.AF_INET6 && cfg.BindIPv6Only != "default" && cfg.BindIPv6Only != "", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only),
		set(cfg.KeepAlive, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		set(cfg.NoDelay && ip, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		set(cfg.FreeBind && ip, unix.SOL_IP, unix.IP_FREEBIND, 1),
		set(cfg.Transparent && ip, unix.SOL_IP, unix.IP_TRANSPARENT, 1),
		set(cfg.ReusePort, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		set(cfg.Broadcast, unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
		set(cfg.PassCredentials, unix.SOL_SOCKET, unix.SO_PASSCRED, 1),
		set(cfg.ReceiveBuffer > 0, unix.SOL_SOCKET, unix.SO_RCVBUF, int(cfg.ReceiveBuffer)),
		set(cfg.SendBuffer > 0, unix.SOL_SOCKET, unix.SO_SNDBUF, int(cfg.SendBuffer)),
		set(cfg.Priority > 0, unix.SOL_SOCKET, unix.SO_PRIORITY, cfg.Priority),
		set(cfg.Mark > 0, unix.SOL_SOCKET, unix.SO_MARK, cfg.Mark),
		set(cfg.IPTOS > 0 && family == unix.AF_INET, unix.IPPROTO_IP, unix.IP_TOS, cfg.IPTOS),
		set(cfg.IPTTL > 0 && family == unix.AF_INET, unix.IPPROTO_IP, unix.IP_TTL, cfg.IPTTL),
		set(cfg.IPTTL > 0 && family == unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, cfg.IPTTL),
		device(fd, cfg.BindToDevice))
}

// tcpOptions sets those that only streams over IP have. One that the kernel does
// not take is no reason not to listen.
func tcpOptions(fd int, cfg *unit.Socket) {
	for option, v := range map[int]time.Duration{unix.TCP_KEEPIDLE: cfg.KeepAliveTime, unix.TCP_KEEPINTVL: cfg.KeepAliveInterval,
		unix.TCP_DEFER_ACCEPT: cfg.DeferAccept} {
		if v > 0 {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, option, int(v/time.Second))
		}
	}
	if cfg.KeepAliveProbes > 0 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, cfg.KeepAliveProbes)
	}
	if cfg.TCPCongestion != "" {
		_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, cfg.TCPCongestion)
	}
}

// Flush throws away what came in at descriptors and nobody read.
func Flush(fds []int) {
	buf := make([]byte, 2048)
	const most = 1024 // what comes in faster is left
	for _, fd := range fds {
		if err := unix.SetNonblock(fd, true); err != nil {
			continue
		}
		for range most {
			if conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC); err == nil {
				unix.Close(conn)
				continue
			}
			if n, err := unix.Read(fd, buf); err != nil || n == 0 {
				break
			}
		}
	}
}

func device(fd int, name string) error {
	if name == "" {
		return nil
	}
	return unix.BindToDevice(fd, name)
}

// bind binds the descriptor; a stale socket file is replaced, and the file
// gets its mode and owner.
func bind(fd int, addr unix.Sockaddr, cfg *unit.Socket, l unit.Listen, owner Owner) error {
	if !strings.HasPrefix(l.Address, "/") {
		return unix.Bind(fd, addr)
	}
	if err := parents(l.Address, cfg.DirectoryMode); err != nil {
		return err
	}
	err := unix.Bind(fd, addr)
	if errors.Is(err, unix.EADDRINUSE) {
		_ = os.Remove(l.Address)
		err = unix.Bind(fd, addr)
	}
	if err != nil {
		return err
	}
	return ownership(l.Address, cfg, owner)
}

func ownership(path string, cfg *unit.Socket, owner Owner) error {
	if err := os.Chmod(path, os.FileMode(cfg.SocketMode)); err != nil {
		return err
	}
	return os.Lchown(path, owner.UID, owner.GID)
}

func openFIFO(cfg *unit.Socket, path string, owner Owner) (int, error) {
	if err := parents(path, cfg.DirectoryMode); err != nil {
		return -1, err
	}
	if err := unix.Mkfifo(path, uint32(cfg.SocketMode)); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return -1, fmt.Errorf("%q is there and is not a FIFO", path)
	}
	return fd, ownership(path, cfg, owner)
}
