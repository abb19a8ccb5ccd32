package ctl

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/ssh"
	"github.com/coracle-os/coracle/agents/ssh/hostkeys"
	"github.com/coracle-os/coracle/rootfs/program"
	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// sshd is the repository's own SSH server with a user "core", whose programs
// systemctl and journalctl say how they are called, and whose fleetctl is this
// test's binary.
type sshd struct {
	port string
	id   ed25519.PrivateKey
}

func (w *world) sshd() sshd {
	w.t.Helper()
	if os.Geteuid() != 0 {
		w.t.Fatal("this test needs root, for programs that run as another user")
	}
	_, id, err := ed25519.GenerateKey(rand.Reader)
	must(w.t, err)
	public, err := xssh.NewPublicKey(id.Public())
	must(w.t, err)
	must(w.t, os.Chmod(w.dir, 0o755))
	w.file("root/etc/passwd", fmt.Sprintf("core:x:500:500:Core:%s/core:%s/shell\n", w.dir, w.dir))
	w.file("root/etc/group", "core:x:500:\n")
	w.file("core/.ssh/authorized_keys", string(xssh.MarshalAuthorizedKey(public)))
	must(w.t, os.Chown(filepath.Join(w.dir, "core"), 500, 500))
	program := func(path, text string) { must(w.t, os.Chmod(w.file(path, text), 0o755)) }
	program("shell", fmt.Sprintf("#!/bin/bash\nexport PATH=%s/bin:$PATH\nexec /bin/bash \"$@\"\n", w.dir))
	program("bin/systemctl", "#!/bin/bash\necho \"systemctl $*\"\nexit 3\n")
	program("bin/journalctl", "#!/bin/bash\necho \"journalctl $*\"\ncase \"$*\" in *-f*) exec sleep 60;; esac\n")
	program("bin/sudo", "#!/bin/bash\necho -n 'sudo '\nexec \"$@\"\n")
	copySelf(w.t, w.dir+"/bin/fleetctl")
	must(w.t, os.Chmod(w.socket, 0o777))

	key, err := hostkeys.Load(filepath.Join(w.dir, "keys"), hostkeys.Ed25519)
	must(w.t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	s := &ssh.Server{Root: w.dir + "/root", Log: slog.New(slog.NewTextHandler(io.Discard, nil)), HostKeys: []xssh.Signer{key}, Greeting: func() string { return "" }}
	s.Prepare()
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	w.t.Cleanup(func() { cancel(); <-done })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return sshd{port, id}
}

// keyFile gives the person the key as a file.
func (w *world) keyFile(id ed25519.PrivateKey) {
	block, err := xssh.MarshalPrivateKey(id, "")
	must(w.t, err)
	w.file(".ssh/id_ed25519", string(pem.EncodeToMemory(block)))
}

// keyAgent gives the person an agent with the key.
func (w *world) keyAgent(id ed25519.PrivateKey) {
	keyring := agent.NewKeyring()
	must(w.t, keyring.Add(agent.AddedKey{PrivateKey: &id, Comment: "the person's"}))
	path := filepath.Join(w.dir, "agent.sock")
	l, err := net.Listen("unix", path)
	must(w.t, err)
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); agent.ServeAgent(keyring, c) }()
		}
	}()
	w.env["SSH_AUTH_SOCK"] = path
}

// reached is a world with one machine that SSH reaches, trusted already.
func reached(t *testing.T) (*world, sshd) {
	w := newWorld(t)
	s := w.sshd()
	w.machine(fleet.Machine{ID: strings.Repeat("4", 32), PublicIP: "127.0.0.1"})
	w.env["FLEETCTL_STRICT_HOST_KEY_CHECKING"] = "false"
	return w, s
}

// expect compares a call's outcome; errors need only contain the words.
func (w *world) expect(wantOut, wantErr string, wantCode int, args ...string) {
	w.t.Helper()
	out, errOut, code := w.fleetctl(args...)
	if out != wantOut || !strings.Contains(errOut, wantErr) || code != wantCode || wantErr == "" && errOut != "" {
		w.t.Errorf("fleetctl %s: output %q, want %q; errors %q, want %q; exit code %d, want %d", strings.Join(args, " "), out, wantOut, errOut, wantErr, code, wantCode)
	}
}

func TestSSH(t *testing.T) {
	w, s := reached(t)
	w.keyFile(s.id)
	w.file("hello.service", "[Service]\nExecStart=/bin/sleep 1\n")
	w.expect("Unit hello.service inactive\nUnit hello.service launched on 44444444.../127.0.0.1\n", "", 0, "start", w.dir+"/hello.service")
	port := "--ssh-port=" + s.port
	w.expect("foo bar\n", "", 0, "ssh", port, "hello.service", "echo", "foo", "bar")
	w.expect("-l\n", "", 0, "ssh", port, "44444", "--", "echo", "-l")
	w.expect("", "", 7, "ssh", port, "--machine=4444", "exit 7")
	w.expect("", "ended by signal KILL", 1, "ssh", port, "--unit", "hello", "kill -KILL $$")
	w.in = "echo from a shell\n"
	w.expect("from a shell\n", "", 0, "ssh", port, "4")
	w.in = ""
	w.expect("systemctl status -l hello.service\n", "", 3, "status", port, "hello")
	w.expect("systemctl status -l hello.service\n\n", "Unit nothing.service does not exist.", 3, "status", port, "hello", "nothing")
	w.expect("journalctl --unit hello.service --no-pager -n 10 --output short\n", "", 0, "journal", port, "hello")
	w.expect("sudo journalctl --unit hello.service --no-pager -n 3 --output json\n", "", 0, "journal", port, "--sudo", "--lines=3", "-output", "json", "hello")

	// A unit of the machine that fleetctl runs on needs no SSH.
	w.file("machine-id", strings.Repeat("4", 32)+"\n")
	t.Setenv("PATH", w.dir+"/bin:"+os.Getenv("PATH"))
	w.expect("systemctl status -l hello.service\n", "", 3, "status", "--ssh-port=1", "hello")
}

func TestJournalFollowsUntilInterrupted(t *testing.T) {
	w, s := reached(t)
	w.keyFile(s.id)
	w.file("hello.service", "[Service]\nExecStart=/bin/sleep 1\n")
	w.fleetctl("start", w.dir+"/hello.service")
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	r, out := io.Pipe()
	ended := make(chan int)
	go func() {
		ended <- w.call(ctx, program.Stdio{In: strings.NewReader(""), Out: out, Err: io.Discard}, "journal", "-f", "--ssh-port="+s.port, "hello")
	}()
	line := make([]byte, 10)
	if _, err := io.ReadFull(r, line); err != nil || string(line) != "journalctl" {
		t.Errorf("got %q, %v", line, err)
	}
	go io.Copy(io.Discard, r)
	cancel()
	if code := <-ended; code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
}

func TestAgentForwarding(t *testing.T) {
	w, s := reached(t)
	port := "--ssh-port=" + s.port
	w.expect("", "no key was accepted; no key agent is running (SSH_AUTH_SOCK is not set)", 1, "ssh", port, "4", "true")
	w.keyFile(s.id)
	w.expect("", "forward the key agent: SSH_AUTH_SOCK is not set", 1, "ssh", "-A", port, "4", "true")
	must(t, os.Remove(w.dir+"/.ssh/id_ed25519"))
	w.keyAgent(s.id)
	public, err := xssh.NewPublicKey(s.id.Public())
	must(t, err)
	w.expect(strings.TrimSpace(string(xssh.MarshalAuthorizedKey(public)))+" the person's\n", "", 0, "ssh", "-A", port, "4", "ssh-add -L")
	w.expect("none\n", "", 0, "ssh", port, "4", "echo ${SSH_AUTH_SOCK:-none}")
	w.env["SSH_AUTH_SOCK"] = w.dir + "/gone.sock"
	w.expect("", "reach the key agent that SSH_AUTH_SOCK names", 1, "ssh", port, "4", "true")
}

func TestKnownHosts(t *testing.T) {
	w, s := reached(t)
	delete(w.env, "FLEETCTL_STRICT_HOST_KEY_CHECKING")
	w.keyFile(s.id)
	known := filepath.Join(w.dir, ".fleetctl/known_hosts")
	args := []string{"ssh", "--ssh-port=" + s.port, "4", "echo in; cat"}
	w.expect("", "was not trusted", 1, args...)
	if _, err := os.Stat(known); err == nil {
		t.Error("a host that was not trusted is remembered")
	}
	w.in = "yes\nrest"
	w.expect("in\nrest", "The authenticity of host 127.0.0.1:"+s.port+" is not known", 0, args...)
	w.in = ""
	w.expect("in\n", "", 0, args...)

	host, err := os.ReadFile(known)
	must(t, err)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := xssh.NewSignerFromKey(other)
	must(t, err)
	w.file(".fleetctl/known_hosts", strings.Fields(string(host))[0]+" "+string(xssh.MarshalAuthorizedKey(signer.PublicKey())))
	w.in = "yes\n"
	w.expect("", "has changed: it shows ssh-ed25519 SHA256:", 1, args...)
	w.file(".fleetctl/known_hosts", "# a last line without its end")
	w.expect("in\n", "is not known", 0, args...)
	w.in = ""
	w.expect("in\n", "", 0, args...)
	w.file(".fleetctl/known_hosts", "nonsense\n")
	w.expect("", "correct or remove the file", 1, args...)
}

func TestTunnel(t *testing.T) {
	w, s := reached(t)
	w.keyAgent(s.id)
	w.env["FLEETCTL_TUNNEL"] = "127.0.0.1:" + s.port
	w.file("ten@.service", "[Service]\nExecStart=/bin/sleep 1\n")
	args := []string{"start"}
	for i := range 10 {
		args = append(args, fmt.Sprintf("%s/ten@%d.service", w.dir, i))
	}
	_, errOut, code := w.fleetctl(args...)
	if errOut != "" || code != 0 {
		t.Errorf("start by a tunnel: errors %q, exit code %d", errOut, code)
	}
	out, _, _ := w.fleetctl("list-units", "--no-legend")
	if n := strings.Count(out, "active\trunning"); n != 10 {
		t.Errorf("list-units by a tunnel shows %d active units, want 10:\n%s", n, out)
	}
	w.expect("there\n", "", 0, "ssh", "--ssh-port="+s.port, "4", "echo there")
	w.expect("", "fd-forward: dial unix "+w.dir+"/gone.sock", 1, "--endpoint=unix://"+w.dir+"/gone.sock", "list-units")

	// A TCP endpoint is connected to by the tunnel's machine.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := serve(t, l, w.handler)
	w.expect("44444444...\t127.0.0.1\t-\n", "", 0, "--endpoint=http://"+server, "list-machines", "--no-legend")
	w.expect("", "open the tunnel: connect to 127.0.0.1:1 by SSH", 1, "--tunnel=127.0.0.1:1", "list-units")
}

func TestTunnelThatSaysNothing(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	w.expect("", "no answer within 100ms; --ssh-timeout", 1, "--tunnel="+l.Addr().String(), "--ssh-timeout=0.1", "list-units")
}

func TestFDForward(t *testing.T) {
	w := newWorld(t)
	r, in := io.Pipe()
	var out bytes.Buffer
	ended := make(chan int)
	go func() {
		ended <- w.call(w.ctx, program.Stdio{In: r, Out: &out, Err: io.Discard}, "fd-forward", w.socket)
	}()
	fmt.Fprint(in, "GET /fleet/v1/machines HTTP/1.0\r\n\r\n")
	if code := <-ended; code != 0 || !strings.HasPrefix(out.String(), "HTTP/1.0 200 OK\r\n") {
		t.Errorf("exit code %d, output %q", code, out.String())
	}
	in.Close()
	w.expect("", "fd-forward: dial unix "+w.dir+"/gone", 1, "fd-forward", w.dir+"/gone")
}
