package grow

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/coracle-os/coracle/initrd/partition"
	"golang.org/x/sys/unix"
)

// TestKernel grows a real block device with a mounted file system. It needs
// root and a loop device. The partition is made known by ioctl, since not every
// kernel reads partition tables of loop devices.
func TestKernel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, layout(t, 32*mib, 16), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 96*mib); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	loop := run("losetup", "--find", "--show", path)
	t.Cleanup(func() { run("losetup", "--detach", loop) })
	part := loop + "p8"
	blkpg(t, loop, unix.BLKPG_ADD_PARTITION, unix.BlkpgPartition{Start: 2 * mib, Length: 16 * mib, Pno: 8})
	t.Cleanup(func() { blkpg(t, loop, unix.BLKPG_DEL_PARTITION, unix.BlkpgPartition{Pno: 8}) })
	run("mke2fs", "-q", "-t", "ext4", part)
	mount := t.TempDir()
	run("mount", part, mount)
	t.Cleanup(func() {
		run("umount", mount)
		run("e2fsck", "-fn", part)
	})
	if err := os.WriteFile(mount+"/kept", []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}

	plan, err := Disk(loop, 512, 8, partition.ReadTable)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Index != 8 || !plan.MoveBackup {
		t.Errorf("plan %+v", plan)
	}
	file, err := os.Open(part)
	if err != nil {
		t.Fatal(err)
	}
	size, err := file.Seek(0, 2)
	file.Close()
	if err != nil || size != 93*mib {
		t.Fatalf("the kernel says that the partition has %d bytes (error %v), want %d", size, err, 93*mib)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(mount, &stat); err != nil {
		t.Fatal(err)
	}
	before := stat.Blocks
	if !mayResize(t) {
		if err := ResizeFS(mount, uint64(size)/uint64(stat.Bsize)); !errors.Is(err, unix.EPERM) {
			t.Fatalf("without CAP_SYS_RESOURCE: got %v, want %v", err, unix.EPERM)
		}
		return
	}
	for range 2 { // the second time changes nothing
		if err := ResizeFS(mount, uint64(size)/uint64(stat.Bsize)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Statfs(mount, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Blocks < 4*before {
		t.Errorf("the file system has %d blocks, before it was %d", stat.Blocks, before)
	}
	if data, err := os.ReadFile(mount + "/kept"); string(data) != "kept" {
		t.Errorf("a file did not survive: %q, %v", data, err)
	}
}

func blkpg(t *testing.T, device string, operation int32, partition unix.BlkpgPartition) {
	t.Helper()
	file, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	arg := unix.BlkpgIoctlArg{Op: operation, Datalen: int32(unsafe.Sizeof(partition)), Data: (*byte)(unsafe.Pointer(&partition))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		t.Fatalf("BLKPG operation %d on %s: %v", operation, device, errno)
	}
}

// mayResize tells whether this process has what ext4 wants for resizing. Some
// containers withhold it; a machine that boots the image has it.
func mayResize(t *testing.T) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	return sets[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
