package journald

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/store"
	"golang.org/x/sys/unix"
)

// sendMemory sends a native message in a memory file.
func (d *daemon) sendMemory(text string) {
	d.t.Helper()
	fd, err := unix.MemfdCreate("message", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		d.t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "message")
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		d.t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer unix.Close(socket)
	to := &unix.SockaddrUnix{Name: filepath.Join(d.paths.Run, "systemd/journal/socket")}
	if err := unix.Sendmsg(socket, nil, unix.UnixRights(fd), to, 0); err != nil {
		d.t.Fatal(err)
	}
}

// TestLargeRecord: of 10 MB the first one is kept, of 20 MB nothing, and both
// are said.
func TestLargeRecord(t *testing.T) {
	d := start(t, DefaultConfig())
	d.sendMemory("MESSAGE=large\nDATA=" + strings.Repeat("x", 10<<20) + "\n")
	large := d.wait("large")
	if got := large.Get("DATA"); len(got) != journal.MaxRecord-len("large") {
		t.Errorf("%d bytes are kept", len(got))
	}
	d.wait(fmt.Sprintf("Message of process %d not taken whole: native message: field \"DATA\" has 10485760 bytes, and a record can have 1048576; the rest is left out", os.Getpid()))
	d.sendMemory("MESSAGE=" + strings.Repeat("x", 20<<20))
	d.wait(fmt.Sprintf("Message of process %d not taken: message of 20971528 bytes; 16777216 are allowed", os.Getpid()))
}

// TestStrangeBytes: binary data comes back as it was sent, by every way in.
func TestStrangeBytes(t *testing.T) {
	d := start(t, DefaultConfig())
	strange := "nul \x00 bad \xff\xc3\x28 escape \x1b[31m end"
	d.datagram("socket", string(journal.AppendField(journal.AppendField(nil, "MESSAGE", "native"), "DATA", strange)))
	want(t, d.wait("native"), map[string]string{"DATA": strange, "_CAP_EFFECTIVE": capabilitiesOfTest(t), "_RUNTIME_SCOPE": "system"})
	d.datagram("dev-log", "<13>tag: "+strange)
	want(t, d.wait("nul"), map[string]string{"SYSLOG_RAW": "<13>tag: " + strange, "SYSLOG_IDENTIFIER": "tag"})
	conn := d.stream(journal.StreamHeader{Identifier: "s", Priority: 30})
	fmt.Fprintln(conn, strange)
	want(t, d.wait("nul "), map[string]string{"_LINE_BREAK": "nul"})
	d.wait(strange[strings.IndexByte(strange, 0)+1:])
}

func capabilitiesOfTest(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	return capabilities(string(text))
}

// TestObject: root says which process a record is about.
func TestObject(t *testing.T) {
	d := start(t, DefaultConfig())
	d.datagram("socket", fmt.Sprintf("MESSAGE=about\nOBJECT_PID=%d\n", os.Getppid()))
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", os.Getppid()))
	if err != nil {
		t.Fatal(err)
	}
	record := d.wait("about")
	want(t, record, map[string]string{"OBJECT_COMM": strings.TrimSpace(string(comm)), "OBJECT_PID": fmt.Sprint(os.Getppid()), "_PID": fmt.Sprint(os.Getpid())})
	if record.Get("_SOURCE_REALTIME_TIMESTAMP") == "" {
		t.Error("the time of sending is not there")
	}
}

// TestFlood: a service that logs without end neither fills the disk nor keeps
// others from being heard, and the limit says how much it took.
func TestFlood(t *testing.T) {
	config := DefaultConfig()
	config.System.MaxUse = 2 << 20
	config.RateLimitBurst = 0 // no limit
	d := start(t, config)
	conn := d.stream(journal.StreamHeader{Identifier: "flood", Priority: 30})
	line := strings.Repeat("flood ", 100) + "\n"
	done := make(chan error, 1)
	go func() {
		for range 20000 { // 12 MB
			if _, err := conn.Write([]byte(line)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	d.datagram("dev-log", "<13>other: I am heard")
	d.wait("I am heard")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	conn.Write([]byte("the end\n"))
	d.wait("the end")
	used, err := store.Usage(filepath.Join(d.paths.Log, d.machine.String()))
	if err != nil || used > config.System.MaxUse*5/4 {
		t.Errorf("the journal takes %d bytes, %v", used, err)
	}
}

// TestRateLimit counts what it suppresses of a unit, and says so.
func TestRateLimit(t *testing.T) {
	config := DefaultConfig()
	config.RateLimitBurst, config.RateLimitInterval = 3, time.Second
	d := start(t, config)
	conn := d.stream(journal.StreamHeader{Unit: "web.service", Identifier: "web", Priority: 30})
	fmt.Fprint(conn, strings.Repeat("again\n", 10))
	d.wait("again")
	other := d.stream(journal.StreamHeader{Unit: "db.service", Identifier: "db", Priority: 30})
	fmt.Fprintln(other, "not suppressed")
	d.wait("not suppressed")
	time.Sleep(config.RateLimitInterval)
	fmt.Fprintln(conn, "after the interval")
	want(t, d.wait("Suppressed 7 messages from web.service"), map[string]string{"MESSAGE_ID": droppedID, "N_DROPPED": "7", "UNIT": "web.service", "PRIORITY": "4"})
	d.wait("after the interval")
}

// TestHeaders: a stream that sends no header, or a bad one, costs its own
// connection and nothing else.
func TestHeaders(t *testing.T) {
	d := start(t, DefaultConfig())
	silent := d.stream(journal.StreamHeader{})
	silent.Close()
	bad := d.stream(journal.StreamHeader{Priority: 9999})
	d.wait(fmt.Sprintf("Stream of process %d closed: stream header: priority \"9999\" is not a number from 0 to 191", os.Getpid()))
	bad.Close()
	good := d.stream(journal.StreamHeader{Identifier: "good", Priority: 30})
	fmt.Fprintln(good, "still here")
	d.wait("still here")
}
