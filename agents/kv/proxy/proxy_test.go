package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/peers"
)

// start runs a proxy whose only member is at a peer URL.
func start(t *testing.T, mode Mode, peer string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- Run(ctx, Config{
			Mode: mode, Times: Times{Dial: time.Second, Failure: 50 * time.Millisecond, Write: time.Second, Refresh: 50 * time.Millisecond},
			Listeners: []net.Listener{l}, Peers: []string{peer}, PeerHTTP: &http.Client{Timeout: time.Second}, Members: &http.Transport{},
			Found: func(peers.Cluster) {}, Tell: func(string, bool) {},
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// TestComesAndGoes: without a member requests get a clear answer; a member that
// comes is used, and one that has gone is not.
func TestComesAndGoes(t *testing.T) {
	for _, mode := range []Mode{On, Readonly} {
		t.Run(string(mode), func(t *testing.T) {
			member := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "member") }))
			defer member.Close()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			peer := l.Addr().String()
			l.Close()
			url := start(t, mode, "http://"+peer)
			if code, text := get(t, url); code != 503 || !strings.Contains(text, `{"message":"proxy: `) {
				t.Errorf("no member: %d %s", code, text)
			}
			l, err = net.Listen("tcp", peer)
			if err != nil {
				t.Fatal(err)
			}
			list := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Etcd-Cluster-ID", "1")
				io.WriteString(w, `[{"id":1,"name":"a","peerURLs":["http://`+peer+`"],"clientURLs":["`+member.URL+`"]}]`)
			})}
			go list.Serve(l)
			defer list.Close()
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
				code, text := get(t, url)
				if code == 200 && text == "member" {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the member is not used: %d %s", code, text)
				}
			}
			member.Close()
			if code, text := get(t, url); code != 503 {
				t.Errorf("the member has gone: %d %s", code, text)
			}
		})
	}
}
