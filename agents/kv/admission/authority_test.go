package admission

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const secretKey = "-----BEGIN PRIVATE KEY----- the authority's"

// keeperOf hands on secretKey.
func keeperOf(t *testing.T, token string) string {
	t.Helper()
	srv := httptest.NewServer(AuthorityHandler(token, func() ([]byte, error) { return []byte(secretKey), nil }))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestFetch(t *testing.T) {
	url := keeperOf(t, "a long token of the cluster")
	var seen bytes.Buffer
	listen := roundTripper(func(r *http.Request) (*http.Response, error) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			answer, _ := io.ReadAll(resp.Body)
			resp.Body = io.NopCloser(bytes.NewReader(answer))
			seen.Write(body)
			seen.Write(answer)
		}
		return resp, err
	})
	got, err := Fetch(t.Context(), &http.Client{Transport: listen}, url+"/", "a long token of the cluster")
	if err != nil || string(got) != secretKey {
		t.Errorf("got %q, %v", got, err)
	}
	for _, secret := range []string{secretKey, "BEGIN", "a long token"} {
		if strings.Contains(seen.String(), secret) {
			t.Errorf("the traffic has %q", secret)
		}
	}
}

func TestFetchWithAnotherToken(t *testing.T) {
	for _, c := range []struct{ keeper, machine string }{{"right", "wrong"}, {"right", ""}, {"", "right"}, {"", ""}} {
		var read bool
		srv := httptest.NewServer(AuthorityHandler(c.keeper, func() ([]byte, error) { read = true; return []byte(secretKey), nil }))
		got, err := Fetch(t.Context(), http.DefaultClient, srv.URL, c.machine)
		if !errors.Is(err, ErrToken) || got != nil || read {
			t.Errorf("keeper %q, machine %q: %q, %v, read: %v", c.keeper, c.machine, got, err, read)
		}
		srv.Close()
	}
}

// TestTampered: whoever changes, repeats or swaps what is sent between two
// machines that know the token gets nothing taken.
func TestTampered(t *testing.T) {
	const token = "a long token of the cluster"
	url := keeperOf(t, token)
	// The exchange of another machine before, as somebody recorded it.
	var request, answer []byte
	var requestProof, answerProof string
	record := roundTripper(func(r *http.Request) (*http.Response, error) {
		request, _ = io.ReadAll(r.Body)
		requestProof = r.Header.Get(proofHeader)
		r.Body = io.NopCloser(bytes.NewReader(request))
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			answer, _ = io.ReadAll(resp.Body)
			answerProof = resp.Header.Get(proofHeader)
			resp.Body = io.NopCloser(bytes.NewReader(answer))
		}
		return resp, err
	})
	if _, err := Fetch(t.Context(), &http.Client{Transport: record}, url, token); err != nil {
		t.Fatal(err)
	}
	forward := func(change func(out *http.Request, body []byte) []byte, back func([]byte) []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			out, _ := http.NewRequest(r.Method, url+r.URL.Path, nil)
			out.Header.Set(proofHeader, r.Header.Get(proofHeader))
			body = change(out, body)
			out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			resp, err := http.DefaultClient.Do(out)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			w.Header().Set(proofHeader, resp.Header.Get(proofHeader))
			w.WriteHeader(resp.StatusCode)
			w.Write(back(text))
		}
	}
	same := func(b []byte) []byte { return b }
	sameRequest := func(_ *http.Request, b []byte) []byte { return b }
	flip := func(b []byte) []byte {
		b[len(b)/2] ^= 1
		return b
	}
	for name, h := range map[string]http.HandlerFunc{
		"the answer changed":  forward(sameRequest, flip),
		"the answer cut":      forward(sameRequest, func(b []byte) []byte { return b[:len(b)-9] }),
		"the request changed": forward(func(_ *http.Request, b []byte) []byte { return flip(b) }, same),
		"the request of before": forward(func(out *http.Request, _ []byte) []byte {
			out.Header.Set(proofHeader, requestProof)
			return bytes.Clone(request)
		}, same),
		"the answer of before": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(proofHeader, answerProof)
			w.Write(answer)
		},
		"an answer without proof": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"sealed":"AAAA"}`) },
		"garbage":                 func(w http.ResponseWriter, _ *http.Request) { w.Write(bytes.Repeat([]byte{0xff}, 1<<20)) },
	} {
		srv := httptest.NewServer(h)
		if got, err := Fetch(t.Context(), http.DefaultClient, srv.URL, token); err == nil || got != nil {
			t.Errorf("%s: taken: %q, %v", name, got, err)
		}
		srv.Close()
	}
	// A request to join proves nothing about a request for the authority.
	req, _ := http.NewRequest(http.MethodPost, url+AuthorityPath, bytes.NewReader(request))
	req.Header.Set(proofHeader, proof(token, "request", request))
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a proof of the other kind: %v %v", resp, err)
	}
}

func TestOddAuthorityRequests(t *testing.T) {
	url := keeperOf(t, "t")
	for name, body := range map[string]string{
		"no JSON":     "x",
		"no key":      `{"nonce":"0123456789abcdef"}`,
		"short nonce": `{"nonce":"1","key":"AAAA"}`,
		"a bad key":   `{"nonce":"0123456789abcdef","key":"AAAA"}`,
	} {
		_, err := post(t.Context(), http.DefaultClient, url+AuthorityPath, "t", "", []byte(body))
		if err == nil || !strings.Contains(err.Error(), "status 400") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
