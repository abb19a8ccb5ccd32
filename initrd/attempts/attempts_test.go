package attempts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		hash   string
		starts int
		spent  bool
	}{
		{"a", 1, false}, {"a", 2, false}, {"a", 3, false}, {"a", 4, true}, {"b", 1, false}, {"a", 1, false},
	} {
		r := Read(dir).Next(test.hash)
		if r.Starts != test.starts || r.Spent() != test.spent {
			t.Errorf("start of %q: %+v, spent %v; want %d, %v", test.hash, r, r.Spent(), test.starts, test.spent)
		}
		if err := r.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := Forget(dir); err != nil {
			t.Fatal(err)
		}
	}
	if r := Read(dir); r != (Record{}) {
		t.Errorf("after Forget: %+v", r)
	}
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, File)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", `{"rootHash":1}`, "[]"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if r := Read(dir); r != (Record{}) {
			t.Errorf("%q: %+v", text, r)
		}
	}
	if r := (Record{"a", -5}).Next("a"); r.Starts != 1 {
		t.Errorf("after a negative count: %+v", r)
	}
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(name, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(name, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := (Record{"a", 1}).Write(dir); err == nil || !strings.Contains(err.Error(), "count this start") {
		t.Errorf("a directory in its place: %v", err)
	}
}
