package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlan checks what every step promises: a name of its own and a reason.
func TestPlan(t *testing.T) {
	seen := map[string]bool{}
	for _, step := range plan() {
		if step.name == "" || step.reason == "" || step.do == nil || seen[step.name] {
			t.Errorf("step %+v is not complete or not the only one of its name", step)
		}
		seen[step.name] = true
	}
}

// TestNotFirstProcess runs the program as anybody could: it must not mount,
// wait or restart anything.
func TestNotFirstProcess(t *testing.T) {
	program := filepath.Join(t.TempDir(), "init")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(program).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !bytes.Contains(out, []byte("first process")) {
		t.Errorf("got %v and %q, want exit code 2 and a sentence", err, out)
	}
}

func TestShell(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	table := commands()
	table["fail"] = command{"fails", func(io.Writer, []string) error { return errors.New("it failed") }}
	var out strings.Builder
	in := "\nhelp\ncat " + file + "\ncat /does/not/exist\nls " + filepath.Dir(file) + "\nfail\nrm -rf /\nexit\ncat " + file + "\n"
	repl(strings.NewReader(in), &out, table)
	for text, count := range map[string]int{
		"content\n":               1,
		"no such file":            1,
		" 8 file":                 1,
		"it failed":               1,
		`"rm" is not a command`:   1,
		"the disks and their":     1,
		"stage1# ":                8,
		"list directories":        1,
		"modprobe NAME":           1,
		"TYPE DEVICE DIRECTORY":   1,
		"the kernel's log":        1,
		"show files":              1,
		"stage1# stage1# stage1#": 0,
	} {
		if got := strings.Count(out.String(), text); got != count {
			t.Errorf("%q is there %d times, want %d:\n%s", text, got, count, &out)
		}
	}
}

func TestConsole(t *testing.T) {
	directory := t.TempDir()
	file := func(name string) *os.File {
		f, err := os.Create(filepath.Join(directory, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	early := &console{out: file("early")}
	early.Info("hello")
	late := &console{out: file("console"), kmsg: file("kmsg")}
	late.Notice("careful")
	late.Failure(errors.New("first\nsecond"))
	for name, want := range map[string]string{
		"early":   "coracle: hello\n",
		"kmsg":    "<5>coracle: careful\n<7>coracle: boot failed: first\n<7>coracle: second\n",
		"console": "\n*** coracle: boot failed: first\nsecond\n",
	} {
		got, err := os.ReadFile(filepath.Join(directory, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
