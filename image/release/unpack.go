package release

import (
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A Decoder unpacks chunks. It keeps little memory, and is for one goroutine.
type Decoder struct{ zstd *zstd.Decoder }

// NewDecoder returns a Decoder; Close it after use.
func NewDecoder() (*Decoder, error) {
	d, err := newZstd()
	if err != nil {
		return nil, fmt.Errorf("new decoder: %w", err)
	}
	return &Decoder{d}, nil
}

func newZstd(more ...zstd.DOption) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, append(more, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxPieceSize), zstd.WithDecoderMaxWindow(MaxPieceSize), zstd.WithDecodeAllCapLimit(true))...)
}

// Close frees the decoder.
func (d *Decoder) Close() { d.zstd.Close() }

// Decode checks the stored bytes of a chunk against the index and unpacks them
// into dst, which has c.Size bytes. Bytes that are not the publisher's are
// ErrDamaged, and are not unpacked.
func (d *Decoder) Decode(dst []byte, c Chunk, stored []byte) error {
	if int64(len(dst)) != c.Size {
		return fmt.Errorf("unpack chunk: room for %d bytes, want %d", len(dst), c.Size)
	}
	if int64(len(stored)) != c.Length {
		return fmt.Errorf("unpack chunk at %d of the blob: %d bytes of %d: %w", c.Offset, len(stored), c.Length, ErrDamaged)
	}
	if c.Length == 0 {
		clear(dst)
		return nil
	}
	if sha256.Sum256(stored) != c.Sum {
		return fmt.Errorf("unpack chunk at %d of the blob: digest differs: %w", c.Offset, ErrDamaged)
	}
	if c.Length == c.Size {
		copy(dst, stored)
		return nil
	}
	// The capacity is cut because the decoder uses what it gets.
	out, err := d.zstd.DecodeAll(stored, dst[:0:len(dst)])
	if err != nil {
		return fmt.Errorf("unpack chunk at %d of the blob: %w; the publisher's index and blob do not belong together", c.Offset, err)
	}
	if int64(len(out)) != c.Size {
		return fmt.Errorf("unpack chunk at %d of the blob: %d bytes, want %d; the publisher's index and blob do not belong together", c.Offset, len(out), c.Size)
	}
	return nil
}

// ReadBlob unpacks a chunk of a blob that is at hand as a whole, as in a
// bundle.
func (d *Decoder) ReadBlob(dst []byte, c Chunk, blob io.ReaderAt) error {
	stored := make([]byte, c.Length)
	if n, err := blob.ReadAt(stored, c.Offset); n < len(stored) {
		return fmt.Errorf("read chunk at %d of the blob: %d bytes of %d: %w", c.Offset, n, c.Length, err)
	}
	return d.Decode(dst, c, stored)
}
