package v2_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/wire"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// request sends parameters as "name=value&name=value" and returns the event.
func (s *server) request(method, key, params string) (status int, e wire.Event, err error) {
	values, err := url.ParseQuery(params)
	if err != nil {
		return 0, e, err
	}
	req, err := http.NewRequest(method, s.url+"/v2/keys"+key+"?"+values.Encode(), nil)
	if err != nil {
		return 0, e, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, e, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, e, err
	}
	return resp.StatusCode, e, json.Unmarshal(body, &e)
}

// must is request for what cannot fail.
func (s *server) must(method, key, params string) wire.Event {
	s.t.Helper()
	status, e, err := s.request(method, key, params)
	if err != nil || status >= 300 {
		s.t.Fatalf("%s %s %s: %d, %v", method, key, params, status, err)
	}
	return e
}

func (s *server) version3() *clientv3.Client {
	s.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.url}, DialTimeout: 10 * time.Second})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// increment adds one to a counter with compare-and-swap, by index or by value.
func (s *server) increment(key string, byIndex bool) error {
	for {
		_, e, err := s.request("GET", key, "")
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(*e.Node.Value)
		if err != nil {
			return err
		}
		condition := "prevValue=" + *e.Node.Value
		if byIndex {
			condition = fmt.Sprintf("prevIndex=%d", e.Node.ModifiedIndex)
		}
		status, _, err := s.request("PUT", key, fmt.Sprintf("value=%d&%s", n+1, condition))
		switch {
		case err != nil:
			return err
		case status == http.StatusOK:
			return nil
		case status != http.StatusPreconditionFailed:
			return fmt.Errorf("status %d", status)
		}
	}
}

// increment3 is increment with version 3's client.
func increment3(ctx context.Context, c *clientv3.Client, key string) error {
	for {
		r, err := c.Get(ctx, key)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(r.Kvs[0].Value))
		if err != nil {
			return err
		}
		txn, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", r.Kvs[0].ModRevision)).
			Then(clientv3.OpPut(key, strconv.Itoa(n+1))).Commit()
		if err != nil || txn.Succeeded {
			return err
		}
	}
}

// TestIncrements has both versions' clients add to one counter at once.
func TestIncrements(t *testing.T) {
	s := ours(t)
	c := s.version3()
	s.must("PUT", "/n", "value=0")
	const each = 50
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range each {
				if err := s.increment("/n", i%2 == 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range each {
			if err := increment3(t.Context(), c, "/n"); err != nil {
				t.Error(err)
				return
			}
		}
	})
	wg.Wait()
	e := s.must("GET", "/n", "quorum=true")
	if want := strconv.Itoa(9 * each); *e.Node.Value != want {
		t.Errorf("the counter is %s, want %s", *e.Node.Value, want)
	}
}

// stream reads a stream of events until a key is written.
func (s *server) stream(key, last string) <-chan []wire.Event {
	s.t.Helper()
	resp, err := http.Get(s.url + "/v2/keys" + key + "?wait=true&recursive=true&stream=true")
	if err != nil {
		s.t.Fatal(err)
	}
	out := make(chan []wire.Event, 1)
	go func() {
		defer resp.Body.Close()
		var list []wire.Event
		for d := json.NewDecoder(resp.Body); ; {
			var e wire.Event
			if d.Decode(&e) != nil || e.Node.Key == last {
				out <- list
				return
			}
			list = append(list, e)
		}
	}()
	return out
}

// TestBothVersionsWrite has both versions write and delete the same keys: a
// stream sees every change once, in order, and each event's prevNode is what
// the event before left.
func TestBothVersionsWrite(t *testing.T) {
	s := ours(t)
	c := s.version3()
	events := s.stream("/k", "/k/end")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 60 {
				key := fmt.Sprintf("/k/%d", n%3)
				var err error
				switch {
				case i < 2 && n%5 == 4:
					_, _, err = s.request("DELETE", key, "")
				case i < 2:
					_, _, err = s.request("PUT", key, fmt.Sprintf("value=%d.%d", i, n))
				case n%5 == 4:
					_, err = c.Delete(t.Context(), key)
				default:
					_, err = c.Put(t.Context(), key, fmt.Sprintf("%d.%d", i, n))
				}
				if err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond) // a stream may be 100 events behind, no more
			}
		})
	}
	wg.Wait()
	s.must("PUT", "/k/end", "")
	follow(t, <-events)
}

// follow checks that events fit one after the other.
func follow(t *testing.T, events []wire.Event) {
	t.Helper()
	if len(events) < 192 { // the puts alone
		t.Errorf("%d events, want one of each change", len(events))
	}
	have := map[string]string{}
	var index int64
	for _, e := range events {
		before := "nothing"
		if e.PrevNode != nil {
			before = *e.PrevNode.Value
		}
		want, ok := have[e.Node.Key]
		if !ok {
			want = "nothing"
		}
		if before != want {
			t.Errorf("%s of %s at %d replaces %q, want %q", e.Action, e.Node.Key, e.Index(), before, want)
		}
		if e.Index() <= index {
			t.Errorf("index %d follows %d", e.Index(), index)
		}
		index = e.Index()
		if delete(have, e.Node.Key); e.Node.Value != nil {
			have[e.Node.Key] = *e.Node.Value
		}
	}
}

// TestInOrder has several make in-order keys at once: all names differ.
func TestInOrder(t *testing.T) {
	s := ours(t)
	var wg sync.WaitGroup
	var names sync.Map
	for range 8 {
		wg.Go(func() {
			last := ""
			for range 25 {
				status, e, err := s.request("POST", "/queue", "value=x")
				if err != nil || status != http.StatusCreated {
					t.Errorf("%d, %v", status, err)
					return
				}
				if _, was := names.LoadOrStore(e.Node.Key, true); was || e.Node.Key <= last {
					t.Errorf("%s after %s, want a new and later name", e.Node.Key, last)
				}
				last = e.Node.Key
			}
		})
	}
	wg.Wait()
	if e := s.must("GET", "/queue", "sorted=true"); len(e.Node.Nodes) != 200 {
		t.Errorf("%d keys, want 200", len(e.Node.Nodes))
	}
}

// TestWatcherThatNeverReads opens a stream and reads nothing of it: writers go
// on, and the server gives the watcher up.
func TestWatcherThatNeverReads(t *testing.T) {
	s := ours(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v2/keys/?wait=true&recursive=true&stream=true HTTP/1.1\r\nHost: x\r\n\r\n")
	s.awaitWatchers(1)
	c := s.version3()
	value := strings.Repeat("x", 256<<10)
	began := time.Now()
	for range 150 { // more than what the connection and the hub can hold
		if _, err := c.Put(t.Context(), "/k", value); err != nil {
			t.Fatal(err)
		}
	}
	s.awaitWatchers(0)
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("the writes took %v", d)
	}
}

func (s *server) awaitWatchers(want int) {
	s.t.Helper()
	var stats struct{ Watchers int }
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(s.url + "/v2/stats/store")
		if err != nil {
			s.t.Fatal(err)
		}
		err = json.NewDecoder(resp.Body).Decode(&stats)
		resp.Body.Close()
		if err == nil && stats.Watchers == want {
			return
		}
	}
	s.t.Fatalf("%d watchers, want %d", stats.Watchers, want)
}
