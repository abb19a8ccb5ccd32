package gobuild

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// module writes a module with a program into a new directory below parent.
func module(t *testing.T, parent string) string {
	t.Helper()
	dir := filepath.Join(parent, "m")
	for name, text := range map[string]string{
		"go.mod":        "module example.org/m\n\ngo 1.26\n",
		"main.go":       "package main\n\nimport \"fmt\"\n\nvar version = \"none\"\n\nfunc main() { fmt.Print(version, extra) }\n",
		"plain.go":      "//go:build !tagged\n\npackage main\n\nconst extra = \"\"\n",
		"tagged.go":     "//go:build tagged\n\npackage main\n\nconst extra = \" tagged\"\n",
		"main_test.go":  "package main\n",
		"testdata/x":    "x",
		"data/file.txt": "embedded",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBuildIsReproducible(t *testing.T) {
	var programs []string
	for range 2 {
		dir := module(t, t.TempDir())
		out := filepath.Join(t.TempDir(), "program")
		p := Program{Name: "m", Dir: dir, Package: ".", Tags: []string{"tagged"}, LDFlags: "-X main.version=7"}
		if err := Build(t.Context(), p, out); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), dir) {
			t.Errorf("the program has the folder it was built in: %s", dir)
		}
		programs = append(programs, string(content))
		if got, err := exec.Command(out).Output(); err != nil || string(got) != "7 tagged" {
			t.Errorf("the program says %q, %v", got, err)
		}
	}
	if programs[0] != programs[1] {
		t.Error("the same sources in different folders gave different programs")
	}
}

func TestBuildFailures(t *testing.T) {
	dir := module(t, t.TempDir())
	err := Build(t.Context(), Program{Name: "m", Dir: dir, Package: "./nothing"}, filepath.Join(t.TempDir(), "m"))
	if err == nil || !strings.Contains(err.Error(), "compile m") || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("error = %v, want one that names program and package", err)
	}
	err = Build(t.Context(), Program{Name: "m", Dir: t.TempDir(), Package: "."}, filepath.Join(t.TempDir(), "m"))
	if err == nil || !strings.Contains(err.Error(), "is the component's module right in the recipe?") {
		t.Errorf("error = %v, want one that doubts the module", err)
	}
}

func TestSourceDigest(t *testing.T) {
	dir := module(t, t.TempDir())
	digest := func() string {
		t.Helper()
		sum, err := SourceDigest(dir, func(path string) bool { return path == "skipped" })
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	for _, test := range []struct {
		path    string
		changes bool
	}{
		{"main_test.go", false}, {"testdata/x", false}, {".hidden", false}, {"skipped/x.go", false},
		{"main.go", true}, {"data/file.txt", true}, {"data/new.txt", true}, {"asm.s", true},
	} {
		before := digest()
		path := filepath.Join(dir, test.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("changed"), 0o644); err != nil {
			t.Fatal(err)
		}
		if changed := digest() != before; changed != test.changes {
			t.Errorf("changing %s changes the digest: %v, want %v", test.path, changed, test.changes)
		}
	}
}

func TestModules(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Modules(self); err != nil {
		t.Error(err)
	}
	if _, err := Modules("/etc/passwd"); err == nil {
		t.Error("a file that is no program has modules")
	}
}
