package journald

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/forward"
	"github.com/coracle-os/coracle/rootfs/journal/query"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// daemon is a server in a directory of its own.
type daemon struct {
	t       *testing.T
	paths   Paths
	stop    func()
	machine journal.ID
	started uint64 // number of the last "Journal started"
}

func start(t *testing.T, config Config) *daemon {
	t.Helper()
	dir := t.TempDir()
	d := &daemon{t: t, paths: Paths{Run: dir + "/run", Log: dir + "/log", Lib: dir + "/lib", Proc: "/proc", Dev: dir + "/dev"}, machine: journal.ID{1}}
	// The directory of the journal, too: a follower looks for new ones seldom.
	for _, path := range []string{d.paths.Run, d.paths.Dev, filepath.Join(d.paths.Log, d.machine.String())} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d.run(config)
	return d
}

// run starts a daemon and waits until it listens.
func (d *daemon) run(config Config) {
	d.t.Helper()
	s, err := newServer(d.paths, config, d.machine, journal.ID{2})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, nil) }()
	stopped := false
	d.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			d.t.Errorf("serve: %v", err)
		}
	}
	d.t.Cleanup(func() { d.stop() })
	d.started = d.waitAfter("Journal started", d.started).Seq
}

// wait follows the journal until a message comes, and returns its record.
func (d *daemon) wait(message string) journal.Record {
	d.t.Helper()
	return d.waitAfter(message, 0)
}

func (d *daemon) waitAfter(message string, after uint64) journal.Record {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	j, err := query.Open(filepath.Join(d.paths.Log, d.machine.String()), filepath.Join(d.paths.Run, "log/journal", d.machine.String()))
	if err != nil {
		d.t.Fatal(err)
	}
	defer j.Close()
	for record, err := range j.Follow(ctx, nil, after) {
		if err != nil {
			d.t.Fatal(err)
		}
		if record.Get("MESSAGE") == message {
			return record
		}
	}
	d.t.Fatalf("no record with message %q", message)
	return journal.Record{}
}

func (d *daemon) stream(header journal.StreamHeader) *net.UnixConn {
	d.t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(d.paths.Run, "systemd/journal/stdout"), Net: "unix"})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	fmt.Fprint(conn, header)
	return conn
}

func (d *daemon) datagram(socket, data string) {
	d.t.Helper()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: filepath.Join(d.paths.Run, "systemd/journal", socket), Net: "unixgram"})
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(data)); err != nil {
		d.t.Fatal(err)
	}
}

func want(t *testing.T, r journal.Record, fields map[string]string) {
	t.Helper()
	for name, value := range fields {
		if got := r.Get(name); got != value {
			t.Errorf("message %q: %s = %q, want %q", r.Get("MESSAGE"), name, got, value)
		}
	}
}

func TestStream(t *testing.T) {
	d := start(t, DefaultConfig())
	conn := d.stream(journal.StreamHeader{Unit: "web.service", Priority: 30, LevelPrefix: true})
	fmt.Fprint(conn, "first\n<3>bad\n\nhalf")
	pid := fmt.Sprint(os.Getpid())
	comm, _ := os.ReadFile("/proc/self/comm")
	want(t, d.wait("first"), map[string]string{"PRIORITY": "6", "SYSLOG_FACILITY": "3", "_PID": pid, "_UID": fmt.Sprint(os.Getuid()),
		"_TRANSPORT": "stdout", "SYSLOG_IDENTIFIER": strings.TrimSpace(string(comm)), "_BOOT_ID": journal.ID{2}.String()})
	want(t, d.wait("bad"), map[string]string{"PRIORITY": "3"})
	conn.Close()
	want(t, d.wait("half"), map[string]string{"_LINE_BREAK": "eof"})
}

func TestLongLine(t *testing.T) {
	d := start(t, DefaultConfig())
	conn := d.stream(journal.StreamHeader{Identifier: "long", Priority: 30})
	fmt.Fprint(conn, strings.Repeat("x", maxLine+10)+"\nnext\n")
	want(t, d.wait(strings.Repeat("x", maxLine)), map[string]string{"_LINE_BREAK": "line-max", "SYSLOG_IDENTIFIER": "long"})
	d.wait(strings.Repeat("x", 10))
	d.wait("next")
}

func TestNative(t *testing.T) {
	d := start(t, DefaultConfig())
	d.datagram("socket", "MESSAGE\n\x05\x00\x00\x00\x00\x00\x00\x00two\nx\nPRIORITY=4\n_PID=1\nlower=1\nTHE_FIELD=v\n")
	want(t, d.wait("two\nx"), map[string]string{"PRIORITY": "4", "_PID": fmt.Sprint(os.Getpid()), "lower": "", "THE_FIELD": "v", "_TRANSPORT": "journal"})
	d.datagram("socket", "MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xffx\n")
	d.wait(fmt.Sprintf("Message of process %d not taken whole: native message: field \"MESSAGE\" says 18446744073709551615 bytes, and has fewer or no newline after them", os.Getpid()))
}

func TestMemoryFile(t *testing.T) {
	d := start(t, DefaultConfig())
	fd, err := unix.MemfdCreate("message", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	text := strings.Repeat("m", 300<<10)
	unix.Write(fd, []byte("MESSAGE="+text+"\n"))
	send := func(fd int) {
		socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(socket)
		to := &unix.SockaddrUnix{Name: filepath.Join(d.paths.Run, "systemd/journal/socket")}
		if err := unix.Sendmsg(socket, nil, unix.UnixRights(fd), to, 0); err != nil {
			t.Fatal(err)
		}
	}
	send(fd)
	d.wait(text)
	file, err := os.Open("/proc/self/status") // not in memory: refused
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	send(int(file.Fd()))
	d.wait(fmt.Sprintf("Message of process %d not taken: the file of the message is not in memory: invalid argument", os.Getpid()))
}

func TestSyslog(t *testing.T) {
	d := start(t, DefaultConfig())
	d.datagram("dev-log", "<38>Nov 21 01:02:03 sshd[7]: Accepted key")
	want(t, d.wait("Accepted key"), map[string]string{"PRIORITY": "6", "SYSLOG_FACILITY": "4", "SYSLOG_IDENTIFIER": "sshd", "SYSLOG_PID": "7", "SYSLOG_TIMESTAMP": "Nov 21 01:02:03 "})
}

func TestRestart(t *testing.T) {
	d := start(t, DefaultConfig())
	d.datagram("dev-log", "<38>one: before")
	before := d.wait("before")
	d.stop()
	d.run(DefaultConfig())
	d.datagram("dev-log", "<38>one: after")
	if after := d.wait("after"); after.Seq <= before.Seq || after.File != before.File {
		t.Errorf("after a restart: number %d in %s, before it %d in %s", after.Seq, after.File, before.Seq, before.File)
	}
}

func TestSuppressed(t *testing.T) {
	config := DefaultConfig()
	config.RateLimitBurst, config.RateLimitInterval = 3, 200*time.Millisecond
	l := newLimiter(config.RateLimitInterval, config.RateLimitBurst)
	now := time.Unix(1000, 0)
	passed := 0
	for range 10 {
		if ok, _ := l.allow("a.service", journal.Info, now); ok {
			passed++
		}
	}
	if ok, _ := l.allow("a.service", journal.Err, now); !ok {
		t.Error("an error must not be suppressed because of info messages")
	}
	if ok, _ := l.allow("b.service", journal.Info, now); !ok {
		t.Error("another unit must not be suppressed")
	}
	if passed != 3 {
		t.Errorf("%d records passed, want 3", passed)
	}
	ok, suppressed := l.allow("a.service", journal.Info, now.Add(time.Second))
	if !ok || suppressed != 7 {
		t.Errorf("next interval: ok %v, suppressed %d, want true and 7", ok, suppressed)
	}
}

func TestUnitOf(t *testing.T) {
	for path, want := range map[string][2]string{
		"/system.slice/web.service":                           {"web.service", "system.slice"},
		"/system.slice/system-getty.slice/getty@tty1.service": {"getty@tty1.service", "system-getty.slice"},
		"/init.scope": {"init.scope", "-.slice"},
		"/system.slice/web.service/sub/x.service": {"web.service", "system.slice"},
		"/docker/abc": {"", ""},
		"/":           {"", ""},
		"":            {"", ""},
	} {
		unit, slice := UnitOf(path)
		if got := [2]string{unit, slice}; got != want {
			t.Errorf("UnitOf(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(dir+"/etc/systemd/journald.conf.d", 0o755)
	os.WriteFile(dir+"/etc/systemd/journald.conf", []byte("[Journal]\nSystemMaxUse=50M\nRateLimitBurst=5\nSeal=yes\nSyncIntervalSec=x\nSystemKeepFree=2M\nRuntimeMaxFiles=7\nLineMax=1\n"), 0o644)
	os.WriteFile(dir+"/etc/systemd/journald.conf.d/10.conf", []byte("[Journal]\nSystemMaxUse=1G\nMaxLevelStore=warning\nForwardToRemote=tcp://old:1\nForwardToRemote=\nForwardToRemote=tcp+json://h:1 udp://k\n"), 0o644)
	config, problems := LoadConfig(dir)
	if config.System.MaxUse != 1<<30 || config.System.KeepFree != 2<<20 || config.Runtime.MaxFiles != 7 || config.LineMax != 79 || config.RateLimitBurst != 5 || config.MaxLevelStore != journal.Warning {
		t.Errorf("LoadConfig: %+v", config)
	}
	if diff := cmp.Diff([]forward.Target{{Network: "tcp", JSON: true, Address: "h:1"}, {Network: "udp", Address: "k:514"}}, config.Forward); diff != "" {
		t.Errorf("receivers (-want +got):\n%s", diff)
	}
	if problems := config.parseCommandLine("quiet coracle.log=tcp+json://h:1 coracle.log=tcp://early:601 coracle.log=x coracle.logs=1\n"); len(config.Forward) != 3 || len(problems) != 1 {
		t.Errorf("kernel command line: %+v, problems %q", config.Forward, problems)
	}
	if len(problems) != 2 || !strings.Contains(problems[0], "journald.conf:4: Seal= is not supported") || !strings.Contains(problems[1], ":5: SyncIntervalSec=") {
		t.Errorf("problems: %q", problems)
	}
}

// TestForward: a receiver gets what came before it, what comes, and the last
// words of the daemon.
func TestForward(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	config := DefaultConfig()
	config.Forward = []forward.Target{{Network: "tcp", JSON: true, Address: listener.Addr().String()}}
	d := start(t, config)
	d.datagram("socket", "MESSAGE=hello\nPRIORITY=4\n")
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go d.stop()
	var got []string
	for decoder := json.NewDecoder(conn); ; {
		var object map[string]any
		if err := decoder.Decode(&object); err != nil {
			break // the end
		}
		got = append(got, fmt.Sprint(object["MESSAGE"]))
	}
	if diff := cmp.Diff([]string{"Journal started", "hello", "Journal stopped"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
