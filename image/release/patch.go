package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/coracle-os/coracle/image/verity"
)

// A Base is an older root with what turns chunks of it into those of the new
// one. A program that is linked again has nearly all blocks new and nearly all
// bytes old: its patches are a tenth of its chunks.
type Base struct {
	RootHash Sum
	Patches  []Patch // by ascending chunk; not every chunk has one
}

// A Patch is a chunk of the root as a zstd frame whose dictionary is a run of
// the base's root.
type Patch struct {
	Chunk          int   // of the new root
	From, Blocks   int64 // the dictionary, in blocks of the base's root
	Offset, Length int64 // of the frame, in the blob
	Sum            Sum   // of the frame
}

// Range is where the patch is in the blob.
func (p Patch) Range() Range { return Range{p.Offset, p.Length} }

const (
	// MaxBases is how many bases a release has at most.
	MaxBases = 8
	// MaxDictionary bounds the dictionary of a patch, in bytes.
	MaxDictionary = maxDictionaryBlocks * BlockSize

	maxDictionaryBlocks = 2 * maxChunkBlocks
)

// PatchesFrom returns the patches for machines that run the root with this
// hash, nil if there are none.
func (x *Index) PatchesFrom(rootHash Sum) []Patch {
	for _, b := range x.Bases {
		if b.RootHash == rootHash {
			return b.Patches
		}
	}
	return nil
}

// BaseRoot is a root for a Source to make patches from.
type BaseRoot struct {
	RootHash Sum
	Root     io.ReaderAt
	Size     int64 // in bytes, whole blocks
}

// leaves returns the digests of the blocks of a root.
func leaves(tree []byte, rootHash []byte, blocks int64) []byte {
	levels := verity.Levels(blocks)
	if len(levels) == 0 {
		return rootHash
	}
	return tree[levels[0].Start*BlockSize:][:blocks*verity.DigestSize]
}

// patch stores what turns chunks of a base into those of the root that has the
// index and these digests.
func (p *packer) patch(ctx context.Context, x *Index, root io.ReaderAt, digests []byte, base BaseRoot) (*Base, error) {
	tree := make(memory, verity.TreeSize(base.Size))
	hash, err := verity.Format(base.Root, base.Size, tree, verity.Superblock{Salt: x.Salt})
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(hash, base.RootHash[:]) {
		return nil, fmt.Errorf("it has the root hash %s", hex.EncodeToString(hash))
	}
	from := origins(digests, leaves(tree, hash, base.Size/BlockSize))
	result := &Base{RootHash: base.RootHash}
	stored := make([][]byte, len(x.Root))
	patches := make([]Patch, len(x.Root))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, c := range x.Root {
		first, count := x.ChunkBlocksOf(i)
		if c.Length == 0 || !hasNew(from[first:first+count]) {
			continue
		}
		group.Go(func() (err error) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			patches[i], stored[i], err = patchChunk(x, i, root, from, base)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i, b := range stored {
		if b == nil {
			continue
		}
		patches[i].Offset = p.at
		result.Patches = append(result.Patches, patches[i])
		if err := p.write(b); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// isNew stands for the place of a block that the base does not have.
const isNew = -1

// origins tells for each block where the base has it.
func origins(digests, base []byte) []int64 {
	const size = verity.DigestSize
	at := make(map[Sum]int64, len(base)/size)
	for b := len(base)/size - 1; b >= 0; b-- {
		at[Sum(base[b*size:])] = int64(b)
	}
	from := make([]int64, len(digests)/size)
	for b := range from {
		digest := digests[b*size:][:size]
		if end := (b + 1) * size; end <= len(base) && bytes.Equal(base[end-size:end], digest) {
			from[b] = int64(b)
		} else if old, ok := at[Sum(digest)]; ok {
			from[b] = old
		} else {
			from[b] = isNew
		}
	}
	return from
}

func hasNew(from []int64) bool {
	for _, f := range from {
		if f == isNew {
			return true
		}
	}
	return false
}

// patchChunk makes the patch of chunk i, with the best of a few dictionaries: the
// blocks of the base at the same place, and those beside which the nearest
// known blocks before and behind are. One that does not save a quarter is not
// worth its room in the blob.
func patchChunk(x *Index, i int, root io.ReaderAt, from []int64, base BaseRoot) (best Patch, stored []byte, err error) {
	first, count := x.ChunkBlocksOf(i)
	content, err := readRun(root, first, count)
	if err != nil {
		return best, nil, err
	}
	tried := map[int64]bool{}
	for _, shift := range []int64{0, shiftNear(from, first, -1), shiftNear(from, first+count-1, 1)} {
		if tried[shift] {
			continue
		}
		tried[shift] = true
		start := max(0, first+shift-count/2)
		end := min(base.Size/BlockSize, first+shift+count+count/2)
		if start >= end {
			continue
		}
		dictionary, err := readRun(base.Root, start, end-start)
		if err != nil {
			return best, nil, err
		}
		b, err := compressWith(dictionary, content)
		if err != nil {
			return best, nil, err
		}
		if int64(len(b)) < x.Root[i].Length*3/4 && (stored == nil || len(b) < len(stored)) {
			stored = b
			best = Patch{Chunk: i, From: start, Blocks: end - start, Length: int64(len(b)), Sum: sha256.Sum256(b)}
		}
	}
	return best, stored, nil
}

// shiftNear is by how much the first block from b on in a direction that the
// base has was moved.
func shiftNear(from []int64, b, step int64) int64 {
	for ; b >= 0 && b < int64(len(from)); b += step {
		if from[b] != isNew {
			return from[b] - b
		}
	}
	return 0
}

func readRun(r io.ReaderAt, first, count int64) ([]byte, error) {
	b := make([]byte, count*BlockSize)
	if n, err := r.ReadAt(b, first*BlockSize); n < len(b) {
		return nil, fmt.Errorf("read block %d: %w", first, err)
	}
	return b, nil
}

func compressWith(dictionary, content []byte) ([]byte, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(4*MaxPieceSize), zstd.WithSingleSegment(true), zstd.WithEncoderConcurrency(1), zstd.WithEncoderDictRaw(0, dictionary))
	if err != nil {
		return nil, err
	}
	return encoder.EncodeAll(content, nil), nil
}

// DecodePatch checks the stored bytes of a patch against the index and unpacks
// them into dst, which has the size of the chunk. What comes out is the chunk
// only if dictionary is what the base has at its place, so the caller checks the
// blocks. Bytes that are not the publisher's are ErrDamaged, and are not
// unpacked.
func (d *Decoder) DecodePatch(dst []byte, p Patch, stored, dictionary []byte) error {
	if int64(len(stored)) != p.Length || sha256.Sum256(stored) != p.Sum {
		return fmt.Errorf("unpack patch at %d of the blob: %w", p.Offset, ErrDamaged)
	}
	patched, err := newZstd(zstd.WithDecoderDictRaw(0, dictionary))
	if err != nil {
		return fmt.Errorf("unpack patch: %w", err)
	}
	defer patched.Close()
	out, err := patched.DecodeAll(stored, dst[:0:len(dst)])
	if err != nil {
		return fmt.Errorf("unpack patch at %d of the blob: %w", p.Offset, err)
	}
	if len(out) != len(dst) {
		return fmt.Errorf("unpack patch at %d of the blob: %d bytes, want %d", p.Offset, len(out), len(dst))
	}
	return nil
}
