package units

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/control"
)

// pid1 is the other end of the control socket: it notes what it is asked and
// knows the units that are named.
type pid1 struct {
	mu    sync.Mutex
	asked []string
	knows map[string]bool
}

func (p *pid1) Handle(ctx context.Context, _ control.Peer, req control.Request, send func(control.Response) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, strings.TrimSpace(string(req.Verb)+" "+strings.Join(req.Units, " ")))
	if (req.Verb == control.Start || req.Verb == control.Stop) && (!req.Flags.NoBlock || req.Flags.Mode != "replace") {
		return control.Errorf(control.BadRequest, "a job that is waited for")
	}
	for _, u := range req.Units {
		r := control.Response{Results: []control.Result{{Unit: u, Job: "queued"}}}
		if !p.knows[u] {
			r.Results[0] = control.Result{Unit: u, Error: control.Errorf(control.NotLoaded, "Unit %s not loaded.", u)}
		}
		if req.Verb == control.Show {
			r = control.Response{Units: []control.Unit{{Name: u, Load: "loaded", Active: "active", Sub: "running", Job: &control.Job{ID: 1}}}}
		}
		if err := send(r); err != nil {
			return err
		}
	}
	if req.Verb == control.Watch {
		for _, r := range []control.Response{{Units: []control.Unit{{Name: "a.service", Active: "inactive"}}}, {Synced: true}, {Units: []control.Unit{{Name: "a.service", Active: "active"}}}} {
			if err := send(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func newSystem(t *testing.T) (System, *pid1) {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"usr/lib/systemd/system/multi-user.target": "[Unit]\n", "usr/lib/systemd/system/docker.service": "[Service]\nExecStart=/bin/docker\n[Install]\nWantedBy=multi-user.target\n",
	} {
		at := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := &pid1{knows: map[string]bool{"a.service": true}}
	l, err := control.Listen(filepath.Join(root, "private"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&control.Server{Handler: p, Log: slog.Default()}).Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	return System{Control: control.Client{Path: filepath.Join(root, "private")}, Root: root}, p
}

func none(t *testing.T, failed map[string]error) {
	t.Helper()
	for unit, err := range failed {
		t.Errorf("%s: %v", unit, err)
	}
}

// state is what "systemctl is-enabled" says.
func (s System) state(t *testing.T, unit string) string {
	t.Helper()
	i, err := s.installer()
	if err != nil {
		t.Fatal(err)
	}
	state, err := i.State(unit)
	if err != nil {
		return err.Error()
	}
	return string(state)
}

func links(t *testing.T, s System) map[string]string {
	t.Helper()
	out := map[string]string{}
	dir := filepath.Join(s.Root, "run/systemd/system")
	filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSymlink != 0 {
			to, _ := os.Readlink(p)
			out[strings.TrimPrefix(p, dir+"/")] = to
		}
		return nil
	})
	return out
}

func TestLoadAndUnload(t *testing.T) {
	s, p := newSystem(t)
	const install = "[Service]\nExecStart=/bin/b\n\n[Install]\nWantedBy=multi-user.target\nAlso=docker.service a.service\nAlias=other.service\n"
	texts := map[string]string{"a.service": "[Service]\nExecStart=/bin/a\n", "b.service": install, "t@1.service": "[Service]\nExecStart=/bin/t\n", "docker.service": "[Service]\nExecStart=/bin/ours\n"}
	none(t, s.Load(texts))
	none(t, s.Load(texts)) // again changes nothing
	files, err := s.Files()
	if d := cmp.Diff(texts, files); d != "" || err != nil {
		t.Errorf("files: %s, %v", d, err)
	}
	for unit, want := range map[string]string{"a.service": "linked-runtime", "b.service": "enabled-runtime", "t@1.service": "linked-runtime"} {
		if got := s.state(t, unit); got != want {
			t.Errorf("%s is %s, want %s", unit, got, want)
		}
	}
	none(t, s.Unload(t.Context(), []string{"b.service", "docker.service", "never.service"}))
	want := map[string]string{"a.service": "/run/fleet/units/a.service", "t@1.service": "/run/fleet/units/t@1.service"}
	if d := cmp.Diff(want, links(t, s)); d != "" {
		t.Errorf("links after unload: %s", d)
	}
	if got := s.state(t, "docker.service"); got != "disabled" {
		t.Errorf("the machine's own unit is %s", got)
	}
	if d := cmp.Diff([]string{"reset-failed b.service", "reset-failed docker.service", "reset-failed never.service"}, p.asked); d != "" {
		t.Error(d)
	}
}

// TestNotLoaded tries units that cannot be: each has its error, the others are
// loaded, and no file is left of those.
func TestNotLoaded(t *testing.T) {
	s, _ := newSystem(t)
	bad := map[string]string{"../../etc/passwd": "x", "nosuffix": "[Service]\n", "t@.service": "[Install]\nWantedBy=multi-user.target\n", "c.service": "[Install]\nAlias=c.timer\n"}
	texts := map[string]string{"good.service": "[Service]\nExecStart=/bin/a\n"}
	for unit, text := range bad {
		texts[unit] = text
	}
	failed := s.Load(texts)
	for unit := range bad {
		if failed[unit] == nil {
			t.Errorf("%s was loaded", unit)
		}
	}
	files, err := s.Files()
	if len(failed) != len(bad) || len(files) != 1 || files["good.service"] == "" || err != nil {
		t.Errorf("%v; files %v, %v", failed, files, err)
	}
}

func TestJobs(t *testing.T) {
	s, p := newSystem(t)
	none(t, s.Start(t.Context(), []string{"a.service"}))
	none(t, s.Stop(t.Context(), []string{"a.service", "gone.service"})) // what is not there is stopped
	failed := s.Start(t.Context(), []string{"a.service", "gone.service"})
	if e := (*control.Error)(nil); len(failed) != 1 || !errors.As(failed["gone.service"], &e) {
		t.Errorf("start of what is not there: %v", failed)
	}
	if err := s.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Kill(t.Context(), []string{"a.service"}); err != nil {
		t.Error(err)
	}
	states, err := s.Show(t.Context(), []string{"a.service"})
	if err != nil || len(states) != 1 || !states[0].Job || states[0].Down() {
		t.Errorf("show: %+v, %v", states, err)
	}
	if got := strings.Join(p.asked, ", "); got != "start a.service, stop a.service gone.service, start a.service gone.service, daemon-reload, kill a.service, show a.service" {
		t.Error(got)
	}
	s.Control.Path = "/nonexistent"
	if failed := s.Start(t.Context(), []string{"a.service", "b.service"}); len(failed) != 2 {
		t.Errorf("without PID 1: %v", failed)
	}
}

func TestWatch(t *testing.T) {
	s, _ := newSystem(t)
	var got []string
	err := s.Watch(t.Context(), func(states []State, synced bool) {
		line := "first"
		if synced {
			line = "then"
		}
		for _, u := range states {
			line += " " + u.Active
		}
		got = append(got, line)
	})
	if d := cmp.Diff([]string{"first inactive", "then", "then active"}, got); d != "" || err == nil {
		t.Errorf("%s, %v", d, err)
	}
}
