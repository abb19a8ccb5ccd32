package slots

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/verity"
)

const mib = 1 << 20

var running = strings.Repeat("0123456789abcdef", 4)

// newDisk is a disk whose slot A has the running root hash.
func newDisk(t *testing.T) (Disk, string) {
	t.Helper()
	hash, err := hex.DecodeString(running)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := gpt.Plan(gpt.Sizes{BIOSBoot: mib, ESP: mib, Root: mib, RootVerity: mib, OEM: mib, State: mib}, hash, "test")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(layout.Size); err != nil {
		t.Fatal(err)
	}
	if err := gpt.WriteTable(f, layout); err != nil {
		t.Fatal(err)
	}
	return Disk{File: file{f}, Size: layout.Size, SectorSize: 512}, path
}

// TestUUIDs changes the inactive slot's identity there and back, with sgdisk as
// the oracle.
func TestUUIDs(t *testing.T) {
	d, path := newDisk(t)
	pair, err := d.Find(running)
	if err != nil {
		t.Fatal(err)
	}
	if pair.Running.Letter != "A" || pair.Inactive.Letter != "B" {
		t.Fatalf("running %s, inactive %s", pair.Running.Letter, pair.Inactive.Letter)
	}
	if err := d.Invalidate(pair.Inactive); err != nil {
		t.Fatal(err)
	}
	next := strings.Repeat("fedcba9876543210", 4)
	if err := d.Identify(pair.Inactive, next); err != nil {
		t.Fatal(err)
	}
	after, err := d.Find(next)
	if err != nil {
		t.Fatal(err)
	}
	if after.Running.Letter != "B" || !after.Inactive.Holds(running) {
		t.Errorf("after: %+v", after)
	}
	out, err := exec.Command("sgdisk", "--verify", "--info=5", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found") || !strings.Contains(string(out), "FEDCBA98-7654-3210-FEDC-BA9876543210") {
		t.Errorf("sgdisk: %v\n%s", err, out)
	}
}

func TestFindRefuses(t *testing.T) {
	d, _ := newDisk(t)
	if _, err := d.Find(strings.Repeat("00", 32)); err == nil || !strings.Contains(err.Error(), "nothing is written") {
		t.Errorf("unknown root hash: %v", err)
	}
	if _, err := d.Find("12"); err == nil {
		t.Error("short root hash: no error")
	}
	pair, err := d.Find(running)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Identify(pair.Inactive, running); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find(running); err == nil {
		t.Error("both slots have the running root hash: no error")
	}
	if err := os.Truncate(d.File.(file).Name(), 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find(running); err == nil {
		t.Error("no table: no error")
	}
}

func TestWritesStayInside(t *testing.T) {
	d, _ := newDisk(t)
	pair, err := d.Find(running)
	if err != nil {
		t.Fatal(err)
	}
	r := pair.Inactive.Root
	for _, offset := range []int64{-1, r.Size, r.Size - 4095} {
		if err := d.WriteAt(r, make([]byte, 4096), offset); err == nil {
			t.Errorf("write at %d: no error", offset)
		}
	}
	if err := d.WriteAt(r, make([]byte, 4096), r.Size-4096); err != nil {
		t.Error(err)
	}
}

// TestVerify reads back from the disk what was written, and finds one bit.
func TestVerify(t *testing.T) {
	d, _ := newDisk(t)
	pair, err := d.Find(running)
	if err != nil {
		t.Fatal(err)
	}
	s := pair.Inactive
	out := offset{d, s.Verity}
	hash, err := verity.Format(d.Section(s.Root), 100*verity.BlockSize, out, verity.Superblock{Salt: verity.Salt()})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Verify(s, hex.EncodeToString(hash)); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteAt(s.Root, []byte{1}, 50*verity.BlockSize); err != nil {
		t.Fatal(err)
	}
	var bad *verity.BadBlockError
	if err := d.Verify(s, hex.EncodeToString(hash)); !errors.As(err, &bad) || bad.Block != 50 {
		t.Errorf("%v, want bad block 50", err)
	}
}

type offset struct {
	d Disk
	r Region
}

func (o offset) WriteAt(b []byte, at int64) (int, error) { return len(b), o.d.WriteAt(o.r, b, at) }

// TestDigests hashes blocks one by one, zeros and others.
func TestDigests(t *testing.T) {
	d, _ := newDisk(t)
	pair, err := d.Find(running)
	if err != nil {
		t.Fatal(err)
	}
	root := pair.Inactive.Root
	for _, at := range []int64{0, 63, 64, 99} {
		if err := d.WriteAt(root, []byte("content"), at*verity.BlockSize); err != nil {
			t.Fatal(err)
		}
	}
	const blocks = 100
	got, err := d.Digests(root, blocks, verity.Salt())
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	block := make([]byte, verity.BlockSize)
	for i := range int64(blocks) {
		if _, err := d.Section(root).ReadAt(block, i*verity.BlockSize); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(append(append([]byte{}, verity.Salt()...), block...))
		want = append(want, sum[:]...)
	}
	if !bytes.Equal(got, want) {
		t.Error("the digests are others")
	}
}
