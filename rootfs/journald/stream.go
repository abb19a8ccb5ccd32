package journald

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/journal"
	"golang.org/x/sys/unix"
)

const (
	maxLine    = 48 << 10 // bytes; the default of LineMax=
	maxStreams = 4096
)

// stream is one connection of /run/systemd/journal/stdout: the stdout and
// stderr of a service.
type stream struct {
	fd      int
	id      journal.ID
	peer    unix.Ucred // who connected
	writer  unix.Ucred // who wrote the pending bytes
	header  journal.StreamHeader
	ready   bool // header is known
	pending []byte
}

func (s *server) acceptStream(listener int) {
	for range 16 {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		if len(s.streams) >= maxStreams {
			s.say(journal.Warning, fmt.Sprintf("More than %d streams; a new one is refused", maxStreams))
			unix.Close(fd)
			continue
		}
		peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			unix.Close(fd)
			continue
		}
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
		unix.Shutdown(fd, unix.SHUT_WR)
		st := &stream{fd: fd, peer: *peer, writer: *peer}
		rand.Read(st.id[:]) // never fails
		s.addStream(st)
	}
}

func (s *server) addStream(st *stream) {
	s.streams[st.fd] = st
	if err := s.watch(st.fd, func() { s.readStream(st) }); err != nil {
		s.closeStream(st)
	}
}

// readStream takes what a stream has, at most readSize at a time.
func (s *server) readStream(st *stream) {
	buffer := s.buffer[:readSize]
	n, controlSize, _, _, err := unix.Recvmsg(st.fd, buffer, s.control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if err != nil || n == 0 {
		s.endLine(st, "eof")
		s.closeStream(st)
		return
	}
	cred, files := ancillary(s.control[:controlSize])
	for _, f := range files {
		unix.Close(f)
	}
	if cred.Pid != 0 && cred != st.writer {
		s.endLine(st, "pid-change")
		st.writer = cred
	}
	data := buffer[:n]
	if !st.ready {
		if data, err = s.takeHeader(st, data); err != nil {
			s.say(journal.Warning, fmt.Sprintf("Stream of process %d closed: %v", st.peer.Pid, err))
			s.closeStream(st)
			return
		}
	}
	s.takeLines(st, data)
}

// takeHeader returns the bytes behind the header once it is whole.
func (s *server) takeHeader(st *stream, data []byte) (rest []byte, err error) {
	st.pending = append(st.pending, data...)
	header, text, err := journal.ParseStreamHeader(string(st.pending))
	if errors.Is(err, journal.ErrShortHeader) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st.header, st.ready, st.pending = header, true, nil
	if st.peer.Uid != 0 {
		st.header.Unit = ""
	}
	s.keepStream(st)
	return []byte(text), nil
}

// takeLines logs the whole lines of data and keeps the rest.
func (s *server) takeLines(st *stream, data []byte) {
	for len(data) > 0 && st.ready {
		end := bytes.IndexAny(data, "\n\x00")
		whole := end >= 0
		if !whole {
			end = len(data)
		}
		if len(st.pending)+end > s.config.LineMax {
			take := s.config.LineMax - len(st.pending)
			st.pending = append(st.pending, data[:take]...)
			data = data[take:]
			s.endLine(st, "line-max")
			continue
		}
		if !whole {
			st.pending = append(st.pending, data...)
			return
		}
		reason := ""
		if data[end] == 0 {
			reason = "nul"
		}
		if len(st.pending) == 0 {
			s.logLine(st, string(data[:end]), reason)
		} else {
			st.pending = append(st.pending, data[:end]...)
			s.endLine(st, reason)
		}
		data = data[end+1:]
	}
}

// endLine logs the pending bytes as a line.
func (s *server) endLine(st *stream, reason string) {
	if !st.ready || len(st.pending) == 0 {
		return
	}
	line := string(st.pending)
	if st.pending = st.pending[:0]; cap(st.pending) > 4096 {
		st.pending = nil
	}
	s.logLine(st, line, reason)
}

func (s *server) logLine(st *stream, line, reason string) {
	priority := st.header.Priority
	if st.header.LevelPrefix {
		if p, rest, ok := journal.CutPriority(line); ok {
			line = rest
			if p&^7 != 0 {
				priority = p
			} else {
				priority = priority&^7 | p
			}
		}
	}
	if line == "" {
		return
	}
	id := s.ids.of(st.writer)
	name := st.header.Identifier
	if name == "" {
		name = id.comm
	}
	fields := make([]journal.Field, 0, 6)
	fields = append(fields, journal.Field{Name: "_STREAM_ID", Value: st.id.String()}, journal.Field{Name: "PRIORITY", Value: strconv.Itoa(priority & 7)})
	if facility := priority >> 3; facility > 0 {
		fields = append(fields, journal.Field{Name: "SYSLOG_FACILITY", Value: strconv.Itoa(facility)})
	}
	if name != "" {
		fields = append(fields, journal.Field{Name: "SYSLOG_IDENTIFIER", Value: name})
	}
	fields = append(fields, journal.Field{Name: "MESSAGE", Value: line})
	if reason != "" {
		fields = append(fields, journal.Field{Name: "_LINE_BREAK", Value: reason})
	}
	s.accept(s.owned(id, st), st.header.Unit, "stdout", priority&7, fields)
	if st.header.ToConsole && !s.config.ForwardToConsole {
		s.toConsole(id, fields)
	}
}

// owned is the identity to log for a line. PID 1 connects before it starts the
// program, and the program may be gone: the unit that PID 1 named then counts.
func (s *server) owned(id *identity, st *stream) *identity {
	if st.header.Unit == "" || id.unit == st.header.Unit || id.unit != "" && id.pid != 1 {
		return id
	}
	named := &identity{pid: id.pid, comm: id.comm, fields: make([]journal.Field, 0, len(id.fields)), read: id.read}
	for _, f := range id.fields {
		if !strings.HasPrefix(f.Name, "_SYSTEMD_") {
			named.fields = append(named.fields, f)
		}
	}
	return named
}

func (s *server) closeStream(st *stream) {
	s.unwatch(st.fd)
	unix.Close(st.fd)
	delete(s.streams, st.fd)
	if st.ready {
		name := "stream-" + st.id.String()
		os.Remove(s.streamFile(name))
		notify("FDSTOREREMOVE=1\nFDNAME="+name, nil)
	}
}

func (s *server) streamFile(name string) string {
	return filepath.Join(s.paths.Run, "systemd/journal/streams", name)
}

// keepStream gives the connection to PID 1 to keep, with what is needed to go
// on after a restart in a file.
func (s *server) keepStream(st *stream) {
	name := "stream-" + st.id.String()
	text := fmt.Sprintf("%s%d %d %d\n", st.header, st.peer.Pid, st.peer.Uid, st.peer.Gid)
	if err := os.WriteFile(s.streamFile(name), []byte(text), 0o600); err == nil {
		notify("FDSTORE=1\nFDNAME="+name, []int{st.fd})
	}
}

// restoreStream goes on with a connection that PID 1 kept.
func (s *server) restoreStream(name string, fd int) {
	st := &stream{fd: fd, ready: true}
	text, err := os.ReadFile(s.streamFile(name))
	if err == nil {
		st.id, err = journal.ParseID(strings.TrimPrefix(name, "stream-"))
	}
	var rest string
	if err == nil {
		st.header, rest, err = journal.ParseStreamHeader(string(text))
	}
	if err == nil {
		_, err = fmt.Sscanf(rest, "%d %d %d", &st.peer.Pid, &st.peer.Uid, &st.peer.Gid)
	}
	if err != nil {
		unix.Close(fd)
		return
	}
	st.writer = st.peer
	s.addStream(st)
}
