package journald

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/query"
	"github.com/coracle-os/coracle/rootfs/journal/store"
	"golang.org/x/sys/unix"
)

// benchRecords are sent for each figure.
const benchRecords = 100_000

// benchServer is a journal daemon in a process of its own, with its sockets
// and files below dir.
type benchServer struct {
	dir  string
	pid  int
	last func(dir string) string // message of the last record
}

// TestBenchServer is the process of BenchmarkDaemon.
func TestBenchServer(t *testing.T) {
	dir := os.Getenv("JOURNALD_BENCH_DIR")
	if dir == "" {
		return // it is not called as a test
	}
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(gcPercent)
	config := DefaultConfig()
	config.RateLimitBurst, config.ReadKMsg, config.System = 0, false, store.Bounds{MaxUse: 1 << 30, KeepFree: 1}
	s, err := newServer(Paths{Run: dir + "/run", Log: dir + "/log/journal", Lib: dir + "/lib", Proc: "/proc", Dev: dir + "/dev"}, config, journal.ID{1}, journal.ID{2})
	if err == nil {
		err = s.serve(context.Background(), nil)
	}
	t.Fatal(err) // it is killed
}

func startOurs(b *testing.B, dir string) benchServer {
	cmd := exec.Command(os.Args[0], "-test.run=^TestBenchServer$")
	cmd.Env = append(os.Environ(), "JOURNALD_BENCH_DIR="+dir)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return benchServer{dir, cmd.Process.Pid, func(dir string) string {
		j, err := query.Open(filepath.Join(dir, "log/journal", journal.ID{1}.String()))
		if err != nil {
			b.Fatal(err)
		}
		defer j.Close()
		for _, record := range j.Tail(nil, 1) {
			return record.Get("MESSAGE")
		}
		return ""
	}}
}

// systemdScript runs the real systemd-journald in namespaces of its own.
const systemdScript = `set -e
mount --make-rprivate /
mount --bind "$0/run" /run
mount --bind "$0/log" /var/log
mount -t tmpfs tmpfs /etc/systemd
: > /run/systemd/journal/flushed # the disk may be used
printf '[Journal]\nStorage=persistent\nSystemMaxUse=1G\nSystemKeepFree=1\nRateLimitBurst=0\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\nForwardToWall=no\n' > /etc/systemd/journald.conf
echo 0123456789abcdef0123456789abcdef > "$0/machine-id"
mount --bind "$0/machine-id" /etc/machine-id
exec /lib/systemd/systemd-journald`

func startSystemd(b *testing.B, dir string) benchServer {
	cmd := exec.Command("unshare", "-m", "--", "sh", "-c", systemdScript, dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return benchServer{dir, cmd.Process.Pid, func(dir string) string {
		// It fails until there is a journal.
		out, _ := exec.Command("journalctl", "-q", "-D", dir+"/log/journal/0123456789abcdef0123456789abcdef", "-n", "1", "-o", "cat").Output()
		return strings.TrimSuffix(string(out), "\n")
	}}
}

// BenchmarkDaemon sends the same records, one datagram each, to our daemon and
// to systemd's: how many a second until the last is in the file, what one takes
// there, and the memory that the daemon has then.
func BenchmarkDaemon(b *testing.B) {
	for name, start := range map[string]func(*testing.B, string) benchServer{"coracle": startOurs, "systemd": startSystemd} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				benchDaemon(b, start)
			}
		})
	}
}

func benchDaemon(b *testing.B, start func(*testing.B, string) benchServer) {
	dir := b.TempDir()
	for _, sub := range []string{"run/systemd/journal", "run/systemd/units", "run/log", "log/journal", "dev"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	s := start(b, dir)
	conn := s.dial(b)
	defer conn.Close()
	begin := time.Now()
	var datagram []byte
	for n := range benchRecords {
		datagram = fmt.Appendf(datagram[:0], "PRIORITY=6\nSYSLOG_IDENTIFIER=dockerd\nCODE_FUNC=main\nMESSAGE=time=\"2026-11-21T01:02:03.%09dZ\" level=info msg=\"ignoring event\" module=libcontainerd namespace=moby topic=/tasks/delete type=\"*events.TaskDelete\"\n", n)
		send(b, conn, datagram)
	}
	send(b, conn, []byte("MESSAGE=the end\n"))
	for deadline := time.Now().Add(time.Minute); s.last(dir) != "the end"; {
		if time.Now().After(deadline) {
			b.Fatal("the last record does not come")
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.ReportMetric(benchRecords/time.Since(begin).Seconds(), "records/s")
	b.ReportMetric(float64(diskUse(b, dir+"/log"))/benchRecords, "bytes/record")
	b.ReportMetric(resident(b, s.pid, "VmRSS:"), "resident-MB") // with mapped files
	b.ReportMetric(resident(b, s.pid, "RssAnon:"), "anonymous-MB")
}

// dial connects as soon as the daemon listens.
func (s benchServer) dial(b *testing.B) *net.UnixConn {
	b.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.dir + "/run/systemd/journal/socket", Net: "unixgram"})
		if err == nil {
			return conn
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func send(b *testing.B, conn *net.UnixConn, datagram []byte) {
	if _, err := conn.Write(datagram); err != nil {
		b.Fatal(err)
	}
}

// diskUse returns the bytes that the files below dir take on the disk.
func diskUse(b *testing.B, dir string) (total int64) {
	b.Helper()
	file, err := os.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	if err := unix.Syncfs(int(file.Fd())); err != nil { // blocks are given late
		b.Fatal(err)
	}
	err = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		var stat unix.Stat_t
		if err == nil && unix.Stat(path, &stat) == nil && info.Mode().IsRegular() {
			total += min(stat.Blocks*512, stat.Size)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return total
}

// resident returns a line of /proc/PID/status in MB.
func resident(b *testing.B, pid int, name string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == name {
			kilobytes, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kilobytes / 1024
		}
	}
	b.Fatalf("no %s in the status of process %d", name, pid)
	return 0
}
