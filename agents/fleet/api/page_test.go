package api

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry"
)

func TestParseToken(t *testing.T) {
	for _, c := range []struct {
		query string
		want  token
		err   string
	}{
		{"", token{100, 1}, ""},
		{"nextPageToken=", token{100, 1}, ""},
		{"nextPageToken=ZAACAA==", token{100, 2}, ""}, // recorded of fleet 1.0
		{"nextPageToken=" + token{100, 65535}.String(), token{100, 65535}, ""},
		{"nextPageToken=EwBMLg==", token{}, "token limit must be 100"}, // of its functional tests
		{"nextPageToken=ZAAAAA==", token{}, "token page must be greater than zero"},
		{"nextPageToken=ZAACAA==&nextPageToken=ZAADAA==", token{}, "too many values for page token"},
		{"nextPageToken=x", token{}, `page token "x" is none that this server gave`},
		{"nextPageToken=ZAAC", token{}, `page token "ZAAC" is none that this server gave`},
		{"nextPageToken=ZAACAAAA", token{}, `page token "ZAACAAAA" is none that this server gave`},
	} {
		query, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseToken(query, 100)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != c.want || text != c.err {
			t.Errorf("%q: %v, %q; want %v, %q", c.query, got, text, c.want, c.err)
		}
	}
}

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		page     uint16
		n        int
		from, to int
		next     string
	}{
		{1, 0, 0, 0, ""}, {1, 99, 0, 99, ""}, {1, 100, 0, 100, "ZAACAA=="}, {1, 101, 0, 100, "ZAACAA=="},
		{2, 100, 100, 100, ""}, {2, 101, 100, 101, ""}, {2, 50, 50, 50, ""}, {65535, 1 << 24, 6553400, 6553500, ""},
	} {
		from, to, next := token{100, c.page}.bounds(c.n)
		if from != c.from || to != c.to || next != c.next {
			t.Errorf("page %d of %d: %d to %d, %q; want %d to %d, %q", c.page, c.n, from, to, next, c.from, c.to, c.next)
		}
	}
}

// TestPages goes through all three lists, in pages of three.
func TestPages(t *testing.T) {
	l := newLab(t, func(o *Options) { o.TokenLimit = 3 })
	var want []string
	for i := range 6 { // a last page that is full
		name := fmt.Sprintf("u%d.service", i)
		want = append(want, name)
		if code, body := l.do("PUT", "/fleet/v1/units/"+name, unit("/x")); code != 201 {
			t.Fatal(code, body)
		}
		l.machine(fleet.Machine{ID: fmt.Sprint("m", i)})
		l.place(name, fmt.Sprint("m", i), fleet.Launched, "active")
	}
	_, first := l.do("GET", "/fleet/v1/units", "")
	if !strings.HasSuffix(first, `"nextPageToken":"AwACAA=="}`) {
		t.Errorf("first page: %s", first)
	}
	if _, third := l.do("GET", "/fleet/v1/units?nextPageToken=AwADAA==", ""); third != "{}" {
		t.Errorf("page after the last: %s", third)
	}
	if code, body := l.do("GET", "/fleet/v1/machines?nextPageToken=ZAACAA==", ""); code != 400 || body != errorBody(400, "token limit must be 3") {
		t.Errorf("token of another limit: %d %s", code, body)
	}
	units, err := l.client.Units(t.Context())
	var got []string
	for _, u := range units {
		got = append(got, u.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("units: %v\n%s", err, diff)
	}
	if machines, err := l.client.Machines(t.Context()); len(machines) != 6 || err != nil {
		t.Errorf("machines: %d, %v", len(machines), err)
	}
	if states, err := l.client.States(t.Context(), "", ""); len(states) != 6 || err != nil {
		t.Errorf("states: %d, %v", len(states), err)
	}
	// Pages are made anew: an item that comes to stand before moves the others.
	if code, _ := l.do("PUT", "/fleet/v1/units/a.service", unit("/x")); code != 201 {
		t.Fatal(code)
	}
	if _, second := l.do("GET", "/fleet/v1/units?nextPageToken=AwACAA==", ""); !strings.Contains(second, "u2.service") {
		t.Errorf("second page after a change: %s", second)
	}
}

// BenchmarkList2000 lists 2,000 units on 20 machines through the API, with the
// client's paging.
func BenchmarkList2000(b *testing.B) {
	l := newLab(b)
	const machines, units = 20, 2000
	for i := range machines {
		l.machine(fleet.Machine{ID: fmt.Sprintf("%032d", i)})
	}
	for i := range units {
		name := fmt.Sprintf("u%04d.service", i)
		raw := fmt.Sprintf("[Unit]\nDescription=Unit %d\nAfter=docker.service\n\n[Service]\nExecStartPre=-/usr/bin/docker rm -f u%d\nExecStart=/usr/bin/docker run --name u%d busybox sleep 1000\nExecStop=/usr/bin/docker stop u%d\nRestart=always\n\n[X-Fleet]\nConflicts=v%d@*.service\n", i, i, i, i, i)
		if _, err := l.registry.Update(b.Context(), name, func(*registry.Unit) (*registry.Unit, error) {
			return &registry.Unit{Name: name, Raw: raw, Desired: fleet.Launched}, nil
		}); err != nil {
			b.Fatal(err)
		}
		l.place(name, fmt.Sprintf("%032d", i%machines), fleet.Launched, "active")
	}
	begin := time.Now() // the first one reads the cluster from the KV and takes every unit apart
	if _, err := l.client.Units(b.Context()); err != nil {
		b.Fatal(err)
	}
	first := time.Since(begin)
	for b.Loop() {
		list, err := l.client.Units(b.Context())
		if err != nil || len(list) != units {
			b.Fatal(len(list), err)
		}
	}
	b.ReportMetric(first.Seconds(), "s/first")
}
