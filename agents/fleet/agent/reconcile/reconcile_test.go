package reconcile

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/coracle-os/coracle/agents/fleet"
)

func TestSteps(t *testing.T) {
	a, err := txtar.ParseFile("testdata/steps.txtar")
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, f := range a.Files {
		parts[f.Name] = string(f.Data)
		name, last := strings.CutSuffix(f.Name, ".steps")
		if !last {
			continue
		}
		t.Run(name, func(t *testing.T) {
			got := Describe(Plan(parseWants(t, parts[name+".want"]), parseHaves(t, parts[name+".have"])))
			if d := cmp.Diff(strings.TrimSpace(string(f.Data)), got); d != "" {
				t.Error(d)
			}
		})
	}
}

func parseWants(t *testing.T, text string) (list []Want) {
	t.Helper()
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		w := Want{Unit: f[0], Hash: f[1], State: fleet.JobState(f[2])}
		if len(f) > 3 {
			w.Down, w.Why = true, strings.Join(f[4:], " ")
		}
		list = append(list, w)
	}
	return list
}

func parseHaves(t *testing.T, text string) (list []Have) {
	t.Helper()
	for line := range strings.Lines(text) {
		f := strings.Fields(strings.ReplaceAll(line, "-\n", "\n"))
		h := Have{Unit: f[0], File: strings.Trim(f[1], "-"), Active: f[2]}
		if len(f) > 3 {
			h.Began = f[3]
		}
		list = append(list, h)
	}
	return list
}

// world is a PID 1 of the simplest kind, which a test can disturb.
type world map[string]*Have

// do carries out one step as the agent does.
func (w world) do(s Step) {
	h := w[s.Unit]
	if h == nil && s.Unit != "" {
		h = &Have{Unit: s.Unit}
		w[s.Unit] = h
	}
	switch s.Kind {
	case Unload:
		h.File, h.Began, h.Active = "", "", "inactive"
	case Load:
		h.File = s.Hash
	case Stop:
		h.Active, h.Began = "deactivating", ""
	case Start:
		h.Active, h.Began = "active", s.Hash
	case Forget:
		h.Began = ""
	}
}

// TestGetsThere checks from any state, with steps that fail at random, that the
// steps end where they should and that no unit is touched that is as it should
// be.
func TestGetsThere(t *testing.T) {
	pick := func(r *rand.Rand, words ...string) string { return words[r.IntN(len(words))] }
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 2))
		w, want := world{}, map[string]Want{}
		for n := range 4 {
			name := fmt.Sprintf("u%d.service", n)
			w[name] = &Have{Unit: name, File: pick(r, "", "1", "2"), Active: pick(r, "", "active", "activating", "deactivating", "failed", "inactive"), Began: pick(r, "", "1", "2")}
			if state := pick(r, "", "inactive", "loaded", "launched"); state != "" {
				want[name] = Want{Unit: name, Hash: pick(r, "1", "2"), State: fleet.JobState(state), Down: r.IntN(5) == 0}
			}
		}
		settled := false
		for round := 0; !settled; round++ {
			if round > 50 {
				t.Fatalf("seed %d: no end: %v", seed, want)
			}
			var wants []Want
			var haves []Have
			for _, x := range want {
				wants = append(wants, x)
			}
			for _, h := range w {
				haves = append(haves, *h)
			}
			steps := Plan(wants, haves)
			settled = len(steps) == 0
			for _, s := range steps {
				if r.IntN(4) == 0 {
					continue // it failed
				}
				w.do(s)
				if s.Kind == Forget && w[s.Unit].File == "" {
					delete(want, s.Unit)
				}
			}
			for _, h := range w {
				if h.Active == "deactivating" {
					h.Active, settled = "inactive", false
				}
			}
		}
		for name, h := range w {
			x, placed := want[name]
			switch {
			case !placed && (h.File != "" || h.Began != ""):
				t.Fatalf("seed %d: %s is left over: %+v", seed, name, *h)
			case placed && x.Down && h.up():
				t.Fatalf("seed %d: %s runs though it must not: %+v", seed, name, *h)
			case placed && !x.Down && h.File != x.Hash:
				t.Fatalf("seed %d: %s has content %q, want %q", seed, name, h.File, x.Hash)
			case placed && !x.Down && x.State == fleet.Launched && h.Began != x.Hash:
				t.Fatalf("seed %d: %s was not started: %+v", seed, name, *h)
			}
		}
	}
}
