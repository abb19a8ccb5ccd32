package account

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// openDir is a temporary directory that other users can reach.
func openDir(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	for _, dir := range []string{top, filepath.Dir(top)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

func TestLookup(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/etc/passwd", "broken\nroot:x:0:0:root:/root:/bin/bash\ncore:x:no:500::/home/core:\ncore:x:500:500:Core,,:/home/core:/bin/zsh\nbare:x:7:8:::\n", 0o644)
	write(t, root+"/etc/group", "wheel:x:10:root,core\nbroken:x\ncore:x:500:core\ndocker:x:233:x,core\nother:x:1:corex\n", 0o644)
	for _, c := range []struct {
		name string
		want Account
		ok   bool
	}{
		{"core", Account{Name: "core", UID: 500, GID: 500, Groups: []uint32{500, 10, 233}, Home: "/home/core", Shell: "/bin/zsh"}, true},
		{"bare", Account{Name: "bare", UID: 7, GID: 8, Groups: []uint32{8}, Home: "/", Shell: "/bin/sh"}, true},
		{"nobody", Account{}, false},
		{"", Account{}, false},
		{"root:x:0", Account{}, false},
	} {
		got, ok, err := Lookup(root, c.name)
		if err != nil || ok != c.ok {
			t.Errorf("%q: found %v, error %v", c.name, ok, err)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.name, d)
		}
	}
	if _, _, err := Lookup(t.TempDir(), "core"); err == nil {
		t.Error("no error without etc/passwd")
	}
}

func TestDo(t *testing.T) {
	dir := openDir(t)
	write(t, dir+"/secret", "x", 0o600)
	user := Account{Name: "u", UID: 500, GID: 501, Groups: []uint32{501}}
	for range 20 {
		if err := user.Do(func() error { _, err := os.ReadFile(dir + "/secret"); return err }); !errors.Is(err, os.ErrPermission) {
			t.Fatalf("read as the user: %v, want permission denied", err)
		}
		if _, err := os.ReadFile(dir + "/secret"); err != nil {
			t.Fatalf("read as root afterwards: %v", err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := user.Do(func() error { return os.WriteFile(dir+"/mine", nil, 0o600) }); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir+"/mine", &st); err != nil || st.Uid != 500 || st.Gid != 501 {
		t.Errorf("a file made as the user belongs to %d:%d, %v", st.Uid, st.Gid, err)
	}
	if err := user.Do(func() error { panic("inside") }); err == nil || !strings.Contains(err.Error(), "inside") {
		t.Errorf("a panic inside gave %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	top := openDir(t)
	home := filepath.Join(top, "home")
	a := Account{Name: "u", UID: 500, GID: 500, Groups: []uint32{500}, Home: home}
	write(t, home+"/.ssh/authorized_keys", "one", 0o600)
	write(t, home+"/.ssh/authorized_keys.d/a", "two", 0o644)
	write(t, home+"/.ssh/authorized_keys.d/open", "three", 0o666)
	write(t, home+"/.ssh/authorized_keys.d/large", strings.Repeat("#", maxKeys+1), 0o600)
	write(t, home+"/.ssh/authorized_keys.d/other", "four", 0o644)
	chown := func(name string, uid int) {
		t.Helper()
		if err := os.Chown(name, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	filepath.Walk(home, func(p string, _ os.FileInfo, _ error) error { chown(p, 500); return nil })
	chown(home+"/.ssh/authorized_keys.d/other", 501)
	if err := errors.Join(unix.Mkfifo(home+"/.ssh/authorized_keys.d/pipe", 0o600), os.Chown(home+"/.ssh/authorized_keys.d/pipe", 500, 500),
		os.Symlink("/etc/shadow", home+"/.ssh/authorized_keys.d/shadow")); err != nil {
		t.Fatal(err)
	}
	files, problems := a.KeyFiles()
	got := map[string]string{}
	for p, data := range files {
		got[strings.TrimPrefix(p, home+"/.ssh/")] = string(data)
	}
	if d := cmp.Diff(map[string]string{"authorized_keys": "one", "authorized_keys.d/a": "two"}, got); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	text := errors.Join(problems...).Error()
	for _, want := range []string{"others may write it", "larger than", "belongs to user 501", "is not a file", "shadow: permission denied"} {
		if !strings.Contains(text, want) {
			t.Errorf("problems lack %q:\n%s", want, text)
		}
	}
	if err := os.Chmod(home, 0o777); err != nil {
		t.Fatal(err)
	}
	if files, _ := a.KeyFiles(); len(files) != 0 {
		t.Error("keys in a home directory that all can write were used")
	}
	missing := Account{Name: "u", UID: 500, GID: 500, Home: top + "/none"}
	if files, problems := missing.KeyFiles(); len(files)+len(problems) != 0 {
		t.Errorf("no home: %v, %v", files, problems)
	}
}
