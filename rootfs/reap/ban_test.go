package reap

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// module is the path that our own packages begin with.
const module = "github.com/coracle-os/coracle/"

// TestNobodyElseWaits checks every package of this module that PID 1 runs on
// its own paths: none may import os/exec, whose Wait would race with the
// reaper, nor call any other function that waits for a child.
func TestNobodyElseWaits(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}}\t{{.Dir}}\t{{join .Imports \",\"}}", module+"rootfs/pid1").Output()
	if err != nil {
		t.Fatalf("list the packages of PID 1: %v", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if !strings.HasPrefix(f[0], module) {
			continue
		}
		seen++
		if strings.Contains(","+f[2]+",", ",os/exec,") {
			t.Errorf("%s imports os/exec, and PID 1 runs it: start processes with rootfs/spawn through reap.Reaper.Start", f[0])
		}
		if f[0] != module+"rootfs/reap" {
			waits(t, f[1])
		}
	}
	if seen < 10 {
		t.Errorf("only %d packages were looked at", seen)
	}
}

// waits reports calls that wait for a child in the package in dir.
func waits(t *testing.T, dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	banned := map[string]bool{"syscall.Wait4": true, "unix.Wait4": true, "unix.Waitid": true, "os.StartProcess": true, "os.FindProcess": true}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && banned[x.Name+"."+s.Sel.Name] {
				t.Errorf("%s: %s.%s: only rootfs/reap may wait for children", set.Position(s.Pos()), x.Name, s.Sel.Name)
			}
			return true
		})
	}
}
