package spawn

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// TestMain lets the test binary be the shim.
func TestMain(m *testing.M) {
	if os.Args[0] == ShimName {
		os.Exit(Shim(os.Args, os.Stderr))
	}
	os.Exit(m.Run())
}

// output runs the process and returns what it wrote and how it ended.
func output(t *testing.T, s Spec) (string, reap.Exit, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s.Streams = [3]int{int(null.Fd()), int(w.Fd()), int(w.Fd())}
	s.Cgroup = -1
	reaper := reap.New(nil)
	exit := make(chan reap.Exit, 1)
	var ran *os.File
	_, err = reaper.Start(func() (pid int, err error) {
		pid, ran, err = Starter{Self: "/proc/self/exe"}.Start(s)
		return pid, err
	}, func(e reap.Exit) { exit <- e })
	w.Close()
	if err != nil {
		return "", reap.Exit{}, err
	}
	if ran != nil {
		io.Copy(io.Discard, ran)
		ran.Close()
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	for {
		reaper.Sweep()
		select {
		case e := <-exit:
			e.PID = 0
			return string(b), e, nil
		default:
		}
	}
}

func shell(script string) Spec {
	return Spec{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Umask: DefaultUmask}
}

func TestProcessContext(t *testing.T) {
	five, plus := 5, 300
	// Signal 13 is bit 12; make's children ignore signal 32 as well.
	const sigpipe = `set -- $(grep SigIgn /proc/self/status); echo $((0x$2 >> 12 & 1))`
	tests := []struct {
		name   string
		change func(*Spec)
		script string
		want   string
		shim   bool
	}{
		{"plain", func(*Spec) {}, "pwd; umask; echo $0", "/\n0022\nsh\n", false},
		{"directory", func(s *Spec) { s.Dir = "/usr" }, "pwd", "/usr\n", false},
		{"optional directory", func(s *Spec) { s.Dir, s.DirOptional = "/nonexistent", true }, "pwd", "/\n", false},
		{"user", func(s *Spec) { s.User = &User{UID: 65534, GID: 65533, Groups: []uint32{8}} }, "id -u; id -g; id -G", "65534\n65533\n65533 8\n", false},
		{"user and directory", func(s *Spec) { s.User, s.Dir = &User{UID: 65534, GID: 65533}, "/usr" }, "id -u; id -G; pwd", "65534\n65533\n/usr\n", true},
		{"umask", func(s *Spec) { s.Umask = 0o077 }, "umask", "0077\n", true},
		{"limit", func(s *Spec) { s.Limits = []unit.Limit{{Resource: unix.RLIMIT_NOFILE, Soft: 333, Hard: 444}} }, "ulimit -Sn; ulimit -Hn", "333\n444\n", true},
		{"nice", func(s *Spec) { s.Nice = &five }, "nice", "5\n", true},
		{"oom", func(s *Spec) { s.OOMScoreAdjust = &plus }, "cat /proc/self/oom_score_adj", "300\n", true},
		{"no new privileges", func(s *Spec) { s.NoNewPrivs = true }, "grep NoNewPrivs /proc/self/status | tr -d '\t'", "NoNewPrivs:1\n", true},
		{"sigpipe ignored by the shim too", func(s *Spec) { s.Umask = 0o027 }, sigpipe, "1\n", true},
		{"sigpipe", func(s *Spec) { s.DefaultSIGPIPE = true }, sigpipe, "0\n", true},
		{"blanks in the environment", func(s *Spec) { s.Env = append(s.Env, "A=x  y=z\n"); s.Umask = 0 }, `printf %s "$A"`, "x  y=z\n", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := shell(tt.script)
			tt.change(&s)
			if s.needsShim() != tt.shim {
				t.Errorf("needsShim is %v", s.needsShim())
			}
			got, exit, err := output(t, s)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want || exit != (reap.Exit{}) {
				t.Errorf("wrote %q, ended %+v, want %q", got, exit, tt.want)
			}
		})
	}
}

func TestPassedDescriptors(t *testing.T) {
	dir := t.TempDir()
	var fds []int
	for _, name := range []string{"one", "two"} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fds = append(fds, int(f.Fd()))
	}
	// No pipe in it: its ends would be the shell's for a moment. More after ls, or the shell becomes ls.
	s := shell(`test $LISTEN_PID = $$ && cat <&3 && cat <&4 && ls /proc/$$/fd; true`)
	s.Passed = fds
	got, exit, err := output(t, s)
	if err != nil || exit.Status != 0 {
		t.Fatalf("%v, %+v, %q", err, exit, got)
	}
	text, ok := strings.CutPrefix(got, "one\ntwo\n")
	var own []string // bash keeps one of its own from 10 on
	for _, fd := range strings.Fields(text) {
		if len(fd) == 1 {
			own = append(own, fd)
		}
	}
	if want := "[0 1 2 3 4]"; !ok || fmt.Sprint(own) != want {
		t.Errorf("got %q, %v, want %s", got, own, want)
	}
}

func TestFailures(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		spec   Spec
		status int
	}{
		{"missing program", Spec{Path: "/nonexistent", Args: []string{"x"}, Umask: DefaultUmask}, StatusExec},
		{"not executable", Spec{Path: text, Args: []string{"x"}, Umask: DefaultUmask}, StatusExec},
		{"missing program, shim", Spec{Path: "/nonexistent", Args: []string{"x"}, Umask: 0}, StatusExec},
		{"missing directory", Spec{Path: "/bin/true", Args: []string{"true"}, Dir: "/nonexistent", Umask: DefaultUmask}, StatusChdir},
		{"directory is a file", Spec{Path: "/bin/true", Args: []string{"true"}, Dir: text, Umask: 0}, StatusChdir},
		{"impossible limit", Spec{Path: "/bin/true", Args: []string{"true"}, Umask: DefaultUmask,
			Limits: []unit.Limit{{Resource: unix.RLIMIT_NOFILE, Soft: 2, Hard: 1}}}, StatusLimits},
		{"missing terminal", Spec{Path: "/bin/true", Args: []string{"true"}, Umask: DefaultUmask, TTY: "/dev/nonexistent"}, StatusStdin},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, exit, err := output(t, tt.spec)
			var e *Error
			switch {
			case errors.As(err, &e):
				exit.Status = e.Status
			case err != nil:
				t.Fatal(err)
			}
			if exit.Status != tt.status {
				t.Errorf("status %d, want %d", exit.Status, tt.status)
			}
		})
	}
}

func TestShimRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, args := range [][]string{{ShimName}, {ShimName, "--"}, {ShimName, "bogus=1", "--", "/bin/true", "true"}, {ShimName, "umask=9", "--", "/bin/true", "true"}} {
		if got := Shim(args, io.Discard); got != StatusExec {
			t.Errorf("%q: status %d", args, got)
		}
	}
}
