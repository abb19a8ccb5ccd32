package decide

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

var update = flag.Bool("update", false, "write what Decide says into testdata; read it before you commit it")

// now is the time of every scenario; Since in states is seconds before it.
var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// TestScenarios plays testdata/*.txt. A scenario is a txtar archive of steps:
//
//	-- machines --   ID [KEY=VALUE...] [cpu=2] [memory=4G] [draining=WHY]
//	-- units --      NAME [inactive|loaded|launched] [hash=H] [rollout=PARALLEL,SECONDS,PREVIOUS] [; OPTION=VALUE]...
//	-- placements -- UNIT MACHINE [HASH] [inactive|loaded|launched]
//	-- states --     UNIT MACHINE ACTIVE [HASH] [SECONDS]
//	-- apply --      the tasks are written, and the machines do their work
//	-- decide --     what Decide says: tasks, then "?" and why units are not placed
//	-- settle --     the same till nothing is left to do
//	-- plan --       units as above, then "->" and what Plan says
//	-- rebalance --  what Rebalance says
//
// A step replaces what an earlier one of its name said; "+" and "-" before a
// unit's or machine's line add and take one.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			play := player{t: t, s: fleet.Snapshot{Now: now}}
			for i := range archive.Files {
				play.step(&archive.Files[i])
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// player is a scenario under way.
type player struct {
	t     *testing.T
	s     fleet.Snapshot
	tasks []fleet.Task // of the last decision
}

func (p *player) step(f *txtar.File) {
	p.t.Helper()
	name, _, _ := strings.Cut(f.Name, " ") // words after it are for the reader
	lines := strings.FieldsFunc(string(f.Data), func(r rune) bool { return r == '\n' })
	switch name {
	case "machines":
		p.s.Machines = edit(p, p.s.Machines, lines, p.machine, func(m fleet.Machine) string { return m.ID })
	case "units":
		p.s.Units = edit(p, p.s.Units, lines, p.unit, func(u fleet.Unit) string { return u.Name })
	case "placements":
		p.s.Placements = edit(p, p.s.Placements, lines, p.placement, func(x fleet.Placement) string { return x.Unit + " " + x.Machine })
	case "states":
		p.s.States = edit(p, p.s.States, lines, p.state, func(x fleet.UnitState) string { return x.Unit + " " + x.Machine })
	case "apply":
		p.s = *Apply(&p.s, p.tasks)
	case "decide":
		r := Decide(&p.s)
		p.tasks = r.Tasks
		p.expect(f, "", r)
	case "settle":
		next, r := settle(&p.s)
		p.s, p.tasks = *next, nil
		p.expect(f, "", r)
	case "plan":
		given, _, _ := bytes.Cut(f.Data, []byte("->\n"))
		units := edit(p, nil, strings.FieldsFunc(string(given), func(r rune) bool { return r == '\n' }), p.unit, func(u fleet.Unit) string { return u.Name })
		p.expect(f, string(given)+"->\n", Plan(&p.s, units))
	case "rebalance":
		p.tasks = Rebalance(&p.s)
		p.expect(f, "", Result{Tasks: p.tasks})
	default:
		p.t.Fatalf("no such step: %q", f.Name)
	}
}

// expect compares a result with a step's text.
func (p *player) expect(f *txtar.File, before string, r Result) {
	p.t.Helper()
	var text strings.Builder
	text.WriteString(before)
	for _, task := range r.Tasks {
		fmt.Fprintf(&text, "%-7s %s %s", task.Kind, task.Placement.Unit, task.Placement.Machine)
		if task.Kind == fleet.Place || task.Kind == fleet.Change {
			fmt.Fprintf(&text, " %s %s", task.Placement.Hash, task.Placement.State)
		}
		fmt.Fprintf(&text, ": %s\n", task.Reason)
	}
	for _, unit := range slices.Sorted(maps.Keys(r.Unplaced)) {
		fmt.Fprintf(&text, "? %s %s\n", unit, r.Unplaced[unit])
	}
	if !r.Again.IsZero() {
		fmt.Fprintf(&text, "again in %s\n", r.Again.Sub(now))
	}
	if *update {
		f.Data = []byte(text.String())
	} else if diff := cmp.Diff(strings.Split(string(f.Data), "\n"), strings.Split(text.String(), "\n")); diff != "" {
		p.t.Errorf("step %q:\n%s", f.Name, diff)
	}
}

// edit reads lines into a sorted list.
func edit[T any](p *player, list []T, lines []string, read func([]string) T, key func(T) string) []T {
	byKey := map[string]T{}
	if len(lines) > 0 && strings.ContainsRune("+-", rune(lines[0][0])) {
		for _, x := range list {
			byKey[key(x)] = x
		}
	}
	for _, line := range lines {
		sign := line[0]
		x := read(strings.Fields(strings.TrimLeft(line, "+- ")))
		byKey[key(x)] = x
		if sign == '-' {
			delete(byKey, key(x))
		}
	}
	var sorted []T
	for _, k := range slices.Sorted(maps.Keys(byKey)) {
		sorted = append(sorted, byKey[k])
	}
	return sorted
}

func (p *player) machine(words []string) fleet.Machine {
	m := fleet.Machine{ID: words[0], Metadata: map[string]string{}}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "cpu":
			m.CPU = p.requirements("a.service", "CPU="+value).CPU
		case "memory":
			m.Memory = p.requirements("a.service", "Memory="+value).Memory
		case "draining":
			m.Draining = value
		default:
			m.Metadata[key] = value
		}
	}
	return m
}

func (p *player) unit(words []string) fleet.Unit {
	line, section, _ := strings.Cut(strings.Join(words, " "), ";")
	words = strings.Fields(line)
	u := fleet.Unit{Name: words[0], Hash: "h1", Desired: fleet.Launched}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "hash":
			u.Hash = value
		case "rollout":
			parts := strings.Split(value, ",")
			parallel, _ := strconv.Atoi(parts[0])
			seconds, _ := strconv.Atoi(parts[1])
			u.Rollout = &fleet.Rollout{Parallel: parallel, WaitHealthy: time.Duration(seconds) * time.Second, Previous: parts[2]}
		default:
			u.Desired = fleet.JobState(key)
		}
	}
	u.Requirements = p.requirements(u.Name, strings.ReplaceAll(section, ";", "\n"))
	return u
}

func (p *player) requirements(name, section string) fleet.Requirements {
	p.t.Helper()
	f, err := unitfile.Parse([]byte("[X-Fleet]\n" + section + "\n"))
	if err != nil {
		p.t.Fatal(err)
	}
	req, _, err := f.Requirements(name)
	if err != nil {
		p.t.Fatal(err)
	}
	return req
}

func (p *player) placement(words []string) fleet.Placement {
	x := fleet.Placement{Unit: words[0], Machine: words[1], Hash: "h1", State: fleet.Launched}
	for _, word := range words[2:] {
		if state := fleet.JobState(word); state.Valid() {
			x.State = state
		} else {
			x.Hash = word
		}
	}
	return x
}

func (p *player) state(words []string) fleet.UnitState {
	if len(words) < 3 {
		words = append(words, "active") // a line that takes one away
	}
	x := fleet.UnitState{Unit: words[0], Machine: words[1], Active: words[2], Hash: "h1", Since: now.Add(-time.Hour)}
	for _, word := range words[3:] {
		if seconds, err := strconv.Atoi(word); err == nil {
			x.Since = now.Add(-time.Duration(seconds) * time.Second)
		} else {
			x.Hash = word
		}
	}
	return x
}
