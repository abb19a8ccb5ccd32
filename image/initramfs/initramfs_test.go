package initramfs

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/coracle-os/coracle/image/tree"
)

func sample(t *testing.T) tree.Tree {
	t.Helper()
	files, err := tree.New(
		tree.File("init", 0o755, bytes.Repeat([]byte("program"), 1000)),
		tree.File("empty", 0o600, nil),
		tree.Symlink("lib", "usr/lib"),
		tree.Directory("tmp", 0o777|fs.ModeSticky),
		tree.CharDevice("dev/console", 0o600, 5, 1),
	)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestWrite(t *testing.T) {
	var first, second bytes.Buffer
	if err := Write(&first, sample(t)); err != nil {
		t.Fatal(err)
	}
	if err := Write(&second, sample(t)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same tree gave different bytes")
	}
	decoder, err := zstd.NewReader(&first)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	archive, err := io.ReadAll(decoder)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]uint64{}
	for _, r := range records {
		modes[r.Name] = r.Mode
	}
	want := map[string]uint64{
		"init": 0o100755, "empty": 0o100600, "lib": 0o120777, "tmp": 0o041777, "dev": 0o040755, "dev/console": 0o020600,
	}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
}

// TestCpioReadsIt unpacks an archive with another implementation of the format.
func TestCpioReadsIt(t *testing.T) {
	cpioPath, err := exec.LookPath("cpio")
	if err != nil {
		t.Fatal(err)
	}
	// Only root may unpack a device.
	files := sample(t).Filter(func(entry tree.Entry) bool { return entry.Mode&fs.ModeDevice == 0 })
	var packed bytes.Buffer
	if err := Write(&packed, files); err != nil {
		t.Fatal(err)
	}
	decoder, err := zstd.NewReader(&packed)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	dir := t.TempDir()
	cmd := exec.Command(cpioPath, "-idm", "--quiet")
	cmd.Dir, cmd.Stdin = dir, decoder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	if target, err := os.Readlink(filepath.Join(dir, "lib")); err != nil || target != "usr/lib" {
		t.Errorf("lib leads to %q, %v", target, err)
	}
	if content, err := os.ReadFile(filepath.Join(dir, "init")); err != nil || len(content) != 7000 {
		t.Errorf("init has %d bytes, %v", len(content), err)
	}
}
