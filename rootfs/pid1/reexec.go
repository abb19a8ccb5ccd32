package pid1

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/rootfs/console"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/supervisor"
)

// stateVariable tells a new copy of PID 1 which descriptor has the state of the
// one before.
const stateVariable = "CORACLE_STATE_FD"

// inherited is the state that one copy of PID 1 leaves to the next, in a memfd.
type inherited struct {
	Notify  int // descriptor of the notification socket
	Control int // and of the control socket, 0 if there was none
	First   bool
	Waiting [][]byte `json:",omitempty"` // messages for the journal
	Manager json.RawMessage
}

// door is the control socket and whether it is open.
type door struct {
	mu       sync.Mutex
	listener *net.UnixListener
	close    context.CancelFunc // ends the answering
	ended    chan struct{}      // closed when it has ended
	shut     chan struct{}      // not nil while PID 1 is about to be executed anew; closed after that failed
}

// serveControl answers on the control socket until that fails. The socket itself
// stays while the door is shut: who connects meanwhile is answered later.
func (p *process) serveControl(ctx context.Context, s *supervisor.Supervisor) error {
	server := control.Server{Handler: s, Log: slog.New(slog.DiscardHandler)}
	for ctx.Err() == nil {
		l, ctx, ended, err := p.door.open(ctx)
		if err != nil {
			return err
		}
		err = server.Serve(ctx, l)
		close(ended)
		shut := p.door.reopening()
		if shut == nil {
			return err
		}
		<-shut
	}
	return ctx.Err()
}

// open returns a listener of its own on the socket, and the context that shut
// ends; the caller closes ended after that.
func (d *door) open(ctx context.Context) (*net.UnixListener, context.Context, chan struct{}, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener == nil {
		l, err := control.Listen(control.SocketPath)
		if err != nil {
			return nil, nil, nil, err
		}
		l.SetUnlinkOnClose(false)
		d.listener = l
	}
	f, err := d.listener.File()
	if err != nil {
		d.listener.Close()
		d.listener = nil
		return nil, nil, nil, fmt.Errorf("open the control socket: %w", err)
	}
	l, err := control.Inherit(f)
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, d.close = context.WithCancel(ctx)
	d.ended = make(chan struct{})
	return l, ctx, d.ended, nil
}

// reopening returns what is closed when the door opens again; nil if it is not
// shut.
func (d *door) reopening() chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shut
}

// answerLimit is how long requests may take to be answered before PID 1 is
// executed anew.
const answerLimit = 5 * time.Second

// quiesce stops what brings events: requests are answered or told to come again,
// notifications and ended children stay with the kernel.
func (p *process) quiesce() {
	d := &p.door
	d.mu.Lock()
	d.shut = make(chan struct{})
	end, ended := d.close, d.ended
	d.mu.Unlock()
	if end != nil {
		end()
		select {
		case <-ended:
		case <-time.After(answerLimit):
		}
	}
	p.reaper.Pause(true)
	p.notify.Pause(true)
}

// resume is the opposite of quiesce.
func (p *process) resume() {
	p.notify.Pause(false)
	p.reaper.Pause(false)
	p.reaper.Sweep()
	p.door.mu.Lock()
	close(p.door.shut)
	p.door.shut = nil
	p.door.mu.Unlock()
}

// reexecute replaces this program by the one that is installed now, or by
// itself if there is none, with the state of all units. It returns on failure
// only, and everything is as it was.
func (p *process) reexecute(s *supervisor.Supervisor) error {
	state, keep, err := s.Save()
	if err != nil {
		return err
	}
	in := inherited{Notify: p.notify.FD(), First: p.first, Waiting: p.journal.take(), Manager: state}
	defer func() { p.journal.putBack(in.Waiting) }()
	keep = append(keep, in.Notify)
	if l := p.door.listener; l != nil {
		f, err := l.File()
		if err != nil {
			return fmt.Errorf("keep the control socket: %w", err)
		}
		defer f.Close()
		in.Control = int(f.Fd())
		keep = append(keep, in.Control)
	}
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("coracle-state", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("keep the state in memory: %w", err)
	}
	memory := os.NewFile(uintptr(fd), "state")
	defer memory.Close()
	if _, err := memory.Write(b); err != nil {
		return fmt.Errorf("keep the state in memory: %w", err)
	}
	keep = append(keep, fd)
	env := append(slices.Clone(p.env), stateVariable+"="+strconv.Itoa(fd))
	for _, fd := range keep {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	}
	defer func() {
		for _, fd := range keep {
			unix.CloseOnExec(fd)
		}
	}()
	var errs []error
	for _, path := range programPaths() {
		errs = append(errs, fmt.Errorf("execute %q: %w", path, syscall.Exec(path, os.Args, env)))
	}
	return errors.Join(errs...)
}

// programPaths are where PID 1's program is looked for: where it was executed
// from, which may be another version by now, and the running one.
func programPaths() []string {
	const running = "/proc/self/exe"
	path, err := os.Readlink(running)
	if err != nil {
		return []string{running}
	}
	return []string{strings.TrimSuffix(path, " (deleted)"), running}
}

// inherit returns what the copy of PID 1 before this one left; nil if this is
// the first. The variable that says so is not for services.
func (p *process) inherit() *inherited {
	fd, err := strconv.Atoi(p.getenv(stateVariable))
	_ = os.Unsetenv(stateVariable)
	p.env = slices.DeleteFunc(p.env, func(e string) bool { return strings.HasPrefix(e, stateVariable+"=") })
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), "state")
	defer f.Close()
	in := &inherited{}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil
	}
	if err := json.NewDecoder(f).Decode(in); err != nil {
		return nil
	}
	return in
}

// goOn rules with the state of the copy before this one. It returns when that
// cannot be done, or the machine has failed to end.
func (p *process) goOn(in *inherited) {
	p.console = console.Open(consoleDevice)
	p.journal = newJournal(journalNative)
	p.journal.putBack(in.Waiting)
	p.boot, _ = bootinfo.Read(bootinfo.Path)
	p.first, p.prepared = in.First, true
	p.notify = supervisor.InheritNotify(in.Notify)
	if in.Control > 0 {
		l, err := control.Inherit(os.NewFile(uintptr(in.Control), "control"))
		p.warn(err)
		if err == nil {
			p.door.listener = l
		}
	}
	s, err := p.assemble()
	if err != nil {
		p.say(0, "PID 1 was executed anew and cannot start the service manager: %v", err)
		return
	}
	p.sup = s
	p.warn(s.Restore(in.Manager))
	if !p.container {
		p.keepAlive()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.serve(ctx, s)
	p.say(6, "PID 1 was executed anew.")
	p.rule(s)
}
