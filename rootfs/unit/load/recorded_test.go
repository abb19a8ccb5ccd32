package load

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/envfile"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/property"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// recorded is a case that was run on real systemd 252; testdata/recorded.jsonl
// has one on each line. Only what loading decides is checked here: which
// program would run with which words, which settings hold, which warnings are
// given.
type recorded struct {
	Name  string
	Files map[string]json.RawMessage
	Steps []struct {
		Do, Unit, ID string
		RC           *int
		Props        map[string]string
		Argv         [][]string
		Expect       json.RawMessage
		Match        []string
		NoMatch      []string `json:"nomatch"`
	}
	Needs string
}

func readRecorded(t *testing.T) []recorded {
	t.Helper()
	f, err := os.Open("testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []recorded
	for s := bufio.NewScanner(f); s.Scan(); {
		var c recorded
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	return list
}

func (c recorded) fs(t *testing.T) fstest.MapFS {
	t.Helper()
	m := fstest.MapFS{"usr/lib/systemd/system/sysinit.target": {Data: []byte("[Unit]\nDescription=x\n")}}
	for p, raw := range c.Files {
		var text string
		var file struct{ Link, Content string }
		switch {
		case json.Unmarshal(raw, &text) == nil:
			m[strings.TrimPrefix(p, "/")] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		case json.Unmarshal(raw, &file) != nil:
			t.Fatalf("file %s: %s", p, raw)
		case file.Link != "":
			m[strings.TrimPrefix(p, "/")] = &fstest.MapFile{Data: []byte(file.Link), Mode: 0o777 | fs.ModeSymlink}
		default:
			m[strings.TrimPrefix(p, "/")] = &fstest.MapFile{Data: []byte(file.Content), Mode: 0o644}
		}
	}
	return m
}

var testHost = specifier.Host{MachineID: "0123456789abcdef0123456789abcdef", BootID: strings.Repeat("b", 32), Hostname: "boxhost",
	Kernel: "6.12.0", Arch: "x86-64", Shell: "/bin/bash"}

// run is what a unit's commands would do: the words that "probe argv" records
// and the lines that "probe do" logs, by the ID that they are given.
type run struct {
	argv map[string][][]string
	logs map[string][]string
}

func (r *run) unit(fsys fs.FS, u *unit.Unit) {
	s := u.Service
	if s == nil {
		return
	}
	for _, list := range [][]unit.Command{s.ExecCondition, s.ExecStartPre, s.ExecStart, s.ExecStartPost} {
		for _, c := range list {
			env := slices.Clone(s.Environment)
			for _, f := range s.EnvironmentFiles {
				data, err := fs.ReadFile(fsys, strings.TrimPrefix(f.Path, "/"))
				if err == nil {
					env = append(env, envfile.Parse(data)...)
				}
			}
			r.command(fsys, c.Expand(env))
		}
	}
}

func (r *run) command(fsys fs.FS, argv []string) {
	if len(argv) < 3 {
		return
	}
	switch id := argv[2]; argv[1] {
	case "argv":
		r.argv[id] = append(r.argv[id], append([]string{}, argv[3:]...))
	case "do":
		for _, w := range argv[3:] {
			if p, e, ok := strings.Cut(strings.TrimPrefix(w, "envfile:"), ":"); ok && strings.HasPrefix(w, "envfile:") {
				fsys.(fstest.MapFS)[strings.TrimPrefix(p, "/")] = &fstest.MapFile{Data: []byte(e)}
			} else if w != "wait" && w != "ready" && !strings.Contains(w, ":") {
				r.logs[id] = append(r.logs[id], w)
			}
		}
	}
}

func TestRecordedOnSystemd(t *testing.T) {
	for _, c := range readRecorded(t) {
		t.Run(c.Name, func(t *testing.T) {
			fsys := c.fs(t)
			set, err := NewSet(New(fsys, func() specifier.Host { return testHost }))
			if err != nil {
				t.Fatal(err)
			}
			r := run{map[string][][]string{}, map[string][]string{}}
			for _, step := range c.Steps {
				if step.Unit != "" {
					step.Unit = name.Mangle(step.Unit, "service")
				}
				switch step.Do {
				case "start":
					u := set.Get(step.Unit)
					want := map[unit.LoadState]int{unit.Loaded: 0, unit.NotFound: 5}[u.LoadState]
					if u.LoadState != unit.Loaded && want == 0 {
						want = 1
					}
					if step.RC != nil && *step.RC != want && (want != 0 || !runTime(c)) {
						t.Fatalf("start %s: %s (%s), want exit code %d", step.Unit, u.LoadState, u.LoadError, *step.RC)
					}
					r.unit(fsys, u)
				case "show":
					checkProps(t, set, step.Unit, step.Props)
				case "rec":
					if step.Argv != nil {
						if d := cmp.Diff(step.Argv, r.argv[step.ID]); d != "" && !runTime(c) {
							t.Errorf("argv of %s (-systemd +ours):\n%s", step.ID, d)
						}
					}
				case "journal":
					checkWarnings(t, set, step.Match, step.NoMatch)
				}
				if runTime(c) {
					break
				}
			}
		})
	}
}

// runTime tells of cases that are about what happens after loading, so that
// only their first step says something here.
func runTime(c recorded) bool {
	for _, group := range []string{"socket-", "mount-", "timer-", "path-", "cgroup-", "type-", "exec-", "load-removed"} {
		if strings.HasPrefix(c.Name, group) {
			return true
		}
	}
	return false
}

// loadProps are the properties that loading decides.
var loadProps = []string{"LoadState", "Id", "Description", "Type", "RemainAfterExit", "TimeoutStartUSec", "TimeoutStopUSec",
	"LimitCPU", "LimitCORE", "LimitMEMLOCK", "LimitNPROC"}

func checkProps(t *testing.T, set *Set, unitName string, want map[string]string) {
	t.Helper()
	u := set.Get(unitName)
	have := property.Of(u, set.Graph())
	for k, v := range want {
		if slices.Contains(loadProps, k) && have[k] != v {
			t.Errorf("%s: %s=%s, want %s (%s)", unitName, k, have[k], v, u.LoadError)
		}
	}
}

func checkWarnings(t *testing.T, set *Set, match, noMatch []string) {
	t.Helper()
	var b strings.Builder
	for _, u := range set.All() {
		for _, w := range u.Warnings {
			b.WriteString(w.String() + "\n")
		}
		b.WriteString(u.LoadError + "\n")
	}
	for _, m := range match {
		if !regexp.MustCompile(m).MatchString(b.String()) {
			t.Errorf("no warning matches %q in:\n%s", m, b.String())
		}
	}
	for _, m := range noMatch {
		if regexp.MustCompile(m).MatchString(b.String()) {
			t.Errorf("a warning matches %q in:\n%s", m, b.String())
		}
	}
}
