package forward

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/store"
	"github.com/google/go-cmp/cmp"
	syslog "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
)

// patience is for a busy machine; nothing here waits that long otherwise.
const patience = 30 * time.Second

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]Target{
		"tcp://h:601":          {"tcp", false, "h:601"},
		"udp://10.0.0.1":       {"udp", false, "10.0.0.1:514"},
		"tcp+syslog://h":       {"tcp", false, "h:514"},
		"tcp+json://[::1]:999": {"tcp", true, "[::1]:999"},
	} {
		got, err := ParseTarget(text)
		if err != nil || got != want {
			t.Errorf("ParseTarget(%q) = %+v, %v", text, got, err)
		}
		if again, err := ParseTarget(got.String()); err != nil || again != got {
			t.Errorf("ParseTarget(%q) = %+v, %v", got, again, err)
		}
	}
	for _, text := range []string{"", "h:1", "http://h:1", "tcp+json://h", "udp+json://h:1", "tcp://:1", "tcp://h:0", "tcp://h:70000", "tcp://h:x", "tcp://a/b:1"} {
		if got, err := ParseTarget(text); err == nil {
			t.Errorf("ParseTarget(%q) = %+v, want an error", text, got)
		}
	}
}

// box is a journal that a test writes, and forwarders of it.
type box struct {
	t     *testing.T
	dir   string
	store *store.Store
	n     int
	log   strings.Builder
	mutex sync.Mutex
}

func (b *box) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.log.Write(p)
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{t: t, dir: t.TempDir()}
	b.open(b.dir + "/log")
	return b
}

func (b *box) open(persistent string) {
	b.t.Helper()
	s, err := store.Open(store.Config{Persistent: persistent, Volatile: b.dir + "/run", Boot: journal.ID{2}, Machine: journal.ID{1}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.t.Fatal(err)
	}
	b.store = s
	b.t.Cleanup(func() { s.Close() })
}

// put writes count records, "message 1" and so on.
func (b *box) put(f *Forwarder, count int) {
	b.t.Helper()
	for range count {
		b.n++
		fields := []journal.Field{{Name: "_HOSTNAME", Value: "boat"}, {Name: "_SYSTEMD_UNIT", Value: "web.service"}, {Name: "SYSLOG_IDENTIFIER", Value: "web"},
			{Name: "PRIORITY", Value: "4"}, {Name: "_PID", Value: "7"}, {Name: "MESSAGE", Value: fmt.Sprintf("message %d\nof two lines", b.n)}}
		if err := b.store.Write([]journal.Record{{Realtime: 1795000000000000 + uint64(b.n), Fields: fields}}); err != nil {
			b.t.Fatal(err)
		}
		if f != nil {
			f.Wake()
		}
	}
}

// forward runs a forwarder until the returned function is called.
func (b *box) forward(target string) (*Forwarder, func()) {
	b.t.Helper()
	to, err := ParseTarget(target)
	if err != nil {
		b.t.Fatal(err)
	}
	f := New(Config{Target: to, Dirs: []string{b.dir + "/log", b.dir + "/run"}, State: b.dir + "/lib/state", Start: b.store.FirstOfBoot(), Last: b.store.LastSeq(),
		Pause: 10 * time.Millisecond, Log: slog.New(slog.NewTextHandler(b, nil))})
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(b.t.Context())
	}()
	return f, func() {
		f.Stop()
		<-done
	}
}

func (b *box) logged() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.log.String()
}

// receiver is a TCP server that keeps the numbers of what it gets.
type receiver struct {
	t        *testing.T
	listener net.Listener
	got      chan string // first lines of messages
}

func receive(t *testing.T, address string, read func(conn net.Conn, got chan<- string)) *receiver {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{t, listener, make(chan string, 10000)}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				read(conn, r.got)
			}()
		}
	}()
	return r
}

// syslogText reads RFC 5424 in octet counting with a parser that is not ours.
func syslogText(conn net.Conn, got chan<- string) {
	parser := octetcounting.NewParser(syslog.WithListener(func(r *syslog.Result) {
		if r.Error != nil || r.Message == nil {
			got <- fmt.Sprintf("bad: %v", r.Error)
			return
		}
		got <- line(r.Message)
	}))
	parser.Parse(conn)
}

func jsonText(conn net.Conn, got chan<- string) {
	scanner := bufio.NewScanner(conn)
	for scanner.Scan() {
		var object map[string]string
		if err := json.Unmarshal(scanner.Bytes(), &object); err != nil {
			got <- "bad: " + err.Error()
			return
		}
		text, _, _ := strings.Cut(object["MESSAGE"], "\n")
		got <- text
	}
}

// until takes messages until the last one comes.
func (r *receiver) until(last string) (all []string) {
	r.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case text := <-r.got:
			if all = append(all, text); text == last {
				return all
			}
		case <-timeout:
			r.t.Fatalf("%q did not come; the last of %d was %q", last, len(all), append(all, "")[max(0, len(all)-1)])
		}
	}
}

func messages(from, to int) (list []string) {
	for n := from; n <= to; n++ {
		list = append(list, fmt.Sprintf("message %d", n))
	}
	return list
}

// TestForward: the receiver comes late, the forwarder restarts, the store moves
// on, and each record comes once and in order.
func TestForward(t *testing.T) {
	for scheme, read := range map[string]func(net.Conn, chan<- string){"tcp": syslogText, "tcp+json": jsonText} {
		t.Run(scheme, func(t *testing.T) {
			b := newBox(t)
			b.put(nil, 400)
			b.store.Rotate()
			b.put(nil, 100)
			free, err := net.Listen("tcp", "127.0.0.1:0") // a port where nobody listens yet
			if err != nil {
				t.Fatal(err)
			}
			address := free.Addr().String()
			free.Close()
			f, stop := b.forward(scheme + "://" + address)
			for !strings.Contains(b.logged(), "is away") {
				time.Sleep(5 * time.Millisecond)
			}
			r := receive(t, address, read)
			b.put(f, 100)
			got := r.until("message 600")
			stop()
			f, stop = b.forward(scheme + "://" + address)
			b.put(f, 10)
			b.store.Rotate()
			b.put(f, 10)
			got = append(got, r.until("message 620")...)
			stop()
			if diff := cmp.Diff(messages(1, 620), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if text := b.logged(); strings.Count(text, "is away") != 1 || strings.Count(text, "takes records again") != 1 || strings.Contains(text, "deleted") {
				t.Errorf("log: %s", text)
			}
		})
	}
}

// TestReceiverDies resets the connection with records unread, many times.
// Some come twice, all come.
func TestReceiverDies(t *testing.T) {
	b := newBox(t)
	rounds := 0
	r := receive(t, "127.0.0.1:0", func(conn net.Conn, got chan<- string) {
		if rounds++; rounds > 3 {
			jsonText(conn, got)
			return
		}
		scanner := bufio.NewScanner(conn)
		for range 5 {
			if !scanner.Scan() {
				return
			}
			var object map[string]string
			if err := json.Unmarshal(scanner.Bytes(), &object); err == nil {
				text, _, _ := strings.Cut(object["MESSAGE"], "\n")
				got <- text
			}
		}
		conn.(*net.TCPConn).SetLinger(0) // a reset, as of a process that is killed
	})
	b.put(nil, 1000)
	_, stop := b.forward("tcp+json://" + r.listener.Addr().String())
	defer stop()
	got := r.until("message 1000")
	slices.SortFunc(got, func(a, b string) int { return number(a) - number(b) })
	if diff := cmp.Diff(messages(1, 1000), slices.Compact(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func number(message string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(message, "message "))
	return n
}

// TestStalledReceiver takes nothing; logging goes on, and stopping is quick.
func TestStalledReceiver(t *testing.T) {
	b := newBox(t)
	accepted := make(chan struct{}, 1)
	r := receive(t, "127.0.0.1:0", func(net.Conn, chan<- string) {
		accepted <- struct{}{}
		<-t.Context().Done()
	})
	to, _ := ParseTarget("tcp://" + r.listener.Addr().String())
	f := New(Config{Target: to, Dirs: []string{b.dir + "/log"}, State: b.dir + "/state", Start: 1, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	b.put(f, 20000)
	<-accepted
	cancel()
	<-done
}

// TestMoved follows a journal from memory to the disk.
func TestMoved(t *testing.T) {
	b := &box{t: t, dir: t.TempDir()}
	file := b.dir + "/log"
	if err := os.WriteFile(file, nil, 0o600); err != nil { // in the way of the directory
		t.Fatal(err)
	}
	b.open(file)
	r := receive(t, "127.0.0.1:0", syslogText)
	b.put(nil, 10)
	f, stop := b.forward("tcp://" + r.listener.Addr().String())
	defer stop()
	got := r.until("message 10")
	b.put(f, 10)
	os.Remove(file)
	if err := b.store.Flush(); err != nil {
		t.Fatal(err)
	}
	b.put(f, 10)
	got = append(got, r.until("message 30")...)
	if diff := cmp.Diff(messages(1, 30), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDeleted says how many records the journal's bounds took.
func TestDeleted(t *testing.T) {
	b := newBox(t)
	r := receive(t, "127.0.0.1:0", syslogText)
	target := "tcp://" + r.listener.Addr().String()
	b.put(nil, 10)
	_, stop := b.forward(target)
	r.until("message 10")
	stop()
	b.put(nil, 20)
	b.store.Rotate()
	b.put(nil, 5)
	if _, err := store.Vacuum(b.dir+"/log", 1, b.store.Path()); err != nil {
		t.Fatal(err)
	}
	_, stop = b.forward(target)
	defer stop()
	if diff := cmp.Diff(messages(31, 35), r.until("message 35")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(b.logged(), "records=20") {
		t.Errorf("log: %s", b.logged())
	}
}

// TestForgotten: a cursor behind the end of the journal is of before a power
// cut, and one that is no cursor is ignored.
func TestForgotten(t *testing.T) {
	for cursor, want := range map[string]int{"s=00;i=64;b=" + strings.Repeat("0", 32): 6, "\x00\x00": 1, "s=00;i=3": 4} {
		b := newBox(t)
		b.put(nil, 5)
		os.Mkdir(b.dir+"/lib", 0o755)
		if err := os.WriteFile(filepath.Join(b.dir, "lib/state"), []byte(cursor), 0o600); err != nil {
			t.Fatal(err)
		}
		r := receive(t, "127.0.0.1:0", syslogText)
		f, stop := b.forward("tcp://" + r.listener.Addr().String())
		b.put(f, 3)
		if diff := cmp.Diff(messages(want, 8), r.until("message 8")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", cursor, diff)
		}
		stop()
	}
}

// TestUDP: nobody listens at first.
func TestUDP(t *testing.T) {
	b := newBox(t)
	b.put(nil, 20)
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.LocalAddr().String()
	free.Close()
	_, stop := b.forward("udp://" + address)
	defer stop()
	for !strings.Contains(b.logged(), "is away") {
		time.Sleep(5 * time.Millisecond)
	}
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	var got []string
	for buffer := make([]byte, 64<<10); len(got) < 20; {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		message, err := parse(buffer[:n])
		if err != nil {
			t.Fatalf("%q: %v", buffer[:n], err)
		}
		got = append(got, line(message))
	}
	if diff := cmp.Diff(messages(1, 20), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
