package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/coracle-os/coracle/image/verity"
)

// Source is what a release is made of.
type Source struct {
	Root        io.ReaderAt // image of the root
	RootSize    int64       // in bytes, whole blocks
	VerityUUID  [16]byte    // for the superblock of the hash partition
	UKI         []byte
	ChunkBlocks int        // DefaultChunkBlocks when 0
	Bases       []BaseRoot // roots that machines are likely to run
	Fast        bool       // compresses less, in a fraction of the time
}

// Write writes the blob of a release and returns its index. It computes the
// hash tree, and compresses on all processors.
func Write(ctx context.Context, blob io.Writer, s Source) (*Index, error) {
	if s.ChunkBlocks == 0 {
		s.ChunkBlocks = DefaultChunkBlocks
	}
	x := &Index{
		DataBlocks: s.RootSize / BlockSize, Salt: verity.Salt(), VerityUUID: s.VerityUUID, ChunkBlocks: s.ChunkBlocks,
		UKISize: int64(len(s.UKI)), UKISum: sha256.Sum256(s.UKI),
	}
	if err := x.check(); err != nil {
		return nil, fmt.Errorf("write release: %w", err)
	}
	tree := make(memory, verity.TreeSize(s.RootSize))
	hash, err := verity.Format(s.Root, s.RootSize, tree, verity.Superblock{UUID: s.VerityUUID, Salt: x.Salt})
	if err != nil {
		return nil, fmt.Errorf("write release: %w", err)
	}
	copy(x.RootHash[:], hash)
	p, err := newPacker(blob, s.Fast)
	if err != nil {
		return nil, fmt.Errorf("write release: %w", err)
	}
	if x.Root, err = p.pack(ctx, s.Root, even(s.RootSize, int64(s.ChunkBlocks)*BlockSize)); err != nil {
		return nil, fmt.Errorf("write release: root: %w", err)
	}
	if err := p.write(tree[BlockSize:]); err != nil {
		return nil, fmt.Errorf("write release: hash tree: %w", err)
	}
	uki, err := CutUKI(bytes.NewReader(s.UKI), x.UKISize)
	if err != nil {
		return nil, fmt.Errorf("write release: %w", err)
	}
	sizes := make([]int64, len(uki))
	for i, u := range uki {
		sizes[i] = u.Size
	}
	chunks, err := p.pack(ctx, bytes.NewReader(s.UKI), sizes)
	if err != nil {
		return nil, fmt.Errorf("write release: UKI: %w", err)
	}
	for i, c := range chunks {
		uki[i].Chunk = c
	}
	x.UKI = uki
	for _, base := range s.Bases {
		b, err := p.patch(ctx, x, s.Root, leaves(tree, hash, x.DataBlocks), base)
		if err != nil {
			return nil, fmt.Errorf("write release: patches from root hash %x: %w", base.RootHash, err)
		}
		x.Bases = append(x.Bases, *b)
	}
	return x, nil
}

// memory is a buffer to write at places of.
type memory []byte

func (m memory) WriteAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[at:], b), nil
}

// even cuts size into runs of step bytes; the last is what remains.
func even(size, step int64) []int64 {
	var sizes []int64
	for ; size > 0; size -= step {
		sizes = append(sizes, min(size, step))
	}
	return sizes
}

// packer writes stored runs one after the other.
type packer struct {
	out     io.Writer
	at      int64
	encoder *zstd.Encoder
}

func newPacker(out io.Writer, fast bool) (*packer, error) {
	level := zstd.SpeedBestCompression
	if fast {
		level = zstd.SpeedFastest
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(MaxPieceSize), zstd.WithSingleSegment(true), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	return &packer{out: out, encoder: encoder}, err
}

func (p *packer) write(b []byte) error {
	n, err := p.out.Write(b)
	p.at += int64(n)
	return err
}

// pack stores runs of r of these sizes, one after the other.
func (p *packer) pack(ctx context.Context, r io.ReaderAt, sizes []int64) ([]Chunk, error) {
	const window = 256 // runs in memory at a time
	chunks := make([]Chunk, len(sizes))
	in := int64(0)
	for first := 0; first < len(sizes); first += window {
		n := min(window, len(sizes)-first)
		stored := make([][]byte, n)
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(runtime.GOMAXPROCS(0))
		for i := range n {
			at, size := in, sizes[first+i]
			in += size
			group.Go(func() (err error) {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				stored[i], err = p.store(r, at, size)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		for i, b := range stored {
			c := Chunk{Offset: p.at, Length: int64(len(b)), Size: sizes[first+i]}
			if len(b) > 0 {
				c.Sum = sha256.Sum256(b)
			}
			chunks[first+i] = c
			if err := p.write(b); err != nil {
				return nil, err
			}
		}
	}
	return chunks, nil
}

// store returns the stored form of a run.
func (p *packer) store(r io.ReaderAt, at, size int64) ([]byte, error) {
	raw := make([]byte, size)
	if n, err := r.ReadAt(raw, at); n < len(raw) {
		return nil, fmt.Errorf("read at %d: %w", at, errors.Join(err, io.ErrUnexpectedEOF))
	}
	if allZero(raw) {
		return nil, nil
	}
	if b := p.encoder.EncodeAll(raw, nil); len(b) < len(raw) {
		return b, nil
	}
	return raw, nil
}

func allZero(b []byte) bool {
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	return len(b) == 0
}
