package qemutests

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/coracle-os/coracle/image/build"
	"github.com/coracle-os/coracle/image/manifest"
	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/google/go-cmp/cmp"
)

// buildAnew builds the image from a copy of the sources in another directory,
// without any step of the image under test, and returns the manifest.
func buildAnew(t testing.TB, env ...string) manifest.Manifest {
	t.Helper()
	source, output := t.TempDir(), t.TempDir()
	for _, part := range []string{"image", "initrd", "rootfs", "agents", "tools", "go.mod", "go.sum"} {
		run(t, "cp", "-a", filepath.Join("..", part), source)
	}
	// The same packages: a mirror may have newer ones by now.
	must(t, os.Mkdir(filepath.Join(output, "cache"), 0o755))
	run(t, "cp", filepath.Join(filepath.Dir(machine.Image(t)), "cache", "packages.json"), filepath.Join(output, "cache"))
	cmd := exec.Command("go", "run", "./tools/coracle", "build", "-o", output)
	cmd.Dir, cmd.Env = source, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return readManifest(t, output)
}

func readManifest(t testing.TB, dir string) (m manifest.Manifest) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, build.ManifestName))
	must(t, err)
	must(t, json.Unmarshal(text, &m))
	return m
}

// TestReproducible builds the image a second time, elsewhere: the same bytes.
func TestReproducible(t *testing.T) {
	want := readManifest(t, filepath.Dir(machine.Image(t)))
	if diff := cmp.Diff(want.Results, buildAnew(t).Results); diff != "" {
		t.Errorf("another build has other bytes (-first +second):\n%s", diff)
	}
}
