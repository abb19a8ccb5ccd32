package target

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/image/gpt"
)

// memory is a disk that stops taking writes after some of them.
type memory struct {
	content []byte
	left    int // writes; negative is no bound
}

var errCut = errors.New("power cut")

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	return bytes.NewReader(m.content).ReadAt(b, at)
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if m.left == 0 {
		return 0, errCut
	}
	m.left--
	return copy(m.content[at:], b), nil
}

func (m *memory) Sync() error { return nil }

func testLayout(t *testing.T) gpt.Layout {
	t.Helper()
	const mib = 1 << 20
	l, err := gpt.Plan(gpt.Sizes{BIOSBoot: mib, ESP: mib, Root: 2 * mib, RootVerity: mib, OEM: mib, State: mib}, make([]byte, 32), "seed")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestCutLeavesNoTable cuts an installation after each of its writes: there is
// no partition table until the last of the content is there.
func TestCutLeavesNoTable(t *testing.T) {
	l := testLayout(t)
	content := bytes.Repeat([]byte("content!"), 300<<10)
	part, _ := l.Find(gpt.RootA)
	for cut := 0; ; cut++ {
		m := &memory{content: bytes.Repeat([]byte{0xa5}, int(l.Size)+3<<20), left: -1}
		d := &Disk{Name: "disk", File: m, Size: int64(len(m.content))}
		old := l
		old.Size = d.Size
		if err := gpt.WriteTable(m, old); err != nil {
			t.Fatal(err)
		}
		m.left = cut
		err := d.Begin()
		begun := err == nil
		if begun {
			err = d.Write(context.Background(), part.Start, bytes.NewReader(content), 2<<20, func(int64) {})
		}
		written := err == nil
		if written {
			err = d.Finish(l, []byte("boot code"), func() error { return nil })
		}
		layout, readErr := gpt.Read(m, d.Size)
		switch {
		case err == nil:
			if readErr != nil || layout.FromBackup || len(layout.Partitions) != 8 || !bytes.HasPrefix(m.content, []byte("boot code")) {
				t.Fatalf("after all writes: %v, %+v", readErr, layout)
			}
			if got := m.content[part.Start:][:2<<20]; !bytes.Equal(got, content[:2<<20]) {
				t.Fatal("the content is not there")
			}
			if cut < 5 {
				t.Fatalf("all was done in %d writes", cut)
			}
			return
		case !strings.Contains(err.Error(), errCut.Error()): // go-diskfs does not wrap
			t.Fatalf("cut after %d: %v", cut, err)
		case begun && !written && readErr == nil:
			t.Errorf("cut after %d writes, in the content: the disk has a partition table", cut)
		}
	}
}

// TestZerosAreWritten: a disk that is not empty must not shine through.
func TestZerosAreWritten(t *testing.T) {
	m := &memory{content: bytes.Repeat([]byte{0xa5}, 8<<20), left: -1}
	d := &Disk{Name: "disk", File: m, Size: 8 << 20}
	content := make([]byte, 5<<20+100)
	content[3<<20+5] = 1
	if err := d.Write(context.Background(), 1<<20, bytes.NewReader(content), int64(len(content)), func(int64) {}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.content[1<<20:][:len(content)], content) || m.content[1<<20-1] != 0xa5 || m.content[1<<20+len(content)] != 0xa5 {
		t.Error("the disk does not hold what was written, or more")
	}
	err := d.Write(context.Background(), 0, bytes.NewReader(content[:10]), 11, func(int64) {})
	if err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("too little to write: %v", err)
	}
}

func TestTooSmall(t *testing.T) {
	l := testLayout(t)
	d := &Disk{Name: "disk", Size: l.Size - 1}
	if err := d.Fits(l); !errors.Is(err, ErrTooSmall) {
		t.Errorf("%v, want %v", err, ErrTooSmall)
	}
	d.Size++
	if err := d.Fits(l); err != nil {
		t.Error(err)
	}
}

func TestCheckFails(t *testing.T) {
	m := &memory{content: make([]byte, 16<<20), left: -1}
	d := &Disk{Name: "disk", File: m, Size: 16 << 20}
	if err := d.Finish(testLayout(t), nil, func() error { return errCut }); !errors.Is(err, errCut) {
		t.Errorf("%v, want %v", err, errCut)
	}
	if !bytes.Equal(m.content, make([]byte, 16<<20)) {
		t.Error("a disk that is not good got a partition table")
	}
}

func TestInUse(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The paths are those of /dev, which need not be there for real disks only.
	write("sys/class/block/null/size", "1")
	write("sys/class/block/null/zero/partition", "1")
	in := func() error { return InUse(filepath.Join(root, "sys"), filepath.Join(root, "proc"), "/dev/null") }
	if err := in(); err != nil {
		t.Errorf("a free disk: %v", err)
	}
	for _, c := range []struct{ file, text, want string }{
		{"proc/mounts", "/dev/zero /mnt ext4 rw 0 0\n", "zero is mounted on /mnt"},
		{"proc/mounts", "/dev/null / ext4 rw 0 0\n", "null is mounted on /"},
		{"proc/swaps", "Filename Type\n/dev/zero partition 1 0 -2\n", "zero is swapped to"},
		{"sys/class/block/zero/holders/md0", "", "zero is part of md0"},
		{"sys/class/block/loop3/loop/backing_file", "/dev/null\n", "null is behind loop3"},
	} {
		write(c.file, c.text)
		if err := in(); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.file, err, c.want)
		}
		if err := os.Remove(filepath.Join(root, c.file)); err != nil {
			t.Fatal(err)
		}
	}
	write("sys/class/block/null/partition", "1")
	if err := in(); err == nil || !strings.Contains(err.Error(), "name the whole disk") {
		t.Errorf("a partition: %v", err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{dir, "/dev/null", filepath.Join(dir, "none")} {
		if _, _, err := Open(name); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	file := filepath.Join(dir, "disk")
	if err := os.WriteFile(file, bytes.Repeat([]byte{1}, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	d, done, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := done(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || len(got) != 4<<20 || got[0] != 0 || got[1<<20] != 1 || got[4<<20-1] != 0 {
		t.Errorf("both ends must be zero, the middle as it was: %v, %d bytes", err, len(got))
	}
}

// TestMount writes into a file system inside a file and reads it with debugfs.
// It needs root's rights for the loop device, as the installer does.
func TestMount(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	part := filepath.Join(dir, "part")
	const offset, size = 1 << 20, 16 << 20
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		return string(out)
	}
	run("truncate", "-s", "16M", part)
	run("mke2fs", "-q", "-t", "ext4", part)
	content, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	whole := append(make([]byte, offset), append(content, make([]byte, 1<<20)...)...)
	if err := os.WriteFile(disk, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	err = Mount(disk, offset, size, func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cloud-config.yml"), []byte("#cloud-config\n"), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	whole, err = os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(part, whole[offset:][:size], 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run("debugfs", "-R", "cat cloud-config.yml", part); !strings.Contains(got, "#cloud-config\n") {
		t.Errorf("the file system has %q", got)
	}
	run("e2fsck", "-fn", part)
	if err := Mount(disk, 0, 1<<20, func(string) error { return nil }); err == nil {
		t.Error("a range without a file system: no error")
	}
}
