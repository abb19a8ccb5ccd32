package baseline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSavedAndLoaded(t *testing.T) {
	root := t.TempDir()
	if got, err := Load(root, "b"); err != nil || got.RootHash != "" {
		t.Errorf("none: %+v, %v", got, err)
	}
	if err := os.MkdirAll(filepath.Join(root, "var/lib/coracle"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := Baseline{RootHash: "a", FailedUnits: []string{"old.service"}, BrokenFiles: map[string]string{"x.yaml": "1"}}
	if err := write(root, want); err != nil {
		t.Fatal(err)
	}
	got, err := Load(root, "b")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, err := Load(root, "a"); err != nil || got.RootHash != "" {
		t.Errorf("its own system's: %+v, %v; want none", got, err)
	}
	for range 2 {
		if err := Remove(root); err != nil {
			t.Error(err)
		}
	}
	if got, err := Load(root, "b"); err != nil || got.RootHash != "" {
		t.Errorf("removed: %+v, %v", got, err)
	}
}

func TestDamaged(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "var/lib/coracle"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, path), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(root, "b"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v, want an error with the file's name", err)
	}
}

func TestLaterDirectoryWins(t *testing.T) {
	root := t.TempDir()
	for dir, text := range map[string]string{Dirs[0]: "checks: [{tcp: 'image:1'}]", Dirs[1]: "checks: [{tcp: 'owner:1'}]"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, "10-a.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	checks, broken := LoadChecks(root)
	if len(broken) > 0 || len(checks) != 1 || checks[0].TCP != "owner:1" {
		t.Errorf("%+v, %+v", checks, broken)
	}
}
