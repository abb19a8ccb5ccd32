package user

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	testPasswd = "root:x:0:0:root:/root:/bin/bash\n# a comment: kept\ncore:x:500:500:Admin:/home/core:/bin/bash\nbroken line\n"
	testGroup  = "root:x:0:\nusers:x:100:\nsudo:x:150:core\ndocker:x:233:core\ncore:x:500:\n"
	testShadow = "root:*:20000:0:::::\ncore:*:20000:0:::::\n"
	testShadG  = "root:*::\nusers:*::\nsudo:*::core\ndocker:*::core\ncore:!::\n"
)

var day = time.Unix(20778*86400+5, 0)

func newRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc/skel"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"passwd": testPasswd, "group": testGroup, "shadow": testShadow, "gshadow": testShadG,
		"skel/.bashrc": "x\n", "login.defs": "UID_MIN 1000\nUID_MAX 60000\nSYS_UID_MIN 101\nSYS_UID_MAX 999\nGID_MIN 1000\nGID_MAX 60000\nSYS_GID_MIN 101\nSYS_GID_MAX 999\nUSERGROUPS_ENAB yes\nPASS_MAX_DAYS 99999\nPASS_MIN_DAYS 0\nPASS_WARN_AGE 7\nUMASK 022\n"} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func read(t *testing.T, root, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEnsure(t *testing.T) {
	root := newRoot(t)
	created, err := Ensure(root, Spec{Name: "elroy", Passwd: "$6$x$y", Gecos: "E", Groups: []string{"sudo", "233"}}, day)
	if !created || err != nil {
		t.Fatalf("Ensure = %v, %v", created, err)
	}
	got, err := Lookup(root, "elroy")
	want := Account{Name: "elroy", UID: 1000, GID: 1000, Groups: []int{150, 233}, Gecos: "E", Home: "/home/elroy", Shell: "/bin/bash"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Lookup (-want +got): %v\n%s", err, diff)
	}
	if got := read(t, root, "etc/passwd"); got != testPasswd+"elroy:x:1000:1000:E:/home/elroy:/bin/bash\n" {
		t.Errorf("passwd:\n%s", got)
	}
	if got := read(t, root, "etc/shadow"); got != testShadow+"elroy:$6$x$y:20778:0:99999:7:::\n" {
		t.Errorf("shadow:\n%s", got)
	}
	info, err := os.Stat(filepath.Join(root, "home/elroy/.bashrc"))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("skeleton: %v, %v", info, err)
	}
	// An existing user keeps all but the password.
	created, err = Ensure(root, Spec{Name: "elroy", Passwd: "$6$new", Shell: "/bin/false", Groups: []string{"nosuch"}}, day)
	if created || err != nil {
		t.Fatalf("second Ensure = %v, %v", created, err)
	}
	if hash, _ := PasswordHash(root, "elroy"); hash != "$6$new" {
		t.Errorf("password %q", hash)
	}
	if again, _ := Lookup(root, "1000"); again.Shell != "/bin/bash" {
		t.Errorf("shell changed: %q", again.Shell)
	}
}

func TestEnsureErrors(t *testing.T) {
	for name, test := range map[string]struct {
		spec Spec
		want string
	}{
		"no name":       {Spec{}, "not a user name"},
		"injection":     {Spec{Name: "x", Gecos: "a\nroot2:x:0:0::/:/bin/sh"}, "has a colon or a newline"},
		"colon in hash": {Spec{Name: "x", Passwd: "a:b"}, "has a colon or a newline"},
		"slash":         {Spec{Name: "../x"}, "not a user name"},
		"no such group": {Spec{Name: "x", Groups: []string{"nosuch"}}, `no such group`},
		"no primary":    {Spec{Name: "x", PrimaryGroup: "nosuch"}, `no such group`},
		"group exists":  {Spec{Name: "docker"}, `group "docker" exists`},
		"uid taken":     {Spec{Name: "x", UID: 500}, `uid 500 is taken by user "core"`},
		"relative home": {Spec{Name: "x", HomeDir: "x"}, "not an absolute path"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot(t)
			_, err := Ensure(root, test.spec, day)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("err = %v, want %q in it", err, test.want)
			}
			for file, text := range map[string]string{"passwd": testPasswd, "group": testGroup, "shadow": testShadow, "gshadow": testShadG} {
				if read(t, root, "etc/"+file) != text {
					t.Errorf("%s changed", file)
				}
			}
		})
	}
}

// TestAgainstUseradd compares with useradd(8) itself on a root of its own.
func TestAgainstUseradd(t *testing.T) {
	for name, test := range map[string]struct {
		spec Spec
		args []string
	}{
		"plain":         {Spec{Name: "u"}, []string{"--create-home"}},
		"all":           {Spec{Name: "u", Passwd: "$6$a$b", Gecos: "G", HomeDir: "/srv/u", PrimaryGroup: "100", Groups: []string{"docker", "sudo"}, Shell: "/bin/zsh"}, []string{"--password", "$6$a$b", "--comment", "G", "--home-dir", "/srv/u", "--create-home", "--gid", "100", "--groups", "docker,sudo", "--shell", "/bin/zsh"}},
		"system":        {Spec{Name: "u", System: true, NoCreateHome: true}, []string{"--system", "--no-create-home"}},
		"no user group": {Spec{Name: "u", NoUserGroup: true}, []string{"--no-user-group", "--create-home", "--gid", "100"}},
		"uid":           {Spec{Name: "u", UID: 4242}, []string{"--uid", "4242", "--create-home"}},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := newRoot(t), newRoot(t)
			for _, root := range []string{ours, theirs} { // useradd refuses what it cannot read
				os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/bash\ncore:x:500:500:Admin:/home/core:/bin/bash\n"), 0o644)
				os.MkdirAll(filepath.Join(root, "home"), 0o755)
				os.MkdirAll(filepath.Join(root, "srv"), 0o755)
			}
			if _, err := Ensure(ours, test.spec, time.Now()); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"--prefix", theirs}, test.args...)
			if !strings.Contains(strings.Join(args, " "), "--password") {
				args = append(args, "--password", "*")
			}
			if !strings.Contains(strings.Join(args, " "), "--shell") {
				args = append(args, "--shell", "/bin/bash")
			}
			if out, err := exec.Command("useradd", append(args, "u")...).CombinedOutput(); err != nil {
				t.Fatalf("useradd: %v\n%s", err, out)
			}
			for _, file := range []string{"passwd", "group", "shadow", "gshadow"} {
				if diff := cmp.Diff(read(t, theirs, "etc/"+file), read(t, ours, "etc/"+file)); diff != "" {
					t.Errorf("%s (-useradd +ours):\n%s", file, diff)
				}
			}
		})
	}
}

func TestAuthorizeKeys(t *testing.T) {
	root := newRoot(t)
	Ensure(root, Spec{Name: "u"}, day)
	if err := AuthorizeKeys(root, "u", "cloud", []string{"ssh-ed25519 AAAA a\n", "", "ssh-rsa BBBB b"}); err != nil {
		t.Fatal(err)
	}
	path := "home/u/.ssh/authorized_keys.d/cloud"
	if got := read(t, root, path); got != "ssh-ed25519 AAAA a\nssh-rsa BBBB b\n" {
		t.Errorf("keys: %q", got)
	}
	info, err := os.Stat(filepath.Join(root, path))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := AuthorizeKeys(root, "u", "cloud", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, path)); !os.IsNotExist(err) {
		t.Errorf("file is still there: %v", err)
	}
	if err := AuthorizeKeys(root, "u", "../x", []string{"k"}); err == nil {
		t.Error("a name with a slash was accepted")
	}
	var missing *NotFoundError
	if err := AuthorizeKeys(root, "ghost", "x", []string{"k"}); !errors.As(err, &missing) {
		t.Errorf("err = %v", err)
	}
	if err := AuthorizeKeys(root, "core", "x", []string{"k"}); err != nil { // home is made
		t.Errorf("a user without home: %v", err)
	}
}

// TestKeysBehindLink plants a link where root writes.
func TestKeysBehindLink(t *testing.T) {
	root := newRoot(t)
	Ensure(root, Spec{Name: "u"}, day)
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(root, "home/u/.ssh")); err != nil {
		t.Fatal(err)
	}
	if err := AuthorizeKeys(root, "u", "cloud", []string{"k"}); err == nil {
		t.Error("a link out of the home directory was followed")
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 0 {
		t.Errorf("written outside: %v", entries)
	}
}

func TestConcurrentEdits(t *testing.T) {
	root := newRoot(t)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			if _, err := Ensure(root, Spec{Name: "user" + string(rune('a'+i)), NoCreateHome: true, Groups: []string{"docker"}}, day); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	seen := map[int]bool{}
	for i := range 8 {
		account, err := Lookup(root, "user"+string(rune('a'+i)))
		if err != nil || seen[account.UID] || !cmp.Equal(account.Groups, []int{233}) {
			t.Errorf("user %d: %+v, %v", i, account, err)
		}
		seen[account.UID] = true
	}
}

func TestLookup(t *testing.T) {
	root := newRoot(t)
	var missing *NotFoundError
	if _, err := Lookup(root, "nosuch"); !errors.As(err, &missing) || missing.Kind != "user" {
		t.Errorf("err = %v", err)
	}
	if got, err := Lookup(root, "500"); err != nil || got.Name != "core" || !cmp.Equal(got.Groups, []int{150, 233}) {
		t.Errorf("Lookup by number: %+v, %v", got, err)
	}
	if gid, err := LookupGroup(root, "docker"); gid != 233 || err != nil {
		t.Errorf("LookupGroup: %d, %v", gid, err)
	}
	if gid, err := LookupGroup(root, "4711"); gid != 4711 || err != nil {
		t.Errorf("LookupGroup by number: %d, %v", gid, err)
	}
	if _, err := LookupGroup(root, "nosuch"); !errors.As(err, &missing) || missing.Kind != "group" {
		t.Errorf("err = %v", err)
	}
}

func FuzzTable(f *testing.F) {
	f.Add(testPasswd)
	f.Add("a:b\n::\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		if got := parseTable(passwdFile, text).String(); got != text {
			t.Errorf("round trip of %q gave %q", text, got)
		}
	})
}
