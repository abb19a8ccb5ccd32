package rsync

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/program"
)

// TestMain is also the remote shell of the tests' rsync: "SHELL HOST rsync --server ...".
func TestMain(m *testing.M) {
	if os.Getenv("CORACLE_RSYNC_SHELL") != "" {
		os.Exit(Main(context.Background(), os.Args[2:], program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// client runs Debian's rsync with our far end.
func client(t *testing.T, args ...string) (string, int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("rsync", append([]string{"-e", self, "--timeout=60"}, args...)...)
	cmd.Env = append(os.Environ(), "CORACLE_RSYNC_SHELL=1")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("rsync: %v (Debian's package is rsync)", err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// tree writes files, by path; a path that ends in / is a directory, content that
// begins with -> a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if target, ok := strings.CutPrefix(content, "->"); ok {
			must(t, os.Symlink(target, path))
			continue
		}
		must(t, os.WriteFile(path, []byte(content), 0o640))
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listing describes a tree: kind, mode, owner, time, content.
func listing(t *testing.T, dir string) (lines []string) {
	t.Helper()
	out, err := exec.Command("find", dir, "-mindepth", "1", "(", "-type", "d", "-printf", "%P %M %U:%G\n", ")", "-o", "-printf", "%P %M %U:%G %s %l %Ts\n").CombinedOutput()
	must(t, err)
	lines = strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, line := range lines {
		name, _, _ := strings.Cut(line, " ")
		if info, err := os.Lstat(filepath.Join(dir, name)); err == nil && info.Mode().IsRegular() {
			content, err := os.ReadFile(filepath.Join(dir, name))
			must(t, err)
			lines[i] = fmt.Sprintf("%s %x", line, content[:min(len(content), 64)])
		}
	}
	slices.Sort(lines)
	return lines
}

func sample(t *testing.T) string {
	random := rand.NewChaCha8([32]byte{7})
	large := make([]byte, 300<<10)
	random.Read(large)
	dir := tree(t, map[string]string{
		"a": "hello", "empty": "", "dir/b": strings.Repeat("text ", 100_000), "dir/deep/er/c": "c", "dir.file": "sorts between", "dir-file": "too",
		"random": string(large), "link": "->dir/b", "dangling": "->nowhere", "nothing/": "", "name with space and ü": "x",
	})
	must(t, os.Chmod(filepath.Join(dir, "a"), os.ModeSetuid|0o755))
	must(t, os.Lchown(filepath.Join(dir, "dir/b"), 1234, 2345))
	return dir
}

// TestCopy copies there and back again by what Vagrant and people say, and
// compares by find.
func TestCopy(t *testing.T) {
	for _, flags := range []string{"-a", "-az", "-avvz --delete", "-a --numeric-ids --old-compress", "-a --protocol=29", "-rlt -I"} {
		t.Run(flags, func(t *testing.T) {
			t.Parallel()
			from, there, back := sample(t), filepath.Join(t.TempDir(), "there"), t.TempDir()
			args := strings.Fields(flags)
			if out, code := client(t, append(args, from+"/", "host:"+there)...); code != 0 {
				t.Fatalf("there: exit %d\n%s", code, out)
			}
			if out, code := client(t, append(args, "host:"+there+"/", back+"/")...); code != 0 {
				t.Fatalf("back: exit %d\n%s", code, out)
			}
			want, got := listing(t, from), listing(t, there)
			if strings.HasPrefix(flags, "-a") {
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("there (-want +got):\n%s", diff)
				}
			}
			if diff := cmp.Diff(got, listing(t, back)); diff != "" {
				t.Errorf("back (-want +got):\n%s", diff)
			}
			// What is there already is not copied again.
			out, code := client(t, "-a", "--stats", from+"/", "host:"+there)
			if code != 0 || flags != "-rlt -I" && !strings.Contains(out, "Number of regular files transferred: 0") {
				t.Errorf("again: exit %d\n%s", code, out)
			}
		})
	}
}

// TestVagrant: links become files, what is gone is deleted, what is excluded stays.
func TestVagrant(t *testing.T) {
	from := tree(t, map[string]string{"a": "new, longer", "link": "->a", ".vagrant/id": "mine", "sub/x.log": "no", "sub/y": "y", "was-dir": "file now"})
	to := tree(t, map[string]string{"a": "old", "gone": "x", "gone-dir/x": "x", ".vagrant/id": "theirs", "sub/z.log": "stays", "old/x.log": "stays", "old/y": "goes", "was-dir/x": "x"})
	out, code := client(t, "--verbose", "--archive", "--delete", "-z", "--copy-links", "--no-owner", "--no-group",
		"--exclude", ".vagrant/", "--exclude", "*.log", from+"/", "host:"+to)
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	var names []string
	for _, line := range listing(t, to) {
		names = append(names, strings.Fields(line)[0])
	}
	want := []string{".vagrant", ".vagrant/id", "a", "link", "old", "old/x.log", "sub", "sub/y", "sub/z.log", "was-dir"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, out)
	}
	for name, want := range map[string]string{"a": "new, longer", "link": "new, longer", ".vagrant/id": "theirs", "was-dir": "file now"} {
		if got, err := os.ReadFile(filepath.Join(to, name)); string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestSingle copies one file, to a directory and to another name, and changes
// nothing with -n.
func TestSingle(t *testing.T) {
	from, to := tree(t, map[string]string{"a": "hello"}), t.TempDir()
	for _, args := range [][]string{
		{"-a", from + "/a", "host:" + to}, {"-a", from + "/a", "host:" + to + "/other"}, {"-an", from + "/a", "host:" + to + "/dry"},
		{"-a", "host:" + from + "/a", to + "/third"}, {"-a", from, "host:" + to}, {"-a", "host:" + from, to + "/in/"},
	} {
		if out, code := client(t, args...); code != 0 {
			t.Errorf("%v: exit %d\n%s", args, code, out)
		}
	}
	base := filepath.Base(from)
	var names []string
	for _, line := range listing(t, to) {
		names = append(names, strings.Fields(line)[0])
	}
	if diff := cmp.Diff([]string{base, base + "/a", "a", "in", "in/" + base, "in/" + base + "/a", "other", "third"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestProblems: what cannot be is said by the client, with a code that is not 0.
func TestProblems(t *testing.T) {
	from, to := tree(t, map[string]string{"a": "hello", "dir/b": "b"}), tree(t, map[string]string{"a/in-the-way": "x"})
	tests := map[string]struct {
		args []string
		want string
	}{
		"a directory in the way": {[]string{"-a", from + "/", "host:" + to}, "a directory is in the place"},
		"no such source":         {[]string{"-a", "host:" + from + "/none", to}, "no such file"},
		"no such parent":         {[]string{"-a", from + "/", "host:" + to + "/no/such/dir"}, "no such file"},
		"unsupported":            {[]string{"-aH", from + "/", "host:" + to}, "-H is not supported"},
		"unsupported, long":      {[]string{"-a", "--inplace", from + "/", "host:" + to}, "--inplace is not supported"},
	}
	for name, test := range tests {
		if out, code := client(t, test.args...); code == 0 || !strings.Contains(out, test.want) {
			t.Errorf("%s: exit %d\n%s", name, code, out)
		}
	}
	if got, err := os.ReadFile(filepath.Join(to, "dir/b")); string(got) != "b" {
		t.Errorf("the other files are not copied: %q, %v", got, err)
	}
}

// TestEscape: a client cannot reach out of the destination.
func TestEscape(t *testing.T) {
	for _, name := range []string{"../out", "/etc/out", "a/../../out", "link/out"} {
		dir := t.TempDir()
		to := filepath.Join(dir, "to")
		must(t, os.MkdirAll(to, 0o755))
		must(t, os.Symlink("..", filepath.Join(to, "link")))
		var in bytes.Buffer
		number := func(n int32) { binary.Write(&in, binary.LittleEndian, n) }
		number(version)
		in.Write([]byte{longName})
		number(int32(len(name)))
		in.WriteString(name)
		for _, n := range []int32{0, 0, 0o100644} {
			number(n)
		}
		in.WriteByte(0)
		for _, n := range []int32{0, done, done} {
			number(n)
		}
		code, err := serve(options{paths: []string{to + "/"}}, &in, io.Discard, 1)
		if code == 0 {
			t.Errorf("%s: taken, %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// FuzzServe: whatever a client sends ends, and stays in the destination.
func FuzzServe(f *testing.F) {
	f.Add([]byte("\x1b\x00\x00\x00\x00\x00\x00\x00\x00\x00"), false)
	f.Add([]byte("\x1b\x00\x00\x00\x05\x00\x00\x00- *.o\x00\x00\x00\x00\x40\x01\x00\x00\x00a\x00\x00\x00\x00\x00\x00\x00\x00\xa4\x81\x00\x00\x00\x00\x00\x00\x00"), true)
	f.Fuzz(func(t *testing.T, in []byte, deletes bool) {
		dir := t.TempDir()
		must(t, os.Mkdir(filepath.Join(dir, "to"), 0o755))
		o := options{paths: []string{filepath.Join(dir, "to")}, remove: deletes, links: true, compress: true, recurse: true}
		_, _ = serve(o, bytes.NewReader(in), io.Discard, 1)
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("beside the destination: %v, %v", entries, err)
		}
	})
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		rule string
		name string
		dir  bool
		want bool
	}{
		{"*.o", "a/b.o", false, true}, {"*.o", "a.o/b", false, false}, {"dir/", "dir", false, false}, {"dir/", "x/dir", true, true},
		{"/top", "top", false, true}, {"/top", "a/top", false, false}, {"a/b", "x/a/b", false, true}, {"a/b", "xa/b", false, false},
		{"/a/**/z", "a/b/c/z", false, true}, {"**.c", "a/b.c", false, true},
	} {
		s := session{r: &reader{}}
		var in bytes.Buffer
		binary.Write(&in, binary.LittleEndian, int32(len(test.rule)))
		in.WriteString(test.rule + "\x00\x00\x00\x00")
		s.r = newReader(&in)
		must(t, s.readRules())
		if got := s.rules.excludes(test.name, test.dir); got != test.want {
			t.Errorf("%q excludes %q: %v", test.rule, test.name, got)
		}
	}
}
