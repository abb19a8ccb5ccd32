package updatemodel

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/tools/tufrepo"
)

// patchScene is a machine with version 1.0.0, which its channel had, and a
// version 1.1.0 whose bytes are those of 1.0.0 moved by one, so that nearly no
// block is the same.
func patchScene(t *testing.T) *scene {
	t.Helper()
	s := newScene(t)
	moved := slices.Concat(s.one.root[:20*verity.BlockSize], []byte{1}, s.one.root[20*verity.BlockSize:len(s.one.root)-1])
	s.two = systemOf(t, "1.1.0", moved, 2)
	s.p.publish(t, s.one, tufrepo.Options{})
	s.p.publish(t, s.two, tufrepo.Options{})
	s.p.served = 0
	return s
}

// TestPatches fetches patches of what runs.
func TestPatches(t *testing.T) {
	s := patchScene(t)
	s.start(t)
	s.update(t)
	s.installed(t, s.two)
	t.Logf("%d bytes served for a root of %d", s.p.served, len(s.two.root))
	if limit := int64(len(s.two.root) / 5); s.p.served > limit {
		t.Errorf("%d bytes served, want at most %d", s.p.served, limit)
	}
}

// TestPatchOfDamagedSlot has a running slot that is not what its tree says:
// the chunks whose patches do not fit are fetched whole.
func TestPatchOfDamagedSlot(t *testing.T) {
	s := patchScene(t)
	pair, err := slots.Disk{File: s.disk, Size: int64(len(s.disk.data)), SectorSize: 512}.Find(s.one.rootHash)
	if err != nil {
		t.Fatal(err)
	}
	s.disk.data[pair.Running.Root.Start+100*verity.BlockSize] ^= 1
	s.start(t)
	s.update(t)
	hash, err := hex.DecodeString(s.two.rootHash)
	if err != nil {
		t.Fatal(err)
	}
	slot := s.disk.data[pair.Inactive.Root.Start:][:len(s.two.root)]
	if err := verity.Verify(bytes.NewReader(slot), int64(len(slot)), bytes.NewReader(s.two.tree), hash); err != nil {
		t.Error(err)
	}
}

// TestWrongPatch has a server with wrong bytes in the patches only, which are
// at the end of the blob.
func TestWrongPatch(t *testing.T) {
	s := patchScene(t)
	s.edit(t, "targets/1.1.0/*.image.blob", flip(-1))
	s.start(t)
	s.fails(t, "not the bytes that the index names")
	s.edit(t, "targets/1.1.0/*.image.blob", flip(-1))
	s.update(t)
	s.installed(t, s.two)
}
