package erofs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/tree"
)

var testOptions = Options{UUID: [16]byte{0xc0, 0x12, 0xac, 0x1e}, Time: 1_600_000_000}

func mustTree(t testing.TB, entries ...tree.Entry) tree.Tree {
	t.Helper()
	tr, err := tree.New(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// sample has one of everything that the format can hold.
func sample(t testing.TB) tree.Tree {
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	owned := func(e tree.Entry, uid, gid uint32) tree.Entry { e.UID, e.GID = uid, gid; return e }
	capable := tree.File("usr/bin/ping", 0o755, noise(5000))
	capable.Xattrs = map[string][]byte{
		"security.capability": {1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"user.note":           []byte("x"),
	}
	entries := []tree.Entry{
		tree.Directory("tmp", 0o777|fs.ModeSticky), tree.Directory("empty", 0o700),
		tree.Symlink("bin", "usr/bin"), tree.Symlink("long", "/"+strings.Repeat("a/", 2000)),
		tree.File("etc/hostname", 0o644, []byte("coracle\n")), tree.File("etc/empty", 0o600, nil),
		owned(tree.File("usr/bin/sudo", 0o755|fs.ModeSetuid, noise(9000)), 0, 27),
		owned(tree.File("usr/bin/wall", 0o755|fs.ModeSetgid, noise(4096)), 0, 5),
		owned(tree.File("home/core/big-uid", 0o640, noise(4095)), 500, 1_000_000),
		tree.CharDevice("dev/null", 0o666, 1, 3), tree.CharDevice("dev/far", 0o600, 259, 70000),
		{Path: "dev/disk", Mode: fs.ModeDevice | 0o660, GID: 6, Major: 8, Minor: 17},
		{Path: "run/pipe", Mode: fs.ModeNamedPipe | 0o600},
		capable, tree.File("usr/lib/large", 0o644, noise(3_000_001)),
	}
	for i := range 700 { // a directory of several blocks
		entries = append(entries, tree.File(fmt.Sprintf("usr/share/many/%03d-%s", i, strings.Repeat("n", i%40)), 0o644, noise(i*7)))
	}
	return mustTree(t, entries...)
}

func write(t testing.TB, tr tree.Tree, opts Options) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "root.erofs")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := Write(f, tr, opts)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := f.Stat(); info.Size() != size {
		t.Fatalf("Write says %d bytes, the file has %d", size, info.Size())
	}
	return name
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestFsck(t *testing.T) {
	image := write(t, sample(t), testOptions)
	run(t, "fsck.erofs", image)
	dump := run(t, "dump.erofs", "-s", image)
	for _, want := range []string{"c012ac1e-0000-0000-0000-000000000000", "Sun Sep 13 12:26:40 2020"} {
		if !strings.Contains(dump, want) {
			t.Errorf("dump.erofs does not say %q:\n%s", want, dump)
		}
	}
}

func TestSameBytes(t *testing.T) {
	var sums [2][32]byte
	for i := range sums {
		content, err := os.ReadFile(write(t, sample(t), testOptions))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(content)
	}
	if sums[0] != sums[1] {
		t.Error("two images of one tree differ")
	}
}

// expected is one line per entry of the tree, in the form of found.
func expected(t *testing.T, tr tree.Tree, withOwners bool) []string {
	var lines []string
	for e := range tr.All() {
		content, err := e.ReadFile()
		if err != nil {
			t.Fatal(err)
		}
		e.Xattrs = keepIf(e.Xattrs, withOwners)
		if !withOwners {
			e.UID, e.GID = 0, 0
		}
		lines = append(lines, line(e.Path, e.Mode, e.UID, e.GID, uint64(deviceNumber(e)), e.Target, content, e.Xattrs))
	}
	return lines
}

func keepIf(xattrs map[string][]byte, keep bool) map[string][]byte {
	if keep {
		return xattrs
	}
	return nil
}

func line(name string, mode fs.FileMode, uid, gid uint32, device uint64, target string, content []byte, xattrs map[string][]byte) string {
	return fmt.Sprintf("%s %v %d:%d dev %d -> %q sum %x cap %x note %s", name, mode, uid, gid, device, target,
		sha256.Sum256(content), xattrs["security.capability"], xattrs["user.note"])
}

// found walks a directory of the host in the tree's order.
func found(t *testing.T, dir string, withOwners bool) []string {
	byPath := map[string]string{}
	var entries []tree.Entry
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		stat := info.Sys().(*syscall.Stat_t)
		var target string
		var content []byte
		xattrs := map[string][]byte{}
		switch {
		case info.Mode().IsRegular():
			content, err = os.ReadFile(p)
		case info.Mode().Type() == fs.ModeSymlink:
			target, err = os.Readlink(p)
		}
		if err != nil {
			return err
		}
		if withOwners {
			for _, x := range []string{"security.capability", "user.note"} {
				buf := make([]byte, 64)
				if n, err := syscall.Getxattr(p, x, buf); err == nil && info.Mode().IsRegular() {
					xattrs[x] = buf[:n]
				}
			}
			if info.ModTime().Unix() != int64(testOptions.Time) {
				t.Errorf("%s has time %v", name, info.ModTime())
			}
		} else {
			stat.Uid, stat.Gid = 0, 0
		}
		device := uint64(0)
		if info.Mode()&fs.ModeDevice != 0 {
			device = stat.Rdev
		}
		byPath[name] = line(name, info.Mode(), stat.Uid, stat.Gid, device, target, content, xattrs)
		entries = append(entries, tree.Directory(name, 0))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for e := range mustTree(t, entries...).All() {
		lines = append(lines, byPath[e.Path])
	}
	return lines
}

// The kernel reads back what was written; where it cannot be asked, because
// the test does not run as root or the kernel has no EROFS, fsck.erofs is.
func TestReadBack(t *testing.T) {
	tr := sample(t)
	image := write(t, tr, testOptions)
	dir := t.TempDir()
	if known, _ := os.ReadFile("/proc/filesystems"); os.Geteuid() == 0 && bytes.Contains(known, []byte("\terofs\n")) {
		run(t, "mount", "-t", "erofs", "-o", "ro,loop", image, dir)
		defer run(t, "umount", dir)
		if diff := cmp.Diff(expected(t, tr, true), found(t, dir, true)); diff != "" {
			t.Error(diff)
		}
		return
	}
	plain := tr.Filter(func(e tree.Entry) bool { return e.Mode&(fs.ModeDevice|fs.ModeNamedPipe) == 0 && e.Mode.IsRegular() })
	run(t, "fsck.erofs", "--no-preserve-owner", "--extract="+dir, write(t, plain, testOptions))
	if diff := cmp.Diff(expected(t, plain, false), found(t, dir, false)); diff != "" {
		t.Error(diff)
	}
}

// A changed file of unchanged size leaves all other files' blocks alone.
func TestFewBlocksChange(t *testing.T) {
	build := func(fill byte) []byte {
		entries := []tree.Entry{tree.File("b/changed", 0o755, bytes.Repeat([]byte{fill}, 20*BlockSize))}
		for _, name := range []string{"a/first", "c/last"} {
			entries = append(entries, tree.File(name, 0o755, bytes.Repeat([]byte(name), 50_000)))
		}
		content, err := os.ReadFile(write(t, mustTree(t, entries...), testOptions))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	one, two := build(1), build(2)
	changed := 0
	for i := 0; i < len(one); i += BlockSize {
		if !bytes.Equal(one[i:i+BlockSize], two[i:i+BlockSize]) {
			changed++
		}
	}
	if len(one) != len(two) || changed != 20 {
		t.Errorf("%d blocks changed, want 20", changed)
	}
}

func TestErrors(t *testing.T) {
	lying := func(size int64, content string) tree.Tree {
		return mustTree(t, tree.Entry{Path: "f", Mode: 0o644, Size: size, Source: tree.Bytes([]byte(content))})
	}
	failing, err := tree.HostFile("f", 0o644, "/proc/self/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	failing.Size = 10_000
	fat := tree.File("f", 0o644, nil)
	fat.Xattrs = map[string][]byte{"user.x": make([]byte, 70_000)}
	for name, test := range map[string]struct {
		tree tree.Tree
		want string
	}{
		"empty":        {tree.Tree{}, "the tree is empty"},
		"short inline": {lying(9, "short"), "does not have the 9 bytes"},
		"long inline":  {lying(2, "long"), "does not have the 2 bytes"},
		"short blocks": {lying(90_000, strings.Repeat("x", 80_000)), "does not have the 90000 bytes"},
		"long blocks":  {lying(90_000, strings.Repeat("x", 90_001)), "does not have the 90000 bytes"},
		"changed file": {mustTree(t, failing), "does not have the 10000 bytes"},
		"large xattr":  {mustTree(t, fat), "extended attributes"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "x"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			_, err = Write(f, test.tree, testOptions)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if _, err := Write(full, lying(3, "abc"), testOptions); err == nil {
		t.Error("a full disk went unnoticed")
	}
}

// BenchmarkWrite writes the image of a directory of the host, of
// COMPARE_TREE when it is set.
func BenchmarkWrite(b *testing.B) {
	dir := os.Getenv("COMPARE_TREE")
	if dir == "" {
		dir = "/usr/bin"
	}
	tr, err := tree.FromDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(tr.Size())
	var image string
	for b.Loop() {
		image = write(b, tr, testOptions)
	}
	if info, err := os.Stat(image); err == nil {
		b.ReportMetric(float64(info.Size()), "image-bytes")
	}
}

// A large file that grows moves the large files behind it by whole alignments;
// the digests under one block of the hash tree then stay together.
func TestLargeFilesAligned(t *testing.T) {
	build := func(first int) []byte {
		var entries []tree.Entry
		for i, size := range []int{first, 3*Alignment + 1, 100, LargeFile} {
			content := bytes.Repeat([]byte{byte('a' + i)}, size)
			entries = append(entries, tree.File(fmt.Sprintf("%d", i), 0o755, content), tree.File(fmt.Sprintf("%d-small", i), 0o644, content[:100]))
		}
		image := write(t, mustTree(t, entries...), testOptions)
		run(t, "fsck.erofs", image)
		content, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	starts := func(image []byte) (at []int) {
		for _, letter := range []byte("abd") {
			at = append(at, bytes.Index(image, bytes.Repeat([]byte{letter}, 2*BlockSize)))
		}
		return at
	}
	one, two := build(2*Alignment), build(2*Alignment+BlockSize+5)
	for _, image := range [][]byte{one, two} {
		for i, at := range starts(image) {
			if at < 0 || at%Alignment != 0 {
				t.Errorf("large file %d starts at %d", i, at)
			}
		}
	}
	if diff := cmp.Diff([]int{Alignment, 3 * Alignment, 7 * Alignment}, starts(one)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{Alignment, 4 * Alignment, 8 * Alignment}, starts(two)); diff != "" {
		t.Error(diff)
	}
}
