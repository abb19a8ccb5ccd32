package storage

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func ptr[T any](v T) *T { return &v }

func image(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

func runProgram(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestProbe compares with the programs that make file systems.
func TestProbe(t *testing.T) {
	const id = "6d1fd4ea-4a3b-4c1e-9d3c-0f6b6a8c1d11"
	for _, tt := range []struct {
		make []string
		want Found
	}{
		{nil, Found{}},
		{[]string{"mkfs.ext4", "-q", "-F", "-L", "data", "-U", id}, Found{"ext4", "data", id}},
		{[]string{"mke2fs", "-q", "-F", "-t", "ext2", "-L", "old", "-U", id}, Found{"ext2", "old", id}},
		{[]string{"mke2fs", "-q", "-F", "-t", "ext3", "-L", "older", "-U", id}, Found{"ext3", "older", id}},
		{[]string{"mkfs.vfat", "-F", "32", "-n", "EFI", "-i", "1234abcd"}, Found{"vfat", "EFI", "1234-abcd"}},
		{[]string{"mkfs.vfat", "-F", "16", "-n", "FAT", "-i", "1234abcd"}, Found{"vfat", "FAT", "1234-abcd"}},
		{[]string{"mkswap", "-q", "-L", "swap", "-U", id}, Found{"swap", "swap", id}},
		{[]string{"sgdisk", "-n", "1:0:0"}, Found{Kind: "gpt"}},
		{[]string{"cryptsetup", "-q", "luksFormat", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--label", "l", "--uuid", id}, Found{"crypto_LUKS", "l", id}},
		{[]string{"cryptsetup", "-q", "luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--uuid", id}, Found{"crypto_LUKS", "", id}},
	} {
		path := image(t, 64<<20)
		if tt.make != nil {
			runProgram(t, "secret", tt.make[0], append(tt.make[1:], path)...)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := Probe(f, 64<<20)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.make, diff)
		}
	}
}

func TestPlanTable(t *testing.T) {
	g := Geometry{Size: 100 << 20, Sector: 512}
	part := func(index int, start, end uint64, name string) *gpt.Partition {
		return &gpt.Partition{Index: index, Start: start, End: end, Size: (end - start + 1) * 512, Type: linuxData, Name: name, GUID: "G"}
	}
	const m = 2048
	now := func() *gpt.Table {
		return &gpt.Table{LogicalSectorSize: 512, Partitions: []*gpt.Partition{part(1, m, 11*m-1, "one"), part(2, 20*m, 30*m-1, "two")}}
	}
	for _, tt := range []struct {
		name    string
		now     *gpt.Table
		disk    types.Disk
		want    []*gpt.Partition
		changed bool
		err     string
	}{
		{name: "a new disk", changed: true, disk: types.Disk{Partitions: []types.Partition{
			{Number: 1, Label: ptr("a"), SizeMiB: ptr(10)}, {Label: ptr("rest")}}},
			want: []*gpt.Partition{part(1, m, 11*m-1, "a"), part(2, 11*m, 204766, "rest")}},
		{name: "as it is", now: now(), disk: types.Disk{Partitions: []types.Partition{{Number: 1, Label: ptr("one"), SizeMiB: ptr(10), StartMiB: ptr(1)}, {Label: ptr("two")}}},
			want: now().Partitions},
		{name: "another label", now: now(), disk: types.Disk{Partitions: []types.Partition{{Number: 1, Label: ptr("x")}}}, err: "set wipePartitionEntry"},
		{name: "replaced", now: now(), disk: types.Disk{Partitions: []types.Partition{{Number: 2, Label: ptr("x"), WipePartitionEntry: ptr(true)}}}, changed: true,
			want: []*gpt.Partition{part(1, m, 11*m-1, "one"), part(2, 11*m, 204766, "x")}},
		{name: "another size", now: now(), disk: types.Disk{Partitions: []types.Partition{{Number: 1, SizeMiB: ptr(12)}}}, err: "set resize"},
		{name: "resized", now: now(), disk: types.Disk{Partitions: []types.Partition{{Number: 1, SizeMiB: ptr(12), Resize: ptr(true)}}}, changed: true,
			want: []*gpt.Partition{part(1, m, 13*m-1, "one"), part(2, 20*m, 30*m-1, "two")}},
		{name: "resized into the next", now: now(), disk: types.Disk{Partitions: []types.Partition{{Number: 1, SizeMiB: ptr(50), Resize: ptr(true)}}}, err: "no room"},
		{name: "deleted", now: now(), disk: types.Disk{Partitions: []types.Partition{{Number: 1, ShouldExist: ptr(false), WipePartitionEntry: ptr(true)}}}, changed: true,
			want: []*gpt.Partition{part(2, 20*m, 30*m-1, "two")}},
		{name: "deleted without leave", now: now(), disk: types.Disk{Partitions: []types.Partition{{Number: 1, ShouldExist: ptr(false)}}}, err: "set wipePartitionEntry"},
		{name: "wiped", now: now(), disk: types.Disk{WipeTable: ptr(true)}, changed: true},
		{name: "no room", now: now(), disk: types.Disk{Partitions: []types.Partition{{Number: 3, SizeMiB: ptr(90)}}}, err: "needs 90 MiB"},
		{name: "inside another", now: now(), disk: types.Disk{Partitions: []types.Partition{{Number: 3, StartMiB: ptr(25)}}}, err: "inside partition 2"},
	} {
		got, changed, err := PlanTable(tt.now, tt.disk, g, func() string { return "G" })
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		opt := cmp.Comparer(func(a, b *gpt.Partition) bool {
			return a.Index == b.Index && a.Start == b.Start && a.End == b.End && a.Name == b.Name && a.Type == b.Type
		})
		if diff := cmp.Diff(tt.want, got.Partitions, opt); diff != "" || changed != tt.changed {
			t.Errorf("%s: changed %t (-want +got):\n%s", tt.name, changed, diff)
		}
	}
}

// TestTableOnDisk has sgdisk read what was written.
func TestTableOnDisk(t *testing.T) {
	path := image(t, 100<<20)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	table, _, err := PlanTable(nil, types.Disk{Partitions: []types.Partition{
		{Number: 1, Label: ptr("raid"), SizeMiB: ptr(20), TypeGUID: ptr("A19D880F-05FC-4D3B-A006-743F0F84911E")},
		{Number: 4, Label: ptr("rest"), GUID: ptr("8A7A84A0-8387-40F6-AB9E-A8B9A5A60D23")}}},
		Geometry{100 << 20, 512}, func() string { return strings.ToUpper(uuid.NewString()) })
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Write(f, 100<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	out := runProgram(t, "", "sgdisk", "-v", "-p", path)
	for _, want := range []string{"No problems found", "20.0 MiB    FD00  raid", "rest"} {
		if !strings.Contains(out, want) {
			t.Errorf("sgdisk does not say %q:\n%s", want, out)
		}
	}
	if out := runProgram(t, "", "sgdisk", "-i", "4", path); !strings.Contains(out, "8A7A84A0-8387-40F6-AB9E-A8B9A5A60D23") {
		t.Errorf("partition 4:\n%s", out)
	}
}
