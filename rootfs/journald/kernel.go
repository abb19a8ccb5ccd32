package journald

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/journal"
	"golang.org/x/sys/unix"
)

// kernel reads /dev/kmsg. The number of the last record read is in a file, so
// that a restarted daemon logs none twice.
type kernel struct {
	fd    int
	state *os.File
	next  uint64
	self  *identity
}

func (k *kernel) open(s *server) {
	fd, err := unix.Open(filepath.Join(s.paths.Dev, "kmsg"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		if !errors.Is(err, unix.ENOENT) {
			s.say(journal.Warning, "Kernel messages are not logged: "+err.Error())
		}
		return
	}
	k.fd, k.self = fd, &identity{}
	path := filepath.Join(s.paths.Run, "systemd/journal/kernel-seqnum")
	if text, err := os.ReadFile(path); err == nil {
		k.next, _ = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	}
	k.state, _ = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err := s.watch(fd, func() { k.read(s) }); err != nil {
		unix.Close(fd)
	}
}

// read takes what waits; the kernel gives one record for each call.
func (k *kernel) read(s *server) {
	for range 256 {
		n, err := unix.Read(k.fd, s.buffer[:16<<10])
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR) {
			continue // records were overwritten before we came
		}
		if err != nil || n <= 0 {
			break
		}
		record, err := journal.ParseKmsg(string(s.buffer[:n]))
		if err != nil || record.Seq < k.next || record.Message == "" {
			continue
		}
		k.next = record.Seq + 1
		k.log(s, record)
	}
	if k.state != nil {
		k.state.WriteAt([]byte(strconv.FormatUint(k.next, 10)+"\n"), 0)
	}
}

func (k *kernel) log(s *server, record journal.Kmsg) {
	fields := []journal.Field{{Name: "PRIORITY", Value: strconv.Itoa(record.Priority)},
		{Name: "SYSLOG_FACILITY", Value: strconv.Itoa(record.Facility)}}
	if record.Identifier != "" {
		fields = append(fields, journal.Field{Name: "SYSLOG_IDENTIFIER", Value: record.Identifier})
	}
	if record.PID != "" {
		fields = append(fields, journal.Field{Name: "SYSLOG_PID", Value: record.PID})
	}
	fields = append(fields, record.Fields...)
	fields = append(fields, journal.Field{Name: "_SOURCE_MONOTONIC_TIMESTAMP", Value: strconv.FormatUint(record.Monotonic, 10)},
		journal.Field{Name: "MESSAGE", Value: record.Message})
	if record.Priority <= s.config.MaxLevelStore {
		s.put(k.self, "", "kernel", fields)
	}
}
