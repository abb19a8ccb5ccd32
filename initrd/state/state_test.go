package state

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// privateMounts gives the test a mount namespace of its own. The thread is
// never given back, so that no other test runs in it.
func privateMounts(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// makeFS makes an image with an ext4 file system.
func makeFS(t *testing.T, mib int64, options ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, mib<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mke2fs", append(append([]string{"-q", "-F", "-t", "ext4"}, options...), path)...)
	return path
}

func TestReadSuperblock(t *testing.T) {
	tests := []struct {
		name     string
		path     string
		debugfs  string
		want     Superblock
		wantText string
	}{
		{name: "4 KiB blocks", path: makeFS(t, 16, "-b", "4096"), want: Superblock{4096, 4096, true}},
		{name: "1 KiB blocks, 64 bit", path: makeFS(t, 16, "-b", "1024", "-O", "64bit"), want: Superblock{16384, 1024, true}},
		{name: "errors", path: makeFS(t, 16, "-b", "4096"), debugfs: "set_super_value state 2", want: Superblock{4096, 4096, false}},
		{name: "valid but with errors", path: makeFS(t, 16, "-b", "4096"), debugfs: "set_super_value state 3", want: Superblock{4096, 4096, false}},
		{name: "in use without a journal", path: makeFS(t, 16, "-b", "4096"), debugfs: "set_super_value state 0", want: Superblock{4096, 4096, false}},
		{name: "strange block size", path: makeFS(t, 16), debugfs: "set_super_value log_block_size 60", wantText: "2^70"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.debugfs != "" {
				run(t, "debugfs", "-w", "-R", test.debugfs, test.path)
			}
			file, err := os.Open(test.path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			got, err := ReadSuperblock(file)
			if test.wantText != "" {
				if !errors.Is(err, ErrNotExt4) || !strings.Contains(err.Error(), test.wantText) {
					t.Fatalf("got error %v, want %v with %q", err, ErrNotExt4, test.wantText)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
	if _, err := ReadSuperblock(strings.NewReader(strings.Repeat("\x00", 4096))); !errors.Is(err, ErrNotExt4) {
		t.Errorf("zeros: got %v, want %v", err, ErrNotExt4)
	}
	if _, err := ReadSuperblock(strings.NewReader("short")); err == nil {
		t.Error("a device that ends before the superblock is no error")
	}
}

func TestGrown(t *testing.T) {
	s := Superblock{Blocks: 65536, BlockSize: 4096} // 256 MiB
	tests := []struct {
		size int64
		want bool
	}{
		{256 << 20, false}, {255 << 20, false}, {256<<20 + 4096, false}, {300 << 20, true}, {20 << 30, true},
	}
	for _, test := range tests {
		if blocks, got := s.grown(test.size); got != test.want || blocks != uint64(test.size/4096) {
			t.Errorf("%d bytes: got %d, %v; want %v", test.size, blocks, got, test.want)
		}
	}
}

// TestMount mounts real file systems of a loop device and checks them with this
// machine's e2fsck. It needs root.
func TestMount(t *testing.T) {
	tests := []struct {
		name       string
		spoil      func(t *testing.T, path string)
		wantNotice string
		wantErr    error
	}{
		{name: "clean"},
		{name: "errors that can be repaired", wantNotice: "not left clean; e2fsck repaired it",
			spoil: func(t *testing.T, path string) {
				run(t, "debugfs", "-w", "-R", "set_super_value state 2", path)
			}},
		{name: "errors that cannot be repaired safely", wantErr: ErrUnrepaired,
			spoil: func(t *testing.T, path string) {
				run(t, "debugfs", "-w", "-R", "clri <2>", path) // no root directory
				run(t, "debugfs", "-w", "-R", "set_super_value state 2", path)
			}},
		{name: "no file system", wantErr: ErrNotExt4,
			spoil: func(t *testing.T, path string) {
				run(t, "dd", "if=/dev/zero", "of="+path, "bs=64k", "count=1", "conv=notrunc")
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			privateMounts(t)
			path := makeFS(t, 16)
			if test.spoil != nil {
				test.spoil(t, path)
			}
			loop := run(t, "losetup", "--find", "--show", path)
			defer run(t, "losetup", "--detach", loop)
			target := t.TempDir()
			mounted, err := Mount(context.Background(), loop, "/", target)
			if !errors.Is(err, test.wantErr) {
				t.Fatalf("got error %v, want %v", err, test.wantErr)
			}
			if notices := strings.Join(mounted.Notices, "\n"); !strings.Contains(notices, test.wantNotice) || (test.wantNotice == "" && notices != "") {
				t.Errorf("got notices %q, want %q", notices, test.wantNotice)
			}
			if err != nil {
				return
			}
			defer unix.Unmount(target, 0)
			if err := os.WriteFile(target+"/file", nil, 0o644); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMountMissingDevice(t *testing.T) {
	if _, err := Mount(context.Background(), "/dev/does-not-exist", "/", t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func TestMountVolatile(t *testing.T) {
	privateMounts(t)
	target := t.TempDir()
	if err := MountVolatile(target); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(target, 0)
	if err := os.WriteFile(target+"/file", nil, 0o644); err != nil {
		t.Error(err)
	}
}

// TestFresh has the kernel mount a file system once.
func TestFresh(t *testing.T) {
	path := makeFS(t, 16)
	fresh := func() bool {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return Fresh(f)
	}
	if !fresh() {
		t.Error("a new file system is not fresh")
	}
	privateMounts(t)
	target := t.TempDir()
	run(t, "mount", "-o", "loop", path, target)
	run(t, "umount", target)
	if fresh() {
		t.Error("a file system that was mounted is fresh")
	}
	if Fresh(strings.NewReader(strings.Repeat("\x00", 4096))) {
		t.Error("zeros are a fresh file system")
	}
}
