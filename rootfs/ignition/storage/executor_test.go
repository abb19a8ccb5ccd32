package storage

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/coracle-os/coracle/initrd/luks"
	"github.com/coracle-os/coracle/rootfs/ignition"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// newExecutor has one disk /dev/vdb, a file, on which prepare was run.
func newExecutor(t *testing.T, prepare ...string) (*Executor, string) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"dev", "sys/class/block", "proc/self", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	disk := filepath.Join(root, "dev/vdb")
	if err := os.Rename(image(t, 64<<20), disk); err != nil {
		t.Fatal(err)
	}
	if len(prepare) > 0 {
		runProgram(t, "", prepare[0], append(prepare[1:], disk)...)
	}
	e := &Executor{System: System{Root: root, DeviceTimeout: 50 * time.Millisecond, Say: func(string) {}, LoadModule: func(string) error { return nil },
		Run: func(ctx context.Context, name string, args ...string) error {
			return exec.CommandContext(ctx, name, args...).Run()
		}},
		Contents: func(context.Context, types.Resource) ([]byte, error) { return nil, nil }}
	return e, disk
}

// TestNothingIsLost: what a disk holds is kept unless the config says not to.
func TestNothingIsLost(t *testing.T) {
	ext4 := []string{"mkfs.ext4", "-q", "-F", "-L", "old"}
	filesystem := func(format, label string, wipe bool) plan.Action {
		return ignition.MakeFilesystem{Filesystem: types.Filesystem{Device: "/dev/vdb", Format: &format, Label: &label, WipeFilesystem: &wipe}}
	}
	disk := func(wipe bool) plan.Action {
		return ignition.Partition{Disk: types.Disk{Device: "/dev/vdb", WipeTable: &wipe, Partitions: []types.Partition{{Number: 1, Label: ptr("a")}}}}
	}
	for _, tt := range []struct {
		name    string
		prepare []string
		action  plan.Action
		want    string // kind and label after it
		changed bool
		err     string
	}{
		{"an empty disk", nil, filesystem("ext4", "new", false), "ext4 new", true, ""},
		{"the right one", ext4, filesystem("ext4", "old", false), "ext4 old", false, ""},
		{"the right one, any label", ext4, filesystem("ext4", "", false), "ext4 old", false, ""},
		{"another label", ext4, filesystem("ext4", "new", false), "ext4 old", false, `labelled "old"; set wipeFilesystem`},
		{"another kind", ext4, filesystem("vfat", "", false), "ext4 old", false, `holds ext4 "old", not vfat; set wipeFilesystem`},
		{"another kind with leave", ext4, filesystem("vfat", "NEW", true), "vfat NEW", true, ""},
		{"none", ext4, filesystem("none", "", false), "ext4 old", false, "not none"},
		{"none with leave", ext4, filesystem("none", "", true), " ", true, ""},
		{"swap", nil, filesystem("swap", "s", false), "swap s", true, ""},
		{"partitions over a file system", ext4, disk(false), "ext4 old", false, "holds ext4 and no GPT; set wipeTable"},
		{"with leave", ext4, disk(true), "gpt ", true, ""},
		{"partitions over others", []string{"sgdisk", "-n", "1:0:0", "-c", "1:b"}, disk(false), "gpt ", false, "set wipePartitionEntry"},
		{"partitions that are there", []string{"sgdisk", "-n", "1:0:0", "-c", "1:a"}, disk(false), "gpt ", false, ""},
		{"the system's disk", []string{"sgdisk", "-n", "1:0:0", "-c", "1:root-A-verity"}, disk(true), "gpt ", false, "holds Coracle itself"},
		{"RAID over a file system", ext4, ignition.MakeRAID{Raid: types.Raid{Name: "r", Level: ptr("raid1"), Devices: []types.Device{"/dev/vdb"}}}, "ext4 old", false, `holds ext4 "old"; wipe its disk's table`},
		{"LUKS over a file system", ext4, ignition.MakeLUKS{Luks: types.Luks{Name: "l", Device: ptr("/dev/vdb")}}, "ext4 old", false, "set wipeVolume to true"},
		{"no such disk", nil, ignition.MakeFilesystem{Filesystem: types.Filesystem{Device: "/dev/vdz", Format: ptr("ext4")}}, " ", false, "device /dev/vdz: it did not appear within"},
	} {
		e, node := newExecutor(t, tt.prepare...)
		changed, known, err := e.Do(context.Background(), tt.action)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || changed != tt.changed || !known {
			t.Errorf("%s: changed %t, %v, want %q", tt.name, changed, err, tt.err)
		}
		found, err := e.probe(node)
		if got := found.Kind + " " + found.Label; err != nil || got != tt.want {
			t.Errorf("%s: the disk holds %q, want %q; %v", tt.name, got, tt.want, err)
		}
	}
}

func TestInUse(t *testing.T) {
	e, _ := newExecutor(t)
	write := func(path, text string) {
		path = filepath.Join(e.Root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("sys/class/block/vdb/vdb1/x", "")
	write("sys/class/block/vdb1/dev", "254:17\n")
	write("sys/class/block/vdc/holders/md127/x", "")
	write("sys/class/block/vdd/dev", "254:48\n")
	write("proc/self/mountinfo", "30 1 254:17 / /var/data rw - ext4 /dev/vdb1 rw\n")
	write("proc/swaps", "Filename Type Size Used Priority\n/dev/vdd partition 1 0 -2\n")
	for node, want := range map[string]string{"/dev/vdb": "vdb1 is mounted on /var/data", "/dev/vdc": "in use by md127", "/dev/vdd": "swapped to", "/dev/vde": ""} {
		err := e.InUse(node)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", node, err, want)
		}
	}
}

func TestLinks(t *testing.T) {
	e, _ := newExecutor(t, "mkfs.ext4", "-q", "-F", "-L", "a b", "-U", "6d1fd4ea-4a3b-4c1e-9d3c-0f6b6a8c1d11")
	dir := filepath.Join(e.Root, "sys/class/block/vdb")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"uevent": "MAJOR=254\nPARTNAME=data\nPARTUUID=x-y\n", "serial": "disk1\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := e.Links(); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"by-partlabel/data", "by-partuuid/x-y", `by-label/a\x20b`, "by-uuid/6d1fd4ea-4a3b-4c1e-9d3c-0f6b6a8c1d11", "by-id/virtio-disk1"} {
		if target, err := os.Readlink(filepath.Join(e.Root, "dev/disk", link)); err != nil || target != "../../vdb" {
			t.Errorf("%s: %q, %v", link, target, err)
		}
	}
}

// TestGeneratedKey: a volume without a key file gets a random one, which the
// next boot finds. Opening a file by device-mapper fails on every machine.
func TestGeneratedKey(t *testing.T) {
	e, disk := newExecutor(t)
	step := ignition.MakeLUKS{Luks: types.Luks{Name: "l", Device: ptr("/dev/vdb"), Label: ptr("vault")}}
	for range 2 {
		if _, _, err := e.Do(context.Background(), step); err == nil || !strings.Contains(err.Error(), "open LUKS volume l") {
			t.Errorf("open: %v", err)
		}
		key, err := os.ReadFile(filepath.Join(e.Root, "etc/luks/l"))
		if err != nil || len(key) != 4096 {
			t.Fatalf("key of %d bytes, %v", len(key), err)
		}
		f, err := os.Open(disk)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		h, err := luks.Read(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Unlock(f, key); err != nil || h.Label != "vault" {
			t.Errorf("volume %q: %v", h.Label, err)
		}
	}
	runProgram(t, "", "cryptsetup", "open", "--test-passphrase", "--key-file", filepath.Join(e.Root, "etc/luks/l"), disk)
}
