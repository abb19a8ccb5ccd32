package kv

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// v2Case is one line of testdata/v2-cases.jsonl: requests to etcd 2 with what
// etcd 2.3.8 and 3.4 answered.
type v2Case struct {
	Name  string
	Steps []v2Step
}

// v2Step is one request, or a word about one that waits in the background.
type v2Step struct {
	Method, Path  string
	Query, Form   map[string]any
	JSON          any
	Body          string
	Headers       map[string]string
	Async         string // name of a request in the background
	Await         string // its end
	Pending       string // that it has not ended
	Within, Sleep float64
	Save          map[string]string
	Expect        v2Expect
}

type v2Expect struct {
	Status     any
	JSONSubset any `json:"json_subset"`
	JSONExact  any `json:"json_exact"`
	Absent     []string
	Headers    map[string]any
	BodyRegex  string  `json:"body_regex"`
	BodyText   *string `json:"body_text"`
	Pending    bool
}

type v2Answer struct {
	status  int
	headers http.Header
	body    string
	json    any
	err     error
}

// TestV2Cases runs what programs of etcd 2's day relied on.
func TestV2Cases(t *testing.T) {
	client, peer := freeURL(t), freeURL(t)
	member(t, filepath.Join(t.TempDir(), "data"), "ETCD_LISTEN_CLIENT_URLS="+client, "ETCD_ADVERTISE_CLIENT_URLS="+client,
		"ETCD_LISTEN_PEER_URLS="+peer, "ETCD_INITIAL_ADVERTISE_PEER_URLS="+peer)
	f, err := os.Open("testdata/v2-cases.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c v2Case
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.UseNumber()
		if err := d.Decode(&c); err != nil {
			t.Fatal(err)
		}
		// One after the other: they reckon with indexes.
		t.Run(c.Name, func(t *testing.T) {
			r := v2Run{t: t, base: client, vars: map[string]string{"P": "/zz" + strings.ToLower(c.Name)}, waiting: map[string]chan v2Answer{}}
			for i, s := range c.Steps {
				r.step(i, s)
			}
		})
	}
}

// v2Run is one case while it runs.
type v2Run struct {
	t       *testing.T
	base    string
	vars    map[string]string
	waiting map[string]chan v2Answer
}

func (r *v2Run) step(i int, s v2Step) {
	r.t.Helper()
	where := fmt.Sprintf("step %d: %s %s", i, s.Method, r.text(s.Path))
	switch {
	case s.Sleep > 0:
		time.Sleep(time.Duration(s.Sleep * float64(time.Second))) // the cases measure times to live
	case s.Pending != "":
		select {
		case a := <-r.waiting[s.Pending]:
			r.t.Fatalf("%s%s has ended already: %+v", where, s.Pending, a)
		case <-time.After(300 * time.Millisecond):
		}
	case s.Await != "":
		within := 10 * time.Second
		if s.Within > 0 {
			within = time.Duration(s.Within * float64(time.Second))
		}
		select {
		case a := <-r.waiting[s.Await]:
			if s.Expect.Pending {
				r.t.Fatalf("%s%s has ended: %+v", where, s.Await, a)
			}
			r.check(where+s.Await, a, s.Expect)
		case <-time.After(within):
			if !s.Expect.Pending {
				r.t.Fatalf("%s%s has not ended after %s", where, s.Await, within)
			}
		}
	case s.Async != "":
		c, request := make(chan v2Answer, 1), r.request(s)
		r.waiting[s.Async] = c
		go func() { c <- do(request) }()
		time.Sleep(250 * time.Millisecond) // until it waits at the server, which nothing tells
	default:
		a := do(r.request(s))
		r.check(where, a, s.Expect)
		for name, from := range s.Save {
			if header, ok := strings.CutPrefix(from, "header:"); ok {
				r.vars[name] = a.headers.Get(header)
			} else {
				r.vars[name] = fmt.Sprint(dig(a.json, from))
			}
		}
	}
}

var variable = regexp.MustCompile(`\$\{(\w+)([+-]\d+)?\}`)

// text puts the variables into a text: ${name}, or ${name+1}.
func (r *v2Run) text(s string) string {
	return variable.ReplaceAllStringFunc(s, func(m string) string {
		parts := variable.FindStringSubmatch(m)
		value := r.vars[parts[1]]
		if parts[2] == "" {
			return value
		}
		n, _ := strconv.Atoi(value)
		add, _ := strconv.Atoi(parts[2])
		return strconv.Itoa(n + add)
	})
}

// fill puts the variables into a JSON value; a whole text that is one variable
// with a number becomes that number.
func (r *v2Run) fill(v any) any {
	switch v := v.(type) {
	case string:
		text := r.text(v)
		if _, err := strconv.Atoi(text); err == nil && variable.FindString(v) == v && v != "" {
			return json.Number(text)
		}
		return text
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = r.fill(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k := range v {
			out[r.text(k)] = r.fill(v[k])
		}
		return out
	}
	return v
}

func (r *v2Run) request(s v2Step) *http.Request {
	r.t.Helper()
	values := func(m map[string]any) url.Values {
		out := url.Values{}
		for k, v := range m {
			out.Set(k, fmt.Sprint(r.fill(v)))
		}
		return out
	}
	target := r.base + r.text(s.Path)
	if len(s.Query) > 0 {
		target += "?" + values(s.Query).Encode()
	}
	body, kind := r.text(s.Body), ""
	switch {
	case s.Form != nil:
		body, kind = values(s.Form).Encode(), "application/x-www-form-urlencoded"
	case s.JSON != nil:
		b, err := json.Marshal(r.fill(s.JSON))
		if err != nil {
			r.t.Fatal(err)
		}
		body, kind = string(b), "application/json"
	}
	request, err := http.NewRequestWithContext(context.WithoutCancel(r.t.Context()), s.Method, target, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	for k, v := range s.Headers {
		request.Header.Set(k, r.text(v))
	}
	return request
}

func do(request *http.Request) v2Answer {
	c := http.Client{Timeout: 12 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(request)
	if err != nil {
		return v2Answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	a := v2Answer{status: resp.StatusCode, headers: resp.Header, body: string(b), err: err}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	_ = d.Decode(&a.json) // not every answer is JSON
	return a
}

func (r *v2Run) check(where string, a v2Answer, e v2Expect) {
	r.t.Helper()
	fail := func(format string, args ...any) { r.t.Errorf("%s: %s", where, fmt.Sprintf(format, args...)) }
	if a.err != nil {
		fail("%v", a.err)
		return
	}
	if list, ok := e.Status.([]any); ok {
		if !slices.ContainsFunc(list, func(s any) bool { return fmt.Sprint(s) == strconv.Itoa(a.status) }) {
			fail("status %d, want one of %v: %s", a.status, list, a.body)
		}
	} else if e.Status != nil && fmt.Sprint(e.Status) != strconv.Itoa(a.status) {
		fail("status %d, want %v: %s", a.status, e.Status, a.body)
	}
	if e.JSONSubset != nil {
		if problem := match("body", a.json, r.fill(e.JSONSubset)); problem != "" {
			fail("%s: %s", problem, a.body)
		}
	}
	if want := r.fill(e.JSONExact); want != nil && !reflect.DeepEqual(a.json, want) {
		fail("body %s, want %v", a.body, want)
	}
	for _, path := range e.Absent {
		if got := dig(a.json, path); got != nil {
			fail("%s is %v, want none", path, got)
		}
	}
	for name, want := range e.Headers {
		if problem := matchHeader(a.headers.Values(name), r.fill(want)); problem != "" {
			fail("header %s: %s", name, problem)
		}
	}
	if e.BodyRegex != "" && !regexp.MustCompile(r.text(e.BodyRegex)).MatchString(a.body) {
		fail("body %q does not match %q", a.body, e.BodyRegex)
	}
	if e.BodyText != nil && r.text(*e.BodyText) != a.body {
		fail("body %q, want %q", a.body, *e.BodyText)
	}
}

func matchHeader(got []string, want any) string {
	switch {
	case want == nil && len(got) == 0:
		return ""
	case want == nil || len(got) == 0:
		return fmt.Sprintf("%q, want %v", got, want)
	}
	if _, special := want.(map[string]any); special {
		return match("", got[0], want)
	}
	if got[0] != fmt.Sprint(want) {
		return fmt.Sprintf("%q, want %v", got[0], want)
	}
	return ""
}

// match compares what is wanted of a value: objects by the keys that are named,
// matchers such as {"$type": "int"} by their word. It returns the first problem.
func match(path string, got, want any) string {
	object, ok := want.(map[string]any)
	if !ok {
		if list, ok := want.([]any); ok {
			return matchList(path, got, list)
		}
		if !reflect.DeepEqual(got, want) {
			return fmt.Sprintf("%s is %v, want %v", path, got, want)
		}
		return ""
	}
	for key, arg := range object {
		if strings.HasPrefix(key, "$") {
			return matchWord(path, got, key, arg)
		}
	}
	fields, ok := got.(map[string]any)
	if !ok {
		return fmt.Sprintf("%s is %v, want an object", path, got)
	}
	for key, w := range object {
		value, there := fields[key]
		if !there {
			return fmt.Sprintf("%s.%s is missing", path, key)
		}
		if problem := match(path+"."+key, value, w); problem != "" {
			return problem
		}
	}
	return ""
}

func matchList(path string, got any, want []any) string {
	list, ok := got.([]any)
	if !ok || len(list) != len(want) {
		return fmt.Sprintf("%s is %v, want %v", path, got, want)
	}
	for i := range want {
		if problem := match(fmt.Sprintf("%s[%d]", path, i), list[i], want[i]); problem != "" {
			return problem
		}
	}
	return ""
}

func matchWord(path string, got any, word string, arg any) string {
	number := func(v any) float64 {
		f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
		if err != nil {
			return -1 << 60
		}
		return f
	}
	ok := false
	switch word {
	case "$type":
		kinds := map[string]any{"int": json.Number(""), "num": json.Number(""), "str": "", "list": []any{}, "dict": map[string]any{}}
		ok = reflect.TypeOf(got) == reflect.TypeOf(kinds[fmt.Sprint(arg)])
	case "$regex":
		text, isText := got.(string)
		ok = isText && regexp.MustCompile(fmt.Sprint(arg)).MatchString(text)
	case "$gte":
		ok = number(got) >= number(arg)
	case "$between":
		between := arg.([]any)
		ok = number(got) >= number(between[0]) && number(got) <= number(between[1])
	case "$len":
		if v := reflect.ValueOf(got); got != nil && (v.Kind() == reflect.Slice || v.Kind() == reflect.String) {
			ok = float64(v.Len()) == number(arg)
		}
	}
	if !ok {
		return fmt.Sprintf("%s is %v, want %s %v", path, got, word, arg)
	}
	return ""
}

// dig follows a dotted path.
func dig(v any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	return v
}
