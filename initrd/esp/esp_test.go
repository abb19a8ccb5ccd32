package esp

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/initrd/partition"
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

// TestFind has disks with another system's EFI system partition beside ours, or
// with none: the one with Coracle's boot entries is taken, wherever it is.
func TestFind(t *testing.T) {
	device := func(files ...string) string {
		file := filepath.Join(t.TempDir(), "esp")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, 8<<20); err != nil {
			t.Fatal(err)
		}
		content := t.TempDir()
		for _, name := range files {
			path := filepath.Join(content, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-d", content, file).CombinedOutput(); err != nil {
			t.Fatalf("mke2fs: %v: %s", err, out)
		}
		return loop(t, file)
	}
	named := func(devices ...string) (d partition.Disk) {
		for _, device := range devices {
			d.Partitions = append(d.Partitions, partition.Partition{Name: PartitionName, Device: device})
		}
		d.Partitions = append(d.Partitions, partition.Partition{Name: "EFI System Partition", Device: "/dev/none"})
		return d
	}
	ours, other, empty := device("EFI/Linux/coracle-1.efi", "ours"), device("EFI/Linux/debian-6.12.efi", "EFI/BOOT/BOOTX64.EFI"), device("empty")
	for name, c := range map[string]struct {
		disk partition.Disk
		want string // a file of the one that is taken
	}{
		"alone":          {named(ours), "ours"},
		"first":          {named(ours, other), "ours"},
		"second":         {named(other, ours), "ours"},
		"after a broken": {named("/dev/null", empty, ours), "ours"},
		"no entries yet": {named("/dev/null", empty), "empty"},
		"all broken":     {named("/dev/null"), ""},
		"none":           {named(), ""},
	} {
		fs, err := find(c.disk, open)
		if c.want == "" {
			if err == nil || fs != nil {
				t.Errorf("%s: no error", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := os.Stat(fs.Path(c.want)); err != nil {
			t.Errorf("%s: another was taken: %v", name, err)
		}
		if want := map[string]string{"ours": ours, "empty": empty}[c.want]; fs.Partition.Device != want {
			t.Errorf("%s: it says that it is %q, not %q", name, fs.Partition.Device, want)
		}
		if err := fs.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
