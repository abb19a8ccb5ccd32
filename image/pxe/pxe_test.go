package pxe

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/coracle-os/coracle/image/live"
	"github.com/coracle-os/coracle/image/live/livetest"
)

func parts(t *testing.T) *live.Parts {
	t.Helper()
	p, err := live.Open(livetest.Image(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func read(t *testing.T, elem ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestWrite writes a set twice and has cpio read the root's archive.
func TestWrite(t *testing.T) {
	p, dir, again := parts(t), filepath.Join(t.TempDir(), "a", "b"), t.TempDir()
	for _, d := range []string{dir, again, again} {
		if err := Write(p, d); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range Names() {
		if !bytes.Equal(read(t, dir, name), read(t, again, name)) {
			t.Errorf("%s: two sets differ", name)
		}
	}
	if entries, err := os.ReadDir(again); err != nil || len(entries) != len(Names()) {
		t.Errorf("the directory has %v, %v", entries, err)
	}
	if !bytes.Equal(read(t, dir, KernelName), p.Kernel) || !bytes.Equal(read(t, dir, InitrdName), p.Initrd) {
		t.Error("kernel or initrd is another")
	}
	decoder, err := zstd.NewReader(bytes.NewReader(read(t, dir, RootName)), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	unpacked := t.TempDir()
	cpio := exec.Command("cpio", "-i", "-d", "--quiet")
	cpio.Dir, cpio.Stdin = unpacked, decoder
	if out, err := cpio.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v: %s", err, out)
	}
	root, err := io.ReadAll(io.NewSectionReader(p.Root, 0, p.Root.Size()))
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := io.ReadAll(io.NewSectionReader(p.Hashes, 0, p.Hashes.Size()))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"root.erofs": root, "root.verity": hashes, "coracle.efi": p.UKI, "systemd-bootx64.efi": p.Loader} {
		if !bytes.Equal(read(t, unpacked, "coracle", name), want) {
			t.Errorf("%s in the archive is another", name)
		}
	}
}

func TestScript(t *testing.T) {
	p := parts(t)
	script := Script(p)
	for _, want := range []string{
		"#!ipxe\n", "kernel vmlinuz initrd=initrd.cpio.zst initrd=root.cpio.zst roothash=" + p.RootHash + " ", " coracle.live=memory ",
		"${coracle-args}", "\ninitrd initrd.cpio.zst ", "\ninitrd root.cpio.zst ", "\nboot ",
	} {
		if !strings.Contains(script, want) {
			t.Errorf("the script has no %q:\n%s", want, script)
		}
	}
}

func TestFullDisk(t *testing.T) {
	p := parts(t)
	dir := t.TempDir()
	for _, name := range Names() {
		if err := os.Symlink("/dev/full", filepath.Join(dir, name+".new")); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(p, dir); err == nil || !strings.Contains(err.Error(), KernelName) {
		t.Errorf("%v, want one that names %s", err, KernelName)
	}
	if _, err := os.Stat(filepath.Join(dir, KernelName)); !os.IsNotExist(err) {
		t.Errorf("a file that is not whole was left: %v", err)
	}
}
