package admission

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var request = Request{Name: "a", PeerURLs: []string{"http://10.0.0.1:2380"}, Nonce: "0123456789abcdef"}

func member(t *testing.T, token string) (url string, asked *[]Request) {
	t.Helper()
	asked = &[]Request{}
	srv := httptest.NewServer(Handler(token, func(_ context.Context, r Request) Answer {
		*asked = append(*asked, r)
		return Answer{State: Waiting, Reason: "full", Size: 3}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

func TestSend(t *testing.T) {
	url, asked := member(t, "secret")
	got, err := Send(t.Context(), http.DefaultClient, url+"/", "secret", request)
	if d := cmp.Diff(Answer{State: Waiting, Reason: "full", Size: 3}, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	if d := cmp.Diff([]Request{request}, *asked); d != "" {
		t.Error(d)
	}
}

func TestTokensDiffer(t *testing.T) {
	for _, c := range []struct{ member, machine string }{{"secret", "guess"}, {"secret", ""}, {"", "secret"}, {"", ""}} {
		url, asked := member(t, c.member)
		_, err := Send(t.Context(), http.DefaultClient, url, c.machine, request)
		if !errors.Is(err, ErrToken) || len(*asked) > 0 || !strings.Contains(err.Error(), "ETCD_JOIN_TOKEN") {
			t.Errorf("member %q, machine %q: %v, asked %d times", c.member, c.machine, err, len(*asked))
		}
	}
}

// TestStranger: what is not a member that knows the token cannot make a machine
// join it.
func TestStranger(t *testing.T) {
	url, _ := member(t, "secret")
	var recorded *http.Response
	var body []byte
	keep := roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			body, _ = io.ReadAll(resp.Body)
			resp.Body = io.NopCloser(bytes.NewReader(body))
			recorded = resp
		}
		return resp, err
	})
	if _, err := Send(t.Context(), &http.Client{Transport: keep}, url, "secret", request); err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]http.HandlerFunc{
		"an answer of before": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(proofHeader, recorded.Header.Get(proofHeader))
			w.Write(body)
		},
		"the request sent back": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(proofHeader, r.Header.Get(proofHeader))
			io.Copy(w, r.Body)
		},
		"no proof":     func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"state":"admitted"}`) },
		"garbage":      func(w http.ResponseWriter, _ *http.Request) { w.Write(bytes.Repeat([]byte{0xff}, 1<<20)) },
		"not a member": http.NotFound,
	} {
		srv := httptest.NewServer(h)
		other := request
		other.Nonce = "fedcba9876543210"
		if a, err := Send(t.Context(), http.DefaultClient, srv.URL, "secret", other); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
		srv.Close()
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestOddRequests(t *testing.T) {
	url, asked := member(t, "secret")
	for name, r := range map[string]Request{
		"no name":                      {PeerURLs: request.PeerURLs, Nonce: request.Nonce},
		"a name that changes the list": {Name: "a=http://x:1,b", PeerURLs: request.PeerURLs, Nonce: request.Nonce},
		"no URL":                       {Name: "a", Nonce: request.Nonce},
		"a URL with a path":            {Name: "a", PeerURLs: []string{"http://h:1/x,b=http://y:1"}, Nonce: request.Nonce},
		"a file":                       {Name: "a", PeerURLs: []string{"file:///etc/passwd"}, Nonce: request.Nonce},
		"no nonce":                     {Name: "a", PeerURLs: request.PeerURLs},
	} {
		if _, err := Send(t.Context(), http.DefaultClient, url, "secret", r); err == nil || !strings.Contains(err.Error(), "status 400") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		method, body string
		status       int
	}{
		"garbage":  {"POST", "\x00\xff", 403},
		"too long": {"POST", strings.Repeat("x", limit+1), 413},
		"a read":   {"GET", "", 405},
	} {
		req, _ := http.NewRequest(c.method, url, strings.NewReader(c.body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != c.status {
			t.Errorf("%s: %v %v, want %d", name, resp, err, c.status)
		}
	}
	if len(*asked) > 0 {
		t.Errorf("asked %v", *asked)
	}
}
