package live

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/image/livename"
	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/initrd/cmdline"
	"github.com/coracle-os/coracle/initrd/dmverity"
)

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// root makes the files of a root in a directory.
func root(t *testing.T) (dir string, hash [32]byte) {
	t.Helper()
	dir = t.TempDir()
	data := bytes.Repeat([]byte("coracle!"), 64<<10)
	write(t, filepath.Join(dir, livename.Root), data)
	hashes, err := os.Create(filepath.Join(dir, livename.Hashes))
	if err != nil {
		t.Fatal(err)
	}
	defer hashes.Close()
	sum, err := verity.Format(bytes.NewReader(data), int64(len(data)), hashes, verity.Superblock{Salt: verity.Salt()})
	if err != nil {
		t.Fatal(err)
	}
	return dir, [32]byte(sum)
}

func TestIn(t *testing.T) {
	dir, hash := root(t)
	if files, err := In(dir, hash); err != nil || files.Root != filepath.Join(dir, "root.erofs") {
		t.Errorf("%+v, %v", files, err)
	}
	if _, err := In(dir, [32]byte{1}); !errors.Is(err, dmverity.ErrWrongRoot) {
		t.Errorf("another root hash: %v", err)
	}
	if err := os.Truncate(filepath.Join(dir, livename.Root), 8192); err != nil {
		t.Fatal(err)
	}
	if _, err := In(dir, hash); !errors.Is(err, dmverity.ErrCutOff) {
		t.Errorf("a root that is cut off: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, livename.Hashes)); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, t.TempDir()} {
		if _, err := In(d, hash); !errors.Is(err, ErrNoFiles) {
			t.Errorf("files are missing: %v", err)
		}
	}
}

// TestAttach reads a file through the loop device that the kernel makes of it,
// also when its name is gone, as it is after stage 1.
func TestAttach(t *testing.T) {
	content := bytes.Repeat([]byte("block of the root"), 4096)[:64<<10]
	file := write(t, filepath.Join(t.TempDir(), "root"), content)
	device, err := Attach(file)
	if err != nil {
		t.Fatal(err)
	}
	loop, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	defer unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(loop); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%s has %d bytes, %v", device, len(got), err)
	}
	if f, err := os.OpenFile(device, os.O_WRONLY, 0); err == nil {
		if _, err := f.Write(content); err == nil && f.Sync() == nil {
			t.Error("the device can be written to")
		}
		f.Close()
	}
	if _, err := Attach(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestParseState(t *testing.T) {
	for _, c := range []struct {
		line, kind string
		want       State
		err        string
	}{
		{"", livename.Memory, State{Label: "STATE"}, ""},
		{"", livename.Medium, State{Memory: true}, ""},
		{"coracle.install=/dev/sda", livename.Memory, State{Memory: true}, ""},
		{"coracle.state=memory", livename.Memory, State{Memory: true, Wanted: true}, ""},
		{"coracle.state=LABEL=DATA", livename.Medium, State{Label: "DATA", Wanted: true}, ""},
		{"coracle.state=/dev/sdb", livename.Memory, State{Device: "/dev/sdb", Wanted: true}, ""},
		{"coracle.state=/dev/sdb coracle.state-format", livename.Memory, State{Device: "/dev/sdb", Wanted: true, Format: true}, ""},
		{"coracle.state=/dev/sdb coracle.state-format=no", livename.Memory, State{Device: "/dev/sdb", Wanted: true}, ""},
		{"coracle.state-format", livename.Memory, State{}, "add coracle.state=/dev/NAME"},
		{"coracle.state=sdb", livename.Memory, State{}, "write memory, LABEL=NAME or /dev/NAME"},
		{"coracle.state=LABEL=", livename.Memory, State{}, "write memory"},
	} {
		got, err := ParseState(cmdline.Parse(c.line), c.kind)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.line, err, c.err)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%q, %s: %+v, %v; want %+v", c.line, c.kind, got, err, c.want)
		}
	}
}

func TestNodes(t *testing.T) {
	sys := t.TempDir()
	for _, name := range []string{"sda", "sda1", "sr0", "loop0", "dm-0", "cciss!c0d0", "zram0"} {
		write(t, filepath.Join(sys, "class/block", name, "size"), nil)
	}
	got, err := Nodes(sys, "/dev")
	if diff := cmp.Diff([]string{"/dev/cciss/c0d0", "/dev/sda", "/dev/sda1", "/dev/sr0"}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestLabels has file systems that Debian's programs made.
func TestLabels(t *testing.T) {
	dir := t.TempDir()
	name := func(s string) string { return filepath.Join(dir, s) }
	for label, file := range map[string]string{"STATE": "state", "OTHER": "other", "": "none"} {
		run(t, "mke2fs", "-q", "-t", "ext4", "-L", label, name(file), "8M")
	}
	tree := t.TempDir()
	write(t, filepath.Join(tree, "a"), nil)
	for label, file := range map[string]string{"CORACLE": "coracle.iso", "CORACLE2": "other.iso"} {
		run(t, "genisoimage", "-quiet", "-V", label, "-o", name(file), tree)
	}
	write(t, name("short"), []byte("x"))
	write(t, name("zero"), make([]byte, 1<<20))
	all := []string{name("gone"), name("short"), name("zero"), name("none"), name("other"), name("other.iso"), name("coracle.iso"), name("state")}
	if got, ok := ByLabel(all, "STATE"); !ok || got != name("state") {
		t.Errorf("STATE is on %q", got)
	}
	if got, ok := ByLabel(all, "NOWHERE"); ok {
		t.Errorf("NOWHERE is on %q", got)
	}
	if diff := cmp.Diff([]string{name("coracle.iso")}, Media(all)); diff != "" {
		t.Errorf("media (-want +got):\n%s", diff)
	}
}

func TestEmpty(t *testing.T) {
	const size = 8 << 20
	for _, c := range []struct {
		at    int
		empty bool
	}{{-1, true}, {0, false}, {1080, false}, {4<<20 - 1, false}, {size - 1, false}, {size - 1<<20, false}, {6 << 20, true}} {
		content := make([]byte, size)
		if c.at >= 0 {
			content[c.at] = 0xff
		}
		if err := Empty(bytes.NewReader(content)); (err == nil) != c.empty || (err != nil && !errors.Is(err, ErrNotEmpty)) {
			t.Errorf("a byte at %d: %v", c.at, err)
		}
	}
	if err := Empty(bytes.NewReader(nil)); err != nil {
		t.Errorf("no bytes at all: %v", err)
	}
}

func TestCopyBootFiles(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "a")
	if whole, err := CopyBootFiles(from, to); whole || err != nil {
		t.Errorf("nothing to copy: %v, %v", whole, err)
	}
	write(t, filepath.Join(from, livename.UKI), []byte("uki"))
	if whole, err := CopyBootFiles(from, to); whole || err != nil {
		t.Errorf("a part: %v, %v", whole, err)
	}
	write(t, filepath.Join(from, livename.Loader), []byte("loader"))
	if whole, err := CopyBootFiles(from, to); !whole || err != nil {
		t.Errorf("all: %v, %v", whole, err)
	}
	if got, err := os.ReadFile(filepath.Join(to, livename.UKI)); err != nil || string(got) != "uki" {
		t.Errorf("%q, %v", got, err)
	}
}
