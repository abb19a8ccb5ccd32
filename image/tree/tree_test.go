package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// listing is one line per entry, as ls -l would have it.
func listing(t Tree) string {
	var b strings.Builder
	for e := range t.All() {
		fmt.Fprintf(&b, "%v %s", e.Mode, e.Path)
		if e.Target != "" {
			fmt.Fprintf(&b, " -> %s", e.Target)
		}
		if e.Mode.IsRegular() {
			content, err := e.ReadFile()
			fmt.Fprintf(&b, " %q", content)
			if err != nil {
				fmt.Fprintf(&b, " error %v", err)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func mustNew(t *testing.T, entries ...Entry) Tree {
	t.Helper()
	tr, err := New(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestNewAddsParentsAndSorts(t *testing.T) {
	tr := mustNew(t,
		File("usr/b", 0o644, []byte("b")),
		File("usr/a.d/x", 0o755|fs.ModeSetuid, nil),
		Directory("usr/a", 0o700),
		File("usr/a/y", 0o600, []byte("y")))
	want := `drwxr-xr-x .
drwxr-xr-x usr
drwx------ usr/a
-rw------- usr/a/y "y"
drwxr-xr-x usr/a.d
urwxr-xr-x usr/a.d/x ""
-rw-r--r-- usr/b "b"
`
	if diff := cmp.Diff(want, listing(tr)); diff != "" {
		t.Error(diff)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		name    string
		entries []Entry
		want    string
	}{
		{"absolute", []Entry{File("/etc/x", 0o644, nil)}, "clean relative path"},
		{"climbing", []Entry{File("../x", 0o644, nil)}, "clean relative path"},
		{"twice", []Entry{File("x", 0o644, nil), File("x", 0o644, nil)}, "given twice"},
		{"below a file", []Entry{File("x", 0o644, nil), File("x/y", 0o644, nil)}, "cannot replace"},
		{"empty link", []Entry{Symlink("x", "")}, "needs a target"},
		{"root as file", []Entry{File(".", 0o644, nil)}, "must be a directory"},
		{"no source", []Entry{{Path: "x", Mode: 0o644, Size: 3}}, "no source"},
		{"long name", []Entry{File(strings.Repeat("x", 256), 0o644, nil)}, "longer than 255"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(test.entries...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func usrMerged(t *testing.T) Tree {
	return mustNew(t,
		Symlink("bin", "usr/bin"), Symlink("lib64", "/usr/lib64"),
		Directory("usr/bin", 0o755), Symlink("opt", "var/opt"),
		File("usr/bin/old", 0o755, []byte("base")), File("etc/f", 0o644, []byte("base")))
}

func TestMergeFollowsLinks(t *testing.T) {
	layer := mustNew(t,
		Directory("bin", 0o755), File("bin/sh", 0o755, []byte("deb")), File("bin/old", 0o755, []byte("deb")),
		File("lib64/ld.so", 0o755, nil), File("opt/app", 0o644, nil), Directory("etc", 0o750))
	got, err := Merge(usrMerged(t), layer)
	if err != nil {
		t.Fatal(err)
	}
	want := `drwxr-xr-x .
Lrwxrwxrwx bin -> usr/bin
drwxr-x--- etc
-rw-r--r-- etc/f "base"
Lrwxrwxrwx lib64 -> /usr/lib64
Lrwxrwxrwx opt -> var/opt
drwxr-xr-x usr
drwxr-xr-x usr/bin
-rwxr-xr-x usr/bin/old "deb"
-rwxr-xr-x usr/bin/sh "deb"
drwxr-xr-x usr/lib64
-rwxr-xr-x usr/lib64/ld.so ""
drwxr-xr-x var
drwxr-xr-x var/opt
-rw-r--r-- var/opt/app ""
`
	if diff := cmp.Diff(want, listing(got)); diff != "" {
		t.Error(diff)
	}
	if !got.Has("bin/sh") || got.Has("bin/none") {
		t.Error("Has does not follow bin")
	}
}

func TestMergeConflicts(t *testing.T) {
	for _, test := range []struct {
		name  string
		entry Entry
		path  string
	}{
		{"file over directory", File("etc", 0o644, nil), "etc"},
		{"link over directory", Symlink("etc", "usr"), "etc"},
		{"directory over file", Directory("etc/f", 0o755), "etc/f"},
		{"below a file", File("etc/f/g", 0o644, nil), "etc/f"},
		{"file over link to directory", File("bin", 0o644, nil), "bin"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Merge(usrMerged(t), mustNew(t, test.entry))
			var conflict *ConflictError
			if !errors.As(err, &conflict) || conflict.Path != test.path {
				t.Errorf("got %v, want a conflict at %q", err, test.path)
			}
		})
	}
	loop := mustNew(t, Symlink("a", "b"), Symlink("b", "a"))
	if _, err := Merge(loop, mustNew(t, File("a/x", 0o644, nil))); !errors.Is(err, ErrLinkLoop) {
		t.Errorf("loop: got %v", err)
	}
}

func TestImpliedDirectoryKeepsMode(t *testing.T) {
	got, err := Merge(mustNew(t, Directory("root", 0o700)), mustNew(t, File("root/x", 0o600, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := got.Lookup("root"); e.Mode.Perm() != 0o700 {
		t.Errorf("mode of root is %v", e.Mode)
	}
}

func TestFromFS(t *testing.T) {
	got, err := FromFS(fstest.MapFS{
		"etc/f":     {Data: []byte("x"), Mode: 0o600},
		"usr/bin/p": {Data: []byte("#!"), Mode: 0o711},
		"lnk":       {Data: []byte("usr/bin"), Mode: fs.ModeSymlink | 0o777},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `drwxr-xr-x .
drwxr-xr-x etc
-rw-r--r-- etc/f "x"
Lrwxrwxrwx lnk -> usr/bin
drwxr-xr-x usr
drwxr-xr-x usr/bin
-rwxr-xr-x usr/bin/p "#!"
`
	if diff := cmp.Diff(want, listing(got)); diff != "" {
		t.Error(diff)
	}
	if _, err := FromFS(fstest.MapFS{"s": {Mode: fs.ModeSocket}}); err == nil {
		t.Error("a socket was taken")
	}
}

func TestFromTar(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./bin/su", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 2, Uid: 0, Gid: 42,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x02"}},
		{Name: "./bin/su2", Typeflag: tar.TypeLink, Linkname: "./bin/su"},
		{Name: "./bin/l", Typeflag: tar.TypeSymlink, Linkname: "su"},
		{Name: "./dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, "su")
		}
	}
	w.Close()
	got, err := FromTar(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	su, _ := got.Lookup("bin/su2")
	if su.Mode != fs.ModeSetuid|0o755 || su.GID != 42 || string(su.Xattrs["security.capability"]) != "\x01\x02" {
		t.Errorf("bin/su2 is %+v", su)
	}
	if null, _ := got.Lookup("dev/null"); null.Mode != fs.ModeDevice|fs.ModeCharDevice|0o666 || null.Major != 1 || null.Minor != 3 {
		t.Errorf("dev/null is %+v", null)
	}
	if _, err := FromTar(bytes.NewReader(b.Bytes()[:600])); err == nil {
		t.Error("a cut archive was taken")
	}
}

func TestDigest(t *testing.T) {
	digest := func(entries ...Entry) string {
		t.Helper()
		d, err := mustNew(t, entries...).Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := File("a", 0o644, []byte("1"))
	want := digest(base, File("b", 0o644, nil))
	if got := digest(File("b", 0o644, nil), base); got != want {
		t.Error("the digest depends on the order given")
	}
	owned, capable := base, base
	owned.UID = 1
	capable.Xattrs = map[string][]byte{"user.x": {1}}
	for _, other := range []Entry{File("a", 0o644, []byte("2")), File("a", 0o755, []byte("1")), owned, capable} {
		if digest(other, File("b", 0o644, nil)) == want {
			t.Errorf("the digest does not see %+v", other)
		}
	}
	short := Entry{Path: "s", Mode: 0o644, Size: 5, Source: Bytes([]byte("x"))}
	if _, err := mustNew(t, short).Digest(); err == nil || !strings.Contains(err.Error(), "source changed") {
		t.Errorf("short source: got %v", err)
	}
}

func TestEditFilterUnder(t *testing.T) {
	tr, err := usrMerged(t).Edit("bin/old", func(e *Entry) { e.Mode |= fs.ModeSetuid; e.GID = 7 })
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := tr.Lookup("usr/bin/old"); e.Mode != fs.ModeSetuid|0o755 || e.GID != 7 {
		t.Errorf("edited entry is %+v", e)
	}
	if _, err := tr.Edit("none", func(*Entry) {}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("edit of nothing: %v", err)
	}
	small := tr.Filter(func(e Entry) bool { return e.Path == "etc/f" })
	moved, err := small.Under("a/b")
	if err != nil {
		t.Fatal(err)
	}
	want := "drwxr-xr-x .\ndrwxr-xr-x a\ndrwxr-xr-x a/b\ndrwxr-xr-x a/b/etc\n-rw-r--r-- a/b/etc/f \"base\"\n"
	if diff := cmp.Diff(want, listing(moved)); diff != "" {
		t.Error(diff)
	}
}
