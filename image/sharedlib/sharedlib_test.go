package sharedlib

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/tree"
)

// compile makes a small world with the host's compiler: a program that needs
// liba in a directory of its own, which needs libb in the system's directory.
func compile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("gcc", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gcc %v: %v\n%s", args, err, out)
		}
	}
	for name, text := range map[string]string{
		"b.c": "int b(void) { return 2; }", "a.c": "int b(void); int a(void) { return b(); }",
		"main.c": "int a(void); int main(void) { return a(); }",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run("-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libb.so.1", "-o", "libb.so.1.2", "b.c")
	run("-shared", "-fPIC", "-nostdlib", "-Wl,-soname,liba.so", "-o", "liba.so", "a.c", "libb.so.1.2")
	run("-o", "main", "-Wl,-rpath,/usr/lib/app", "main.c", "liba.so", "-Wl,--unresolved-symbols=ignore-in-shared-libs")
	return dir
}

func file(t *testing.T, name, host string) tree.Entry {
	t.Helper()
	entry, err := tree.HostFile(name, 0o755, host)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

func TestClosure(t *testing.T) {
	dir := compile(t)
	main := file(t, "usr/bin/main", filepath.Join(dir, "main"))
	wanted, err := tree.New(main, tree.File("usr/bin/script", 0o755, []byte("#!/bin/sh\n"+strings.Repeat("# long\n", 20))))
	if err != nil {
		t.Fatal(err)
	}
	available, err := tree.New(
		tree.Symlink("lib", "usr/lib"), tree.Symlink("lib64", "usr/lib64"),
		main,
		tree.File("usr/lib64/ld-linux-x86-64.so.2", 0o755, []byte("loader")),
		tree.File("usr/lib/x86_64-linux-gnu/libc.so.6", 0o755, []byte("libc")),
		file(t, "usr/lib/app/liba.so", filepath.Join(dir, "liba.so")),
		tree.Symlink("usr/lib/x86_64-linux-gnu/libb.so.1", "libb.so.1.2"),
		file(t, "usr/lib/x86_64-linux-gnu/libb.so.1.2", filepath.Join(dir, "libb.so.1.2")),
		tree.File("usr/lib/x86_64-linux-gnu/libunused.so", 0o755, []byte("no")),
	)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Closure(wanted, available)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for entry := range got.All() {
		if !entry.Mode.IsDir() {
			names = append(names, entry.Path)
		}
	}
	slices.Sort(names)
	want := []string{
		"usr/lib/app/liba.so",
		"usr/lib/x86_64-linux-gnu/libb.so.1",
		"usr/lib/x86_64-linux-gnu/libb.so.1.2",
		"usr/lib/x86_64-linux-gnu/libc.so.6",
		"usr/lib64/ld-linux-x86-64.so.2",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("closure (-want +got):\n%s", diff)
	}
}

func TestMissingLibrariesAreAllReported(t *testing.T) {
	dir := compile(t)
	wanted, err := tree.New(file(t, "usr/bin/main", filepath.Join(dir, "main")))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Closure(wanted, tree.Tree{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{"liba.so", "libc.so.6", "/lib64/ld-linux-x86-64.so.2"} {
		if !strings.Contains(err.Error(), "needs the library "+name) {
			t.Errorf("the error does not name %s: %v", name, err)
		}
	}
}

func TestADamagedProgramIsAnError(t *testing.T) {
	wanted, err := tree.New(tree.File("usr/bin/x", 0o755, append([]byte("\x7fELF"), make([]byte, 100)...)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Closure(wanted, tree.Tree{}); err == nil || !strings.Contains(err.Error(), "usr/bin/x") {
		t.Errorf("error = %v, want one that names the file", err)
	}
}
