package pathwatch

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHolds(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.txt")
	must(t, os.WriteFile(file, nil, 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	must(t, os.Symlink("nothing", filepath.Join(dir, "dangling")))
	for w, want := range map[unit.PathWatch]bool{
		{Kind: exists, Path: file}: true, {Kind: exists, Path: file + "x"}: false, {Kind: exists, Path: dir + "/dangling"}: false,
		{Kind: glob, Path: dir + "/*.txt"}: true, {Kind: glob, Path: dir + "/*.c"}: false, {Kind: glob, Path: dir + "/["}: false,
		{Kind: notEmpty, Path: dir}: true, {Kind: notEmpty, Path: dir + "/empty"}: false, {Kind: notEmpty, Path: file}: false,
	} {
		if got := Holds(w); (got != "") != want {
			t.Errorf("Holds(%v) = %q", w, got)
		}
	}
}

// TestWatch does things to paths and waits for what is told of them.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	file, deep := filepath.Join(dir, "file"), filepath.Join(dir, "x", "y", "z")
	must(t, os.WriteFile(file, nil, 0o644))
	for name, c := range map[string]struct {
		watch unit.PathWatch
		do    func() error
		edge  bool
	}{
		"close after writing": {unit.PathWatch{Kind: changed, Path: file}, func() error { return os.WriteFile(file, []byte("x"), 0o644) }, true},
		"new file":            {unit.PathWatch{Kind: exists, Path: dir + "/new"}, func() error { return os.WriteFile(dir+"/new", nil, 0o644) }, false},
		"new directory above": {unit.PathWatch{Kind: exists, Path: deep}, func() error { return os.MkdirAll(filepath.Dir(deep), 0o755) }, false},
		"new match":           {unit.PathWatch{Kind: glob, Path: dir + "/*.c"}, func() error { return os.WriteFile(dir+"/a.c", nil, 0o644) }, false},
		"new entry":           {unit.PathWatch{Kind: notEmpty, Path: dir}, func() error { return os.WriteFile(dir+"/e", nil, 0o644) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			told := make(chan bool, 100)
			w, err := Start([]unit.PathWatch{c.watch}, func(edge string) { told <- edge != "" })
			must(t, err)
			defer w.Close()
			must(t, c.do())
			limit := time.After(10 * time.Second)
			for {
				select {
				case edge := <-told:
					if edge == c.edge {
						return
					}
				case <-limit:
					t.Fatal("nothing was told")
				}
			}
		})
	}
}

// TestModified tells PathModified= from PathChanged=: a file that is written and
// stays open.
func TestModified(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(file)
	must(t, err)
	defer f.Close()
	told, quiet := make(chan bool, 100), make(chan bool, 100)
	m, err := Start([]unit.PathWatch{{Kind: modified, Path: file}}, func(edge string) { told <- edge != "" })
	must(t, err)
	defer m.Close()
	c, err := Start([]unit.PathWatch{{Kind: changed, Path: file}}, func(edge string) { quiet <- edge != "" })
	must(t, err)
	defer c.Close()
	_, err = f.WriteString("x")
	must(t, err)
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Fatal("PathModified= was not told")
	}
	select {
	case <-quiet:
		t.Fatal("PathChanged= was told before the file was closed")
	default:
	}
}

func TestMake(t *testing.T) {
	dir := t.TempDir()
	must(t, Make([]unit.PathWatch{{Kind: notEmpty, Path: dir + "/a/b"}, {Kind: exists, Path: dir + "/c"}}, 0o700))
	if !Exists(dir+"/a/b") || Exists(dir+"/c") {
		t.Error("want a/b and not c")
	}
	must(t, os.WriteFile(dir+"/f", nil, 0o644))
	if Make([]unit.PathWatch{{Kind: changed, Path: dir + "/f/g"}}, 0o700) == nil {
		t.Error("no error for a directory below a file")
	}
}
