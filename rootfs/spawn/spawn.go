// Package spawn starts one process of a unit in its control group, with its
// user, directory, limits, streams and passed descriptors.
//
// Most processes are started directly: clone3 into the control group and
// execve, nothing in between. What the Go runtime cannot do between the two
// (limits, priority, umask, $LISTEN_PID, a controlling terminal) is done by
// the init binary itself, started under the name of ShimName, which sets it up
// and then becomes the program: see Shim. Starting that costs a few
// milliseconds, so only units that ask for such things pay.
//
// A program that cannot be started fails with the exit statuses of
// systemd.exec(5), 200 and up. Namespaces and capabilities are rootfs/sandbox's.
package spawn

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/sandbox"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// Exit statuses of a process that failed before its program ran, as in
// systemd.exec(5).
const (
	StatusChdir     = 200
	StatusNice      = 201
	StatusFDs       = 202
	StatusExec      = 203
	StatusLimits    = 205
	StatusOOM       = 206
	StatusSignal    = 207
	StatusStdin     = 208
	StatusStdout    = 209
	StatusGroup     = 216
	StatusUser      = 217
	StatusSession   = 220
	StatusCaps      = 218
	StatusNamespace = 226
	StatusNewPrivs  = 227
	StatusScheduler = 214
	StatusAffinity  = 215
	StatusSeccomp   = 228

	StatusIOPriority  = 211
	StatusCredentials = 243
)

// Error is a failure that counts as the exit of the process with Status: the
// process's start was valid, its set-up was not.
type Error struct {
	Status int
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// User is whom a process runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary
}

// DefaultUmask is the umask of a process that asks for none; PID 1 itself runs
// with it.
const DefaultUmask = 0o022

// Spec is one process to start.
type Spec struct {
	Path string   // absolute
	Args []string // Args[0] is the name that the program sees
	Env  []string // NAME=value

	Root        string // the directory that becomes /, with all else in it; "" is the real one
	Dir         string // absolute; "" means /
	DirOptional bool   // use / when Dir is not there
	User        *User  // nil: as PID 1

	Umask          int
	Limits         []unit.Limit
	Nice           *int
	OOMScoreAdjust *int
	NoNewPrivs     bool
	Sandbox        sandbox.Plan
	Scheduling     *unit.Scheduling
	DefaultSIGPIPE bool // otherwise SIGPIPE is ignored, as systemd does

	Cgroup  int    // descriptor of the control group's directory; -1: PID 1's own
	Streams [3]int // descriptors for standard input, output and error
	Passed  []int  // descriptors from number 3 on, with LISTEN_PID set to the process
	TTY     string // terminal to make the controlling one and to use for the streams that are -1
}

// Starter starts processes.
type Starter struct {
	Self string // path of the binary that runs Shim; "/proc/self/exe" in PID 1
	// SoftFiles is the soft limit of open files that processes start with,
	// lower than PID 1's own because of programs that use select(2); 0: the
	// same.
	SoftFiles uint64
}

// fork is syscall.ForkExec with the soft limit of open files lowered.
func (st Starter) fork(path string, args []string, attr *syscall.ProcAttr) (int, error) {
	var own syscall.Rlimit
	if st.SoftFiles > 0 && syscall.Getrlimit(unix.RLIMIT_NOFILE, &own) == nil && own.Cur > st.SoftFiles {
		low := syscall.Rlimit{Cur: st.SoftFiles, Max: own.Max}
		_ = syscall.Setrlimit(unix.RLIMIT_NOFILE, &low)
		defer func() { _ = syscall.Setrlimit(unix.RLIMIT_NOFILE, &own) }()
	}
	return syscall.ForkExec(path, args, attr)
}

// crowded reports whether this process has so many open files that it cannot
// open more while its own limit is the lower one of processes.
func (st Starter) crowded() bool {
	const needed = 16
	if st.SoftFiles == 0 {
		return false
	}
	fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0) // the lowest that is free
	if err != nil {
		return false // the start itself will say it
	}
	unix.Close(fd)
	return uint64(fd)+needed > st.SoftFiles
}

// limited leaves the lowering of the limit to the shim.
func (st Starter) limited(s Spec) (Starter, Spec) {
	has := func(l unit.Limit) bool { return l.Resource == unix.RLIMIT_NOFILE }
	var own syscall.Rlimit
	if !slices.ContainsFunc(s.Limits, has) && syscall.Getrlimit(unix.RLIMIT_NOFILE, &own) == nil {
		s.Limits = append(slices.Clone(s.Limits), unit.Limit{Resource: unix.RLIMIT_NOFILE, Soft: st.SoftFiles, Hard: own.Max})
	}
	st.SoftFiles = 0
	return st, s
}

// needsShim reports whether the process must be started through Shim.
func (s Spec) needsShim() bool {
	return s.Umask != DefaultUmask || len(s.Limits) > 0 || s.Nice != nil || s.OOMScoreAdjust != nil || s.NoNewPrivs || !s.Sandbox.Zero() ||
		s.Scheduling != nil || s.Root != "" || s.DefaultSIGPIPE || len(s.Passed) > 0 || s.TTY != "" || s.User != nil && s.Dir != "" && s.Dir != "/"
}

// Start starts the process and returns its id. ran, when not nil, ends (reads
// end of file) as soon as the program itself runs or has failed to; the caller
// closes it. When it is nil the program runs already. An *Error says with which
// status the process would have ended.
//
// The process leads a session of its own. Start must be called through
// reap.Reaper.Start.
func (st Starter) Start(s Spec) (pid int, ran *os.File, err error) {
	dir, err := s.directory()
	if err != nil {
		return 0, nil, err
	}
	s.Dir = dir
	if st.crowded() || st.SoftFiles > 0 && len(s.Sandbox.Programs) > 0 { // which do not let the Go runtime set it back
		st, s = st.limited(s)
	}
	if s.needsShim() {
		return st.startShim(s)
	}
	attr := s.attributes()
	attr.Dir = dir
	if s.User != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: s.User.UID, Gid: s.User.GID, Groups: s.User.Groups}
	}
	pid, err = st.fork(s.Path, s.Args, attr)
	if err != nil {
		return 0, nil, failure(s.Path, err)
	}
	return pid, nil, nil
}

// directory returns the directory to start in, after looking whether it is
// there.
func (s Spec) directory() (string, error) {
	if s.Dir == "" || s.Dir == "/" {
		return "/", nil
	}
	if s.Root != "" {
		return s.Dir, nil // it is in there
	}
	info, err := os.Stat(s.Dir)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	switch {
	case err == nil:
		return s.Dir, nil
	case s.DirOptional:
		return "/", nil
	default:
		return "", &Error{StatusChdir, fmt.Errorf("change to the directory %q: %w", s.Dir, err)}
	}
}

func (s Spec) attributes() *syscall.ProcAttr {
	attr := &syscall.ProcAttr{Env: s.Env, Sys: &syscall.SysProcAttr{Setsid: true}}
	for _, fd := range s.Streams {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	for _, fd := range s.Passed {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	if s.Cgroup >= 0 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, s.Cgroup
	}
	return attr
}

// failure tells a program that cannot run from a process that cannot be made.
func failure(path string, err error) error {
	for _, resource := range []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EBUSY} {
		if errors.Is(err, resource) {
			return fmt.Errorf("start %q: %w", path, err)
		}
	}
	return &Error{StatusExec, fmt.Errorf("execute %q: %w", path, err)}
}

// startShim starts the process through Shim.
func (st Starter) startShim(s Spec) (int, *os.File, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, nil, fmt.Errorf("start %q: %w", s.Path, err)
	}
	defer unix.Close(p[1])
	attr := s.attributes()
	attr.Dir = "/"
	for i, fd := range s.Streams {
		if fd < 0 { // the shim puts the terminal there
			attr.Files[i] = uintptr(p[1])
		}
	}
	ready := len(attr.Files)
	attr.Files = append(attr.Files, uintptr(p[1]))
	pid, err := st.fork(st.Self, append(s.words(ready), s.Args...), attr)
	if err != nil {
		unix.Close(p[0])
		return 0, nil, fmt.Errorf("start %q through %q: %w", s.Path, st.Self, err)
	}
	return pid, os.NewFile(uintptr(p[0]), "started"), nil
}

// words encodes what the shim has to do as its arguments, up to and including
// the program's path.
func (s Spec) words(ready int) []string {
	w := []string{ShimName, "ready=" + strconv.Itoa(ready), "umask=" + strconv.FormatInt(int64(s.Umask), 8)}
	for _, l := range s.Limits {
		w = append(w, fmt.Sprintf("limit=%d:%d:%d", l.Resource, l.Soft, l.Hard))
	}
	if s.Nice != nil {
		w = append(w, "nice="+strconv.Itoa(*s.Nice))
	}
	if s.OOMScoreAdjust != nil {
		w = append(w, "oom="+strconv.Itoa(*s.OOMScoreAdjust))
	}
	if !s.Sandbox.Zero() {
		if plan, err := json.Marshal(s.Sandbox); err == nil {
			w = append(w, "sandbox="+string(plan))
		}
	}
	if s.Scheduling != nil {
		if text, err := json.Marshal(s.Scheduling); err == nil {
			w = append(w, "scheduling="+string(text))
		}
	}
	if s.NoNewPrivs {
		w = append(w, "nonewprivs=1")
	}
	if s.DefaultSIGPIPE {
		w = append(w, "sigpipe=1")
	}
	if len(s.Passed) > 0 {
		w = append(w, "listen="+strconv.Itoa(len(s.Passed)))
	}
	if s.TTY != "" {
		w = append(w, "tty="+s.TTY)
		for i, fd := range s.Streams {
			if fd < 0 {
				w = append(w, "ttyfd="+strconv.Itoa(i))
			}
		}
	}
	if u := s.User; u != nil {
		for _, g := range u.Groups {
			w = append(w, "group="+strconv.FormatUint(uint64(g), 10))
		}
		w = append(w, fmt.Sprintf("user=%d:%d", u.UID, u.GID))
	}
	if s.Root != "" {
		w = append(w, "root="+s.Root)
	}
	return append(w, "dir="+s.Dir, "--", s.Path)
}
