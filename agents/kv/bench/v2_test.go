package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// connection sends requests of version 2 with as little work as possible.
type connection struct {
	net.Conn
	r *bufio.Reader
}

func connect(s *server) (*connection, error) {
	c, err := net.Dial("tcp", s.client)
	if err != nil {
		return nil, err
	}
	s.b.Cleanup(func() { c.Close() })
	return &connection{c, bufio.NewReader(c)}, nil
}

// do sends a request and reads its answer, which must be a success.
func (c *connection) do(request string) error {
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%.60q: %s", request, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func put(key, value string) string {
	body := "value=" + value
	return fmt.Sprintf("PUT /v2/keys%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", key, len(body), body)
}

func get(key string) string {
	return fmt.Sprintf("GET /v2/keys%s HTTP/1.1\r\nHost: x\r\n\r\n", key)
}

const (
	clients = 16
	keys    = 1000
)

var value = strings.Repeat("v", 200)

func key(n int) string { return fmt.Sprintf("/bench/dir%d/key%d", n%10, n%keys) }

// connections makes a connection for each client.
func connections(s *server, count int) []*connection {
	var out []*connection
	for range count {
		c, err := connect(s)
		if err != nil {
			s.b.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// writers and readers are the load of clients that write, or read, all keys.
func writers(s *server) load { return someWriters(s, clients) }

// writer is one client, which waits for each answer.
func writer(s *server) load { return someWriters(s, 1) }

func someWriters(s *server, count int) load {
	all := connections(s, count)
	return func(until time.Time) (int, error) {
		return together(count, until, func(who, n int) error { return all[who].do(put(key(who*keys/count+n), value)) })
	}
}

func readers(s *server) load {
	all := connections(s, clients)
	for n := range keys {
		if err := all[0].do(put(key(n), value)); err != nil {
			s.b.Fatal(err)
		}
	}
	return func(until time.Time) (int, error) {
		return together(clients, until, func(who, n int) error { return all[who].do(get(key(who*keys/clients + n))) })
	}
}

// watchers are the streams of a load that writes below one directory, at which
// all of them look. An operation is an event that has come to one of them.
func watchers(s *server, count int) load {
	var got sync.WaitGroup
	for _, c := range connections(s, count) {
		if _, err := io.WriteString(c, get("/watched?wait=true&recursive=true&stream=true")); err != nil {
			s.b.Fatal(err)
		}
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			s.b.Fatal(err)
		}
		go func() {
			defer resp.Body.Close()
			for lines := bufio.NewReaderSize(resp.Body, 4096); ; got.Done() {
				if _, err := lines.ReadSlice('\n'); err != nil {
					return
				}
			}
		}()
	}
	writer := connections(s, 1)[0]
	return func(until time.Time) (n int, err error) {
		for time.Now().Before(until) {
			const atOnce = 10 // far from the hundred that a stream may be behind
			got.Add(atOnce * count)
			for range atOnce {
				if err := writer.do(put("/watched/key", value)); err != nil {
					return n, err
				}
			}
			got.Wait()
			n += atOnce * count
		}
		return n, nil
	}
}

// BenchmarkV2 compares version 2's API with etcd 3.4's: on the disk, where each
// write waits until it is there, and without waiting, where the program's own
// work shows.
func BenchmarkV2(b *testing.B) {
	our, their := ours(b), debian(b)
	for _, c := range []struct {
		name  string
		load  func(*server) load
		flags []string
	}{
		{"put-one-client", writer, nil},
		{"put", writers, nil},
		{"put-nosync", writers, []string{"--unsafe-no-fsync"}},
		{"get", readers, []string{"--unsafe-no-fsync"}},
		{"watch-1000", func(s *server) load { return watchers(s, 1000) }, []string{"--unsafe-no-fsync"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				dir := b.TempDir()
				a := single(b, our, filepath.Join(dir, "ours"), c.flags...)
				z := single(b, their, filepath.Join(dir, "theirs"), append(c.flags, "--enable-v2")...)
				compare(b, side{a, c.load(a)}, side{z, c.load(z)})
				a.kill()
				z.kill()
			}
		})
	}
}
