package reset

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fill makes files (and their directories) below a new directory.
func fill(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// files lists what is below a directory, directories with a slash.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			path += "/"
		}
		if path != "./" {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestApply(t *testing.T) {
	all := []string{"home/core/a", "home/core/.ssh/key", "home/other/b", "lib/docker/x/y", "lib/dockerd", "lost+found/z"}
	for _, c := range []struct {
		keep string
		want []string
	}{
		{"", nil},
		{"home/core", []string{"home/", "home/core/", "home/core/.ssh/", "home/core/.ssh/key", "home/core/a"}},
		{"home/core/a lib/docker", []string{"home/", "home/core/", "home/core/a", "lib/", "lib/docker/", "lib/docker/x/", "lib/docker/x/y"}},
		{"nothing/here", nil},
		{"../../etc", nil},
	} {
		dir := fill(t, all...)
		outside := filepath.Join(filepath.Dir(dir), "outside")
		if err := os.WriteFile(outside, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("..", filepath.Join(dir, "up")); err != nil {
			t.Fatal(err)
		}
		if err := Ask(dir, strings.Fields(c.keep)); err != nil {
			t.Fatal(err)
		}
		if done, err := Apply(dir); !done || err != nil {
			t.Errorf("keep %q: %v, %v", c.keep, done, err)
		}
		if diff := cmp.Diff(c.want, files(t, dir)); diff != "" {
			t.Errorf("keep %q (-want +got):\n%s", c.keep, diff)
		}
		if _, err := os.Stat(outside); err != nil {
			t.Errorf("keep %q: what is outside: %v", c.keep, err)
		}
		if done, err := Apply(dir); done || err != nil {
			t.Errorf("keep %q, again: %v, %v; want nothing to do", c.keep, done, err)
		}
	}
}

// TestCut has a part of the files gone already, as after a power cut: the request
// is there still, and the rest goes.
func TestCut(t *testing.T) {
	dir := fill(t, "lib/a", "lib/b", "home/core/a")
	if err := Ask(dir, []string{"home/core"}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "lib/a")); err != nil {
		t.Fatal(err)
	}
	if done, err := Apply(dir); !done || err != nil {
		t.Fatal(done, err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"home/", "home/core/", "home/core/a"}) {
		t.Errorf("left: %v", got)
	}
}

func TestBadRequestDeletesNothing(t *testing.T) {
	for _, text := range []string{"", "{", `{"keep": "all"}`, `{"keep": ["/"]}`} {
		dir := fill(t, "home/core/a")
		if err := os.WriteFile(filepath.Join(dir, File), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if done, err := Apply(dir); done || err == nil {
			t.Errorf("%q: %v, %v; want an error", text, done, err)
		}
		if !slices.Contains(files(t, dir), "home/core/a") {
			t.Errorf("%q: the file is gone", text)
		}
	}
}

func TestPlace(t *testing.T) {
	resolve := func(path string) (string, error) {
		if path == "/nowhere" {
			return "", fs.ErrNotExist
		}
		if strings.HasPrefix(path, "/opt/") {
			path = "/var" + path
		}
		return path, nil
	}
	for _, c := range []struct {
		name, want string
		err        error
	}{
		{"/var/lib/docker", "lib/docker", nil},
		{"/opt/bin", "opt/bin", nil},
		{"/etc/ssh", "lib/coracle/etc/upper/ssh", nil},
		{"/var", "", ErrOutside},
		{"/usr/lib", "", ErrOutside},
		{"/nowhere", "", fs.ErrNotExist},
	} {
		if got, err := Place(c.name, resolve); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, got, err, c.want, c.err)
		}
	}
	if _, err := Place("home", resolve); err == nil {
		t.Error("a relative path: no error")
	}
}
