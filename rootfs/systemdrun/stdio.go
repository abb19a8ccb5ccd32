package systemdrun

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/coracle-os/coracle/rootfs/program"
)

// streams lead between the caller and a unit: --pipe and --pty. systemd hands
// descriptors over D-Bus; here the unit opens FIFOs, or the terminal's other
// end, and this program copies.
type streams struct {
	settings []string // of the unit
	copies   sync.WaitGroup
	begin    func() // once the unit has opened its ends
	finish   func()
}

// newPipes makes the streams of --pipe in a new directory below dir.
func newPipes(dir string, stdio program.Stdio) (*streams, error) {
	dir, err := os.MkdirTemp(dir, "systemd-run-")
	if err != nil {
		return nil, fmt.Errorf("make pipes: %w", err)
	}
	s := &streams{}
	var files []*os.File
	s.finish = func() {
		for _, f := range files {
			f.Close()
		}
		os.RemoveAll(dir)
	}
	for _, p := range []struct {
		name, setting string
		flags         int
	}{
		// Read and write, so that this does not wait for the unit.
		{"in", "StandardInput=file:", os.O_RDWR},
		{"out", "StandardOutput=append:", os.O_RDONLY | unix.O_NONBLOCK},
		{"err", "StandardError=append:", os.O_RDONLY | unix.O_NONBLOCK},
	} {
		path := filepath.Join(dir, p.name)
		err := unix.Mkfifo(path, 0o600)
		if err == nil {
			var f *os.File
			f, err = os.OpenFile(path, p.flags, 0)
			files = append(files, f)
		}
		if err != nil {
			s.finish()
			return nil, fmt.Errorf("make pipes: %w", err)
		}
		s.settings = append(s.settings, p.setting+path)
	}
	s.begin = func() {
		go func() {
			_, _ = io.Copy(files[0], stdio.In)
			files[0].Close() // the unit reads to the end, too
		}()
		s.copy(stdio.Out, files[1])
		s.copy(stdio.Err, files[2])
	}
	return s, nil
}

func (s *streams) copy(to io.Writer, from io.Reader) {
	s.copies.Go(func() { _, _ = io.Copy(to, from) })
}

// newTerminal makes the streams of --pty: a terminal of the unit's own. The
// caller's, if that is one, passes every key on.
func newTerminal(stdio program.Stdio) (*streams, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		master.Close()
		return nil, fmt.Errorf("make a terminal: %w", err)
	}
	s := &streams{settings: []string{"StandardInput=tty", "StandardOutput=inherit", "StandardError=inherit", fmt.Sprintf("TTYPath=/dev/pts/%d", number)}}
	if kind := os.Getenv("TERM"); kind != "" {
		s.settings = append(s.settings, "Environment="+quote("TERM="+kind))
	}
	restore := func() {}
	caller, ok := stdio.In.(*os.File)
	if ok && term.IsTerminal(int(caller.Fd())) {
		restore = attach(int(caller.Fd()), fd)
	}
	s.begin = func() {
		go func() { _, _ = io.Copy(master, stdio.In) }()
		s.copy(stdio.Out, master) // until the unit's end is closed
	}
	s.finish = func() { restore(); master.Close() }
	return s, nil
}

// attach has the caller's terminal pass keys on unchanged, and its size. What it
// returns undoes that.
func attach(caller, master int) func() {
	resize := func() {
		if size, err := unix.IoctlGetWinsize(caller, unix.TIOCGWINSZ); err == nil {
			_ = unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, size)
		}
	}
	resize()
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	go func() {
		for range changed {
			resize()
		}
	}()
	state, err := term.MakeRaw(caller)
	return func() {
		signal.Stop(changed)
		if err == nil {
			_ = term.Restore(caller, state)
		}
	}
}
