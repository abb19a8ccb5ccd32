package ctl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/rootfs/program"
)

// serve answers HTTP at a listener until the test ends.
func serve(t testing.TB, l net.Listener, h http.Handler) string {
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { server.Serve(l); close(done) }()
	t.Cleanup(func() { server.Close(); <-done })
	return l.Addr().String()
}

// TestTwoAtOnce: calls that do the same at the same time all succeed, and the
// units are there once.
func TestTwoAtOnce(t *testing.T) {
	w := newWorld(t).three()
	args := []string{"start"}
	for i := range 20 {
		args = append(args, w.file(fmt.Sprintf("u%02d.service", i), "[Service]\nExecStart=/bin/sleep 1\n"))
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, errOut, code := w.fleetctl(args...); code != 0 {
				t.Errorf("exit code %d, errors %q", code, errOut)
			}
		})
	}
	all.Wait()
	out, _, _ := w.fleetctl("list-units", "--no-legend", "--fields=unit,active")
	if n := strings.Count(out, "\tactive\n"); n != 20 {
		t.Errorf("%d active units, want 20:\n%s", n, out)
	}
}

// TestLostInTheMiddle: a scheduler that goes away is asked again, and in the
// end given up with words that say what is the case.
func TestLostInTheMiddle(t *testing.T) {
	for _, comesBack := range []bool{true, false} {
		w := newWorld(t) // no machine: the unit waits
		path := w.file("hello.service", "[Service]\nExecStart=/bin/sleep 1\n")
		var gate sync.Mutex
		away := false
		seen := make(chan struct{}, 1000)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		address := serve(t, l, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			gate.Lock()
			defer gate.Unlock()
			seen <- struct{}{}
			if away {
				panic(http.ErrAbortHandler)
			}
			w.handler.ServeHTTP(rw, r)
		}))
		w.patience = 100 * time.Millisecond
		if comesBack {
			w.patience = time.Minute
		}
		var said words
		ended := make(chan int, 1)
		go func() {
			ended <- w.call(w.ctx, program.Stdio{In: strings.NewReader(""), Out: io.Discard, Err: &said}, "--endpoint=http://"+address, "start", path)
		}()
		for range 10 { // it waits
			<-seen
		}
		go func() {
			for range seen {
			}
		}()
		turn := func(off bool) {
			gate.Lock()
			defer gate.Unlock()
			away = off
		}
		turn(true)
		await(t, func() bool { return strings.Contains(said.String(), "asking again") })
		if comesBack {
			turn(false)
			w.machine(fleet.Machine{ID: strings.Repeat("1", 32), PublicIP: "10.0.0.1"})
		}
		code := <-ended
		if comesBack && code != 0 || !comesBack && (code != 1 || !strings.Contains(said.String(), "has not answered for 100ms; what was asked for may still be done")) {
			t.Errorf("comes back %v: exit code %d, words %q", comesBack, code, said.String())
		}
	}
}

// words are what a call that is under way has said.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// TestAnswersThatAreNone: what is no scheduler is an error that says so.
func TestAnswersThatAreNone(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		answer http.HandlerFunc
		words  string
	}{
		{func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "<html>") }, "understand the scheduler's answer"},
		{func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "no", http.StatusTeapot) }, "status 418"},
		{func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(503)
			fmt.Fprint(rw, `{"error":{"code":503,"message":"fleet server unable to communicate with etcd"}}`)
		}, "Error retrieving list of active machines: fleet server unable to communicate with etcd"},
		{func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		{func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline exceeded"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		w.expect("", test.words, 1, "--request-timeout=0.2", "--endpoint=http://"+serve(t, l, test.answer), "list-machines")
	}
}

// TestInterrupted: a call that waits ends when it is told to.
func TestInterrupted(t *testing.T) {
	w := newWorld(t)
	path := w.file("hello.service", "[Service]\nExecStart=/bin/sleep 1\n")
	ctx, cancel := context.WithCancel(w.ctx)
	r, out := io.Pipe()
	ended := make(chan int)
	go func() {
		ended <- w.call(ctx, program.Stdio{In: strings.NewReader(""), Out: out, Err: io.Discard}, "start", path)
	}()
	line := make([]byte, len("Unit hello.service inactive\n"))
	_, err := io.ReadFull(r, line)
	must(t, err)
	cancel()
	if code := <-ended; code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
}

// many submits units without fleetctl.
func (w *world) many(n int) {
	for i := range n {
		_, err := w.registry.PutUnit(w.ctx, fmt.Sprintf("unit-%04d.service", i), "[Service]\nExecStart=/bin/sleep 1\n", fleet.Inactive, nil)
		must(w.t, err)
	}
}

func TestListsOfMany(t *testing.T) {
	w := newWorld(t)
	w.many(450)
	out, errOut, code := w.fleetctl("list-unit-files", "--no-legend", "--fields=unit")
	lines := strings.Fields(out)
	if len(lines) != 450 || lines[0] != "unit-0000.service" || lines[449] != "unit-0449.service" || errOut != "" || code != 0 {
		t.Errorf("%d lines, exit code %d, errors %q", len(lines), code, errOut)
	}
}

// BenchmarkList2000 is a whole call of a program of its own: its start, all
// pages, the table. The goal is 0.1 s.
func BenchmarkList2000(b *testing.B) {
	w := newWorld(b)
	w.many(2000)
	dir := b.TempDir()
	fleetctl := filepath.Join(dir, "fleetctl")
	copySelf(b, fleetctl)
	for b.Loop() {
		out, err := runProgram(fleetctl, "--endpoint=unix://"+w.socket, "list-unit-files", "--no-legend")
		if n := strings.Count(string(out), "\n"); err != nil || n != 2000 {
			b.Fatal(n, err)
		}
	}
}

func copySelf(t testing.TB, path string) {
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(path, self, 0o755))
}

func runProgram(name string, args ...string) ([]byte, error) {
	return exec.Command(name, args...).Output()
}
