package journald

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/journal"
	"golang.org/x/sys/unix"
)

// listen takes over the sockets and streams that PID 1 kept, and makes the
// sockets that are missing.
func (s *server) listen() error {
	dir := filepath.Join(s.paths.Run, "systemd/journal")
	if err := os.MkdirAll(filepath.Join(dir, "streams"), 0o755); err != nil {
		return fmt.Errorf("make journal sockets: %w", err)
	}
	kept := inherited()
	for _, socket := range []struct {
		name, path string
		kind       int
		handler    func(fd int)
	}{
		{"listen-stdout", "stdout", unix.SOCK_STREAM, s.acceptStream},
		{"listen-native", "socket", unix.SOCK_DGRAM, func(fd int) { s.datagrams(fd, s.native) }},
		{"listen-syslog", "dev-log", unix.SOCK_DGRAM, func(fd int) { s.datagrams(fd, s.syslog) }},
	} {
		fd, ok := kept[socket.name]
		delete(kept, socket.name)
		if !ok {
			var err error
			if fd, err = makeSocket(filepath.Join(dir, socket.path), socket.kind); err != nil {
				return err
			}
			notify("FDSTORE=1\nFDNAME="+socket.name, []int{fd})
		}
		if err := s.watch(fd, func() { socket.handler(fd) }); err != nil {
			return err
		}
	}
	for name, fd := range kept {
		s.restoreStream(name, fd)
	}
	link := filepath.Join(s.paths.Dev, "log")
	if _, err := os.Lstat(link); errors.Is(err, os.ErrNotExist) {
		os.Symlink(filepath.Join(dir, "dev-log"), link) // for programs that call syslog(3)
	}
	return nil
}

func makeSocket(path string, kind int) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("make journal socket: %w", err)
	}
	os.Remove(path)
	for _, step := range []func() error{
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMP, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) },
		func() error { return unix.Bind(fd, &unix.SockaddrUnix{Name: path}) },
		func() error { return os.Chmod(path, 0o666) },
		func() error {
			if kind != unix.SOCK_STREAM {
				return nil
			}
			return unix.Listen(fd, 4096)
		},
	} {
		if err := step(); err != nil && !errors.Is(err, unix.EPERM) {
			unix.Close(fd)
			return 0, fmt.Errorf("make journal socket %q: %w", path, err)
		}
	}
	return fd, nil
}

// inherited returns the descriptors that PID 1 kept for us, by name.
func inherited() map[string]int {
	kept := map[string]int{}
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return kept
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil {
		return kept
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		fd := 3 + i
		unix.CloseOnExec(fd)
		unix.SetNonblock(fd, true)
		if i < len(names) && kept[names[i]] == 0 {
			kept[names[i]] = fd
		} else {
			unix.Close(fd)
		}
	}
	return kept
}

// notify tells PID 1 something, without waiting: it may be waiting for us.
func notify(state string, fds []int) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	unix.Sendmsg(fd, []byte(state), rights, &unix.SockaddrUnix{Name: path}, 0)
}

// datagrams takes what waits on a socket, at most some at a time so that one
// sender cannot keep the others waiting.
func (s *server) datagrams(fd int, handle func(m datagram)) {
	for range 64 {
		if size, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil && size > len(s.buffer) {
			s.buffer = make([]byte, min(size, journal.MaxRecord*2))
		}
		n, controlSize, flags, _, err := unix.Recvmsg(fd, s.buffer, s.control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			break
		}
		cred, files := ancillary(s.control[:controlSize])
		file := -1
		if len(files) == 1 {
			file = files[0]
		}
		if flags&unix.MSG_TRUNC == 0 && cred.Pid != 0 {
			handle(datagram{string(s.buffer[:n]), cred, file, sentAt(s.control[:controlSize])})
		}
		for _, f := range files {
			unix.Close(f)
		}
	}
	if len(s.buffer) > 4*readSize {
		s.buffer = make([]byte, readSize)
	}
}

// datagram is one message and who sent it.
type datagram struct {
	data string
	cred unix.Ucred
	file int    // that came with it, -1 = none
	sent uint64 // microseconds since 1970, 0 = unknown
}

// source is the field with the time of sending.
func (m *datagram) source() []journal.Field {
	if m.sent == 0 {
		return nil
	}
	return []journal.Field{{Name: "_SOURCE_REALTIME_TIMESTAMP", Value: strconv.FormatUint(m.sent, 10)}}
}

// sentAt reads the time that the kernel notes when a message is sent.
func sentAt(control []byte) uint64 {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMP && len(m.Data) >= 16 {
			seconds, micro := binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:])
			return seconds*1e6 + micro
		}
	}
	return 0
}

// ancillary reads the credentials and descriptors that came with a message.
func ancillary(control []byte) (cred unix.Ucred, files []int) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return cred, nil
	}
	for i := range messages {
		if c, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			cred = *c
		} else if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			files = append(files, fds...)
		}
	}
	return cred, files
}

// native takes a message of the native protocol, in the datagram or in the
// memory file that came with it.
func (s *server) native(m datagram) {
	id, cred, data := s.ids.of(m.cred), m.cred, m.data
	if m.file >= 0 {
		var err error
		if data, err = readMemory(m.file); err != nil {
			s.say(journal.Warning, fmt.Sprintf("Message of process %d not taken: %v", cred.Pid, err))
			return
		}
	}
	records, err := journal.ParseNative(data, false)
	for _, fields := range records {
		r := journal.Record{Fields: fields}
		fields = append(fields, s.ids.about(cred, fields)...)
		s.accept(id, "", "journal", r.Priority(), append(fields, m.source()...))
	}
	if err != nil {
		s.say(journal.Warning, fmt.Sprintf("Message of process %d not taken whole: %v", cred.Pid, err))
	}
}

// maxMemory bounds a message in a memory file. What is larger than a record
// may be is cut, but first it has to be read.
const maxMemory = 16 << 20

// readMemory reads a memfd or a file on a tmpfs. Other files are refused: the
// reading of a file on a network or FUSE file system can block for ever.
func readMemory(file int) (string, error) {
	if _, err := unix.FcntlInt(uintptr(file), unix.F_GET_SEALS, 0); err != nil {
		return "", fmt.Errorf("the file of the message is not in memory: %w", err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(file, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", fmt.Errorf("the file of the message is not a regular one")
	}
	if stat.Size > maxMemory {
		return "", fmt.Errorf("message of %d bytes; %d are allowed", stat.Size, maxMemory)
	}
	var b strings.Builder // its string is not one more copy
	b.Grow(int(stat.Size))
	chunk := make([]byte, readSize)
	for at := int64(0); at < stat.Size; {
		n, err := unix.Pread(file, chunk[:min(int64(len(chunk)), stat.Size-at)], at)
		if err != nil {
			return "", fmt.Errorf("read message: %w", err)
		}
		if n == 0 {
			break // it was made shorter meanwhile
		}
		b.Write(chunk[:n])
		at += int64(n)
	}
	return b.String(), nil
}

// syslog takes a line of /dev/log.
func (s *server) syslog(m datagram) {
	line := journal.ParseSyslog(m.data)
	fields := []journal.Field{{Name: "PRIORITY", Value: strconv.Itoa(line.Priority)}}
	add := func(name, value string) {
		if value != "" {
			fields = append(fields, journal.Field{Name: name, Value: value})
		}
	}
	if line.Facility != 0 {
		add("SYSLOG_FACILITY", strconv.Itoa(line.Facility))
	}
	add("SYSLOG_IDENTIFIER", line.Identifier)
	add("SYSLOG_PID", line.PID)
	add("SYSLOG_TIMESTAMP", line.Timestamp)
	fields = append(fields, journal.Field{Name: "MESSAGE", Value: line.Message})
	add("SYSLOG_RAW", line.Raw)
	s.accept(s.ids.of(m.cred), "", "syslog", line.Priority, append(fields, m.source()...))
}
