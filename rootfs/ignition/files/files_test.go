package files

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/ignition"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

func ptr[T any](v T) *T { return &v }

// machine makes a root with accounts, and an executor whose documents are their
// sources.
func machine(t *testing.T) *Executor {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{
		"etc/passwd":  "root:x:0:0:root:/root:/bin/bash\ncore:x:500:500::/home/core:/bin/bash\n",
		"etc/shadow":  "root:*:1::::::\ncore:*:1:0:99999:7:::\n",
		"etc/group":   "root:x:0:\ncore:x:500:\nsudo:x:27:\n",
		"etc/gshadow": "root:*::\ncore:!::\nsudo:*::\n",
		"etc/there":   "before\n",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"var/home/core", "var/opt", "etc/dir"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"home": "var/home", "opt": "var/opt", "etc/away": "/var/opt", "etc/loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	return &Executor{Root: root, Now: func() time.Time { return time.Unix(86400*20000, 0) },
		Contents: func(_ context.Context, r types.Resource) ([]byte, error) {
			if r.Source == nil {
				return nil, nil
			}
			return []byte(*r.Source), nil
		}}
}

func node(path string) types.Node { return types.Node{Path: path} }

func over(n types.Node) types.Node { n.Overwrite = ptr(true); return n }

func owned(n types.Node, user, group string) types.Node {
	n.User.Name, n.Group.Name = &user, &group
	return n
}

func file(n types.Node, content *string, mode *int, more ...string) plan.Action {
	f := types.File{Node: n, FileEmbedded1: types.FileEmbedded1{Contents: types.Resource{Source: content}, Mode: mode}}
	for _, m := range more {
		f.Append = append(f.Append, types.Resource{Source: &m})
	}
	return ignition.WriteFile{File: f}
}

func link(n types.Node, target string, hard bool) plan.Action {
	return ignition.MakeLink{Link: types.Link{Node: n, LinkEmbedded1: types.LinkEmbedded1{Target: &target, Hard: &hard}}}
}

func directory(n types.Node, mode *int) plan.Action {
	return ignition.MakeDirectory{Directory: types.Directory{Node: n, DirectoryEmbedded1: types.DirectoryEmbedded1{Mode: mode}}}
}

// TestNodes takes each step twice: the second time nothing changes.
func TestNodes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		action plan.Action
		path   string // to look at
		want   string // "mode uid:gid content"
		err    string
	}{
		{"a file", file(node("/etc/a/b/c"), ptr("x"), nil), "etc/a/b/c", "-rw-r--r-- 0:0 x", ""},
		{"with a mode and owner", file(owned(node("/etc/a"), "core", "sudo"), ptr("x"), ptr(0o4750)), "etc/a", "-rwxr-x--- 500:27 x", ""},
		{"empty", file(node("/etc/a"), nil, nil), "etc/a", "-rw-r--r-- 0:0 ", ""},
		{"appended to", file(node("/etc/there"), nil, nil, "m", "ore"), "etc/there", "-rw-r--r-- 0:0 before\nmore", ""},
		{"appended to new contents", file(node("/etc/a"), ptr("x"), nil, "y"), "etc/a", "-rw-r--r-- 0:0 xy", ""},
		{"only a mode", file(node("/etc/there"), nil, ptr(0o600)), "etc/there", "-rw------- 0:0 before\n", ""},
		{"over a file", file(over(node("/etc/there")), ptr("x"), nil), "etc/there", "-rw-r--r-- 0:0 x", ""},
		{"over a file without leave", file(node("/etc/there"), ptr("x"), nil), "", "", "set overwrite to true"},
		{"over a directory", file(over(node("/etc/dir")), ptr("x"), nil), "etc/dir", "-rw-r--r-- 0:0 x", ""},
		{"over a directory without leave", file(node("/etc/dir"), ptr("x"), nil), "", "", "there is a directory already"},
		{"behind links", file(node("/etc/away/a"), ptr("x"), nil), "var/opt/a", "-rw-r--r-- 0:0 x", ""},
		{"behind a link of the image", file(node("/opt/bin/a"), ptr("x"), ptr(0o755)), "var/opt/bin/a", "-rwxr-xr-x 0:0 x", ""},
		{"behind a link to itself", file(node("/etc/loop/a"), ptr("x"), nil), "", "", "too many links"},
		{"below a file", file(node("/etc/there/a"), ptr("x"), nil), "", "", "not a directory"},
		{"of nobody", file(owned(node("/etc/a"), "nobody", "core"), ptr("x"), nil), "", "", "nobody"},
		{"a directory", directory(owned(node("/var/a/b"), "core", "core"), ptr(0o1777)), "var/a/b", "drwxrwxrwx 500:500 ", ""},
		{"over a file", directory(node("/etc/there"), nil), "", "", "there is a file already"},
		{"a link", link(owned(node("/etc/l"), "core", "core"), "there", false), "etc/l", "Lrwxrwxrwx 500:500 there", ""},
		{"a link over a file", link(over(node("/etc/there")), "x", false), "etc/there", "Lrwxrwxrwx 0:0 x", ""},
		{"a link over a file without leave", link(node("/etc/there"), "x", false), "", "", "set overwrite to true"},
		{"a hard link", link(node("/etc/l"), "/etc/there", true), "etc/l", "-rw-r--r-- 0:0 before\n", ""},
	} {
		e := machine(t)
		for _, again := range []bool{false, true} {
			changed, known, err := e.Do(context.Background(), tt.action)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
				}
				break
			}
			if err != nil || !known || changed == again {
				t.Errorf("%s: changed %t again %t, %v", tt.name, changed, again, err)
			}
			if diff := cmp.Diff(tt.want, look(t, filepath.Join(e.Root, tt.path))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
		}
	}
}

func look(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		return err.Error()
	}
	stat := info.Sys().(*syscall.Stat_t)
	var content []byte
	switch info.Mode().Type() {
	case 0:
		content, err = os.ReadFile(path)
	case fs.ModeSymlink:
		var target string
		target, err = os.Readlink(path)
		content = []byte(target)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %d:%d %s", info.Mode(), stat.Uid, stat.Gid, content)
}

func TestAccounts(t *testing.T) {
	e := machine(t)
	user := func(u types.PasswdUser) plan.Action { return ignition.User{PasswdUser: u} }
	group := func(g types.PasswdGroup) plan.Action { return ignition.Group{PasswdGroup: g} }
	for _, a := range []plan.Action{
		group(types.PasswdGroup{Name: "crew", Gid: ptr(2000)}),
		group(types.PasswdGroup{Name: "gone"}), group(types.PasswdGroup{Name: "gone", ShouldExist: ptr(false)}),
		group(types.PasswdGroup{Name: "small", System: ptr(true)}),
		user(types.PasswdUser{Name: "core", SSHAuthorizedKeys: []types.SSHAuthorizedKey{"ssh-ed25519 A"}, Groups: []types.Group{"sudo"}, PasswordHash: ptr("$6$x")}),
		user(types.PasswdUser{Name: "bob", UID: ptr(1234), PrimaryGroup: ptr("crew"), Gecos: ptr("Bob"), Shell: ptr("/bin/sh"), HomeDir: ptr("/var/bob")}),
		user(types.PasswdUser{Name: "eve"}), user(types.PasswdUser{Name: "eve", ShouldExist: ptr(false)}),
		user(types.PasswdUser{Name: "daemon", System: ptr(true), NoCreateHome: ptr(true)}),
	} {
		for range 2 {
			if _, _, err := e.Do(context.Background(), a); err != nil {
				t.Errorf("%s: %v", a, err)
			}
		}
	}
	for path, want := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/bash\ncore:x:500:500::/home/core:/bin/bash\nbob:x:1234:2000:Bob:/var/bob:/bin/sh\ndaemon:x:499:498::/home/daemon:/bin/bash\n",
		"etc/group":  "root:x:0:\ncore:x:500:\nsudo:x:27:core\ncrew:x:2000:\nsmall:x:499:\ndaemon:x:498:\n",
		"etc/shadow": "root:*:1::::::\ncore:$6$x:20000:0:99999:7:::\nbob:*:20000:0:99999:7:::\ndaemon:*:20000::::::\n",
		"var/home/core/.ssh/authorized_keys.d/ignition": "ssh-ed25519 A\n",
	} {
		got, err := os.ReadFile(filepath.Join(e.Root, path))
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	if _, err := os.Stat(filepath.Join(e.Root, "home/daemon")); err == nil {
		t.Error("noCreateHome: there is a home directory")
	}
	for _, a := range []plan.Action{user(types.PasswdUser{Name: "root", ShouldExist: ptr(false)}), group(types.PasswdGroup{Name: "core", ShouldExist: ptr(false)}),
		group(types.PasswdGroup{Name: "other", Gid: ptr(500)})} {
		if _, _, err := e.Do(context.Background(), a); err == nil {
			t.Errorf("%s: no error", a)
		}
	}
}
