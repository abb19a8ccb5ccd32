package ssh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/ssh/hostkeys"
	"github.com/coracle-os/coracle/rootfs/program"
)

// TestMain lets the test's own binary be the program that serves sftp.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == SFTPName {
		os.Exit(SFTPMain(context.Background(), os.Args, program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// uid is the user whose programs the tests run; they run as root, and as CI does.
const uid = 500

// world is a server on loopback with one user "core", and what a client needs.
type world struct {
	t               *testing.T
	dir, home, port string
	log             *syncBuffer
	server          *Server
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newWorld starts the server, changed as a test wants; options precede the key
// in authorized_keys.
func newWorld(t *testing.T, options string, change ...func(*Server)) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root, for programs that run as another user")
	}
	dir, err := os.MkdirTemp("", "coracle-ssh-") // short, for socket names
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, home: filepath.Join(dir, "home"), log: &syncBuffer{}}
	must(t, os.Chmod(dir, 0o755))
	must(t, os.MkdirAll(filepath.Join(w.home, ".ssh", "authorized_keys.d"), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	w.file("etc/passwd", fmt.Sprintf("root:x:0:0::%s/roothome:/bin/bash\ncore:x:%d:%d:Core:%s:/bin/bash\n", dir, uid, uid, w.home))
	w.file("etc/group", fmt.Sprintf("core:x:%d:\nsudo:x:27:core\n", uid))
	sh(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "id"))
	sh(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "other"))
	w.file("home/.ssh/authorized_keys.d/test", options+w.read("id.pub"))
	sh(t, "chown", "-R", fmt.Sprintf("%d:%d", uid, uid), w.home)
	w.start(change)
	return w
}

func (w *world) start(change []func(*Server)) {
	key, err := hostkeys.Load(filepath.Join(w.dir, "keys"), hostkeys.Ed25519)
	must(w.t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(w.t, err)
	_, w.port, _ = net.SplitHostPort(l.Addr().String())
	self, err := os.ReadFile("/proc/self/exe")
	must(w.t, err)
	must(w.t, os.WriteFile(w.dir+"/sshd", self, 0o755)) // where every user can run it
	w.server = &Server{Root: w.dir, Log: slog.New(slog.NewTextHandler(w.log, nil)), SFTP: []string{w.dir + "/sshd", SFTPName},
		Greeting: func() string { return "Coracle test\nfailed units: none\n" }}
	w.server.HostKeys = append(w.server.HostKeys, key)
	for _, f := range change {
		f(w.server)
	}
	w.server.Prepare()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.server.Serve(ctx, l) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Serve: %v", err)
		}
		if w.t.Failed() {
			w.t.Log(w.log.String())
		}
	})
	w.file("known", fmt.Sprintf("[127.0.0.1]:%s %s", w.port, w.read("keys/ssh_host_ed25519_key.pub")))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sh(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func (w *world) file(name, content string) {
	w.t.Helper()
	must(w.t, os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o644))
}

func (w *world) read(name string) string {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	must(w.t, err)
	return string(data)
}

// client makes a command of OpenSSH's, with the options that every one needs.
func (w *world) client(name string, args ...string) *exec.Cmd {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	w.t.Cleanup(cancel)
	portFlag := "-p"
	if name != "ssh" {
		portFlag = "-P"
	}
	base := []string{portFlag, w.port, "-F", "none", "-o", "UserKnownHostsFile=" + w.dir + "/known", "-o", "StrictHostKeyChecking=yes",
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "SendEnv=LANG", "-i", w.dir + "/id"}
	cmd := exec.CommandContext(ctx, name, append(base, args...)...)
	cmd.Env = append(os.Environ(), "LANG=C.UTF-8", "TERM=vt220", "SSH_AUTH_SOCK=")
	return cmd
}

// ssh runs a command over SSH and returns its streams and exit code.
func (w *world) ssh(args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	cmd := w.client("ssh", args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if cmd.ProcessState == nil {
		w.t.Fatalf("ssh %v: %v", args, err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func TestExec(t *testing.T) {
	w := newWorld(t, "")
	const descriptors = "cd /proc/$$/fd; echo *"
	inherited := sh(t, "bash", "-c", descriptors) // by the test itself, from whoever runs it
	for _, c := range []struct {
		name, command, want string
		code                int
	}{
		{"output and error", "echo out; echo err >&2", "out\n", 0},
		{"exit status", "exit 7", "", 7},
		{"signal", "kill -TERM $$", "", 255},
		{"identity", "id -u; id -g; id -G", fmt.Sprintf("%d\n%d\n%d 27\n", uid, uid, uid), 0},
		{"streams by name", "cat /dev/stdin && echo in > /dev/stdout", "in\n", 0},
		{"home", "pwd; echo $HOME $USER $SHELL", w.home + "\n" + w.home + " core /bin/bash\n", 0},
		{"no terminal", "test -t 0 || echo none", "none\n", 0},
		{"background process keeps output open", "(sleep 0.2; echo late) & echo soon", "soon\nlate\n", 0},
		{"no descriptors leak in", descriptors, inherited, 0},
		{"connection", "set -- $SSH_CONNECTION; echo $1 $3 $4", "127.0.0.1 127.0.0.1 " + w.port + "\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, _, code := w.ssh("core@127.0.0.1", c.command)
			if out != c.want || code != c.code {
				t.Errorf("%q: got %q, exit code %d, want %q, %d", c.command, out, code, c.want, c.code)
			}
		})
	}
}

func TestExecStreams(t *testing.T) {
	w := newWorld(t, "")
	in := bytes.Repeat([]byte("0123456789abcdef\r\n\x00\xff"), 100_000) // 2 MB, binary
	cmd := w.client("ssh", "core@127.0.0.1", "cat; echo done >&2")
	cmd.Stdin = bytes.NewReader(in)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	must(t, err)
	if !bytes.Equal(in, out) || errOut.String() != "done\n" {
		t.Errorf("got %d bytes, want %d the same; standard error %q", len(out), len(in), errOut.String())
	}
}

func TestTerminal(t *testing.T) {
	w := newWorld(t, "")
	out, _, code := w.ssh("-tt", "core@127.0.0.1", `test -t 0 && echo tty $TERM $LANG; stat -c %u:%g:%a $SSH_TTY; printf 'a\nb'; exit 3`)
	want := fmt.Sprintf("tty vt220 C.UTF-8\r\n%d:5:620\r\na\r\nb", uid)
	if out != want || code != 3 {
		t.Errorf("got %q, exit code %d, want %q, 3", out, code, want)
	}
	// A program that turns the terminal's own line ends off gets its bytes through.
	out, _, _ = w.ssh("-tt", "core@127.0.0.1", `stty raw; printf 'a\nb'`)
	if out != "a\nb" {
		t.Errorf("raw terminal: got %q, want %q", out, "a\nb")
	}
}

func TestLoginShell(t *testing.T) {
	w := newWorld(t, "")
	cmd := w.client("ssh", "-tt", "core@127.0.0.1")
	cmd.Stdin = strings.NewReader("echo $0 $((6*7))\nexit 5\n")
	out, _ := cmd.CombinedOutput()
	for _, want := range []string{"Coracle test\r\nfailed units: none\r\n", "-bash 42\r\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("output %q lacks %q", out, want)
		}
	}
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t, "")
	must(t, os.MkdirAll(filepath.Join(w.dir, "roothome/.ssh"), 0o700))
	for _, c := range []struct {
		name string
		args []string
	}{
		{"another key", []string{"-o", "IdentityFile=none", "-i", w.dir + "/other", "-o", "IdentityAgent=none"}},
		{"password", []string{"-o", "PreferredAuthentications=password,keyboard-interactive"}},
		{"unknown user", []string{"-l", "nobody-here"}},
		{"root without keys", []string{"-l", "root"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"-l", "core"}, c.args...)
			if c.name == "unknown user" || c.name == "root without keys" {
				args = c.args
			}
			cmd := w.client("ssh", append(args, "127.0.0.1", "echo in")...)
			if c.name == "another key" {
				cmd.Args = without(cmd.Args, w.dir+"/id")
			}
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "Permission denied (publickey)") {
				t.Errorf("got %q, %v, want permission denied (publickey)", out, err)
			}
		})
	}
	must(t, os.Chmod(filepath.Join(w.home, ".ssh", "authorized_keys.d", "test"), 0o666))
	if out, _, code := w.ssh("core@127.0.0.1", "echo in"); code != 255 {
		t.Errorf("keys that all can write let in: %q", out)
	}
	if !strings.Contains(w.log.String(), "others may write it") {
		t.Error("the log does not say that others may write the keys")
	}
}

// without removes "-i value" from a command line.
func without(args []string, value string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		if args[i] == "-i" && args[i+1] == value {
			i++
			continue
		}
		out = append(out, args[i])
	}
	return out
}

func TestKeyOptions(t *testing.T) {
	w := newWorld(t, `command="echo forced $SSH_ORIGINAL_COMMAND",no-pty,from="127.0.0.0/8" `)
	out, _, _ := w.ssh("core@127.0.0.1", "rm -rf x")
	if out != "forced rm -rf x\n" {
		t.Errorf("got %q, want the forced command's output", out)
	}
	_, errOut, _ := w.ssh("-tt", "core@127.0.0.1")
	if !strings.Contains(errOut, "PTY allocation request failed") {
		t.Errorf("a terminal was given: %q", errOut)
	}
	w.file("home/.ssh/authorized_keys.d/test", `from="192.0.2.1" `+w.read("id.pub"))
	if _, _, code := w.ssh("core@127.0.0.1", "true"); code != 255 {
		t.Errorf("from= with another address let in")
	}
}

func TestSFTPAndSCP(t *testing.T) {
	w := newWorld(t, "")
	content := bytes.Repeat([]byte("content\n"), 50_000)
	w.file("up", string(content))
	for _, c := range []struct{ name string }{{"scp"}, {"sftp"}} {
		t.Run(c.name, func(t *testing.T) {
			remote := c.name + "-copy"
			if c.name == "scp" {
				out, err := w.client("scp", w.dir+"/up", "core@127.0.0.1:"+remote).CombinedOutput()
				if err != nil {
					t.Fatalf("scp: %v: %s", err, out)
				}
			} else {
				cmd := w.client("sftp", "-b", "-", "core@127.0.0.1")
				cmd.Stdin = strings.NewReader("put " + w.dir + "/up " + remote + "\nget " + remote + " " + w.dir + "/down\n-put " + w.dir + "/up /etc/coracle-test\n")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("sftp: %v: %s", err, out)
				}
				if _, err := os.Stat("/etc/coracle-test"); err == nil {
					os.Remove("/etc/coracle-test")
					t.Error("sftp wrote with root's rights")
				}
				if w.read("down") != string(content) {
					t.Error("what came back differs")
				}
			}
			if w.read("home/"+remote) != string(content) {
				t.Error("what arrived differs")
			}
			if got := strings.TrimSpace(sh(t, "stat", "-c", "%u", w.home+"/"+remote)); got != fmt.Sprint(uid) {
				t.Errorf("the file belongs to %s, want %d", got, uid)
			}
		})
	}
}

// echo answers on a listener with what it got, once it got all of it.
func echo(t *testing.T, l net.Listener) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				data, _ := io.ReadAll(conn)
				conn.Write(append([]byte("echo "), data...))
			}()
		}
	}()
}

// ask sends a text, ends its side, and returns the whole answer.
func ask(network, addr, text string) (string, error) {
	conn, err := net.Dial(network, addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, text)
	conn.(interface{ CloseWrite() error }).CloseWrite()
	data, err := io.ReadAll(conn)
	return string(data), err
}

// during runs ssh with forwarding flags until check has passed, or fails.
func (w *world) during(flags []string, check func() error) {
	w.t.Helper()
	cmd := w.client("ssh", append(append([]string{"-o", "ExitOnForwardFailure=yes"}, flags...), "core@127.0.0.1", "echo ready; cat")...)
	in, err := cmd.StdinPipe()
	must(w.t, err)
	out, err := cmd.StdoutPipe()
	must(w.t, err)
	must(w.t, cmd.Start())
	buf := make([]byte, 6)
	if _, err := io.ReadFull(out, buf); err != nil {
		w.t.Errorf("ssh %v did not start: %v", flags, err)
	} else if err := check(); err != nil {
		w.t.Errorf("ssh %v: %v", flags, err)
	}
	in.Close()
	io.Copy(io.Discard, out)
	cmd.Wait()
}

func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestForwarding(t *testing.T) {
	w := newWorld(t, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	echo(t, l)
	us, err := net.Listen("unix", w.dir+"/service")
	must(t, err)
	echo(t, us)
	must(t, os.Chmod(w.dir+"/service", 0o777))
	local, remote := freePort(t), freePort(t)
	for _, c := range []struct{ name, flag, spec, network, addr string }{
		{"local port", "-L", local + ":" + l.Addr().String(), "tcp", "127.0.0.1:" + local},
		{"remote port", "-R", remote + ":" + l.Addr().String(), "tcp", "127.0.0.1:" + remote},
		{"local socket", "-L", w.dir + "/here:" + w.dir + "/service", "unix", w.dir + "/here"},
		{"remote socket", "-R", w.home + "/there:" + l.Addr().String(), "unix", w.home + "/there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.during([]string{c.flag, c.spec}, func() error {
				got, err := ask(c.network, c.addr, "hello")
				if got != "echo hello" {
					return fmt.Errorf("got %q, %v, want %q", got, err, "echo hello")
				}
				return nil
			})
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				conn, err := net.Dial(c.network, c.addr)
				if err != nil {
					break
				}
				conn.Close()
				if time.Now().After(deadline) {
					t.Fatal("the forwarding outlived its connection")
				}
			}
		})
	}
}

func TestForwardingKeepsRights(t *testing.T) {
	w := newWorld(t, "")
	us, err := net.Listen("unix", w.dir+"/root-only")
	must(t, err)
	echo(t, us)
	must(t, os.Chmod(w.dir+"/root-only", 0o600))
	w.during([]string{"-L", w.dir + "/here:" + w.dir + "/root-only"}, func() error {
		if got, _ := ask("unix", w.dir+"/here", "hello"); got != "" {
			return fmt.Errorf("a socket that only root may open answered %q", got)
		}
		return nil
	})
	if _, _, code := w.ssh("-o", "ExitOnForwardFailure=yes", "-R", "81:127.0.0.1:1", "core@127.0.0.1", "true"); code != 255 {
		t.Errorf("a port below 1024 was listened on for a user")
	}
	if _, _, code := w.ssh("-o", "ExitOnForwardFailure=yes", "-R", "/etc/coracle-socket:127.0.0.1:1", "core@127.0.0.1", "true"); code != 255 {
		t.Errorf("a socket was made where only root may")
	}
}

func TestAgentForwarding(t *testing.T) {
	w := newWorld(t, "")
	agent := exec.Command("ssh-agent", "-D", "-a", w.dir+"/agent")
	must(t, agent.Start())
	t.Cleanup(func() { agent.Process.Kill(); agent.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := os.Stat(w.dir + "/agent"); err == nil || time.Now().After(deadline) {
			break
		}
	}
	add := exec.Command("ssh-add", "-q", w.dir+"/id")
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+w.dir+"/agent")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("ssh-add: %v: %s", err, out)
	}
	cmd := w.client("ssh", "-A", "core@127.0.0.1", "stat -c %u:%a $SSH_AUTH_SOCK $(dirname $SSH_AUTH_SOCK); ssh-add -L")
	cmd.Env = append(cmd.Env, "SSH_AUTH_SOCK="+w.dir+"/agent")
	out, err := cmd.CombinedOutput()
	must(t, err)
	if !strings.Contains(string(out), strings.Fields(w.read("id.pub"))[1]) || !strings.Contains(string(out), fmt.Sprintf("%d:700", uid)) {
		t.Errorf("got %q, want the key, and a directory for the user alone", out)
	}
}

func TestLoginGrace(t *testing.T) {
	w := newWorld(t, "", func(s *Server) { s.Grace = 50 * time.Millisecond })
	conn, err := net.Dial("tcp", "127.0.0.1:"+w.port)
	must(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("read: %v, want the server to close the connection", err)
	}
	if !strings.Contains(w.log.String(), "no login in time") {
		t.Error("the log does not say why")
	}
}
