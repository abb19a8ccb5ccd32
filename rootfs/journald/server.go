package journald

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/store"
	"golang.org/x/sys/unix"
)

// Paths are the directories that the daemon works in; tests give others.
type Paths struct {
	Run  string // sockets in Run/systemd/journal, volatile journal in Run/log/journal
	Log  string // persistent journal, one directory for each machine
	Lib  string // how far receivers of forwarded records are
	Proc string
	Dev  string
}

const (
	identifier = "systemd-journald"
	// readSize is what one stream may give in one turn.
	readSize = 64 << 10
	// tick is how often limits expire and the volatile journal is retried.
	tick = 5 * time.Second
)

// server receives. All its fields belong to the goroutine of serve.
type server struct {
	paths    Paths
	config   Config
	machine  journal.ID
	boot     journal.ID
	epoll    int
	wake     int // eventfd: ctx ended or a signal came
	handlers map[int]func()
	ids      *identities
	limits   *limiter
	queue    *queue
	kernel   kernel
	buffer   []byte
	control  []byte
	batch    []journal.Record
	hostname string
	streams  map[int]*stream
	self     *identity
}

func newServer(paths Paths, config Config, machine, boot journal.ID) (*server, error) {
	s := &server{paths: paths, config: config, machine: machine, boot: boot,
		handlers: map[int]func(){}, streams: map[int]*stream{},
		ids: newIdentities(paths.Proc, paths.Run, time.Now), limits: newLimiter(config.RateLimitInterval, config.RateLimitBurst),
		buffer: make([]byte, readSize), control: make([]byte, 512)}
	s.queue = newQueue(config.SyncInterval)
	s.self = s.ids.of(unix.Ucred{Pid: int32(os.Getpid()), Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())})
	s.hostname, _ = os.Hostname()
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("start journal: %w", err)
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("start journal: %w", err)
	}
	return s, nil
}

// open opens the store as Storage= says; nil when nothing is kept.
func (s *server) open() (*store.Store, error) {
	config := store.Config{Machine: s.machine, Boot: s.boot, System: s.config.System, Runtime: s.config.Runtime, MaxAge: s.config.maxAge(),
		Log: slog.New(&logHandler{server: s})}
	switch s.config.Storage {
	case "none":
		return nil, nil
	case "auto", "persistent":
		config.Persistent = filepath.Join(s.paths.Log, s.machine.String())
	}
	config.Volatile = filepath.Join(s.paths.Run, "log/journal", s.machine.String())
	return store.Open(config)
}

// serve receives until ctx ends, then takes what is waiting and closes.
func (s *server) serve(ctx context.Context, commands <-chan os.Signal) error {
	kept, err := s.open()
	if err != nil {
		return err
	}
	if err := s.listen(); err != nil {
		return err
	}
	if s.config.ReadKMsg {
		s.kernel.open(s)
	}
	forwarding := s.startForwarding(kept)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.queue.write(kept, slog.New(&logHandler{server: s}), s.config.MaxRetention, filepath.Join(s.paths.Log, s.machine.String()))
	}()
	s.watch(s.wake, func() {})
	stop := context.AfterFunc(ctx, s.interrupt)
	defer stop()
	go func() {
		for command := range commands {
			s.queue.command(command)
		}
	}()
	s.say(journal.Info, "Journal started")
	s.flush()
	notify("READY=1\nSTATUS=Processing requests...", nil)
	s.loop(ctx)
	notify("STOPPING=1", nil)
	s.turn(0) // what came in the meantime
	s.say(journal.Info, "Journal stopped")
	s.flush()
	s.queue.close()
	<-done
	forwarding.stop()
	s.closeAll()
	return nil
}

func (s *server) loop(ctx context.Context) {
	for next := time.Now().Add(tick); ctx.Err() == nil; {
		s.turn(int(max(0, time.Until(next).Milliseconds())) + 1)
		if now := time.Now(); !now.Before(next) {
			next = now.Add(tick)
			s.hostname, _ = os.Hostname()
			s.limits.expire(now, s.sayDropped)
			s.flush()
		}
	}
}

// turn waits for events and takes one round of them.
func (s *server) turn(milliseconds int) {
	var events [64]unix.EpollEvent
	n, err := unix.EpollWait(s.epoll, events[:], milliseconds)
	if err != nil && !errors.Is(err, unix.EINTR) {
		time.Sleep(10 * time.Millisecond)
		return
	}
	for i := range max(n, 0) {
		if handler := s.handlers[int(events[i].Fd)]; handler != nil {
			handler()
		}
	}
	s.flush()
}

// watch calls handler when fd can be read.
func (s *server) watch(fd int, handler func()) error {
	s.handlers[fd] = handler
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		delete(s.handlers, fd)
		return fmt.Errorf("watch descriptor: %w", err)
	}
	return nil
}

func (s *server) unwatch(fd int) {
	delete(s.handlers, fd)
	unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}

func (s *server) interrupt() { unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (s *server) closeAll() {
	for fd := range s.handlers {
		unix.Close(fd)
	}
	unix.Close(s.epoll)
}

// flush hands the records of this round to the writer.
func (s *server) flush() {
	if len(s.batch) == 0 {
		return
	}
	s.queue.push(s.batch)
	s.batch = nil
}

// accept takes a record: who and what. It applies the rate limit of the unit,
// stamps the record and puts it into the batch.
func (s *server) accept(id *identity, unit, transport string, priority int, fields []journal.Field) {
	if unit == "" {
		unit = id.unit
	}
	if priority > s.config.MaxLevelStore {
		return
	}
	ok, suppressed := s.limits.allow(unit, priority, time.Now())
	if suppressed > 0 {
		s.sayDropped(unit, suppressed)
	}
	if !ok {
		return
	}
	s.put(id, unit, transport, fields)
	if priority == journal.Emerg || s.config.ForwardToConsole && priority <= s.config.MaxLevelConsole {
		s.toConsole(id, fields)
	}
}

func (s *server) put(id *identity, unit, transport string, fields []journal.Field) {
	all := make([]journal.Field, 0, len(id.fields)+len(fields)+4)
	all = append(all, id.fields...)
	if unit != "" && id.unit == "" {
		all = append(all, journal.Field{Name: "_SYSTEMD_UNIT", Value: unit})
	}
	if s.hostname != "" {
		all = append(all, journal.Field{Name: "_HOSTNAME", Value: s.hostname})
	}
	all = append(all, journal.Field{Name: "_TRANSPORT", Value: transport}, journal.Field{Name: "_RUNTIME_SCOPE", Value: "system"})
	all = append(all, fields...)
	real, mono := clock()
	s.batch = append(s.batch, journal.Record{Realtime: real, Monotonic: mono, Boot: s.boot, Machine: s.machine, Fields: all})
}

// say logs a message of the daemon itself.
func (s *server) say(priority int, message string, more ...journal.Field) {
	s.put(s.self, "", "driver", append([]journal.Field{{Name: "PRIORITY", Value: string(rune('0' + priority))},
		{Name: "SYSLOG_IDENTIFIER", Value: identifier}, {Name: "MESSAGE", Value: message}}, more...))
}

// droppedID is systemd's MESSAGE_ID for suppressed messages.
const droppedID = "a596d6fe7bfa4994828e72309e95d61e"

func (s *server) sayDropped(unit string, n int) {
	s.say(journal.Warning, fmt.Sprintf("Suppressed %d messages from %s", n, unit),
		journal.Field{Name: "MESSAGE_ID", Value: droppedID}, journal.Field{Name: "N_DROPPED", Value: fmt.Sprint(n)},
		journal.Field{Name: "UNIT", Value: unit})
}

// toConsole shows a message on the console, never waiting for it.
func (s *server) toConsole(id *identity, fields []journal.Field) {
	r := journal.Record{Fields: fields}
	name := r.Get("SYSLOG_IDENTIFIER")
	if name == "" {
		name = id.comm
	}
	console(filepath.Join(s.paths.Dev, "console"), fmt.Sprintf("%s[%d]: %s\r\n", name, id.pid, r.Get("MESSAGE")))
}

// logHandler makes records of what the store reports. It may be called from
// the writer's goroutine, so it goes through the queue.
type logHandler struct {
	server *server
	attrs  []slog.Attr
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	add := func(a slog.Attr) bool {
		text += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	priority := journal.Info
	switch {
	case r.Level >= slog.LevelError:
		priority = journal.Err
	case r.Level >= slog.LevelWarn:
		priority = journal.Warning
	}
	real, mono := clock()
	s := h.server
	fields := append([]journal.Field{}, s.self.fields...)
	fields = append(fields, journal.Field{Name: "_TRANSPORT", Value: "driver"}, journal.Field{Name: "PRIORITY", Value: string(rune('0' + priority))},
		journal.Field{Name: "SYSLOG_IDENTIFIER", Value: identifier}, journal.Field{Name: "MESSAGE", Value: text})
	s.queue.own(journal.Record{Realtime: real, Monotonic: mono, Boot: s.boot, Machine: s.machine, Fields: fields})
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.server, append(append([]slog.Attr{}, h.attrs...), attrs...)}
}

func (h *logHandler) WithGroup(string) slog.Handler { return h }
