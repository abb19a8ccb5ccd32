package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Superblock is the part of an ext4 superblock that stage 1 decides by
// (Documentation/filesystems/ext4/super.rst). No kept library reads it from a
// device without reading the rest of the file system too.
type Superblock struct {
	Blocks    uint64 // size of the file system, in blocks
	BlockSize int64  // in bytes
	// Clean is true if the file system was left without errors. A journal that
	// waits to be replayed is clean: the kernel replays it.
	Clean bool
}

// ErrNotExt4 says that there is no ext4 file system.
var ErrNotExt4 = errors.New("no ext4 file system")

// Bits of the superblock.
const (
	stateValid         = 1
	stateErrors        = 2
	compatHasJournal   = 0x4
	incompat64Bit      = 0x80
	superblockOffset   = 1024
	superblockMagic    = 0xef53
	largestBlockSizeLg = 6 // 64 KiB
)

// Fresh is true for an ext4 file system that was never mounted, as those of a
// new image.
func Fresh(r io.ReaderAt) bool {
	var b [1024]byte
	if _, err := r.ReadAt(b[:], superblockOffset); err != nil {
		return false
	}
	le := binary.LittleEndian
	mounted, times := le.Uint32(b[0x2c:]), le.Uint16(b[0x34:])
	return le.Uint16(b[0x38:]) == superblockMagic && mounted == 0 && times == 0
}

// ReadSuperblock reads the first superblock of a device.
func ReadSuperblock(r io.ReaderAt) (Superblock, error) {
	var b [1024]byte
	if _, err := r.ReadAt(b[:], superblockOffset); err != nil {
		return Superblock{}, fmt.Errorf("read ext4 superblock: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint16(b[0x38:]) != superblockMagic {
		return Superblock{}, fmt.Errorf("read ext4 superblock: %w", ErrNotExt4)
	}
	shift := le.Uint32(b[0x18:])
	if shift > largestBlockSizeLg {
		return Superblock{}, fmt.Errorf("read ext4 superblock: %w: block size 2^%d", ErrNotExt4, 10+int64(shift))
	}
	s := Superblock{
		Blocks:    uint64(le.Uint32(b[0x4:])),
		BlockSize: 1024 << shift,
	}
	if le.Uint32(b[0x60:])&incompat64Bit != 0 {
		s.Blocks |= uint64(le.Uint32(b[0x150:])) << 32
	}
	// Without a journal the valid bit is off while the file system is mounted;
	// with one it is always on, unless there were errors.
	state := le.Uint16(b[0x3a:])
	s.Clean = state&stateValid != 0 && state&stateErrors == 0
	return s, nil
}
