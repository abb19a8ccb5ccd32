// Package registry is the discovery service that machines form an etcd cluster
// through: what discovery.etcd.io was, answered by any machine of one's own
// from its etcd. discovery.service runs it; agents/kv/discovery is the other
// side.
//
// It speaks discovery.etcd.io's protocol: /new?size=N makes a token, and what is
// below /TOKEN is forwarded to /v2/keys/_etcd/registry/TOKEN of the machine's
// etcd, answers unchanged. Anybody may use it, so that it lets through only what
// the protocol has: reading a token, creating, reading and deleting members of
// it, never its size, a directory, or a value that no initial cluster could
// have. Left out on purpose: the pages for people and the metrics of the
// original, and etcd 0.4's heartbeat with a TTL.
package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is what the service needs.
type Config struct {
	Backend *url.URL // a client URL of the etcd that keeps the tokens
	// Public is the beginning of the URLs that /new gives, without a slash at
	// the end; empty is the address that the request was made to.
	Public string
	HTTP   http.RoundTripper
	Log    *slog.Logger
}

const (
	root = "/v2/keys/_etcd/registry"
	// maxSize is the largest cluster that a token is made for: more members
	// only make etcd slower.
	maxSize = 99
	// maxBody is the longest registration.
	maxBody = 8 << 10
)

// New gives the service's handler.
func New(c Config) http.Handler {
	s := &service{Config: c, path: regexp.MustCompile(`^/([a-f0-9]{32})(?:/?|/(_config/size)|/([a-f0-9]{1,16}))$`)}
	s.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(c.Backend)
			r.Out.Header = http.Header{}
			if t := r.In.Header.Get("Content-Type"); t != "" {
				r.Out.Header.Set("Content-Type", t)
			}
		},
		FlushInterval: -1, // watches
		Transport:     c.HTTP,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			c.Log.Warn("the etcd that keeps the tokens does not answer", "url", c.Backend, "error", err)
			http.Error(w, "the etcd that keeps the tokens does not answer", http.StatusBadGateway)
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/new", s.create)
	mux.HandleFunc("/health", s.health)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "etcd discovery: GET /new?size=N for a token\n")
	})
	mux.HandleFunc("/", s.token)
	return mux
}

type service struct {
	Config
	path    *regexp.Regexp
	forward *httputil.ReverseProxy
}

// create makes a token.
func (s *service) create(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodPut {
		w.Header().Set("Allow", "GET, PUT")
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	size := 3
	if text := r.FormValue("size"); text != "" {
		var err error
		if size, err = strconv.Atoi(text); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	if size < 1 || size > maxSize {
		http.Error(w, fmt.Sprintf("size %d: a cluster has 1 to %d members", size, maxSize), http.StatusBadRequest)
		return
	}
	b := make([]byte, 16)
	rand.Read(b) // never fails
	token := hex.EncodeToString(b)
	if err := s.put(r.Context(), token+"/_config/size", strconv.Itoa(size)); err != nil {
		s.Log.Warn("no token could be made", "error", err)
		http.Error(w, "Unable to generate token", http.StatusBadRequest)
		return
	}
	s.Log.Info("made a token", "token", token, "size", size, "for", r.RemoteAddr)
	io.WriteString(w, s.public(r)+"/"+token)
}

func (s *service) public(r *http.Request) string {
	if s.Public != "" {
		return s.Public
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// put creates a key below the registry.
func (s *service) put(ctx context.Context, key, value string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	u := s.Backend.JoinPath(root, key)
	u.RawQuery = "prevExist=false"
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), strings.NewReader(url.Values{"value": {value}}.Encode()))
	if err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := s.HTTP.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("create %s: status %d, %.200q", key, resp.StatusCode, text)
	}
	return nil
}

func (s *service) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Backend.JoinPath("/health").String(), nil)
	if err == nil {
		var resp *http.Response
		if resp, err = s.HTTP.RoundTrip(req); err == nil {
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
		}
	}
	if err != nil {
		http.Error(w, "the etcd that keeps the tokens is not well: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "OK")
}

// token forwards what the protocol has.
func (s *service) token(w http.ResponseWriter, r *http.Request) {
	part := s.path.FindStringSubmatch(r.URL.Path)
	if part == nil || r.URL.RawPath != "" {
		http.NotFound(w, r)
		return
	}
	token, config, member := part[1], part[2], part[3]
	var q url.Values
	var problem string
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		q, problem = reading(r.URL.Query())
	case r.Method == http.MethodPut && member != "":
		q, problem = s.registering(r, token)
	case r.Method == http.MethodDelete && member != "":
		q = url.Values{}
	default:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	if problem != "" {
		http.Error(w, problem, http.StatusBadRequest)
		return
	}
	out := r.Clone(r.Context())
	out.URL = &url.URL{Path: strings.TrimRight(root+"/"+token+"/"+config+member, "/"), RawQuery: q.Encode()}
	s.forward.ServeHTTP(w, out)
}

// reading takes the parameters of a read, of those that etcd has.
func reading(in url.Values) (url.Values, string) {
	out := url.Values{}
	for name, values := range in {
		if !slices.Contains([]string{"wait", "waitIndex", "recursive", "sorted", "quorum", "stream"}, name) || len(values) != 1 {
			return nil, fmt.Sprintf("the parameter %q is not part of the discovery protocol", name)
		}
		out[name] = values
	}
	return out, ""
}

// registering checks a member's registration: it is only ever created, for a
// token that exists, and its value can be part of an initial cluster.
func (s *service) registering(r *http.Request, token string) (url.Values, string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		return nil, fmt.Sprintf("the registration is longer than %d bytes or broke off", maxBody)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form = url.Values{}
	}
	query := r.URL.Query()
	value := form.Get("value")
	if value == "" {
		value = query.Get("value")
	}
	if !registration(value) {
		return nil, fmt.Sprintf("the value %.100q is not name=peerURL", value)
	}
	for name := range query {
		if name != "prevExist" && name != "value" {
			return nil, fmt.Sprintf("the parameter %q is not part of the discovery protocol", name)
		}
	}
	if !s.exists(r.Context(), token) {
		return nil, "unable to use the token: it was not made with /new"
	}
	text := url.Values{"value": {value}}.Encode()
	r.Body = io.NopCloser(bytes.NewReader([]byte(text)))
	r.ContentLength = int64(len(text))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return url.Values{"prevExist": {"false"}}, ""
}

// registration says whether a value is name=URL, more with commas.
func registration(value string) bool {
	for entry := range strings.SplitSeq(value, ",") {
		name, text, ok := strings.Cut(entry, "=")
		u, err := url.Parse(text)
		if !ok || name == "" || err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return false
		}
	}
	return true
}

// exists says whether the token was made here.
func (s *service) exists(ctx context.Context, token string) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Backend.JoinPath(root, token, "_config/size").String(), nil)
	if err != nil {
		return false
	}
	resp, err := s.HTTP.RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var a struct {
		Node *struct{ Value string } `json:"node"`
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&a) == nil && a.Node != nil
}
