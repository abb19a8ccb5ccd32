package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
)

func TestEndpoints(t *testing.T) {
	for _, c := range []struct{ endpoint, dialed, err string }{
		{"", "unix /var/run/fleet.sock", ""},
		{"unix:///run/fleet.sock", "unix /run/fleet.sock", ""},
		{"file:///run/fleet.sock", "unix /run/fleet.sock", ""},
		{"unix://fleet.sock", "unix fleet.sock", ""},
		{"http://10.0.0.1:49153", "tcp 10.0.0.1:49153", ""},
		{"http://10.0.0.1:49153/", "tcp 10.0.0.1:49153", ""},
		{"https://host", "tcp host:443", ""},
		{"http://[::1]:80", "tcp [::1]:80", ""},
		{"unix://", "", "names no socket"},
		{"10.0.0.1:49153", "", "first path segment in URL cannot contain colon"},
		{"fleet.sock", "", `has the scheme ""`},
		{"ftp://host", "", `has the scheme "ftp"`},
		{"http://", "", "is not http://HOST:PORT"},
		{"http://host/v2", "", "is not http://HOST:PORT"},
		{"http://a b", "", "invalid character"},
	} {
		dialed := ""
		client, err := New(Options{Endpoint: c.endpoint, Dial: func(_ context.Context, network, address string) (net.Conn, error) {
			dialed = network + " " + address
			return nil, errors.New("not connected")
		}})
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.endpoint, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.endpoint, err)
			continue
		}
		if _, err := client.Machines(t.Context()); err == nil || !strings.Contains(err.Error(), "ask the scheduler") || dialed != c.dialed {
			t.Errorf("%q: dialed %q, want %q; error %v", c.endpoint, dialed, c.dialed, err)
		}
	}
}

// TestAnswers: servers that answer what they should not, or nothing.
func TestAnswers(t *testing.T) {
	answer := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); io.WriteString(w, body) }
	}
	for _, c := range []struct {
		name   string
		handle http.HandlerFunc
		want   string
	}{
		{"an error of the API", answer(409, `{"error":{"code":409,"message":"no"}}`), "no"},
		{"an error without words", answer(500, `{"error":{"code":500,"message":""}}`), "the scheduler answered GET /units with status 500 (Internal Server Error)"},
		{"an error of something else", answer(502, "<html>"), "the scheduler answered GET /units with status 502 (Bad Gateway)"},
		{"no JSON", answer(200, "hello"), "understand the scheduler's answer to GET /units"},
		{"half an answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "{")
		}, "read the scheduler's answer"},
		{"no answer in time", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline exceeded"},
	} {
		server := httptest.NewServer(c.handle)
		client, err := New(Options{Endpoint: server.URL, Timeout: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Units(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		client.Close()
		server.CloseClientConnections()
		server.Close()
	}
}

// TestPagesThatMove: pages are of different moments; what comes twice counts
// once, as it came last.
func TestPagesThatMove(t *testing.T) {
	pages := map[string]string{
		"":  `{"units":[{"name":"a"},{"name":"b","desiredState":"inactive"}],"nextPageToken":"2"}`,
		"2": `{"units":[{"name":"b","desiredState":"loaded"},{"name":"c"}],"nextPageToken":"3"}`,
		"3": `{}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, pages[r.URL.Query().Get("nextPageToken")])
	}))
	defer server.Close()
	client, err := New(Options{Endpoint: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	units, err := client.Units(t.Context())
	want := []schema.Unit{{Name: "a"}, {Name: "b", DesiredState: "loaded"}, {Name: "c"}}
	if diff := cmp.Diff(want, units); diff != "" || err != nil {
		t.Errorf("units: %v\n%s", err, diff)
	}
}

// TestRequests is what goes over the wire, as fleet's own server takes it.
func TestRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), body)))
		w.WriteHeader(http.StatusNoContent)
	})}
	go server.Serve(l)
	defer server.Close()
	client, err := New(Options{Endpoint: "unix://" + path})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := t.Context()
	_, put := client.PutUnit(ctx, schema.Unit{Name: `a\x2d@b.service`, Options: []schema.Option{{Section: "S", Name: "N", Value: "<&>"}}, DesiredState: "loaded", Rollout: &schema.Rollout{Parallel: 1}})
	for _, err := range []error{
		put, client.SetDesired(ctx, "a.service", fleet.Launched), client.Destroy(ctx, "a.service"), client.Rollback(ctx, "a.service"),
		client.SetMetadata(ctx, "m", "k", "v"), client.DeleteMetadata(ctx, "m", "k"), client.Drain(ctx, "m", "disk", true), client.EndDrain(ctx, "m"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{
		`PUT /fleet/v1/units/a%5Cx2d@b.service application/json {"name":"a\\x2d@b.service","options":[{"section":"S","name":"N","value":"\u003c\u0026\u003e"}],"desiredState":"loaded","rollout":{"parallel":1,"waitHealthySeconds":0}}`,
		`PUT /fleet/v1/units/a.service application/json {"name":"a.service","desiredState":"launched"}`,
		`DELETE /fleet/v1/units/a.service`,
		`POST /fleet/v1/units/a.service/rollback application/json`,
		`PATCH /fleet/v1/machines application/json [{"op":"add","path":"/m/metadata/k","value":{"value":"v"}}]`,
		`PATCH /fleet/v1/machines application/json [{"op":"remove","path":"/m/metadata/k"}]`,
		`PUT /fleet/v1/machines/m/drain application/json {"reason":"disk","untilReboot":true}`,
		`DELETE /fleet/v1/machines/m/drain`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
