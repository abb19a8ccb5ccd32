package ctl

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what comes out into testdata")

// TestScripts runs testdata/*.txt: files, and a script whose lines are
//
//	$ fleetctl ARGUMENT...   in the files' directory; then what comes out
//	$ unordered fleetctl ... the same, for lines that come in any order and notes on the way
//	$ until WORD fleetctl ... again until standard output has the word; nothing else is shown
//	$ write NAME TEXT        makes a file; \n in the text is a newline
//	$ input TEXT             what the next call reads
//	$ env NAME=VALUE         for the calls that follow
//
// What comes out is standard output, standard error with "! " before each
// line, and "exit N" unless that is 0; reasons of package decide are cut. The world has three machines.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, p := range paths {
		p, err := filepath.Abs(p)
		must(t, err)
		t.Run(strings.TrimSuffix(filepath.Base(p), ".txt"), func(t *testing.T) {
			archive, err := txtar.ParseFile(p)
			must(t, err)
			want := string(archive.Comment)
			have := runScript(t, newWorld(t).three(), archive)
			if *update {
				archive.Comment = []byte(have)
				must(t, os.WriteFile(p, txtar.Format(archive), 0o644))
			}
			if d := cmp.Diff(want, have); d != "" && !*update {
				t.Errorf("-want +have:\n%s", d)
			}
		})
	}
}

func runScript(t *testing.T, w *world, archive *txtar.Archive) string {
	for _, f := range archive.Files {
		w.file(f.Name, string(f.Data))
	}
	t.Chdir(w.dir)
	var b strings.Builder
	for line := range strings.Lines(string(archive.Comment)) {
		if strings.HasPrefix(line, "#") {
			b.WriteString(line)
			continue
		}
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
		if !ok {
			continue
		}
		b.WriteString(line)
		verb, rest, _ := strings.Cut(command, " ")
		switch verb {
		case "write":
			name, text, _ := strings.Cut(rest, " ")
			w.file(name, strings.ReplaceAll(text, `\n`, "\n")+"\n")
		case "input":
			w.in = strings.ReplaceAll(rest, `\n`, "\n")
		case "env":
			name, value, _ := strings.Cut(rest, "=")
			w.env[name] = value
		case "fleetctl":
			out, errOut, code := w.fleetctl(strings.Fields(rest)...)
			b.WriteString(show(w, out, errOut, code))
		case "unordered":
			out, errOut, code := w.fleetctl(strings.Fields(rest)[1:]...)
			lines := slices.DeleteFunc(strings.SplitAfter(show(w, out, errOut, code), "\n"), func(s string) bool { return strings.Contains(s, "still there") })
			slices.Sort(lines)
			b.WriteString(strings.Join(lines, ""))
		case "until":
			word, rest, _ := strings.Cut(rest, " ")
			await(t, func() bool {
				out, _, _ := w.fleetctl(strings.Fields(rest)[1:]...)
				return strings.Contains(out, word)
			})
		default:
			t.Fatalf("unknown line %q", line)
		}
	}
	return b.String()
}

// decided begins reasons whose words are package decide's own business.
var decided = regexp.MustCompile(`(fits on none of \d+ machines: ).*`)

func show(w *world, out, errOut string, code int) string {
	var b strings.Builder
	b.WriteString(out)
	if out != "" && !strings.HasSuffix(out, "\n") {
		b.WriteString("(no newline)\n")
	}
	for line := range strings.Lines(errOut) {
		b.WriteString("! " + strings.TrimSuffix(line, "\n") + "\n")
	}
	if code != 0 {
		fmt.Fprintf(&b, "exit %d\n", code)
	}
	return decided.ReplaceAllString(strings.ReplaceAll(b.String(), w.dir, "DIR"), "$1...")
}

// await waits for something that comes about by itself.
func await(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come about")
		}
	}
}
