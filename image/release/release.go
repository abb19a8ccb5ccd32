// Package release is the published form of a release: one blob that holds root,
// hash tree and UKI in pieces which a client can fetch one by one with HTTP
// range requests, the index that says where each piece is, and the JSON texts
// that the signed repository carries about it. The builder writes with it; the
// update agent reads.
//
// The blob has four parts. The root image is cut into chunks of a fixed number
// of 4 KiB blocks, each a zstd frame of its own; a chunk of zeros takes no
// bytes. The dm-verity hash tree follows as it is on disk, not compressed
// because digests do not compress, so that a single block of it can be fetched.
// Then come the pieces of the UKI, cut at its sections and every 64 KiB, so that
// an unchanged kernel is not fetched again. Last are patches: for each of a few
// older roots the changed chunks once more, as zstd frames whose dictionary is
// what the older root has there. A machine that runs one of them fetches its
// patches instead of chunks. Both forms are this project's own; the index is
// format 2, format 1 had no patches.
//
// Nothing here is trusted by itself: the repository signs the digest of the
// index, the index names the digest of every stored piece, and the root hash
// covers every block. The package bounds what an index can make a client
// allocate. The same input gives the same bytes.
//
// Left out on purpose: signing (tools/tufrepo), the network and the disk.
package release

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/coracle-os/coracle/image/verity"
)

// Names of a release's files in the repository, below the version's name, and
// of the files that say which version a channel has.
const (
	UKIName      = "coracle.efi"
	BlobName     = "image.blob"
	IndexName    = "image.index"
	ManifestName = "manifest.json"
	SBOMName     = "sbom.spdx.json"

	ChannelDir = "channels"
)

const (
	// BlockSize is the size of blocks of root and hash tree in bytes.
	BlockSize = verity.BlockSize
	// DefaultChunkBlocks is how many blocks a chunk of the root has unless
	// told otherwise: 256 KiB. Measured on programs of 5 to 28 MB: as chunks of
	// 64 KiB they compress to 106 to 110 % of what they do whole, of 256 KiB to
	// 103 to 107 %, and the index is a quarter; one changed block costs some
	// 80 KB instead of 20.
	DefaultChunkBlocks = 64
	// MaxDataBlocks is the largest root that an index can describe: 16 GiB.
	MaxDataBlocks = 1 << 22
	// MaxUKISize bounds a UKI, in bytes.
	MaxUKISize = 512 << 20
	// MaxIndexSize is the largest index that a client should load, in bytes.
	MaxIndexSize = 16 << 20
	// MaxPieceSize bounds a chunk or piece when unpacked, in bytes.
	MaxPieceSize = maxChunkBlocks * BlockSize

	maxChunkBlocks = 256
	maxPieces      = 1 << 16
	maxSalt        = 256
)

// A Sum is a SHA-256 digest.
type Sum = [sha256.Size]byte

// An Index says where the parts of a release are in its blob.
type Index struct {
	RootHash    Sum
	DataBlocks  int64    // blocks of the root image
	Salt        []byte   // of the hash tree
	VerityUUID  [16]byte // in the superblock of the hash partition
	ChunkBlocks int      // blocks of every chunk of the root but the last
	Root        []Chunk  // chunk i starts with block i*ChunkBlocks
	UKISize     int64
	UKISum      Sum     // of the whole UKI
	UKI         []Piece // the UKI from its start to its end
	Bases       []Base  // their patches follow the UKI in this order
}

// A Chunk is a stored run of bytes.
type Chunk struct {
	Offset int64 // in the blob
	Length int64 // of what is stored; 0: all bytes are zero and nothing is stored
	Size   int64 // unpacked; stored as it is when Length equals it
	Sum    Sum   // of the stored bytes
}

// A Piece is a part of the UKI.
type Piece struct {
	Chunk
	At      int64 // where it is in the UKI
	Content Sum   // of the unpacked bytes
}

// A Range is a run of bytes of the blob.
type Range struct{ Offset, Length int64 }

// End is the first byte after the range.
func (r Range) End() int64 { return r.Offset + r.Length }

// Range is where the chunk's stored bytes are in the blob.
func (c Chunk) Range() Range { return Range{c.Offset, c.Length} }

// Levels returns the levels of the hash tree, the lowest first; one block of
// data has none. Block numbers are those of the hash partition, whose block 0
// is the superblock.
func (x *Index) Levels() []verity.Level { return verity.Levels(x.DataBlocks) }

// TreeBlocks is the number of blocks of the hash tree, without the superblock.
func (x *Index) TreeBlocks() int64 {
	return verity.TreeSize(x.DataBlocks*BlockSize)/BlockSize - 1
}

// TreeRange is where count blocks of the hash tree are in the blob, the first
// being block first of the hash partition (1 is the top of the tree).
func (x *Index) TreeRange(first, count int64) Range {
	return Range{x.treeStart() + (first-1)*BlockSize, count * BlockSize}
}

func (x *Index) treeStart() int64 {
	if len(x.Root) == 0 {
		return 0
	}
	return x.Root[len(x.Root)-1].Range().End()
}

// BlobSize is the size of the blob in bytes.
func (x *Index) BlobSize() int64 {
	size := x.treeStart() + x.TreeBlocks()*BlockSize
	for _, p := range x.UKI {
		size += p.Length
	}
	for _, b := range x.Bases {
		for _, p := range b.Patches {
			size += p.Length
		}
	}
	return size
}

// ChunkOf returns the number of the chunk that has the block.
func (x *Index) ChunkOf(block int64) int { return int(block / int64(x.ChunkBlocks)) }

// ChunkBlocksOf returns the first block of chunk i and how many it has.
func (x *Index) ChunkBlocksOf(i int) (first, count int64) {
	return int64(i) * int64(x.ChunkBlocks), x.Root[i].Size / BlockSize
}

// Superblock is the first block of the hash partition.
func (x *Index) Superblock() ([]byte, error) {
	head, err := verity.Superblock{UUID: x.VerityUUID, DataBlocks: x.DataBlocks, Salt: x.Salt}.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return append(head, make([]byte, BlockSize-len(head))...), nil
}

// BlockDigest is the digest of a block of root or tree, with the tree's salt.
func (x *Index) BlockDigest(block []byte) Sum {
	h := sha256.New()
	h.Write(x.Salt)
	h.Write(block)
	var sum Sum
	h.Sum(sum[:0])
	return sum
}

// check holds the bounds that both directions need.
func (x *Index) check() error {
	switch {
	case x.DataBlocks < 1 || x.DataBlocks > MaxDataBlocks:
		return fmt.Errorf("%d blocks of data, want 1 to %d", x.DataBlocks, MaxDataBlocks)
	case x.ChunkBlocks < 1 || x.ChunkBlocks > maxChunkBlocks:
		return fmt.Errorf("chunks of %d blocks, want 1 to %d", x.ChunkBlocks, maxChunkBlocks)
	case len(x.Salt) > maxSalt:
		return fmt.Errorf("a salt of %d bytes, at most %d", len(x.Salt), maxSalt)
	case x.UKISize < 0 || x.UKISize > MaxUKISize:
		return fmt.Errorf("a UKI of %d bytes, at most %d", x.UKISize, MaxUKISize)
	case len(x.Bases) > MaxBases:
		return fmt.Errorf("patches from %d roots, at most %d", len(x.Bases), MaxBases)
	case len(x.UKI) > maxPieces:
		return fmt.Errorf("a UKI in %d pieces, at most %d", len(x.UKI), maxPieces)
	}
	return nil
}

// chunks is how many chunks the root has.
func (x *Index) chunks() int {
	return int((x.DataBlocks + int64(x.ChunkBlocks) - 1) / int64(x.ChunkBlocks))
}

// ErrDamaged says that bytes are not those that the index names; the next step
// is another mirror.
var ErrDamaged = errors.New("not the bytes that the index names")
