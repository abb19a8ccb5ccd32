package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/client"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
	"github.com/coracle-os/coracle/agents/fleet/registry/mirror"
	"github.com/coracle-os/coracle/agents/kv/kvtest"
)

var (
	address string // of the etcd that all tests share, each with a prefix of its own; set once, by TestMain
	number  atomic.Int32
)

func TestMain(m *testing.M) {
	os.Exit(kvtest.Main(m, func(endpoint string) { address = endpoint }))
}

// lab is an API over a real registry.
type lab struct {
	t        testing.TB
	registry *registry.Registry
	url      string
	client   *client.Client
	lease    clientv3.LeaseID // that machines of put have
}

func newLab(t testing.TB, change ...func(*Options)) *lab { return newLabOn(t, address, change...) }

// newLabOn is one over the store at an address.
func newLabOn(t testing.TB, address string, change ...func(*Options)) *lab {
	kv, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	prefix := fmt.Sprintf("/test-%d/", number.Add(1))
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	m := mirror.New(kv, mirror.Options{Prefix: prefix, Log: log})
	t.Cleanup(m.Close)
	o := Options{Mirror: m, Registry: registry.New(kv, prefix, time.Second), Timeout: 5 * time.Second, Log: log}
	for _, f := range change {
		f(&o)
	}
	server := httptest.NewServer(New(o))
	t.Cleanup(server.Close)
	c, err := client.New(client.Options{Endpoint: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &lab{t: t, registry: o.Registry, url: server.URL, client: c}
}

// machine registers one.
func (l *lab) machine(m fleet.Machine) {
	l.t.Helper()
	if l.lease == 0 {
		lease, err := l.registry.Client.Grant(context.Background(), 600)
		if err != nil {
			l.t.Fatal(err)
		}
		l.lease = lease.ID
	}
	if _, err := l.registry.Register(context.Background(), m, l.lease); err != nil {
		l.t.Fatal(err)
	}
}

// place does what the engine and an agent would: a placement, and a state if
// active is not "".
func (l *lab) place(unit, machine string, state fleet.JobState, active string) {
	l.t.Helper()
	l.placeHash(unit, machine, layout.HashOf("x"), state, active)
}

func (l *lab) placeHash(unit, machine, hash string, state fleet.JobState, active string) {
	l.t.Helper()
	p := fleet.Placement{Unit: unit, Machine: machine, Hash: hash, State: state}
	if _, err := l.registry.Client.Put(context.Background(), l.registry.Keys.Placement(machine, unit), layout.EncodePlacement(p)); err != nil {
		l.t.Fatal(err)
	}
	if active != "" {
		s := fleet.UnitState{Unit: unit, Machine: machine, Hash: p.Hash, Load: "loaded", Active: active, Sub: "x", Since: time.Unix(1700000000, 0)}
		if err := l.registry.PublishStates(context.Background(), l.lease, []fleet.UnitState{s}); err != nil {
			l.t.Fatal(err)
		}
	}
}

// released counts the placements that machines are to give up.
func (l *lab) released() int {
	l.t.Helper()
	n := 0
	s, err := l.registry.ReadSchedule(context.Background(), "m1", slog.Default())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, u := range s.Units {
		if u.State == fleet.Inactive {
			n++
		}
	}
	return n
}

// do sends a request as it stands; a body or POST makes it one of JSON.
func (l *lab) do(method, path, body string) (int, string) {
	l.t.Helper()
	header := http.Header{}
	if body != "" || method == "POST" {
		header.Set("Content-Type", "application/json; charset=utf-8")
	}
	return l.send(method, path, body, header)
}

func (l *lab) send(method, path, body string, header http.Header) (int, string) {
	l.t.Helper()
	r, err := http.NewRequest(method, l.url+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header = header
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		l.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	if got := answer.Header.Get("Server"); got != "fleetd/"+fleet.Version {
		l.t.Errorf("%s %s: Server: %q", method, path, got)
	}
	if len(data) > 0 && answer.Header.Get("Content-Type") != "application/json" {
		l.t.Errorf("%s %s: Content-Type: %q", method, path, answer.Header.Get("Content-Type"))
	}
	return answer.StatusCode, string(data)
}

// unit is the body of a PUT.
func unit(exec string) string {
	return fmt.Sprintf(`{"desiredState":"inactive","options":[{"section":"Service","name":"ExecStart","value":%q}]}`, exec)
}
