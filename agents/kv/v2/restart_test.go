package v2_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/wire"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// restartState is what a restart must not change.
func (s *server) restartState() string {
	s.t.Helper()
	var b strings.Builder
	for _, key := range []string{"/", "/_hidden"} {
		e := s.must("GET", key, "recursive=true&sorted=true")
		zeroTTL(e.Node)
		fmt.Fprintf(&b, "%s", wire.Encode(e))
	}
	return b.String()
}

// zeroTTL leaves the deadline alone, which does not change with time.
func zeroTTL(n *wire.Node) {
	n.TTL = 0
	for _, c := range n.Nodes {
		zeroTTL(c)
	}
}

func TestRestart(t *testing.T) {
	s := ours(t)
	for _, r := range [][3]string{
		{"PUT", "/a/b", "value=1"}, {"PUT", "/a/b", "value=2&prevExist=true"}, {"PUT", "/a/b", "value=3&prevValue=2&ttl=500"},
		{"PUT", "/empty", "dir=true"}, {"PUT", "/mortal", "dir=true&ttl=900"}, {"PUT", "/mortal/x", "value=x"},
		{"PUT", "/mortal", "dir=true&ttl=1000&prevExist=true"}, {"POST", "/queue", "value=1"}, {"POST", "/queue", "value=2"},
		{"PUT", "/_hidden/x", "value=1&ttl=300"}, {"PUT", "/gone", "value=1"}, {"DELETE", "/gone", ""},
		{"PUT", "/emptied/x", ""}, {"DELETE", "/emptied/x", ""}, {"PUT", "/a/b", "refresh=true&ttl=600&prevExist=true"},
		{"PUT", "/soon", "value=x&ttl=1"},
	} {
		s.must(r[0], r[1], r[2])
	}
	if _, err := s.version3().Put(t.Context(), "/three/a", "x"); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, s, "/soon")
	before := s.restartState()
	events := s.history()
	s.kill()
	s.start()
	if after := s.restartState(); after != before {
		t.Errorf("after a restart\n%swant\n%s", after, before)
	}
	if after := s.history(); after != events {
		t.Errorf("the history after a restart\n%swant\n%s", after, events)
	}
}

// history is what watches of the past say.
func (s *server) history() string {
	s.t.Helper()
	var b strings.Builder
	for index := range int64(16) {
		e := s.must("GET", "/", fmt.Sprintf("wait=true&recursive=true&waitIndex=%d", index+1))
		for _, n := range []*wire.Node{e.Node, e.PrevNode} {
			if n != nil {
				zeroTTL(n)
			}
		}
		fmt.Fprintf(&b, "%s", wire.Encode(e))
	}
	return b.String()
}

// A life that ends while the member is down ends soon after it is up again.
func TestExpiryAcrossRestart(t *testing.T) {
	s := ours(t)
	s.must("PUT", "/soon", "value=x&ttl=2")
	s.must("PUT", "/dir", "dir=true&ttl=2")
	s.must("PUT", "/dir/x", "value=x")
	index := s.must("PUT", "/stays", "value=x").Node.ModifiedIndex
	s.kill()
	time.Sleep(2 * time.Second)
	s.start()
	awaitGone(t, s, "/soon")
	awaitGone(t, s, "/dir")
	e := s.must("GET", "/dir", fmt.Sprintf("wait=true&recursive=true&waitIndex=%d", index+1))
	if e.Action != wire.Expire || !e.Node.Dir {
		t.Errorf("%+v, want the directory's expiry", e)
	}
	if e := s.must("GET", "/stays", ""); e.Index() != index {
		t.Errorf("index %d of a key that nobody touched, want %d", e.Index(), index)
	}
}

func awaitGone(t *testing.T, s *server, key string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		status, _, err := s.request("GET", key, "")
		if status == http.StatusNotFound {
			return
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("%s is still there: %d, %v", key, status, err)
		}
	}
}

// TestCollect has version 3 delete a key of version 2: what version 2 knew of
// it goes too, and what it knows of others stays.
func TestCollect(t *testing.T) {
	s := ours(t)
	c := s.version3()
	for _, key := range []string{"/a/gone", "/a/back", "/a/stays"} {
		s.must("PUT", key, "value=x&ttl=500")
	}
	for _, key := range []string{"/a/gone", "/a/back"} {
		if _, err := c.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	s.must("PUT", "/a/back", "value=y&ttl=900")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		r, err := c.Get(t.Context(), "_etcd2/key/", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Kvs) == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v, want records of two keys", r.Kvs)
		}
	}
	if e := s.must("GET", "/a/stays", ""); e.Node.TTL < 450 {
		t.Errorf("ttl %d, want some 500", e.Node.TTL)
	}
	if e := s.must("GET", "/a/back", ""); e.Node.TTL < 850 {
		t.Errorf("ttl %d, want some 900", e.Node.TTL)
	}
}
