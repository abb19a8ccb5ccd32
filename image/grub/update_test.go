package grub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/coracle-os/coracle/image/gpt"
)

// memory is a disk whose power is cut at a write, of which half is done; a sector
// is written as a whole or not at all.
type memory struct {
	data  []byte
	left  int // writes and flushes until then
	wrong bool
}

var errCut = errors.New("the power is cut")

func (m *memory) ReadAt(b []byte, at int64) (int, error) { return copy(b, m.data[at:]), nil }

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	m.left--
	if m.left < 0 {
		if m.left == -1 {
			copy(m.data[at:], b[:len(b)/2/sector*sector])
		}
		return 0, errCut
	}
	n := copy(m.data[at:], b)
	if m.wrong {
		m.data[at+int64(len(b))/2] ^= 1
	}
	return n, nil
}

func (m *memory) Sync() error {
	if m.left--; m.left < 0 {
		return errCut
	}
	return nil
}

const (
	partStart = 1 << 20
	partSize  = 1 << 20
)

// fake is a GRUB of this many sectors that is filled with one byte.
func fake(fill byte, sectors int) Image {
	g := Image{Boot: bytes.Repeat([]byte{fill}, bootImgSize), Core: bytes.Repeat([]byte{fill}, sectors*sector-7)}
	g.Boot[0] = 0xeb
	binary.LittleEndian.PutUint16(g.Core[coreLength:], uint16(sectors-1))
	return g
}

// boots follows the pointers of a disk as the BIOS and boot.img do.
func boots(t *testing.T, m *memory, among ...Image) int {
	t.Helper()
	at, ok := Installed(m, partStart)
	if !ok {
		t.Fatal("the disk has no loader")
	}
	for i, g := range among {
		if bytes.Equal(m.data[at:][:len(g.Core)], g.coreAt(at)[:len(g.Core)]) {
			return i
		}
	}
	t.Fatal("the disk's loader is neither the old one nor the new one")
	return -1
}

// TestUpdate cuts the power at each write of an update of the loader.
func TestUpdate(t *testing.T) {
	before, after := fake(1, 100), fake(2, 300)
	for step := 0; ; step++ {
		m := &memory{data: make([]byte, 4<<20), left: 100}
		copy(m.data[bootCode:], "the partition table")
		if err := before.Install(m, partStart); err != nil {
			t.Fatal(err)
		}
		m.left = step
		changed, err := after.Update(m, partStart, partSize)
		if got := boots(t, m, before, after); err == nil && got != 1 || step < 3 && got != 0 {
			t.Errorf("step %d: loader %d starts (%v)", step, got, err)
		}
		if string(m.data[bootCode:][:19]) != "the partition table" {
			t.Errorf("step %d: the partition table is %q", step, m.data[bootCode:][:19])
		}
		if err == nil {
			if !changed || step != 4 {
				t.Errorf("step %d: changed %v", step, changed)
			}
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		m.left = 100
		if _, err := after.Update(m, partStart, partSize); err != nil {
			t.Errorf("step %d: once more: %v", step, err)
		}
		if boots(t, m, before, after) != 1 {
			t.Errorf("step %d: once more: the old loader starts", step)
		}
	}
	// There and back, and nothing more to do.
	m := &memory{data: make([]byte, 4<<20), left: 100}
	for i, g := range []Image{before, after, before, before} {
		changed, err := g.Update(m, partStart, partSize)
		if err != nil || changed != (i < 3) {
			t.Errorf("update %d: changed %v, %v", i, changed, err)
		}
	}
}

func TestUpdateRefuses(t *testing.T) {
	g := fake(1, 100)
	foreign := &memory{data: bytes.Repeat([]byte{7}, 4<<20), left: 100}
	if _, err := g.Update(foreign, partStart, partSize); !errors.Is(err, ErrForeign) {
		t.Errorf("another loader's MBR: %v, want ErrForeign", err)
	}
	if _, err := g.Update(foreign, partStart, half); err == nil {
		t.Error("a small partition: no error")
	}
	failing := &memory{data: make([]byte, 4<<20), left: 100}
	if err := g.Install(failing, partStart); err != nil {
		t.Fatal(err)
	}
	failing.wrong = true
	if _, err := fake(2, 100).Update(failing, partStart, partSize); err == nil {
		t.Error("a disk that fails: no error")
	}
	if boots(t, failing, g) != 0 {
		t.Error("a disk that fails: the old loader is gone")
	}
	if _, ok := Installed(&memory{data: make([]byte, 4<<20)}, partStart); ok {
		t.Error("an empty disk has a loader")
	}
}

func TestFromRoot(t *testing.T) {
	g := fake(1, 100)
	root := fstest.MapFS{RootDirectory + "/" + BootName: {Data: g.Boot}, RootDirectory + "/" + CoreName: {Data: g.Core}}
	if got, err := FromRoot(root); err != nil || !bytes.Equal(got.Core, g.Core) {
		t.Errorf("%v", err)
	}
	if _, err := FromRoot(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a root without GRUB: %v", err)
	}
	root[RootDirectory+"/"+CoreName].Data = g.Core[:1000]
	if _, err := FromRoot(root); err == nil {
		t.Error("a core that is cut short: no error")
	}
}

// TestRoom: the partition of every image has room for two.
func TestRoom(t *testing.T) {
	if size := gpt.DefaultSizes().BIOSBoot; size < 2*half {
		t.Errorf("partition %s has %d bytes, want %d", gpt.BIOSBoot, size, 2*half)
	}
}
