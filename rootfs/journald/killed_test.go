package journald

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"golang.org/x/sys/unix"
)

// keeper is PID 1's part: it keeps the descriptors that the daemon gives it and
// passes them to the next one.
type keeper struct {
	t    *testing.T
	fd   int
	path string
	kept map[string]*os.File
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{t: t, path: filepath.Join(t.TempDir(), "notify"), kept: map[string]*os.File{}}
	var err error
	if k.fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(k.fd) })
	if err := unix.Bind(k.fd, &unix.SockaddrUnix{Name: k.path}); err != nil {
		t.Fatal(err)
	}
	unix.SetsockoptTimeval(k.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	return k
}

// until takes notifications until one contains text.
func (k *keeper) until(text string) {
	k.t.Helper()
	for {
		b, oob := make([]byte, 4096), make([]byte, 256)
		n, oobn, _, _, err := unix.Recvmsg(k.fd, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err != nil {
			k.t.Fatalf("waiting for %q: %v", text, err)
		}
		state := string(b[:n])
		_, name, _ := strings.Cut(state, "FDNAME=")
		_, files := ancillary(oob[:oobn])
		for _, fd := range files {
			k.kept[name] = os.NewFile(uintptr(fd), name)
		}
		if strings.HasPrefix(state, "FDSTOREREMOVE=1") {
			k.kept[name].Close()
			delete(k.kept, name)
		}
		if strings.Contains(state, text) {
			return
		}
	}
}

// start runs the daemon in a process of its own.
func (k *keeper) start(dir string) *exec.Cmd {
	k.t.Helper()
	// A shell sets LISTEN_PID, which is the daemon's own.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run='^TestKilled$'`, os.Args[0])
	var names []string
	for name, file := range k.kept {
		names = append(names, name)
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	cmd.Env = append(os.Environ(), "JOURNALD_TEST_DIR="+dir, "NOTIFY_SOCKET="+k.path, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.until("READY=1")
	return cmd
}

// TestKilled kills the daemon, twice, while a service and a program that logs
// by datagram hold their sockets. Neither notices, and no line is lost.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("JOURNALD_TEST_DIR"); dir != "" {
		s, err := newServer(Paths{Run: dir + "/run", Log: dir + "/log", Proc: "/proc", Dev: dir + "/dev"}, DefaultConfig(), journal.ID{1}, journal.ID{2})
		if err == nil {
			err = s.serve(context.Background(), nil)
		}
		t.Fatal(err) // it is killed
	}
	dir := t.TempDir()
	os.Mkdir(dir+"/dev", 0o755)
	k := newKeeper(t)
	daemon := &daemon{t: t, paths: Paths{Run: dir + "/run", Log: dir + "/log"}, machine: journal.ID{1}}
	cmd := k.start(dir)
	service := daemon.stream(journal.StreamHeader{Unit: "web.service", Identifier: "web", Priority: 30})
	k.until("FDNAME=stream-")
	program, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: dir + "/run/systemd/journal/dev-log", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	for round := range 3 {
		if round > 0 {
			cmd.Process.Kill()
			cmd.Wait()
		}
		stream, datagram := fmt.Sprintf("stream %d", round), fmt.Sprintf("datagram %d", round)
		if _, err := fmt.Fprintln(service, stream); err != nil {
			t.Fatalf("round %d: the service's stdout: %v", round, err)
		}
		program.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if _, err := fmt.Fprintf(program, "<13>program: %s", datagram); err != nil {
			t.Fatalf("round %d: /dev/log: %v", round, err)
		}
		if round > 0 {
			cmd = k.start(dir)
		}
		want(t, daemon.wait(stream), map[string]string{"SYSLOG_IDENTIFIER": "web", "PRIORITY": "6"})
		want(t, daemon.wait(datagram), map[string]string{"SYSLOG_IDENTIFIER": "program"})
	}
	service.Close()
	k.until("FDSTOREREMOVE=1")
	cmd.Process.Kill()
	cmd.Wait()
	if len(k.kept) != 3 {
		t.Errorf("kept at the end: %d, want the three sockets", len(k.kept))
	}
}
