package ami

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// BlockSize is the size of a snapshot's blocks in bytes.
const BlockSize = 512 << 10

// maxSize is the size of the largest volume that an image may be, in bytes.
const maxSize = 64 << 40

// Block is one block that is not all zeros.
type Block struct {
	Index  int32
	SHA256 [sha256.Size]byte
}

// Plan is what a snapshot of an image consists of.
type Plan struct {
	Size   int64   // of the image in bytes
	Blocks []Block // in order
}

// GiB is the size of the volume, in GiB.
func (p Plan) GiB() int64 { return (p.Size + 1<<30 - 1) >> 30 }

// Checksum is the aggregate that EBS calls LINEAR: over the blocks' checksums in
// order.
func (p Plan) Checksum() [sha256.Size]byte {
	h := sha256.New()
	for _, b := range p.Blocks {
		h.Write(b.SHA256[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Digest names the plan: two images have the same only if they are the same.
func (p Plan) Digest() string {
	h := sha256.New()
	for _, b := range p.Blocks {
		fmt.Fprintf(h, "%d %x\n", b.Index, b.SHA256)
	}
	fmt.Fprintf(h, "%d\n", p.Size)
	return hex.EncodeToString(h.Sum(nil))
}

// ErrNotRaw says that a file is no raw disk image.
var ErrNotRaw = errors.New("it is not a raw disk image; give build/coracle.raw, or convert it with `coracle convert`")

// MakePlan reads an image of the size in bytes.
func MakePlan(ctx context.Context, image io.ReaderAt, size int64) (Plan, error) {
	p := Plan{Size: size}
	head := make([]byte, 520)
	if _, err := image.ReadAt(head, 0); err != nil || string(head[512:]) != "EFI PART" {
		return p, fmt.Errorf("read image: no partition table: %w", ErrNotRaw)
	}
	if size > maxSize {
		return p, fmt.Errorf("read image: %d bytes are more than a volume may have (%d)", size, int64(maxSize))
	}
	block, zeros := make([]byte, BlockSize), make([]byte, BlockSize)
	for at := int64(0); at < size; at += BlockSize {
		if err := ctx.Err(); err != nil {
			return p, err
		}
		if err := readBlock(image, block, at); err != nil {
			return p, err
		}
		if !bytes.Equal(block, zeros) {
			p.Blocks = append(p.Blocks, Block{int32(at / BlockSize), sha256.Sum256(block)})
		}
	}
	return p, nil
}

// readBlock fills a block; what is beyond the image's end is zeros.
func readBlock(image io.ReaderAt, block []byte, at int64) error {
	n, err := image.ReadAt(block, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read image: %w", err)
	}
	clear(block[n:])
	return nil
}
