package gpt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

const mib = 1 << 20

var testHash = sha256.Sum256([]byte("root"))

func plan(t testing.TB) Layout {
	t.Helper()
	l, err := Plan(DefaultSizes(), testHash[:], "test")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPlan(t *testing.T) {
	l := plan(t)
	var names []string
	end := int64(mib)
	for _, p := range l.Partitions {
		names = append(names, p.Name)
		if p.Start != end || p.Start%Alignment != 0 {
			t.Errorf("%s starts at %d, want %d", p.Name, p.Start, end)
		}
		end += p.Size
	}
	if got := strings.Join(names, " "); got != "BIOS-BOOT ESP root-A root-A-verity root-B root-B-verity oem state" {
		t.Errorf("partitions are %s", got)
	}
	if l.Size != end+mib {
		t.Errorf("disk has %d bytes, want %d", l.Size, end+mib)
	}
	root, _ := l.Find(RootA)
	verity, _ := l.Find(RootAVerity)
	// printf root | sha256sum
	const hash = "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2"
	if got := strings.ReplaceAll(root.UUID.String()+verity.UUID.String(), "-", ""); got != hash {
		t.Errorf("the root UUIDs are %s, want the halves of %s", got, hash)
	}
	other, err := Plan(DefaultSizes(), testHash[:], "other")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := l.Find(RootB); other.Partitions[4].UUID == b.UUID || other.DiskUUID == l.DiskUUID || b.UUID == root.UUID {
		t.Error("the seed does not count")
	}
}

func TestPlanErrors(t *testing.T) {
	odd := DefaultSizes()
	odd.OEM, odd.State = 5, -mib
	_, err := Plan(odd, testHash[:], "")
	for _, want := range []string{"partition oem: size 5", "partition state"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	if _, err := Plan(DefaultSizes(), testHash[:20], ""); err == nil {
		t.Error("a short root hash was taken")
	}
	large := DefaultSizes()
	large.State = MaxSize
	if _, err := Plan(large, testHash[:], ""); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a huge disk: %v", err)
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n)})
	random.Read(b)
	return b
}

func create(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// sparse is a file with data in the middle and at its end, which is odd.
func sparse(t testing.TB) (*os.File, int64) {
	f := create(t, "sparse")
	f.WriteAt(noise(10_000), 5*mib+123)
	f.WriteAt([]byte("end"), 40*mib)
	return f, 40*mib + 3
}

func assemble(t testing.TB) *os.File {
	t.Helper()
	hole, size := sparse(t)
	disk := create(t, "disk.raw")
	disk.Write(noise(3 * mib)) // goes away
	err := Assemble(t.Context(), disk, plan(t), map[string]Content{
		ESP:   {hole, size},
		RootA: {bytes.NewReader(noise(3*mib + 17)), 3*mib + 17},
		State: {bytes.NewReader(make([]byte, 9*mib)), 9 * mib},
	})
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

func TestAssemble(t *testing.T) {
	disk, l := assemble(t), plan(t)
	hole, size := sparse(t)
	esp, _ := l.Find(ESP)
	root, _ := l.Find(RootA)
	for _, test := range []struct {
		name  string
		start int64
		want  io.Reader
		size  int64
	}{
		{"ESP", esp.Start, io.NewSectionReader(hole, 0, size), size},
		{"root-A", root.Start, bytes.NewReader(noise(3*mib + 17)), 3*mib + 17},
		{"start", 34 * SectorSize, bytes.NewReader(make([]byte, mib-34*SectorSize)), mib - 34*SectorSize},
	} {
		got, err1 := io.ReadAll(io.NewSectionReader(disk, test.start, test.size))
		want, err2 := io.ReadAll(test.want)
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: not the content that went in (%v)", test.name, err)
		}
	}
	info, err := disk.Stat()
	if err != nil || info.Size() != l.Size {
		t.Errorf("disk has %d bytes, want %d (%v)", info.Size(), l.Size, err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 5*mib {
		t.Errorf("the disk takes %d bytes; it is not sparse", used)
	}
}

func TestSgdisk(t *testing.T) {
	disk := assemble(t)
	out, err := exec.Command("sgdisk", "-v", disk.Name()).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("No problems found")) {
		t.Errorf("sgdisk -v: %v\n%s", err, out)
	}
}

func TestSfdisk(t *testing.T) {
	disk, l := assemble(t), plan(t)
	out, err := exec.Command("sfdisk", "-J", disk.Name()).Output()
	if err != nil {
		t.Fatal(err)
	}
	type partition struct {
		Name, Type, UUID string
		Start, Size      int64
	}
	var got struct {
		PartitionTable struct {
			Label, ID  string
			Partitions []partition
		}
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	var want []partition
	for _, p := range l.Partitions {
		want = append(want, partition{p.Name, strings.ToUpper(p.Type.String()), strings.ToUpper(p.UUID.String()), p.Start / SectorSize, p.Size / SectorSize})
	}
	if diff := cmp.Diff(want, got.PartitionTable.Partitions); diff != "" {
		t.Error(diff)
	}
	if got.PartitionTable.Label != "gpt" || got.PartitionTable.ID != strings.ToUpper(l.DiskUUID.String()) {
		t.Errorf("table is %s %s", got.PartitionTable.Label, got.PartitionTable.ID)
	}
}

func TestRead(t *testing.T) {
	disk, want := assemble(t), plan(t)
	got, err := Read(disk, want.Size)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	disk.WriteAt([]byte("X"), SectorSize+60) // the primary header no longer holds
	want.FromBackup = true
	if got, err = Read(disk, want.Size); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadErrors(t *testing.T) {
	disk, l := assemble(t), plan(t)
	if _, err := Read(disk, l.Size/2); err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("half a disk: %v", err)
	}
	if _, err := Read(bytes.NewReader(make([]byte, mib)), mib); !errors.Is(err, ErrNoTable) {
		t.Errorf("an empty disk: %v", err)
	}
	if _, err := Read(bytes.NewReader(nil), 0); !errors.Is(err, ErrNoTable) {
		t.Errorf("no disk: %v", err)
	}
	disk.WriteAt([]byte{0xff, 0xff, 0xff, 0xff}, SectorSize+80)
	if _, err := Read(disk, l.Size); !errors.Is(err, ErrNoTable) {
		t.Errorf("a huge table: %v", err)
	}
}

func TestAssembleErrors(t *testing.T) {
	f := create(t, "disk")
	short := create(t, "short")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name     string
		ctx      context.Context
		contents map[string]Content
		want     string
	}{
		{"unknown", t.Context(), map[string]Content{"usr": {}}, "no partition of the layout"},
		{"large", t.Context(), map[string]Content{OEM: {bytes.NewReader(nil), 65 * mib}}, "make it larger"},
		{"short", t.Context(), map[string]Content{OEM: {bytes.NewReader(nil), mib}}, "unexpected EOF"},
		{"short file", t.Context(), map[string]Content{OEM: {short, mib}}, "unexpected EOF"},
		{"canceled", canceled, map[string]Content{OEM: {bytes.NewReader(make([]byte, mib)), mib}}, "canceled"},
	} {
		err := Assemble(test.ctx, f, plan(t), test.contents)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", test.name, err, test.want)
		}
	}
}

// The fuzzer changes header and entries; the checksums are put right, so that
// what is behind them is reached.
func FuzzRead(f *testing.F) {
	const size = 200 * SectorSize
	disk := make([]byte, size)
	p := Partition{Name: "x", Type: uuid.MustParse(TypeLinux), UUID: uuid.MustParse(TypeESP), Start: 40 * SectorSize, Size: 100 * SectorSize}
	if err := WriteTable(diskWriter(disk), Layout{DiskUUID: p.UUID, Size: size, Partitions: []Partition{p}}); err != nil {
		f.Fatal(err)
	}
	f.Add(disk[SectorSize:SectorSize+92], disk[2*SectorSize:2*SectorSize+256])
	f.Fuzz(func(t *testing.T, header, entries []byte) {
		b := bytes.Clone(disk)
		head, array := b[SectorSize:2*SectorSize], b[2*SectorSize:34*SectorSize]
		copy(head[:92], header)
		copy(array, entries)
		binary.LittleEndian.PutUint32(head[88:], crc32.ChecksumIEEE(array))
		binary.LittleEndian.PutUint32(head[16:], 0)
		binary.LittleEndian.PutUint32(head[16:], crc32.ChecksumIEEE(head[:92]))
		l, err := Read(bytes.NewReader(b), size)
		for _, p := range l.Partitions {
			if err == nil && (p.Start < 0 || p.Size <= 0 || p.Start+p.Size > size) {
				t.Errorf("%+v is not on the disk", p)
			}
		}
	})
}

type diskWriter []byte

func (w diskWriter) WriteAt(p []byte, off int64) (int, error) { return copy(w[off:], p), nil }
