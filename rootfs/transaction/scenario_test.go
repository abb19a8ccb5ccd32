package transaction

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/coracle-os/coracle/rootfs/unit/load"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// TestScenarios runs testdata/*.txt: unit files, and a script of lines
//
//	state UNIT STATE           the unit is in that state
//	queue UNIT TYPE [irreversible]
//	plan TYPE UNIT [MODE]      what comes out is compared with what follows
//
// A plan is written as one line for each job, in order, with its reason; then
// "cancel UNIT", "warning: ..." and "error KIND: ..." lines.
func TestScenarios(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, p := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(p), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			a := txtar.Parse(data)
			if have := scenario(t, a); *update {
				a.Files[len(a.Files)-1].Data = []byte(have)
				if err := os.WriteFile(p, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func scenario(t *testing.T, a *txtar.Archive) string {
	fsys := fstest.MapFS{}
	script := ""
	for _, f := range a.Files {
		if f.Name == "script" {
			script = string(f.Data)
			continue
		}
		fsys["etc/systemd/system/"+f.Name] = &fstest.MapFile{Data: f.Data}
	}
	set, err := load.NewSet(load.New(fsys, func() specifier.Host { return specifier.Host{} }))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		if f.Name != "script" {
			set.Get(f.Name)
		}
	}
	states, queued := map[string]State{}, map[string]Job{}
	w := World{Graph: set.Graph(), State: func(n string) State {
		if s, ok := states[n]; ok {
			return s
		}
		return Inactive
	}, Queued: queued}
	var have, want strings.Builder
	for _, line := range strings.SplitAfter(script, "\n") {
		f := strings.Fields(line)
		want.WriteString(line)
		switch {
		case len(f) == 0 || f[0] != "state" && f[0] != "queue" && f[0] != "plan":
			continue
		case f[0] == "state":
			states[f[1]] = State(f[2])
		case f[0] == "queue":
			queued[f[1]] = Job{Unit: f[1], Type: Type(f[2]), Irreversible: len(f) > 3}
		}
		have.WriteString(line)
		if f[0] == "plan" {
			req := Request{Type: Type(f[1]), Unit: f[2]}
			if len(f) > 3 {
				req.Mode = Mode(f[3])
			}
			have.WriteString(render(w, req))
		}
	}
	if d := cmp.Diff(want.String(), have.String()); d != "" && !*update {
		t.Errorf("(-want +have):\n%s", d)
	}
	return have.String()
}

func render(w World, req Request) string {
	p, err := Build(w, req)
	var b strings.Builder
	for _, j := range p.Jobs {
		fmt.Fprintf(&b, "  %s %s (%s)\n", j.Type, j.Unit, j.Reason)
	}
	for _, n := range p.Cancel {
		fmt.Fprintf(&b, "  cancel %s\n", n)
	}
	for _, s := range p.Warnings {
		fmt.Fprintf(&b, "  warning: %s\n", s)
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		fmt.Fprintf(&b, "  error %s: %s\n", e.Kind, e.Text)
	} else if err != nil {
		fmt.Fprintf(&b, "  error: %s\n", err)
	}
	return b.String()
}

// TestLongCycle plans a cycle of a thousand units: an answer, and soon.
func TestLongCycle(t *testing.T) {
	const n = 1000
	fsys := fstest.MapFS{}
	for i := range n {
		text := fmt.Sprintf("[Unit]\nDefaultDependencies=no\nWants=u%d.target\nAfter=u%d.target\n", (i+1)%n, (i+1)%n)
		fsys[fmt.Sprintf("etc/systemd/system/u%d.target", i)] = &fstest.MapFile{Data: []byte(text)}
	}
	set, err := load.NewSet(load.New(fsys, func() specifier.Host { return specifier.Host{} }))
	if err != nil {
		t.Fatal(err)
	}
	set.Get("u0.target")
	p, err := Build(World{Graph: set.Graph()}, Request{Type: Start, Unit: "u0.target"})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Jobs) < 1 || len(p.Jobs) >= n || len(p.Warnings) == 0 {
		t.Errorf("%d jobs, %d warnings", len(p.Jobs), len(p.Warnings))
	}
}
