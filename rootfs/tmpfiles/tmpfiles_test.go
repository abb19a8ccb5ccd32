package tmpfiles

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func newRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// listing describes everything below root/var and root/run.
func listing(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	for _, dir := range []string{"var", "run"} {
		filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			info, err := entry.Info()
			if err != nil {
				t.Fatal(err)
			}
			stat := info.Sys().(*syscall.Stat_t)
			content := ""
			switch info.Mode().Type() {
			case fs.ModeSymlink:
				content, _ = os.Readlink(path)
			case 0:
				text, _ := os.ReadFile(path)
				content = string(text)
			}
			lines = append(lines, fmt.Sprintf("%s %v %d:%d %q", strings.TrimPrefix(path, root), info.Mode(), stat.Uid, stat.Gid, content))
			return nil
		})
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

const accounts = "root:x:0:0::/root:/bin/sh\ncore:x:500:500::/home/core:/bin/sh\n"

// TestAgainstSystemd makes the same lines with systemd-tmpfiles.
func TestAgainstSystemd(t *testing.T) {
	files := map[string]string{
		"etc/passwd": accounts, "etc/group": "root:x:0:\ncore:x:500:\n", "etc/skel/.profile": "p\n",
		"usr/share/factory/var/made": "factory\n", "usr/share/tree/a/b": "b\n", "var/there": "old", "var/tree/x/y": "", "var/e/x": "", "run/gone/a": "",
		"usr/lib/tmpfiles.d/10.conf": `# comment
d /var/home 0755 root root
d /var/home/core 0750 core core 10d
d "/var/with space" - - -
D /run/dir 1777
f /var/file 0600 core core - hello world
f /var/there 0640 - - - new
f+ /var/plus - - - - a\tb\n
L /var/link - - - - ../run
L+ /var/linkplus - - - - /run/x
C /var/home/core/.profile 0600 core core - /etc/skel/.profile
C /var/made
w /var/there - - - - written
e /var/e 0700 core core
z /var/tree 0711 core
Z /var/tree/x ~0750 core core
d /var/deep/er/est 0700
p /run/fifo 0600 core
R /run/gone
d /var/spec-%%-x
`,
		"usr/lib/tmpfiles.d/20.conf": "d /var/hidden\n", "etc/tmpfiles.d/20.conf": "d /var/shown\n",
	}
	ours, theirs := newRoot(t, files), newRoot(t, files)
	if errs := Boot(ours, Env{}); len(errs) > 0 {
		t.Errorf("Boot: %v", errs)
	}
	out, err := exec.Command("systemd-tmpfiles", "--root="+theirs, "--create", "--remove", "--boot").CombinedOutput()
	if err != nil {
		t.Logf("systemd-tmpfiles: %v\n%s", err, out)
	}
	if diff := cmp.Diff(strings.Split(listing(t, theirs), "\n"), strings.Split(listing(t, ours), "\n")); diff != "" {
		t.Errorf("(-systemd +ours):\n%s", diff)
	}
	if errs := Boot(ours, Env{}); len(errs) > 0 {
		t.Errorf("second Boot: %v", errs)
	}
}

func TestParseErrors(t *testing.T) {
	_, errs := Parse("x.conf", "q\nk /x\nd x\nd /x 99\nd \"/x\nd? /ok\nd& /x\nd /good 0755\n")
	var got []string
	for _, err := range errs {
		got = append(got, strings.TrimSuffix(err.Error(), "; the line is left out"))
	}
	want := []string{`x.conf:1: expected at least a type and a path`, `x.conf:2: type "k" is not supported`, `x.conf:3: path "x" is not absolute`,
		`x.conf:4: mode "99" is not an octal number up to 7777`, `x.conf:5: quote '"' is not closed`, `x.conf:7: unknown modifier '&' of type "d&"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestGoesOn has a line that cannot work between two that can.
func TestGoesOn(t *testing.T) {
	root := newRoot(t, map[string]string{"etc/passwd": accounts, "etc/group": "", "var/file": "",
		"usr/lib/tmpfiles.d/x.conf": "d /var/a\nd /var/file/x\nd /var/b - nosuch\nd /var/c\nd /var/a\n"})
	errs := Boot(root, Env{})
	if len(errs) != 3 {
		t.Errorf("errors: %q", errs)
	}
	for _, name := range []string{"a", "b", "c"} {
		if _, err := os.Stat(filepath.Join(root, "var", name)); err != nil {
			t.Error(err)
		}
	}
}

// TestForeignLink has a link that an unprivileged user made on the way.
func TestForeignLink(t *testing.T) {
	root := newRoot(t, map[string]string{"etc/passwd": accounts, "etc/group": "core:x:500:\n",
		"usr/lib/tmpfiles.d/x.conf": "d /var/home/core/link/x\n"})
	home := filepath.Join(root, "var/home/core")
	os.MkdirAll(home, 0o755)
	os.Chown(home, 500, 500)
	outside := t.TempDir()
	os.Symlink(outside, filepath.Join(home, "link"))
	errs := Boot(root, Env{})
	if entries, _ := os.ReadDir(outside); len(entries) != 0 || len(errs) != 1 {
		t.Errorf("followed the link: %v, errors %v", entries, errs)
	}
}

// TestShipped applies the file of the image.
func TestShipped(t *testing.T) {
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS("../base")); err != nil {
		t.Fatal(err)
	}
	os.MkdirAll(filepath.Join(root, "dev"), 0o755)
	if errs := Boot(root, Env{}); len(errs) > 0 {
		t.Errorf("Boot: %v", errs)
	}
	info, err := os.Stat(filepath.Join(root, "var/home/core/.bashrc"))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 500 {
		t.Errorf("core's skeleton: %v, %v", info, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("d /x 0755 a b - \"c\"\nL+! /y - - - - %t/z\\x20\n")
	f.Fuzz(func(t *testing.T, text string) { Parse("fuzz", text) })
}
