package ssh

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// dial connects with the library's client, for what OpenSSH's cannot be asked.
func (w *world) dial() *ssh.Client {
	w.t.Helper()
	signer, err := ssh.ParsePrivateKey([]byte(w.read("id")))
	must(w.t, err)
	c, err := ssh.Dial("tcp", "127.0.0.1:"+w.port, &ssh.ClientConfig{
		User: "core", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, Timeout: 10 * time.Second,
		HostKeyCallback: ssh.FixedHostKey(w.server.HostKeys[0].PublicKey()),
	})
	must(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	return c
}

func (w *world) open(c *ssh.Client) *ssh.Session {
	w.t.Helper()
	s, err := c.NewSession()
	must(w.t, err)
	w.t.Cleanup(func() { s.Close() })
	return s
}

// eventually waits for a condition that something else brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestSignals(t *testing.T) {
	w := newWorld(t, "")
	c := w.dial()
	for _, handled := range []bool{true, false} {
		s := w.open(c)
		out, err := s.StdoutPipe()
		must(t, err)
		command := "echo ready; sleep 60"
		if handled {
			command = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"
		}
		must(t, s.Start(command))
		bufio.NewReader(out).ReadString('\n')
		must(t, s.Signal(ssh.SIGTERM))
		err = s.Wait()
		var exit *ssh.ExitError
		if !errors.As(err, &exit) {
			t.Fatalf("got %v, want an exit error", err)
		}
		if handled && exit.ExitStatus() != 9 || !handled && exit.Signal() != "TERM" {
			t.Errorf("handled %v: status %d, signal %q", handled, exit.ExitStatus(), exit.Signal())
		}
	}
}

func TestWindowChange(t *testing.T) {
	w := newWorld(t, "")
	s := w.open(w.dial())
	must(t, s.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.ECHO: 0, ssh.VINTR: 7}))
	out, err := s.StdoutPipe()
	must(t, err)
	must(t, s.Start("stty size; stty -a | grep -o 'intr = [^;]*'; stty -a | grep -o '[-]*echo '; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"))
	lines := bufio.NewScanner(out)
	for _, want := range []string{"24 80", "intr = ^G", "-echo ", "ready"} {
		lines.Scan()
		if lines.Text() != want {
			t.Errorf("got %q, want %q", lines.Text(), want)
		}
	}
	must(t, s.WindowChange(50, 132))
	lines.Scan()
	if lines.Text() != "50 132" {
		t.Errorf("after the change: %q, want 50 132", lines.Text())
	}
}

func TestLostClient(t *testing.T) {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP) // as sshd's main does; the test may run under nohup
	w := newWorld(t, "")
	c := w.dial()
	s := w.open(c)
	must(t, s.RequestPty("xterm", 24, 80, nil))
	out, err := s.StdoutPipe()
	must(t, err)
	must(t, s.Start("echo $$; exec sleep 60"))
	var pid int
	fmt.Fscan(out, &pid)
	// A hangup between the shell's last look at its signals and its exec would be the shell's to lose.
	eventually(t, "the shell has become sleep", func() bool {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return string(name) == "sleep\n"
	})
	c.Close()
	eventually(t, "the program of a lost client ends", func() bool { return unix.Kill(pid, 0) != nil })
	left := func() bool {
		names, _ := filepath.Glob(filepath.Join(os.TempDir(), "ssh-*", "agent"))
		return len(names) == 0
	}
	eventually(t, "nothing of it is left", left)
}

func TestLimits(t *testing.T) {
	w := newWorld(t, "")
	c := w.dial()
	for i := range maxSessions {
		if _, err := c.NewSession(); err != nil {
			t.Fatalf("session %d: %v", i, err)
		}
	}
	if _, err := c.NewSession(); err == nil || !strings.Contains(err.Error(), "more than 10 sessions") {
		t.Errorf("one session too many: %v", err)
	}
	eventually(t, "waiting connections are counted", func() bool { return w.server.startups.Load() == 0 })
	greeted := 0
	for range maxStartups + 5 {
		conn, err := net.Dial("tcp", "127.0.0.1:"+w.port)
		must(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if n, _ := conn.Read(make([]byte, 1)); n == 1 {
			greeted++
		}
	}
	if greeted != maxStartups {
		t.Errorf("%d connections that have not logged in were accepted, want %d", greeted, maxStartups)
	}
	if !strings.Contains(w.log.String(), "others have not logged in yet") {
		t.Error("the log does not say so")
	}
	if err := w.alive(c); err != nil {
		t.Errorf("the open connection suffers: %v", err)
	}
}

// alive asks the open connection for a sign of life.
func (w *world) alive(c *ssh.Client) error {
	_, _, err := c.SendRequest("keepalive@openssh.com", true, nil)
	return err
}

func TestUnknownRequests(t *testing.T) {
	w := newWorld(t, "")
	c := w.dial()
	if _, _, err := c.OpenChannel("x11", nil); err == nil {
		t.Error("a channel that there is not was opened")
	}
	for _, kind := range []string{"direct-tcpip", "direct-streamlocal@openssh.com"} {
		if _, _, err := c.OpenChannel(kind, []byte("short")); err == nil || !strings.Contains(err.Error(), "malformed") {
			t.Errorf("%s with a malformed payload: %v", kind, err)
		}
	}
	for _, kind := range []string{"tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com", "nonsense"} {
		if ok, _, err := c.SendRequest(kind, true, []byte("x")); ok || err != nil {
			t.Errorf("%s: %v, %v", kind, ok, err)
		}
	}
	s := w.open(c)
	for _, kind := range []string{"pty-req", "env", "signal", "window-change", "exec", "x11-req", "subsystem"} {
		if ok, err := s.SendRequest(kind, true, []byte{0, 0, 0, 9}); ok || err != nil {
			t.Errorf("session request %s: %v, %v", kind, ok, err)
		}
	}
	out, err := s.Output("echo alive")
	if string(out) != "alive\n" {
		t.Errorf("afterwards: %q, %v", out, err)
	}
}
