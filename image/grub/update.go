package grub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// RootDirectory is where a release's own GRUB is in its root, so that it is
// verified by the root hash.
const RootDirectory = "usr/lib/coracle/grub"

// Names of the two files in RootDirectory.
const (
	BootName = "boot.img"
	CoreName = "core.img"
)

// FromRoot reads the GRUB of a release from its root. The error wraps
// fs.ErrNotExist for a release that has none.
func FromRoot(root fs.FS) (Image, error) {
	boot, err := fs.ReadFile(root, RootDirectory+"/"+BootName)
	if err != nil {
		return Image{}, fmt.Errorf("read the release's GRUB: %w", err)
	}
	core, err := fs.ReadFile(root, RootDirectory+"/"+CoreName)
	if err != nil {
		return Image{}, fmt.Errorf("read the release's GRUB: %w", err)
	}
	g := Image{boot, core}
	if err := g.check(); err != nil {
		return Image{}, fmt.Errorf("read the release's GRUB: %w", err)
	}
	return g, nil
}

// A Disk is a machine's disk.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// ErrForeign says that the MBR has another program than GRUB of this disk.
var ErrForeign = errors.New("the disk's boot sector is not Coracle's; it is left as it is")

// Update brings GRUB on a disk to this one, and returns false when it is that
// already. The partition for it begins at byte start and has room for two: the
// new core goes to the place that the MBR does not point to, is read back, and
// only then the MBR, one sector, points to it. So a power cut leaves the old
// loader or the new one. What a BIOS starts cannot be tried first: once the MBR
// is written there is no way back to the old one but by hand, so this is for a
// release that runs well.
func (g Image) Update(disk Disk, start, size int64) (changed bool, err error) {
	if changed, err = g.update(disk, start, size); err != nil {
		err = fmt.Errorf("update GRUB: %w", err)
	}
	return changed, err
}

func (g Image) update(disk Disk, start, size int64) (bool, error) {
	if size < 2*half {
		return false, fmt.Errorf("its partition has %d bytes, want %d for two of it", size, 2*half)
	}
	head := make([]byte, sector)
	if _, err := disk.ReadAt(head, 0); err != nil {
		return false, fmt.Errorf("read the boot sector: %w", err)
	}
	now, place, ours := place(head, start)
	switch {
	case !ours && !bytes.Equal(head[:bootCode], make([]byte, bootCode)):
		return false, ErrForeign
	case ours && g.isAt(disk, head, now):
		return false, nil
	}
	core := g.coreAt(place)
	if _, err := disk.WriteAt(core, place); err != nil {
		return false, fmt.Errorf("write the core image: %w", err)
	}
	if err := disk.Sync(); err != nil {
		return false, fmt.Errorf("write the core image: %w", err)
	}
	back := make([]byte, len(core))
	if _, err := disk.ReadAt(back, place); err != nil || !bytes.Equal(back, core) {
		return false, fmt.Errorf("the core image does not read back as it was written: %w; the disk fails", errors.Join(err, io.ErrUnexpectedEOF))
	}
	copy(head, g.bootFor(place))
	if _, err := disk.WriteAt(head, 0); err != nil {
		return false, fmt.Errorf("write the boot sector: %w", err)
	}
	return true, disk.Sync()
}

// place returns where the core is that the MBR points to, and the other place;
// ours is false when it points to neither.
func place(head []byte, start int64) (now, other int64, ours bool) {
	switch now = int64(binary.LittleEndian.Uint64(head[bootCore:])) * sector; now {
	case start:
		return now, start + half, true
	case start + half:
		return now, start, true
	}
	return 0, start, false
}

// isAt tells if this is what the MBR and the place that it points to have.
func (g Image) isAt(disk io.ReaderAt, head []byte, at int64) bool {
	want := g.coreAt(at)
	have := make([]byte, len(want))
	_, err := disk.ReadAt(have, at)
	return err == nil && bytes.Equal(have, want) && bytes.Equal(head[:bootCode], g.bootFor(at))
}

// Installed describes the loader on a disk whose partition for it begins at byte
// start: at which byte its core is. ok is false when there is none.
func Installed(disk io.ReaderAt, start int64) (at int64, ok bool) {
	head := make([]byte, sector)
	if _, err := disk.ReadAt(head, 0); err != nil || head[0] != 0xeb {
		return 0, false
	}
	at, _, ok = place(head, start)
	if !ok {
		return 0, false
	}
	first := make([]byte, sector)
	if _, err := disk.ReadAt(first, at); err != nil {
		return 0, false
	}
	return at, int64(binary.LittleEndian.Uint64(first[coreNext:])) == at/sector+1
}
