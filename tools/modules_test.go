package tools_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestModules holds the small programs small: what each links is committed, so
// that nobody brings etcd into PID 1 without seeing it.
func TestModules(t *testing.T) {
	for _, program := range []string{"rootfs/init", "initrd/init", "agents/sshd"} {
		list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./"+program)
		list.Dir, list.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
		out, err := list.Output()
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		modules := strings.Fields(string(out))
		slices.Sort(modules)
		file := filepath.Join("testdata", strings.ReplaceAll(program, "/", "-")+".modules")
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.Fields(string(want)), slices.Compact(modules)); diff != "" {
			t.Errorf("%s links other modules than %s says (-want +got):\n%s", program, file, diff)
		}
	}
}
