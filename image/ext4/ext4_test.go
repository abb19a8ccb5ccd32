package ext4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/tree"
)

func testOptions(t *testing.T, content bool) Options {
	o := Options{
		Label: "STATE", UUID: "7f3a3f5e-0b5c-4a51-9d9c-0c0ffee0c0de", HashSeed: "7f3a3f5e-0b5c-4a51-9d9c-0c0ffee0c0df",
		Time: time.Unix(1_600_000_000, 0), Growable: true,
	}
	if !content {
		return o
	}
	secret := tree.File("a dir/secret", 0o600, []byte("secret\n"))
	secret.UID, secret.GID = 500, 1_000_000
	tr, err := tree.New(secret, tree.File("cloud-config.yml", 0o644, bytes.Repeat([]byte("#cloud\n"), 5000)),
		tree.File("empty", 0o644, nil), tree.File("bin/su", 0o755|fs.ModeSetuid, []byte("su")),
		tree.Directory("tmp", 0o777|fs.ModeSticky), tree.Symlink("link", "a dir/secret"))
	if err != nil {
		t.Fatal(err)
	}
	o.Content = tr
	return o
}

func write1(t *testing.T, size int64, o Options) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fs.ext4")
	if err := Write(t.Context(), Exec, name, size, t.TempDir(), o); err != nil {
		t.Fatal(err)
	}
	return name
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestWrite(t *testing.T) {
	for _, content := range []bool{false, true} {
		o := testOptions(t, content)
		name := write1(t, 256<<20, o)
		output(t, "e2fsck", "-fn", name)
		head := strings.Join(strings.Fields(output(t, "dumpe2fs", "-h", name)), " ")
		for _, want := range []string{
			"volume name: STATE", "UUID: " + o.UUID, "Hash Seed: " + o.HashSeed, "Reserved GDT blocks: 1024",
			"metadata_csum", "resize_inode", "Block count: 65536", "Reserved block count: 0", "Inode count: 16384",
			"Filesystem created: Sun Sep 13 12:26:40 2020", "Last write time: Sun Sep 13 12:26:40 2020", "Total journal size: 32M",
		} {
			if !strings.Contains(head, want) {
				t.Errorf("dumpe2fs does not say %q:\n%s", want, head)
			}
		}
		info, err := os.Stat(name)
		if err != nil || info.Size() != 256<<20 {
			t.Fatalf("size is %d (%v)", info.Size(), err)
		}
		// The blocks that growing reserves are written as zeros, 4 MiB.
		if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 5<<20 {
			t.Errorf("the file takes %d bytes of disk; it is not sparse", used)
		}
	}
}

func TestContent(t *testing.T) {
	name := write1(t, 64<<20, testOptions(t, true))
	for path, want := range map[string][]string{
		"/a dir/secret":     {"regular", "Mode:  0600", "User:   500   Group: 1000000", "Size: 7", "mtime: 0x5f5e1000:00000000", "crtime: 0x5f5e1000:00000000"},
		"/bin/su":           {"Mode:  04755", "User:     0"},
		"/bin":              {"directory", "Mode:  0755"},
		"/tmp":              {"Mode:  01777"},
		"/link":             {"symlink", `Fast link dest: "a dir/secret"`},
		"/empty":            {"Size: 0"},
		"/":                 {"Mode:  0755", "mtime: 0x5f5e1000:00000000"},
		"/cloud-config.yml": {"Size: 35000"},
	} {
		got := output(t, "debugfs", "-R", `stat "`+path+`"`, name)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: %q is missing in\n%s", path, w, got)
			}
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	output(t, "debugfs", "-R", "dump /cloud-config.yml "+out, name)
	if got, err := os.ReadFile(out); err != nil || string(got) != strings.Repeat("#cloud\n", 5000) {
		t.Errorf("content came back as %d bytes (%v)", len(got), err)
	}
}

func TestSameBytes(t *testing.T) {
	var sums [2][sha256.Size]byte
	for i := range sums {
		content, err := os.ReadFile(write1(t, 64<<20, testOptions(t, true)))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(content)
		if i == 0 {
			time.Sleep(1100 * time.Millisecond) // so that a time taken from the clock would differ
		}
	}
	if sums[0] != sums[1] {
		t.Error("two file systems with the same options differ")
	}
}

// resize2fs grows a copy to 1 TiB. On a machine the kernel does it while the
// file system is mounted, from the same reserved descriptor blocks.
func TestGrows(t *testing.T) {
	name := write1(t, 256<<20, testOptions(t, true))
	if err := os.Truncate(name, 1<<40); err != nil {
		t.Fatal(err)
	}
	output(t, "e2fsck", "-fp", name)
	output(t, "resize2fs", name)
	output(t, "e2fsck", "-fn", name)
	if head := output(t, "dumpe2fs", "-h", name); !strings.Contains(head, "268435456") {
		t.Errorf("not 2^28 blocks:\n%s", head)
	}
}

func TestErrors(t *testing.T) {
	good := testOptions(t, false)
	long := good
	long.Label = "SEVENTEEN-LETTERS"
	quoted := good
	quoted.Content, _ = tree.New(tree.File(`a"b`, 0o644, nil))
	broken := errors.New("broken")
	fails := func(context.Context, []string, string, ...string) ([]byte, error) { return nil, broken }
	complains := func(_ context.Context, _ []string, name string, _ ...string) ([]byte, error) {
		return []byte("debugfs 1.47.0 (5-Feb-2023)\nwrite: Could not allocate block\n"), nil
	}
	for _, test := range []struct {
		name string
		run  Run
		size int64
		o    Options
		want string
	}{
		{"small", Exec, 1 << 20, good, "16 MiB at least"},
		{"odd", Exec, 64<<20 + 1, good, "multiple of 4096"},
		{"label", Exec, 64 << 20, long, "longer than 16"},
		{"quotes", Exec, 64 << 20, quoted, "cannot be written"},
		{"mke2fs", fails, 64 << 20, good, "broken"},
		{"debugfs", complains, 64 << 20, testOptions(t, true), "Could not allocate block"},
		{"uuid", Exec, 64 << 20, Options{UUID: "nonsense", HashSeed: good.HashSeed}, "mke2fs"},
	} {
		err := Write(t.Context(), test.run, filepath.Join(t.TempDir(), "x"), test.size, t.TempDir(), test.o)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", test.name, err, test.want)
		}
	}
	if _, err := Exec(t.Context(), nil, "no-such-program"); err == nil || !strings.Contains(err.Error(), "install e2fsprogs") {
		t.Errorf("a missing program: %v", err)
	}
}
