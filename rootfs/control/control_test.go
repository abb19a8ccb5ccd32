package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// handler answers by verb.
type handler func(ctx context.Context, peer Peer, req Request, send func(Response) error) error

func (h handler) Handle(ctx context.Context, peer Peer, req Request, send func(Response) error) error {
	return h(ctx, peer, req, send)
}

// serve runs a server until the test ends and returns a client for it.
func serve(t *testing.T, h handler) (Client, *bytes.Buffer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "private")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	s := Server{Handler: h, Log: slog.New(slog.NewTextHandler(&log, nil))}
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return Client{Path: path}, &log
}

func TestRoundTrip(t *testing.T) {
	want := Request{Verb: Start, Units: []string{"a.service"}, Flags: Flags{NoBlock: true, Mode: "fail"}}
	c, _ := serve(t, func(_ context.Context, peer Peer, req Request, send func(Response) error) error {
		if d := cmp.Diff(want, req); d != "" || peer.PID != os.Getpid() || peer.UID != os.Getuid() {
			return fmt.Errorf("%s, from %+v", d, peer)
		}
		if err := send(Response{Warnings: []string{"w"}}); err != nil {
			return err
		}
		return send(Response{Results: []Result{{Unit: "a.service", Job: "done"}}})
	})
	have, err := c.Collect(context.Background(), want)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Response{Warnings: []string{"w"}, Results: []Result{{Unit: "a.service", Job: "done"}}}, have); d != "" {
		t.Error(d)
	}
}

func TestErrors(t *testing.T) {
	c, log := serve(t, func(_ context.Context, _ Peer, req Request, _ func(Response) error) error {
		switch req.Verb {
		case Show:
			return Errorf(NotFound, "Unit x not found.")
		case ListJobs:
			panic("oops")
		}
		return errors.New("plain")
	})
	for verb, code := range map[Verb]Code{Show: NotFound, ListJobs: Internal, ListUnits: Internal, "": BadRequest} {
		_, err := c.Collect(context.Background(), Request{Verb: verb})
		if e := (*Error)(nil); !errors.As(err, &e) || e.Code != code {
			t.Errorf("%q: %v, want code %s", verb, err, code)
		}
	}
	if !strings.Contains(log.String(), "oops") {
		t.Errorf("the panic is not in the log: %s", log)
	}
	if _, err := (Client{Path: "/nonexistent"}).Collect(context.Background(), Request{Verb: Show}); err == nil {
		t.Error("no error without a server")
	}
}

// TestBadRequests sends what is no request; each gets an error, and the server
// lives on.
func TestBadRequests(t *testing.T) {
	c, _ := serve(t, func(context.Context, Peer, Request, func(Response) error) error { return nil })
	for _, text := range []string{"hello\n", "{}\n", "{\"verb\":5}\n", "[1]\n", strings.Repeat("x", 100000) + "\n", "{\"verb\":\"show\"" + "\n"} {
		conn, err := net.Dial("unix", c.Path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 4096)
		n, err := conn.Read(answer)
		if err != nil || !strings.Contains(string(answer[:n]), "bad-request") {
			t.Errorf("%.20q: %q, %v", text, answer[:n], err)
		}
		conn.Close()
	}
	if _, err := c.Collect(context.Background(), Request{Verb: Show}); err != nil {
		t.Error(err)
	}
}

// TestHangUp checks that a handler learns that its peer is gone.
func TestHangUp(t *testing.T) {
	began, ended := make(chan bool), make(chan bool)
	c, _ := serve(t, func(ctx context.Context, _ Peer, _ Request, _ func(Response) error) error {
		close(began)
		<-ctx.Done()
		close(ended)
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-began; cancel() }()
	if err := c.Do(ctx, Request{Verb: Show}, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-ended
}

// TestPeer runs itself as another user, who may read but not change.
func TestPeer(t *testing.T) {
	if path := os.Getenv("CONTROL_TEST_SOCKET"); path != "" {
		_, read := Client{Path: path}.Collect(context.Background(), Request{Verb: Show})
		_, change := Client{Path: path}.Collect(context.Background(), Request{Verb: Stop})
		e := (*Error)(nil)
		if read != nil || !errors.As(change, &e) || e.Code != Denied {
			t.Fatalf("show: %v, stop: %v", read, change)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Fatal("needs root to become another user: make unit runs it so")
	}
	dir, err := os.MkdirTemp("/tmp", "control")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(filepath.Join(dir, "private"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	nothing := handler(func(context.Context, Peer, Request, func(Response) error) error { return nil })
	go (&Server{Handler: nothing, Log: slog.Default()}).Serve(ctx, l)
	program := filepath.Join(dir, "test")
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := os.StartProcess(program, []string{program, "-test.run=^TestPeer$"}, &os.ProcAttr{
		Dir: "/", Env: []string{"CONTROL_TEST_SOCKET=" + filepath.Join(dir, "private")}, Files: []*os.File{nil, os.Stderr, os.Stderr},
		Sys: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.Wait(); err != nil || !s.Success() {
		t.Fatal(s, err)
	}
}

// TestAgain: a request that PID 1 leaves to the next copy of itself is asked of
// that one, and what was told already is not told twice.
func TestAgain(t *testing.T) {
	var asked []Request
	c, _ := serve(t, func(_ context.Context, _ Peer, req Request, send func(Response) error) error {
		asked = append(asked, req)
		if len(asked) > 1 {
			return send(Response{Results: []Result{{Unit: "b.service", Job: "done"}}})
		}
		if err := send(Response{Results: []Result{{Unit: "a.service", Job: "done"}}}); err != nil {
			return err
		}
		if err := send(Response{Jobs: []Job{{ID: 7, Unit: "b.service"}}}); err != nil {
			return err
		}
		return Errorf(Again, "ask again")
	})
	r, err := c.Collect(t.Context(), Request{Verb: Start, Units: []string{"a.service", "b.service"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Result{{Unit: "a.service", Job: "done"}, {Unit: "b.service", Job: "done"}}
	if d := cmp.Diff(want, r.Results); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Request{Verb: WaitJobs, Units: []string{"7"}}, asked[1]); d != "" {
		t.Error(d)
	}
}
