package discovery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// script answers requests one after the other, the last answer for ever.
type script struct {
	mu      sync.Mutex
	answers []func(http.ResponseWriter, *http.Request)
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	answer := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	s.mu.Unlock()
	answer(w, r)
}

func say(status int, text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Etcd-Index", "9")
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	}
}

const (
	sizeOne = `{"action":"get","node":{"key":"/_config/size","value":"1","modifiedIndex":1,"createdIndex":1}}`
	nobody  = `{"action":"get","node":{"key":"/t","dir":true}}`
	self    = `{"action":"get","node":{"key":"/t","dir":true,"nodes":[{"key":"/t/b","value":"nb=http://b","createdIndex":5}]}}`
	exists  = `{"errorCode":105,"message":"Key already exists","index":5}`
)

func trial(t *testing.T, h http.Handler) (Config, *[]string) {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	var told []string
	return Config{
		URL: srv.URL + "/t", HTTP: srv.Client(), Self: Self{ID: "b", Value: "nb=http://b"},
		Note: func(bool) error { return nil }, MaxPause: time.Millisecond,
		Tell: func(text string, failure bool) {
			if failure {
				told = append(told, text)
			}
		},
	}, &told
}

func TestRunOutlivesBadAnswers(t *testing.T) {
	breakOff := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(200)
		fmt.Fprint(w, `{"action"`)
	}
	s := &script{answers: []func(http.ResponseWriter, *http.Request){
		say(200, "<html>Please log in</html>"), say(200, ""), say(200, "{}"), say(200, `{"node":5}`), say(200, strings.Repeat("x", 2<<20)),
		say(503, "try later"), say(500, `{"errorCode":300,"message":"Raft Internal Error","index":0}`), breakOff,
		say(200, sizeOne), say(200, nobody), say(201, sizeOne), say(200, sizeOne), say(200, self),
	}}
	c, told := trial(t, s)
	r, err := Run(t.Context(), c)
	if err != nil || r.InitialCluster != "nb=http://b" || r.Size != 1 || r.Full {
		t.Errorf("got %+v, %v", r, err)
	}
	text := strings.Join(*told, "\n")
	for _, want := range []string{`"<html>Please log in</html>" is not what a discovery service says (bad discovery endpoint)`, "Raft Internal Error", "trying again in"} {
		if !strings.Contains(text, want) {
			t.Errorf("told\n%s\nwithout %q", text, want)
		}
	}
	if len(*told) != 8 {
		t.Errorf("%d failures told, want 8", len(*told))
	}
}

func TestRunEnds(t *testing.T) {
	bad := func(value string) string { return fmt.Sprintf(`{"node":{"value":%q}}`, value) }
	for _, c := range []struct {
		name, want string
		answers    []func(http.ResponseWriter, *http.Request)
	}{
		{"unknown token", "size key not found", []func(http.ResponseWriter, *http.Request){say(404, `{"errorCode":100,"message":"Key not found"}`)}},
		{"size is a word", "size key is bad", []func(http.ResponseWriter, *http.Request){say(200, bad("three"))}},
		{"size is huge", "size key is bad", []func(http.ResponseWriter, *http.Request){say(200, bad("99999999999999999999"))}},
		{"size is none", "a cluster of 0 machines", []func(http.ResponseWriter, *http.Request){say(200, bad("0")), say(200, nobody)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, _ := trial(t, &script{answers: c.answers})
			_, err := Run(t.Context(), cfg)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	if _, err := Run(t.Context(), Config{URL: "http://host/"}); !errors.Is(err, ErrRefused) {
		t.Errorf("a URL without a token: %v", err)
	}
}

// TestRegistrationWithoutAnswer: the service takes the registration and the
// answer is lost; the entry is known as this machine's own.
func TestRegistrationWithoutAnswer(t *testing.T) {
	drop := func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
	noted := []bool{}
	c, _ := trial(t, &script{answers: []func(http.ResponseWriter, *http.Request){
		say(200, sizeOne), say(200, nobody), drop, say(200, sizeOne), say(200, self),
	}})
	c.Note = func(r bool) error { noted = append(noted, r); return nil }
	if r, err := Run(t.Context(), c); err != nil || r.Full || r.InitialCluster != "nb=http://b" {
		t.Errorf("got %+v, %v", r, err)
	}
	// Another machine was faster with the same entry: it is not taken for one's own.
	c, _ = trial(t, &script{answers: []func(http.ResponseWriter, *http.Request){
		say(200, sizeOne), say(200, nobody), say(412, exists), say(200, sizeOne), say(200, self),
	}})
	c.Note = func(r bool) error { noted = append(noted, r); return nil }
	r, err := Run(t.Context(), c)
	if err != nil || !r.Full || !strings.Contains(r.Reason, "lost its data") {
		t.Errorf("got %+v, %v", r, err)
	}
	if fmt.Sprint(noted) != "[true true false]" {
		t.Errorf("noted %v", noted)
	}
}

func TestRunThroughAProxyAndToNobody(t *testing.T) {
	c, _ := trial(t, &script{answers: []func(http.ResponseWriter, *http.Request){
		func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Host != "discovery.invalid" {
				t.Errorf("the proxy was asked for %s", r.URL)
			}
			say(404, `{"errorCode":100,"message":"Key not found"}`)(w, r)
		},
	}})
	via, _ := url.Parse(c.URL)
	c.HTTP = &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(via)}}
	c.URL = "http://discovery.invalid/t"
	if _, err := Run(t.Context(), c); !errors.Is(err, ErrRefused) {
		t.Errorf("through a proxy: %v", err)
	}
	c, told := trial(t, http.NotFoundHandler())
	c.URL = "http://127.0.0.1:1/t"
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody answers: %v", err)
	}
	if len(*told) < 2 || !strings.Contains((*told)[0], "reach the discovery service") {
		t.Errorf("told %q", *told)
	}
}
