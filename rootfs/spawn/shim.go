package spawn

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/sandbox"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// ShimName is the name (argv[0]) under which the init binary runs Shim.
const ShimName = "coracle-exec"

// shim is what the words before "--" ask for.
type shim struct {
	ready   int
	umask   int
	limits  []limit
	nice    *int
	oom     string
	nnp     bool
	sigpipe bool
	listen  int
	tty     string
	ttyFDs  []int
	groups  []int
	user    *[2]int
	root    string
	dir     string
	sandbox sandbox.Plan

	scheduling *unit.Scheduling
}

type limit struct {
	resource int
	rlimit   unix.Rlimit
}

// Shim is the program between clone and execve: args are ShimName, words of
// the form key=value in the order that Spec needs, "--", the path and the
// argument vector. It sets up its own process and becomes the program, so it
// returns only when that fails, with the exit status that says why.
func Shim(args []string, stderr io.Writer) int {
	s, rest, err := parseShim(args)
	if err != nil || len(rest) < 2 {
		fmt.Fprintf(stderr, "%s: wrong arguments (%v); PID 1 calls it, people do not\n", ShimName, err)
		return StatusExec
	}
	runtime.LockOSThread() // namespaces and capabilities are the thread's
	if status, err := s.apply(); err != nil {
		signal.Ignore(unix.SIGPIPE) // the exit status tells it, too, whoever reads the words
		fmt.Fprintf(stderr, "Failed to set up %s: %v\n", rest[0], err)
		return status
	}
	err = s.sandbox.Exec(rest[0], rest[1:], s.environment(os.Environ()), StatusExec)
	if e := (*sandbox.LoadError)(nil); errors.As(err, &e) {
		fmt.Fprintf(stderr, "Failed to set up %s: %v\n", rest[0], err)
		return StatusSeccomp
	}
	fmt.Fprintf(stderr, "Failed to execute %s: %v\n", rest[0], err)
	return StatusExec
}

func parseShim(args []string) (shim, []string, error) {
	s := shim{umask: DefaultUmask, dir: "/", ready: -1}
	for i, word := range args[1:] {
		if word == "--" {
			return s, args[i+2:], nil
		}
		key, value, _ := strings.Cut(word, "=")
		if err := s.word(key, value); err != nil {
			return s, nil, fmt.Errorf("%q: %w", word, err)
		}
	}
	return s, nil, fmt.Errorf("no \"--\"")
}

// word takes in one key=value.
func (s *shim) word(key, value string) error {
	var err error
	number := func(base int) int {
		var n int64
		n, err = strconv.ParseInt(value, base, 64)
		return int(n)
	}
	switch key {
	case "ready":
		s.ready = number(10)
	case "umask":
		s.umask = number(8)
	case "limit":
		var l limit
		_, err = fmt.Sscanf(value, "%d:%d:%d", &l.resource, &l.rlimit.Cur, &l.rlimit.Max)
		s.limits = append(s.limits, l)
	case "nice":
		n := number(10)
		s.nice = &n
	case "oom":
		s.oom = value
	case "nonewprivs":
		s.nnp = true
	case "sigpipe":
		s.sigpipe = true
	case "listen":
		s.listen = number(10)
	case "tty":
		s.tty = value
	case "ttyfd":
		s.ttyFDs = append(s.ttyFDs, number(10))
	case "group":
		s.groups = append(s.groups, number(10))
	case "user":
		s.user = new([2]int)
		_, err = fmt.Sscanf(value, "%d:%d", &s.user[0], &s.user[1])
	case "sandbox":
		err = json.Unmarshal([]byte(value), &s.sandbox)
	case "scheduling":
		err = json.Unmarshal([]byte(value), &s.scheduling)
	case "root":
		s.root = value
	case "dir":
		s.dir = value
	default:
		err = fmt.Errorf("unknown key")
	}
	return err
}

// apply sets up the process; on failure the status says which part failed.
func (s shim) apply() (int, error) {
	if s.ready >= 0 {
		unix.CloseOnExec(s.ready)
	}
	if s.tty != "" {
		if err := s.openTerminal(); err != nil {
			return StatusStdin, err
		}
	}
	unix.Umask(s.umask)
	for _, l := range s.limits {
		if err := l.set(); err != nil {
			return StatusLimits, fmt.Errorf("set resource limit %d: %w", l.resource, err)
		}
	}
	if s.oom != "" {
		err := os.WriteFile("/proc/self/oom_score_adj", []byte(s.oom), 0)
		if err != nil && !errors.Is(err, os.ErrPermission) { // a container may not
			return StatusOOM, err
		}
	}
	if s.nice != nil {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, *s.nice); err != nil {
			return StatusNice, fmt.Errorf("set the nice level: %w", err)
		}
	}
	if s.scheduling != nil {
		if status, err := schedule(*s.scheduling); err != nil {
			return status, err
		}
	}
	if !s.sigpipe {
		signal.Ignore(unix.SIGPIPE)
	}
	if err := s.sandbox.Namespaces(); err != nil {
		return StatusNamespace, err
	}
	if s.root != "" {
		if err := unix.Chroot(s.root); err != nil {
			return StatusNamespace, fmt.Errorf("change the root to %q: %w", s.root, err)
		}
	}
	if err := s.sandbox.Bound(); err != nil {
		return StatusCaps, err
	}
	if err := os.Chdir(s.dir); err != nil {
		return StatusChdir, err
	}
	return s.credentials()
}

// set sets the limit. Where PID 1 may not raise it, in a container, it becomes
// what is allowed.
func (l limit) set() error {
	want := syscall.Rlimit{Cur: l.rlimit.Cur, Max: l.rlimit.Max}
	err := syscall.Setrlimit(l.resource, &want)
	if err != unix.EPERM {
		return err
	}
	var have syscall.Rlimit
	if err := syscall.Getrlimit(l.resource, &have); err != nil {
		return err
	}
	want = syscall.Rlimit{Cur: min(want.Cur, have.Max), Max: min(want.Max, have.Max)}
	return syscall.Setrlimit(l.resource, &want)
}

func (s shim) credentials() (int, error) {
	if s.nnp {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return StatusNewPrivs, fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	if s.user == nil {
		return 0, nil
	}
	if err := s.sandbox.Keep(); err != nil {
		return StatusCaps, err
	}
	if err := syscall.Setgroups(s.groups); err != nil {
		return StatusGroup, fmt.Errorf("set the supplementary groups: %w", err)
	}
	if err := syscall.Setgid(s.user[1]); err != nil {
		return StatusGroup, fmt.Errorf("set the group %d: %w", s.user[1], err)
	}
	if err := syscall.Setuid(s.user[0]); err != nil {
		return StatusUser, fmt.Errorf("set the user %d: %w", s.user[0], err)
	}
	if err := s.sandbox.Raise(); err != nil {
		return StatusCaps, err
	}
	if !s.nnp && len(s.sandbox.Programs) > 0 { // another user's may only be loaded so
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return StatusNewPrivs, fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	return 0, nil
}

// openTerminal makes the terminal the controlling one of this session.
func (s shim) openTerminal() error {
	fd, err := unix.Open(s.tty, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the terminal %q: %w", s.tty, err)
	}
	// Taking it from another session (argument 1) is what a getty needs.
	if err := unix.IoctlSetInt(fd, unix.TIOCSCTTY, 1); err != nil {
		return fmt.Errorf("control the terminal %q: %w", s.tty, err)
	}
	for _, to := range s.ttyFDs {
		if err := unix.Dup3(fd, to, 0); err != nil && fd != to {
			return fmt.Errorf("use the terminal %q: %w", s.tty, err)
		}
	}
	return nil
}

// environment adds LISTEN_PID, which only the process itself can know.
func (s shim) environment(env []string) []string {
	if s.listen == 0 {
		return env
	}
	return append(env, "LISTEN_PID="+strconv.Itoa(os.Getpid()))
}
