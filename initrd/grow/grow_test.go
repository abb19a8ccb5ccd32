package grow

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/initrd/partition"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const mib = 1 << 20

// layout makes the bytes of a small disk: boot code, a root and a state
// partition, and behind them whatever more is given.
func layout(t *testing.T, size int64, stateMiB uint64, behind ...*gpt.Partition) []byte {
	t.Helper()
	disk := &memory{data: make([]byte, size)}
	table := &gpt.Table{
		LogicalSectorSize: 512, PhysicalSectorSize: 512, ProtectiveMBR: true,
		GUID: "A0000000-0000-4000-8000-000000000001",
		Partitions: append([]*gpt.Partition{
			{Index: 3, Start: 2048, Size: mib, Type: gpt.LinuxRootX86_64, Name: "root-A",
				GUID: "A0000000-0000-4000-8000-000000000002", Attributes: 1 << 60},
			{Index: 8, Start: 4096, Size: stateMiB * mib, Type: gpt.Type(strings.ToUpper(partition.TypeState)), Name: "state",
				GUID: "A0000000-0000-4000-8000-000000000003"},
		}, behind...),
	}
	if err := table.Write(disk, size); err != nil {
		t.Fatal(err)
	}
	copy(disk.data, "boot code")
	return disk.data
}

func TestMake(t *testing.T) {
	behind := &gpt.Partition{Index: 9, Start: 16384, Size: mib, Type: gpt.LinuxFilesystem, Name: "data", GUID: "A0000000-0000-4000-8000-000000000009"}
	tests := []struct {
		name      string
		tableSize int64 // of the disk that the table was made for
		size      int64
		index     int
		stateMiB  uint64
		behind    []*gpt.Partition
		want      Plan
		wantErr   error
	}{
		{"fits", 16 * mib, 16 * mib, 8, 13, nil,
			Plan{Reason: "partition and disk end together"}, nil},
		{"image with room", 16 * mib, 16 * mib, 8, 4, nil,
			Plan{Index: 8, OldEnd: 12287, NewEnd: 30719, Reason: "the disk has 9 MiB behind partition 8"}, nil},
		{"larger disk", 16 * mib, 64 * mib, 8, 13, nil,
			Plan{MoveBackup: true, Index: 8, OldEnd: 30719, NewEnd: 129023, Reason: "the disk has 48 MiB behind partition 8"}, nil},
		{"larger by less than is worth it", 16 * mib, 16*mib + 4096, 8, 13, nil,
			Plan{MoveBackup: true, Reason: "the second copy of the partition table is not at the end of the disk"}, nil},
		{"odd bytes at the end", 16 * mib, 16*mib + 100, 8, 13, nil,
			Plan{Reason: "partition and disk end together"}, nil},
		{"another partition behind", 16 * mib, 64 * mib, 8, 4, []*gpt.Partition{behind},
			Plan{MoveBackup: true, Reason: "partition 9 lies behind partition 8"}, ErrNotLast},
		{"smaller disk", 16 * mib, 8 * mib, 8, 4, nil, Plan{}, ErrDiskSmaller},
		{"no such partition", 16 * mib, 16 * mib, 5, 4, nil, Plan{}, ErrNoPartition},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			table, err := partition.ReadTable(&memory{data: layout(t, test.tableSize, test.stateMiB, test.behind...)}, test.tableSize, 512)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Make(table, test.size, test.index)
			if !errors.Is(err, test.wantErr) {
				t.Errorf("got error %v, want %v", err, test.wantErr)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPowerCut stops the writing after every number of writes, and in the
// middle of each: what is on the disk must be the old layout or the new one,
// and a second try must finish.
func TestPowerCut(t *testing.T) {
	const size = 64 * mib
	before := append(layout(t, 16*mib, 4), make([]byte, size-16*mib)...)
	grow := func(disk *memory) error {
		table, err := partition.ReadTable(disk, size, 512)
		if err != nil && !errors.Is(err, partition.ErrDamaged) {
			return err
		}
		plan, err := Make(table, size, 8)
		if err != nil {
			return err
		}
		Apply(table, size, plan)
		return Write(disk, size, table)
	}
	whole := &memory{data: bytes.Clone(before)}
	if err := grow(whole); err != nil {
		t.Fatal(err)
	}
	if whole.writes < 5 {
		t.Fatalf("only %d writes: the test no longer sees them", whole.writes)
	}
	sawOld, sawNew, sawDamaged := false, false, false
	for cut := range 2 * whole.writes {
		disk := &memory{data: bytes.Clone(before), cut: cut/2 + 1, half: cut%2 == 1}
		// The library does not wrap the disk's error.
		if err := grow(disk); err == nil || !strings.Contains(err.Error(), errCut.Error()) {
			t.Fatalf("cut %d: got error %v", cut, err)
		}
		disk = &memory{data: disk.data}
		table, err := partition.ReadTable(disk, size, 512)
		switch {
		case errors.Is(err, partition.ErrDamaged):
			sawDamaged = true
		case err != nil:
			t.Fatalf("cut %d: the disk does not boot: %v", cut, err)
		}
		switch end := stateEnd(table); end {
		case 12287:
			sawOld = true
		case 129023:
			sawNew = true
		default:
			t.Errorf("cut %d: state ends at sector %d", cut, end)
		}
		if err := grow(disk); err != nil {
			t.Fatalf("cut %d: second try: %v", cut, err)
		}
		if !bytes.Equal(disk.data, whole.data) {
			t.Errorf("cut %d: the second try did not end where an undisturbed one does", cut)
		}
	}
	if !sawOld || !sawNew || !sawDamaged {
		t.Errorf("saw old %v, new %v, damaged %v: the cuts do not cover the writing", sawOld, sawNew, sawDamaged)
	}
}

func stateEnd(table *gpt.Table) uint64 {
	for _, part := range table.Partitions {
		if part.Index == 8 {
			return part.End
		}
	}
	return 0
}

// TestAgainstSgdisk has sgdisk check the result and compares what must stay.
func TestAgainstSgdisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, layout(t, 16*mib, 4), 0o644); err != nil {
		t.Fatal(err)
	}
	sgdisk := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("sgdisk", append(args, path)...).CombinedOutput()
		if err != nil {
			t.Fatalf("sgdisk %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	root := sgdisk("-i", "3")
	state := sgdisk("-i", "8")
	if err := os.Truncate(path, 64*mib); err != nil {
		t.Fatal(err)
	}
	plan, err := Disk(path, 512, 8, partition.ReadTable)
	// A file is not a block device: only the last step, the kernel's, fails.
	if !errors.Is(err, unix.ENOTTY) {
		t.Fatalf("got error %v, want that of the ioctl", err)
	}
	if plan.NewEnd != 129023 {
		t.Errorf("new end %d, want 129023", plan.NewEnd)
	}
	if out := sgdisk("-v"); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v:\n%s", out)
	}
	if diff := cmp.Diff(root, sgdisk("-i", "3")); diff != "" {
		t.Errorf("root partition changed:\n%s", diff)
	}
	want := strings.NewReplacer("Last sector: 12287 (at 6.0 MiB)", "Last sector: 129023 (at 63.0 MiB)",
		"Partition size: 8192 sectors (4.0 MiB)", "Partition size: 124928 sectors (61.0 MiB)").Replace(state)
	if diff := cmp.Diff(want, sgdisk("-i", "8")); diff != "" {
		t.Errorf("state partition (-want +got):\n%s", diff)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(data, []byte("boot code\x00")) {
		t.Errorf("boot code changed: %q", data[:16])
	}
	if plan, err := Disk(path, 512, 8, partition.ReadTable); err != nil || !plan.Empty() {
		t.Errorf("second time: got %+v, %v; want nothing to do", plan, err)
	}
}

// TestProtectiveAboveTwoTiB checks the size that does not fit into the MBR.
func TestProtectiveAboveTwoTiB(t *testing.T) {
	disk := &memory{data: layout(t, 16*mib, 4)}
	if err := writeProtective(disk, 3<<32); err != nil {
		t.Fatal(err)
	}
	if got := disk.data[458:462]; !bytes.Equal(got, []byte{0xff, 0xff, 0xff, 0xff}) {
		t.Errorf("size in the MBR: got %x, want ffffffff", got)
	}
	copy(disk.data[462:], "second partition")
	before := bytes.Clone(disk.data)
	if err := writeProtective(disk, 100); err != nil || !bytes.Equal(before, disk.data) {
		t.Errorf("an MBR with other partitions was changed (error %v)", err)
	}
}

var errCut = errors.New("power cut")

// memory is a disk in memory that loses power at a write.
type memory struct {
	data   []byte
	writes int
	cut    int  // the write, from 1, that does not happen
	half   bool // or happens by half
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(p, off)
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.writes++
	if m.cut != 0 && m.writes >= m.cut {
		if m.half && m.writes == m.cut {
			copy(m.data[off:], p[:len(p)/2])
		}
		return 0, errCut
	}
	return copy(m.data[off:], p), nil
}

func (m *memory) Seek(offset int64, whence int) (int64, error) {
	return bytes.NewReader(m.data).Seek(offset, whence)
}
func (m *memory) Sync() error                { return nil }
func (m *memory) Read([]byte) (int, error)   { return 0, fs.ErrInvalid }
func (m *memory) Close() error               { return nil }
func (m *memory) Stat() (fs.FileInfo, error) { return memoryInfo{m}, nil }

type memoryInfo struct{ disk *memory }

func (i memoryInfo) Name() string     { return "memory" }
func (i memoryInfo) Size() int64      { return int64(len(i.disk.data)) }
func (memoryInfo) Mode() fs.FileMode  { return 0o600 }
func (memoryInfo) ModTime() time.Time { return time.Time{} }
func (memoryInfo) IsDir() bool        { return false }
func (memoryInfo) Sys() any           { return nil }
