package supervisor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/console"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/machine"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/graph"
	"github.com/coracle-os/coracle/rootfs/unit/load"
)

// start returns a running supervisor over unit files in a directory. Units
// that run processes need rootfs/pid1's test, which has name spaces.
func start(t *testing.T, files map[string]string) (*Supervisor, *records) {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, "etc/systemd/system", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := machine.Machine{Root: root}
	set, err := load.NewSet(load.New(m, m.Host))
	if err != nil {
		t.Fatal(err)
	}
	log := &records{}
	s := New(Config{Units: set, System: m, Console: &console.Console{}, Log: log.add, Proc: "/proc",
		Properties: func(*unit.Unit, *graph.Graph) map[string]string { return map[string]string{} }})
	go s.Run()
	t.Cleanup(func() { s.Post(func() { s.outcome = Halt }); <-s.ended })
	return s, log
}

type records struct {
	mu   sync.Mutex
	text []string
}

func (r *records) add(m Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, m.Unit+": "+m.Message)
}

func (r *records) has(s string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(strings.Join(r.text, "\n"), s)
}

// ask sends one request and returns the results and the error.
func ask(t *testing.T, s *Supervisor, verb control.Verb, units ...string) ([]control.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var all []control.Result
	err := s.Handle(ctx, control.Peer{}, control.Request{Verb: verb, Units: units}, func(r control.Response) error {
		all = append(all, r.Results...)
		return nil
	})
	return all, err
}

func show(t *testing.T, s *Supervisor, name string) control.Unit {
	t.Helper()
	var u control.Unit
	err := s.Handle(context.Background(), control.Peer{}, control.Request{Verb: control.Show, Units: []string{name}}, func(r control.Response) error {
		u = r.Units[0]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestShowKeepsSecrets: everybody may ask for a unit's properties, and only root
// is told the join token that is in them.
func TestShowKeepsSecrets(t *testing.T) {
	s, _ := start(t, map[string]string{"a.target": "[Unit]\nDefaultDependencies=no\n"})
	for _, c := range []struct {
		environment string
		uid         int
		hidden      bool
	}{
		{"ETCD_NAME=a ETCD_JOIN_TOKEN=0123", 0, false},
		{"ETCD_NAME=a ETCD_JOIN_TOKEN=0123", 500, true},
		{`"FLEET_ETCD_PASSWORD=0123 4"`, 500, true},
		{"ETCD_NAME=a", 500, false},
	} {
		s.cfg.Properties = func(*unit.Unit, *graph.Graph) map[string]string {
			return map[string]string{"Environment": c.environment}
		}
		var got string
		err := s.Handle(t.Context(), control.Peer{UID: c.uid}, control.Request{Verb: control.Show, Units: []string{"a.target"}}, func(r control.Response) error {
			got = r.Units[0].Properties["Environment"]
			return nil
		})
		if err != nil || (got != c.environment) != c.hidden || c.hidden && strings.Contains(got, "0123") {
			t.Errorf("%q for %d: %q, %v", c.environment, c.uid, got, err)
		}
	}
}

func TestTargets(t *testing.T) {
	s, _ := start(t, map[string]string{
		"a.target": "[Unit]\nDefaultDependencies=no\nRequires=b.target\nAfter=b.target\n",
		"b.target": "[Unit]\nDefaultDependencies=no\n",
		"c.target": "[Unit]\nDefaultDependencies=no\nConflicts=a.target\n",
	})
	if r, err := ask(t, s, control.Start, "a.target", "missing.target"); err != nil || len(r) != 2 {
		t.Fatalf("%v, %v", r, err)
	}
	if a := show(t, s, "b.target").Active; a != "active" {
		t.Errorf("b.target is %s", a)
	}
	if r, err := ask(t, s, control.Start, "c.target"); err != nil || r[0].Job != "done" {
		t.Fatalf("%v, %v", r, err)
	}
	if a := show(t, s, "a.target").Active; a != "inactive" {
		t.Errorf("a.target is %s after its opposite was started", a)
	}
	if r, _ := ask(t, s, control.Stop, "nowhere.target"); r[0].Error == nil || r[0].Error.Code != control.NotLoaded {
		t.Errorf("stop of an unknown unit: %+v", r)
	}
}

// What is up already is not told to have started again, nor what is down to
// have stopped.
func TestNothingToDoIsNotTold(t *testing.T) {
	s, log := start(t, map[string]string{"a.target": "[Unit]\nDescription=Alpha\nDefaultDependencies=no\n"})
	for _, verb := range []control.Verb{control.Start, control.Start, control.Stop, control.Stop} {
		if r, err := ask(t, s, verb, "a.target"); err != nil || r[0].Job != "done" {
			t.Fatalf("%s: %v, %v", verb, r, err)
		}
	}
	for _, want := range []string{"Reached target Alpha.", "Stopped target Alpha."} {
		if n := strings.Count(strings.Join(log.text, "\n"), want); n != 1 {
			t.Errorf("%q was told %d times, want once: %q", want, n, log.text)
		}
	}
}

// faulty is a driver that panics.
type faulty struct{ passive }

func (f *faulty) start() error { panic("a fault in the code for this unit") }

func TestPanicStaysWithItsUnit(t *testing.T) {
	s, log := start(t, map[string]string{
		"bad.target":  "[Unit]\nDefaultDependencies=no\n",
		"good.target": "[Unit]\nDefaultDependencies=no\nWants=bad.target\n",
	})
	if err := s.Call(context.Background(), func() {
		l := s.require("bad.target")
		l.d = &faulty{passive{s: s, l: l, supported: true, word: "active"}}
		s.request(transaction.Start, "good.target", "test")
	}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); show(t, s, "good.target").Active != "active"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the other unit did not start")
		}
	}
	if !log.has("bad.target: Internal fault, contained: a fault in the code for this unit") {
		t.Errorf("the journal has %q", log.text)
	}
	if r, err := ask(t, s, control.ResetFailed); err != nil || len(r) != 0 {
		t.Errorf("%v, %v", r, err)
	}
}

func TestRequestsThatCannotBe(t *testing.T) {
	s, _ := start(t, map[string]string{
		"manual.target": "[Unit]\nDefaultDependencies=no\nRefuseManualStart=yes\n",
		"x.timer":       "[Timer]\nOnBootSec=1\n",
		"x.target":      "[Unit]\nDefaultDependencies=no\n",
	})
	tests := []struct {
		verb control.Verb
		unit string
		code control.Code
	}{
		{control.Start, "missing.service", control.NotFound},
		{control.Start, "manual.target", control.Refused},
		{control.Reload, "x.target", control.NotApplicable},
		{control.Isolate, "x.target", control.Refused},
	}
	for _, tt := range tests {
		r, err := ask(t, s, tt.verb, tt.unit)
		if err != nil || len(r) != 1 || r[0].Error == nil || r[0].Error.Code != tt.code {
			t.Errorf("%s %s: %+v, %v, want %s", tt.verb, tt.unit, r, err, tt.code)
		}
	}
	if _, err := ask(t, s, "nonsense"); err == nil {
		t.Error("no error for an unknown verb")
	}
}
