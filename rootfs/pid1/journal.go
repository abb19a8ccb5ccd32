package pid1

import (
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	journalformat "github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/supervisor"
)

// journal sends PID 1's own messages to the journal's native socket. It never
// waits: until the journal is there messages are kept, in bounds, and one that
// the journal does not take at once is dropped and counted.
type journal struct {
	path string

	mu      sync.Mutex
	fd      int
	waiting [][]byte
	lost    int
}

// maxWaiting bounds the messages that wait for the journal.
const maxWaiting = 2000

func newJournal(path string) *journal {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		fd = -1
	}
	return &journal{path: path, fd: fd}
}

// send records a message.
func (j *journal) send(r supervisor.Record) {
	b := journalformat.AppendField(nil, "MESSAGE", r.Message)
	b = journalformat.AppendField(b, "PRIORITY", strconv.Itoa(r.Priority))
	b = journalformat.AppendField(b, "SYSLOG_IDENTIFIER", "systemd")
	if r.Unit != "" {
		b = journalformat.AppendField(b, "UNIT", r.Unit)
	}
	for _, f := range r.Fields {
		b = journalformat.AppendField(b, f[0], f[1])
	}
	now := strconv.FormatInt(time.Now().UnixMicro(), 10)
	b = journalformat.AppendField(b, "SYSLOG_TIMESTAMP", now)
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.waiting) < maxWaiting {
		j.waiting = append(j.waiting, b)
	} else {
		j.lost++
	}
	j.flush()
}

// take removes and returns the messages that wait.
func (j *journal) take() [][]byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := j.waiting
	j.waiting = nil
	return list
}

// putBack returns messages to where take found them.
func (j *journal) putBack(list [][]byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting = append(list, j.waiting...)
	j.flush()
}

// flush sends what waits, as far as the journal takes it.
func (j *journal) flush() {
	to := &unix.SockaddrUnix{Name: j.path}
	for len(j.waiting) > 0 {
		err := unix.Sendto(j.fd, j.waiting[0], unix.MSG_NOSIGNAL, to)
		if err == unix.EMSGSIZE {
			j.lost++
		} else if err != nil {
			return
		}
		j.waiting = j.waiting[1:]
	}
	j.waiting = nil
	if j.lost > 0 {
		lost := j.lost
		j.lost = 0
		b := journalformat.AppendField(nil, "MESSAGE", "PID 1 dropped "+strconv.Itoa(lost)+" messages that the journal did not take.")
		b = journalformat.AppendField(b, "PRIORITY", "4")
		_ = unix.Sendto(j.fd, b, unix.MSG_NOSIGNAL, to)
	}
}
