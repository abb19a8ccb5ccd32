package getty

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/banner"
	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

// script answers prompts with lines.
type script struct {
	lines   []string
	prompts string
}

func (s *script) Line(prompt string, _ bool, _ time.Duration) (string, error) {
	s.prompts += prompt
	if len(s.lines) == 0 {
		return "", io.EOF
	}
	line := s.lines[0]
	s.lines = s.lines[1:]
	return line, nil
}

// testRoot has the users core (password "secret"), locked and free (an empty
// password field).
func testRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	os.Mkdir(filepath.Join(root, "etc"), 0o755)
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/bash\ncore:x:500:500::/home/core:/bin/bash\nlocked:x:501:501::/:/bin/sh\nfree:x:502:502::/:/bin/sh\n",
		"shadow": "root:*:1::::::\ncore:$5$saltstring$eVN4CwNOmcgDnUqE8QsaofYpEWx9sRGHuRWP/8Xx2z9:1::::::\nlocked:!:1::::::\nfree::1::::::\n",
		"group":  "core:x:500:\ndocker:x:233:core\n",
	} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("perl", "-e", `print crypt("secret", q($5$saltstring))`).Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "etc/shadow")
	text, _ := os.ReadFile(path)
	lines := strings.Split(string(text), "\n")
	lines[1] = "core:" + string(out) + ":1::::::"
	os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600)
	return root
}

func TestLogin(t *testing.T) {
	root := testRoot(t)
	tests := []struct {
		name   string
		lines  []string
		auto   bool
		want   string // user, "" = nobody
		delays int
	}{
		{"right", []string{"core", "secret"}, false, "core", 0},
		{"wrong, then right", []string{"core", "x", "core", "secret"}, false, "core", 1},
		{"empty lines", []string{"", "  ", "core", "secret"}, false, "core", 0},
		{"unknown user", []string{"nobody", "secret"}, false, "", 1},
		{"number of a user", []string{"500", "secret"}, false, "", 1},
		{"locked", []string{"root", "*", "locked", "!", "locked", ""}, false, "", 3},
		{"empty password field", []string{"free", "", "free", "x"}, false, "", 2},
		{"hang-up at the password", []string{"core"}, false, "", 0},
		{"too many", []string{"a", "1", "a", "2", "a", "3", "a", "4", "a", "5", "core", "secret"}, false, "", 5},
		{"automatic", nil, true, "core", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			delays := 0
			l := login{root: root, banner: func(time.Duration) string { return "" }, in: &script{lines: test.lines}, out: io.Discard, autologin: test.auto, log: slog.New(slog.DiscardHandler),
				sleep: func(time.Duration) { delays++ }}
			account, err := l.who()
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if account.Name != test.want || delays != test.delays {
				t.Errorf("logged in %q after %d delays, want %q after %d", account.Name, delays, test.want, test.delays)
			}
			if account.Name == "core" && !cmp.Equal(account.Groups, []int{233}) {
				t.Errorf("groups %d", account.Groups)
			}
		})
	}
}

// late is a terminal where the name comes after some looks at the banner.
type late struct {
	waits int
	script
}

func (l *late) Line(prompt string, echo bool, limit time.Duration) (string, error) {
	if l.waits--; l.waits >= 0 {
		l.prompts += prompt
		return "", os.ErrDeadlineExceeded
	}
	return l.script.Line(prompt, echo, limit)
}

func TestBannerChanges(t *testing.T) {
	var out strings.Builder
	banners := []string{"no address\n", "no address\n", "10.0.0.2\n", "10.0.0.2\n", "10.0.0.2\n"}
	in := &late{3, script{lines: []string{"core", "secret"}}}
	l := login{root: testRoot(t), out: &out, host: "host", log: slog.New(slog.DiscardHandler), in: in,
		banner: func(limit time.Duration) string {
			if looks := len(banners) < 5; looks == (limit <= banner.Limit) {
				t.Errorf("look %d may take %s", 5-len(banners), limit) // a later one must not take a busy machine for a change
			}
			next := banners[0]
			banners = banners[1:]
			return next
		}}
	if account, err := l.who(); account.Name != "core" || err != nil {
		t.Errorf("logged in %q, %v", account.Name, err)
	}
	if want := "\nno address\n\n"; out.String() != want {
		t.Errorf("shown %q, want %q", out.String(), want)
	}
	if want := "\nhost login: \n\n10.0.0.2\n\nhost login: Password: "; in.prompts != want {
		t.Errorf("prompts %q, want %q", in.prompts, want)
	}
}

func TestAutologin(t *testing.T) {
	for _, test := range []struct {
		args, terminal string
		want           bool
	}{
		{"console=ttyS0 coracle.autologin", "ttyS0", true},
		{"coracle.autologin=ttyS0", "ttyS0", true},
		{"coracle.autologin=/dev/ttyS0", "ttyS0", true},
		{"coracle.autologin=ttyS0", "tty1", false},
		{"coracle.autologin=0", "ttyS0", false},
		{"quiet", "ttyS0", false},
		{"xcoracle.autologin", "ttyS0", false},
	} {
		if got := Autologin(test.args, test.terminal); got != test.want {
			t.Errorf("Autologin(%q, %q) = %v", test.args, test.terminal, got)
		}
	}
}

func TestTerminalName(t *testing.T) {
	for args, want := range map[string]string{
		"ttyS0": "ttyS0", "/dev/tty1": "tty1", "--keep-baud 115200,38400 ttyS0 vt220": "ttyS0", "-o -p--\\u --noclear tty1 linux": "tty1",
		"": "", "--noclear": "", "--autologin core tty1": "", "../x": "",
	} {
		got, err := terminalName(strings.Fields(args))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("terminalName(%q) = %q, %v; want %q", args, got, err, want)
		}
	}
}

// TestTerminal asks for a name and a password on a pseudo terminal, in a
// process of its own, because a terminal belongs to a session.
func TestTerminal(t *testing.T) {
	if path := os.Getenv("GETTY_TEST_TERMINAL"); path != "" {
		onTerminal(path)
		return
	}
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestTerminal$")
	cmd.Env = append(os.Environ(), "GETTY_TEST_TERMINAL="+slave.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer master.Close()
	stop := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() }) // ends the read with EIO
	defer stop.Stop()
	var seen strings.Builder
	expect := func(text string) {
		t.Helper()
		b := make([]byte, 256)
		for !strings.Contains(seen.String(), text) {
			n, err := master.Read(b)
			if err != nil {
				t.Fatalf("waiting for %q, saw %q: %v", text, seen.String(), err)
			}
			seen.Write(b[:n])
		}
	}
	expect("size 24x80 name: ")
	slave.Close() // now the child has it open
	master.Write([]byte("corx\x7fe\r"))
	expect("password: ")
	master.Write([]byte("geheim\r"))
	expect("got core/geheim")
	if strings.Count(seen.String(), "geheim") != 1 {
		t.Errorf("the password was shown: %q", seen.String())
	}
}

func onTerminal(path string) {
	term, err := openTerminal(path)
	if err != nil {
		panic(err)
	}
	rows, columns, _ := pty.Getsize(term.file)
	name, _ := term.Line("size "+strconv.Itoa(rows)+"x"+strconv.Itoa(columns)+" name: ", true, 0)
	secret, _ := term.Line("password: ", false, 5*time.Second)
	io.WriteString(term.file, "\ngot "+name+"/"+secret+"\n")
	term.Line("", true, 10*time.Second) // until the test hangs up
}
