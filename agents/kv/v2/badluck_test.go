package v2_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// memory is a figure of the server's, in bytes: VmRSS or VmHWM.
func (s *server) memory(name string) int {
	s.t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); words[0] == name+":" {
			n, err := strconv.Atoi(words[1])
			if err != nil {
				s.t.Fatal(err)
			}
			return n << 10
		}
	}
	s.t.Fatalf("no %s of the server", name)
	return 0
}

// says waits for a line of the server's log.
func (s *server) says(want string) {
	s.t.Helper()
	var text []byte
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if text, _ = os.ReadFile(s.log); strings.Contains(string(text), want) {
			return
		}
	}
	s.t.Errorf("the log does not say %q:\n%s", want, text)
}

// deaf connects as from another machine, with packets of Ethernet's size, and a
// small buffer for what it never reads.
func deaf(address string) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1448)
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
		})
	}}
	return d.Dial("tcp", address)
}

// TestTenThousandDeafWatchers opens ten thousand streams that are never read.
// Everybody else is served meanwhile, the memory stays bounded, and the streams
// are ended with a reason in the log.
func TestTenThousandDeafWatchers(t *testing.T) {
	const count = 10000
	limit := unix.Rlimit{Cur: 2 * count, Max: 2 * count}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	s := ours(t)
	var wg sync.WaitGroup
	connections := make(chan net.Conn, count)
	for range 20 {
		wg.Go(func() {
			for range count / 20 {
				conn, err := deaf(strings.TrimPrefix(s.url, "http://"))
				if err != nil {
					t.Error(err)
					return
				}
				connections <- conn
				fmt.Fprintf(conn, "GET /v2/keys/?wait=true&recursive=true&stream=true HTTP/1.1\r\nHost: x\r\n\r\n")
			}
		})
	}
	wg.Wait()
	close(connections)
	defer func() {
		for conn := range connections {
			conn.Close()
		}
	}()
	s.awaitWatchers(count)
	t.Logf("%d MiB with the streams open", s.memory("VmRSS")>>20)
	value, slowest, writes := strings.Repeat("x", 8<<10), time.Duration(0), 0
	for watchers := count; watchers > 0; writes++ {
		began := time.Now()
		s.must("PUT", "/k", "value="+value)
		slowest = max(slowest, time.Since(began))
		if writes%10 == 0 {
			watchers = s.watchers()
		}
		if writes > 2000 {
			t.Fatalf("%d watchers are left", watchers)
		}
	}
	t.Logf("%d writes, the slowest in %v; %d MiB at most", writes, slowest, s.memory("VmHWM")>>20)
	if slowest > 10*time.Second {
		t.Errorf("a write took %v", slowest)
	}
	if most := s.memory("VmHWM"); most > 1<<30 {
		t.Errorf("%d MiB of memory", most>>20)
	}
	s.says("watchers did not read what they asked for")
	s.awaitConnections(100)
}

// watchers is how many wait.
func (s *server) watchers() int {
	resp, err := http.Get(s.url + "/v2/stats/store")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	_, after, _ := strings.Cut(string(text), `"watchers":`)
	n, err := strconv.Atoi(strings.Trim(after, "}\n"))
	if err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	return n
}

// awaitConnections waits until the server has closed all but some files.
func (s *server) awaitConnections(most int) {
	s.t.Helper()
	var n int
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
		if err != nil {
			s.t.Fatal(err)
		}
		if n = len(files); n <= most {
			return
		}
	}
	s.t.Errorf("%d files are open, want that the connections of those who never read are closed", n)
}

// zeros is a body that is never all in memory.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestHugeRequest sends 100 MB to both servers: the same refusal, and memory
// for a part of it at most.
func TestHugeRequest(t *testing.T) {
	const size = 100_000_000
	sides := [2]*side{newSide(t, ours(t)), newSide(t, theirs(t))}
	before := sides[0].memory("VmHWM")
	for _, c := range []struct{ method, path, form string }{
		{"PUT", "/v2/keys/k", "application/x-www-form-urlencoded"},
		{"POST", "/v2/keys/k", "application/x-www-form-urlencoded"},
		{"POST", "/v2/members", "application/json"},
	} {
		var answers [2]answer
		for i, s := range sides {
			req, err := http.NewRequest(c.method, s.url+c.path, io.LimitReader(zeros{}, size))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = size
			req.Header.Set("Content-Type", c.form)
			resp, err := s.client.Do(req)
			if err != nil {
				t.Fatalf("%s %s: %v", c.method, c.path, err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			answers[i] = s.read(resp, body, false)
		}
		text := same(answers[0], answers[1])
		if c.path == "/v2/members" {
			text = "" // ours says that it is too large, theirs that it begins with a wrong letter
		}
		if text != "" || !strings.HasPrefix(answers[0].text, "400") {
			t.Errorf("%s %s: %s, want the same refusal:\n%s", c.method, c.path, answers[0].text, text)
		}
	}
	most := sides[0].memory("VmHWM") - before
	t.Logf("%d MiB more memory, ours", most>>20)
	if most > size/2 {
		t.Errorf("%d MiB of memory for requests that are refused", most>>20)
	}
}
