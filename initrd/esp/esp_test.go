package esp

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// loop gives a file a block device until the end of the test.
func loop(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", device).CombinedOutput(); err != nil {
			t.Errorf("losetup -d: %v: %s", err, out)
		}
	})
	return device
}

// open is Open with ext4, which every test machine's kernel has.
func open(device string) (*FS, error) {
	fd, err := mount("ext4", device)
	if err != nil {
		return nil, err
	}
	return &FS{root: os.NewFile(uintptr(fd), device)}, nil
}

func TestOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "esp")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 8<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", file).CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	device := loop(t, file)
	for i := range 2 {
		fs, err := open(device)
		if err != nil {
			t.Fatal(err)
		}
		name := fs.Path("EFI/Linux/../Linux/a")
		if got, err := os.ReadFile(name); i == 1 && string(got) != "content" {
			t.Errorf("when it is opened again: %q, %v", got, err)
		}
		if err := os.MkdirAll(fs.Path("EFI/Linux"), 0o700); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
			t.Error(err)
		}
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(mounts, []byte(device+" ")) {
			t.Errorf("others see the mount:\n%s", mounts)
		}
		if err := fs.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(name); err == nil {
			t.Errorf("%s is there after Close", name)
		}
	}
	if out, err := exec.Command("e2fsck", "-fn", file).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := open("/dev/does-not-exist"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no device: %v", err)
	}
	file := filepath.Join(t.TempDir(), "zero")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(loop(t, file)); err == nil || !strings.Contains(err.Error(), "invalid argument") {
		t.Errorf("no file system: %v", err)
	}
}
