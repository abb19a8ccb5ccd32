package v2_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// side is one of two servers that are compared. Indexes are written as their
// distance from the server's index at the beginning: "{7}" in what is sent,
// and "{#7}" for the name of an in-order key.
type side struct {
	*server
	client *http.Client
	base   int64
}

func newSide(t *testing.T, s *server) *side {
	t.Helper()
	out := &side{server: s, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	t.Cleanup(out.client.CloseIdleConnections)
	resp, err := http.Get(s.url + "/v2/keys/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if out.base, err = strconv.ParseInt(resp.Header.Get("X-Etcd-Index"), 10, 64); err != nil {
		t.Fatal(err)
	}
	return out
}

var (
	placeholder = regexp.MustCompile(`\{#?-?\d+\}`)
	number      = regexp.MustCompile(`\d+`)
	inOrder     = regexp.MustCompile(`\b\d{20}\b`)
)

// render writes the side's own indexes into a text.
func (s *side) render(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(p string) string {
		n, _ := strconv.ParseInt(strings.Trim(p, "{}#"), 10, 64)
		if strings.Contains(p, "#") {
			return fmt.Sprintf("%020d", s.base+n)
		}
		return strconv.FormatInt(max(0, s.base+n), 10)
	})
}

// relative is the opposite of render for one number.
func (s *side) relative(form string) func(string) string {
	return func(digits string) string {
		n, _ := strconv.ParseInt(digits, 10, 64)
		if n == 0 {
			return "0" // the index of errors that never reached the store
		}
		return fmt.Sprintf(form, n-s.base)
	}
}

// open sends a request.
func (s *side) open(o op) (*http.Response, error) {
	params := url.Values{}
	for name, list := range o.params {
		params.Set(name, s.render(list[0]))
	}
	values := params.Encode()
	target := s.url + "/v2/keys" + (&url.URL{Path: s.render(o.key)}).EscapedPath()
	var body io.Reader
	if o.form {
		body = strings.NewReader(values)
	} else if values != "" {
		target += "?" + values
	}
	req, err := http.NewRequest(o.method, target, body)
	if err != nil {
		return nil, err
	}
	if o.form {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return s.client.Do(req)
}

// op is a request about a key.
type op struct {
	method, key string
	params      url.Values
	form        bool // the parameters are in the body
}

func (o op) String() string {
	text, _ := url.QueryUnescape(o.params.Encode())
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", o.method, o.key, text))
}

// sorted says whether the answer's order is part of it. Forms of requests
// without PUT or POST are not read.
func (o op) sorted() bool { return !o.form && o.params.Get("sorted") == "true" }

// answer is a response in a form in which two servers' can be compared.
type answer struct {
	text string // without times, with relative indexes
	ends []time.Time
	ttls []int64
	body any
}

// read makes an answer of a response's head and body.
func (s *side) read(resp *http.Response, body []byte, sorted bool) answer {
	var a answer
	h := resp.Header
	a.text = fmt.Sprintf("%d %s index %s", resp.StatusCode, h.Get("Content-Type"),
		number.ReplaceAllStringFunc(h.Get("X-Etcd-Index"), s.relative("{%d}")))
	for _, name := range []string{"X-Etcd-Cluster-Id", "X-Raft-Index", "X-Raft-Term", "Allow"} {
		a.text += fmt.Sprintf(" %t", h.Get(name) != "")
	}
	for line := range bytes.Lines(body) {
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			a.text += fmt.Sprintf("\n%s", line)
			continue
		}
		a.body = s.simplify(v, "", sorted)
		a.times(a.body)
		text, _ := json.Marshal(a.body)
		a.text += fmt.Sprintf("\n%s %t", text, bytes.HasSuffix(line, []byte("\n")))
	}
	return a
}

// simplify makes indexes relative, and puts lists in order that need not be.
func (s *side) simplify(v any, name string, sorted bool) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = s.simplify(v[k], k, sorted)
		}
	case []any:
		for i := range v {
			v[i] = s.simplify(v[i], "", sorted)
		}
		if !sorted {
			slices.SortFunc(v, func(a, b any) int { return cmp.Compare(keyOf(a), keyOf(b)) })
		}
	case json.Number:
		if strings.HasSuffix(strings.ToLower(name), "index") {
			return s.relative("{%d}")(v.String())
		}
	case string:
		v = inOrder.ReplaceAllStringFunc(v, s.relative("<#%d>"))
		if name == "cause" && !strings.Contains(v, "<#") {
			v = number.ReplaceAllStringFunc(v, s.relative("{%d}"))
		}
		return v
	}
	return v
}

func keyOf(v any) string {
	m, _ := v.(map[string]any)
	s, _ := m["key"].(string)
	return s
}

// times takes the times out of a body, in an order that does not depend on them.
func (a *answer) times(v any) {
	switch v := v.(type) {
	case map[string]any:
		if text, ok := v["expiration"].(string); ok {
			if at, err := time.Parse(time.RFC3339Nano, text); err == nil && strings.HasSuffix(text, "Z") {
				a.ends, v["expiration"] = append(a.ends, at), "time"
			}
		}
		if n, ok := v["ttl"].(json.Number); ok {
			ttl, _ := n.Int64()
			a.ttls, v["ttl"] = append(a.ttls, ttl), "seconds"
		}
		for _, k := range []string{"node", "prevNode", "nodes"} {
			a.times(v[k])
		}
	case []any:
		for i := range v {
			a.times(v[i])
		}
	}
}

// same says how two answers differ, or "". The two servers were asked at almost
// the same time.
func same(ours, theirs answer) string {
	if ours.text != theirs.text {
		return fmt.Sprintf("ours\n%s\ntheirs\n%s", ours.text, theirs.text)
	}
	for i := range ours.ends {
		if d := ours.ends[i].Sub(theirs.ends[i]).Abs(); d > time.Second {
			return fmt.Sprintf("expiration differs by %v:\n%s", d, ours.text)
		}
	}
	for i := range ours.ttls {
		if d := ours.ttls[i] - theirs.ttls[i]; d < -1 || d > 1 {
			return fmt.Sprintf("ttl %d, theirs %d:\n%s", ours.ttls[i], theirs.ttls[i], ours.text)
		}
	}
	return ""
}
