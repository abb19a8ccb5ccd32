package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/program"
)

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	recipe := filepath.Join(dir, "recipe.yaml")
	if err := os.WriteFile(recipe, []byte("recipe: 1\nchanel: dev\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.raw")
	if err := os.WriteFile(empty, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		code int
		want string // in what is printed
	}{
		{"nothing", nil, 2, "Usage: coracle COMMAND"},
		{"help", []string{"help"}, 0, "inspect"},
		{"unknown command", []string{"biuld"}, 2, `no command "biuld"`},
		{"unknown flag", []string{"build", "-x"}, 2, "-recipe"},
		{"help of a command", []string{"build", "-h"}, 0, "-recipe"},
		{"left over", []string{"build", "now"}, 2, `unexpected argument "now"`},
		{"bad recipe", []string{"build", "-recipe", recipe}, 1, recipe + `:2:1: chanel: unknown key; did you mean "channel"?`},
		{"no recipe", []string{"build", "-recipe", recipe + "x"}, 1, "read recipe"},
		{"not the sources", []string{"build", "-source", dir, "-o", dir}, 1, "name it with -source"},
		{"no image", []string{"inspect", filepath.Join(dir, "none")}, 1, "open image"},
		{"empty image", []string{"verify", empty}, 1, empty},
		{"two images", []string{"verify", empty, empty}, 2, "want one image, got 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			code := run(t.Context(), append([]string{"coracle"}, test.args...), program.Stdio{Out: &out, Err: &out})
			if code != test.code || !strings.Contains(out.String(), test.want) {
				t.Errorf("code %d, want %d; output %q, want %q in it", code, test.code, out.String(), test.want)
			}
		})
	}
}
