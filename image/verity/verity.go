// Package verity makes and checks dm-verity hash trees: the SHA-256 tree that
// lets the kernel verify each block of the root partition as it is read, down
// from one root hash. The builder formats with it, `coracle verify` checks with
// it and stage 1 reads the superblock with it.
//
// The format is version 1 of cryptsetup's ("DMVerity" on-disk format page of its wiki
// and the kernel's Documentation/admin-guide/device-mapper/verity.rst):
// hash type 1 (salt first), SHA-256, blocks of 4096 bytes for data and hashes,
// superblock at offset 0 and the tree from block 1, the top level first.
// veritysetup reads what Format writes and writes the same bytes.
//
// Written here because no kept Go library makes these trees. Left out on
// purpose: other hashes and block sizes, forward error correction, signatures.
package verity

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// BlockSize is the size of data and hash blocks in bytes.
	BlockSize = 4096
	// DigestSize is the size of a root hash in bytes.
	DigestSize = sha256.Size

	superblockSize   = 512
	digestsPerBlock  = BlockSize / DigestSize
	maxSaltSize      = 256
	signature        = "verity\x00\x00"
	algorithm        = "sha256"
	version          = 1
	hashType         = 1
	maxDataBlocks    = int64(1) << 47 // 512 PiB; keeps all products in int64
	superblockBlocks = 1
)

// Salt is the salt of every release. One salt for all keeps equal blocks of
// two releases equal in their hash trees, which keeps updates small; it is
// SHA-256("coracle dm-verity salt, version 1").
func Salt() []byte {
	sum := sha256.Sum256([]byte("coracle dm-verity salt, version 1"))
	return sum[:]
}

// A Superblock is the head of a hash partition.
type Superblock struct {
	UUID       [16]byte
	DataBlocks int64  // blocks of BlockSize that the tree covers
	Salt       []byte // at most 256 bytes
}

// ErrNoSuperblock says that there is no dm-verity superblock at all, as in an
// empty slot.
var ErrNoSuperblock = errors.New("no dm-verity superblock")

// MarshalBinary returns the 512 bytes of the superblock on disk.
func (s Superblock) MarshalBinary() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("encode verity superblock: %w", err)
	}
	b := make([]byte, superblockSize)
	copy(b, signature)
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[12:], hashType)
	copy(b[16:32], s.UUID[:])
	copy(b[32:64], algorithm)
	binary.LittleEndian.PutUint32(b[64:], BlockSize)
	binary.LittleEndian.PutUint32(b[68:], BlockSize)
	binary.LittleEndian.PutUint64(b[72:], uint64(s.DataBlocks))
	binary.LittleEndian.PutUint16(b[80:], uint16(len(s.Salt)))
	copy(b[88:88+maxSaltSize], s.Salt)
	return b, nil
}

// ParseSuperblock reads a superblock from the first 512 bytes of b. It refuses
// what this package does not write: another version, hash or block size.
func ParseSuperblock(b []byte) (Superblock, error) {
	if len(b) < superblockSize {
		return Superblock{}, fmt.Errorf("parse verity superblock: %d bytes, want %d", len(b), superblockSize)
	}
	if string(b[:8]) != signature {
		return Superblock{}, fmt.Errorf("parse verity superblock: %w", ErrNoSuperblock)
	}
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
	name := string(b[32:64])
	switch {
	case u32(8) != version || u32(12) != hashType:
		return Superblock{}, fmt.Errorf("parse verity superblock: version %d, hash type %d; want %d and %d", u32(8), u32(12), version, hashType)
	case name != algorithm+string(make([]byte, 32-len(algorithm))):
		return Superblock{}, fmt.Errorf("parse verity superblock: hash algorithm %q, want %q", name, algorithm)
	case u32(64) != BlockSize || u32(68) != BlockSize:
		return Superblock{}, fmt.Errorf("parse verity superblock: blocks of %d and %d bytes, want %d", u32(64), u32(68), BlockSize)
	}
	blocks := binary.LittleEndian.Uint64(b[72:])
	saltSize := int(binary.LittleEndian.Uint16(b[80:]))
	if blocks > uint64(maxDataBlocks) || saltSize > maxSaltSize {
		return Superblock{}, fmt.Errorf("parse verity superblock: %d data blocks and a salt of %d bytes, at most %d and %d", blocks, saltSize, maxDataBlocks, maxSaltSize)
	}
	s := Superblock{DataBlocks: int64(blocks), Salt: append([]byte{}, b[88:88+saltSize]...)}
	copy(s.UUID[:], b[16:32])
	if err := s.check(); err != nil {
		return Superblock{}, fmt.Errorf("parse verity superblock: %w", err)
	}
	return s, nil
}

func (s Superblock) check() error {
	if s.DataBlocks < 1 || s.DataBlocks > maxDataBlocks {
		return fmt.Errorf("%d data blocks, want 1 to %d", s.DataBlocks, maxDataBlocks)
	}
	if len(s.Salt) > maxSaltSize {
		return fmt.Errorf("salt of %d bytes, at most %d", len(s.Salt), maxSaltSize)
	}
	return nil
}

// ReadSuperblock reads the superblock at the start of a hash partition.
func ReadSuperblock(r io.ReaderAt) (Superblock, error) {
	b := make([]byte, superblockSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		return Superblock{}, fmt.Errorf("read verity superblock: %w", err)
	}
	return ParseSuperblock(b)
}

// TreeSize is the size in bytes of superblock and hash tree for this many
// bytes of data.
func TreeSize(dataSize int64) int64 {
	blocks := (dataSize + BlockSize - 1) / BlockSize
	total := int64(superblockBlocks)
	for _, l := range Levels(blocks) {
		total += l.Blocks
	}
	return total * BlockSize
}

// A Level is one storey of the tree; 0 holds the digests of the data blocks.
type Level struct {
	Start  int64 // first block in the hash partition
	Blocks int64
}

// Levels returns the levels for so many data blocks, 0 being the lowest. One
// data block has none: its digest is the root hash.
func Levels(dataBlocks int64) []Level {
	var all []Level
	for n := dataBlocks; n > 1; {
		n = (n + digestsPerBlock - 1) / digestsPerBlock
		all = append(all, Level{Blocks: n})
	}
	next := int64(superblockBlocks)
	for i := len(all) - 1; i >= 0; i-- {
		all[i].Start = next
		next += all[i].Blocks
	}
	return all
}
