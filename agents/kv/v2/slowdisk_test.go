package v2_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// retTrace is a filter's word for "ask the tracer", of linux/seccomp.h.
const retTrace = 0x7ff00000

// slowMain runs etcd and holds each of its fsyncs up for as long as the file
// $SLOW says. It is the kernel's tracer, so that it works for any program.
func slowMain() int {
	runtime.LockOSThread() // both filter and tracer are this thread
	process, err := traced()
	if err != nil {
		fmt.Fprintln(os.Stderr, "slow-disk:", err)
		return 1
	}
	waiting := map[int]time.Time{} // threads, with when they may go on
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 1
		case pid == 0:
			for pid, at := range waiting {
				if time.Now().After(at) {
					unix.PtraceCont(pid, 0)
					delete(waiting, pid)
				}
			}
			time.Sleep(time.Millisecond)
		case status.Exited() || status.Signaled():
			if pid == process {
				return status.ExitStatus()
			}
		case status.TrapCause() == unix.PTRACE_EVENT_SECCOMP:
			text, _ := os.ReadFile(os.Getenv("SLOW"))
			delay, _ := time.ParseDuration(string(text))
			waiting[pid] = time.Now().Add(delay)
		case status.StopSignal() == unix.SIGTRAP, status.StopSignal() == unix.SIGSTOP: // a thread begins
			unix.PtraceCont(pid, 0)
		default:
			unix.PtraceCont(pid, int(status.StopSignal()))
		}
	}
}

// traced starts etcd with a filter that stops it before each fsync.
func traced() (pid int, err error) {
	op := func(code uint16, k uint32, jt uint8) unix.SockFilter {
		return unix.SockFilter{Code: code, K: k, Jt: jt}
	}
	program := []unix.SockFilter{
		op(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0, 0), // the system call's number
		op(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, unix.SYS_FSYNC, 2),
		op(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, unix.SYS_FDATASYNC, 1),
		op(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW, 0),
		op(unix.BPF_RET|unix.BPF_K, retTrace, 0),
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0); err != nil {
		return 0, err
	}
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	os.Setenv("TEST_PROGRAM", "etcd")
	pid, err = syscall.ForkExec(exe, os.Args, &syscall.ProcAttr{Env: os.Environ(),
		Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		return 0, err
	}
	if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
		return 0, err
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESECCOMP|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return 0, err
	}
	return pid, unix.PtraceCont(pid, 0)
}

// TestSlowDisk lets each fsync take longer than a second: writes wait for it and
// then are done, whoever reads does not wait, the log names the disk, and what
// was acknowledged is there after a power cut. A disk that hangs makes writes
// fail in time.
func TestSlowDisk(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	client, peer, dir := freeURL(t), freeURL(t), t.TempDir()
	knob := filepath.Join(dir, "delay")
	hold := func(d time.Duration) {
		if err := os.WriteFile(knob, []byte(d.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, client, func() *exec.Cmd {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "TEST_PROGRAM=slow-disk", "SLOW="+knob, "ETCD_DATA_DIR="+filepath.Join(dir, "data"),
			"ETCD_LISTEN_CLIENT_URLS="+client, "ETCD_ADVERTISE_CLIENT_URLS="+client,
			"ETCD_LISTEN_PEER_URLS="+peer, "ETCD_INITIAL_ADVERTISE_PEER_URLS="+peer)
		return cmd
	})
	s.must("PUT", "/before", "value=x")
	const delay = 1100 * time.Millisecond
	hold(delay)
	began, written := time.Now(), make(chan time.Duration, 1)
	go func() {
		s.must("PUT", "/slow", "value=x")
		written <- time.Since(began)
	}()
	for range 20 {
		began := time.Now()
		s.must("GET", "/before", "")
		if d := time.Since(began); d > delay {
			t.Errorf("a read took %v", d)
		}
	}
	if d := <-written; d < delay {
		t.Errorf("a write was acknowledged after %v, before it was on the disk", d)
	}
	s.says("slow fdatasync")
	hold(time.Hour)
	began = time.Now()
	status, _, err := s.request("PUT", "/hangs", "value=x")
	if err != nil || status != http.StatusInternalServerError {
		t.Errorf("a write to a disk that hangs: %d, %v, want 500", status, err)
	}
	t.Logf("a write to a disk that hangs fails after %v", time.Since(began))
	s.kill()
	for { // the kernel ends what the tracer traced
		conn, err := net.Dial("tcp", strings.TrimPrefix(client, "http://"))
		if err != nil {
			break
		}
		conn.Close()
	}
	hold(0)
	s.start()
	s.must("GET", "/slow", "quorum=true")
}
