package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/image/delta"
	"github.com/coracle-os/coracle/image/release"
)

// batch is how many blocks are copied at a time: 1 MiB.
const batch = 256

// blocks writes the root of the inactive slot.
type blocks struct {
	in      *Install
	leaves  []byte
	decoder *release.Decoder
	buffer  []byte
	done    int64
	bad     []int64 // blocks whose copy was not what the plan took it for
}

func newBlocks(in *Install, leaves []byte, done int64) (*blocks, error) {
	d, err := release.NewDecoder()
	if err != nil {
		return nil, err
	}
	return &blocks{in: in, leaves: leaves, decoder: d, done: done, buffer: make([]byte, max(batch*blockSize, release.MaxPieceSize))}, nil
}

func (b *blocks) carryOut(ctx context.Context, p *delta.Plan) error {
	inactive, running := b.in.pair.Inactive.Root, b.in.pair.Running.Root
	for _, c := range p.Moves {
		if err := b.copy(ctx, inactive, c); err != nil {
			return err
		}
	}
	for _, c := range p.Copies {
		if err := b.copy(ctx, running, c); err != nil {
			return err
		}
	}
	for _, r := range p.Zeros {
		if err := b.zero(ctx, r); err != nil {
			return err
		}
	}
	rest, err := b.patch(ctx, p.Fetches)
	if err != nil {
		return err
	}
	for _, fetches := range [][]delta.Fetch{rest, delta.Refetch(b.in.Index, b.bad)} {
		for _, f := range fetches {
			for _, part := range b.parts(f) {
				if err := b.fetch(ctx, part); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *blocks) copy(ctx context.Context, from slots.Region, c delta.Copy) error {
	for at := int64(0); at < c.Blocks; at += batch {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n := min(batch, c.Blocks-at)
		content := b.buffer[:n*blockSize]
		if _, err := b.in.Disk.Section(from).ReadAt(content, (c.From.Block+at)*blockSize); err != nil {
			for i := range n { // a bad sector is fetched instead
				b.bad = append(b.bad, c.To+at+i)
			}
			continue
		}
		if err := b.writeGood(content, c.To+at); err != nil {
			return err
		}
	}
	return nil
}

// writeGood writes the blocks that have their digests and notes the others.
func (b *blocks) writeGood(content []byte, first int64) error {
	start := int64(0)
	n := int64(len(content) / blockSize)
	for i := range n + 1 {
		if i < n && b.holds(first+i, content[i*blockSize:][:blockSize]) {
			continue
		}
		if i > start {
			if err := b.write(content[start*blockSize:i*blockSize], first+start); err != nil {
				return err
			}
		}
		if i < n {
			b.bad = append(b.bad, first+i)
		}
		start = i + 1
	}
	return nil
}

func (b *blocks) holds(block int64, content []byte) bool {
	sum := b.in.Index.BlockDigest(content)
	return bytes.Equal(sum[:], b.leaves[block*sha256.Size:][:sha256.Size])
}

func (b *blocks) write(content []byte, first int64) error {
	if err := b.in.Disk.WriteAt(b.in.pair.Inactive.Root, content, first*blockSize); err != nil {
		return err
	}
	b.done += int64(len(content) / blockSize)
	if b.in.Progress != nil {
		b.in.Progress(min(b.done, b.in.Index.DataBlocks), b.in.Index.DataBlocks)
	}
	return nil
}

func (b *blocks) zero(ctx context.Context, r delta.Run) error {
	clear(b.buffer)
	for at := int64(0); at < r.Blocks; at += batch {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := b.write(b.buffer[:min(batch, r.Blocks-at)*blockSize], r.First+at); err != nil {
			return err
		}
	}
	return nil
}

// atOnce is how much is fetched before it is written, in bytes: what a broken
// transfer costs at most.
const atOnce = 512 << 10

// parts cuts a fetch into parts of about atOnce bytes.
func (b *blocks) parts(f delta.Fetch) []delta.Fetch {
	var parts []delta.Fetch
	for i := f.First; i <= f.Last; i++ {
		c := b.in.Index.Root[i]
		if n := len(parts); n > 0 && parts[n-1].Length+c.Length <= atOnce {
			parts[n-1].Last, parts[n-1].Length = i, parts[n-1].Length+c.Length
			continue
		}
		parts = append(parts, delta.Fetch{Range: c.Range(), First: i, Last: i})
	}
	return parts
}

func (b *blocks) fetch(ctx context.Context, f delta.Fetch) error {
	x := b.in.Index
	part := func(stored []byte, i int) []byte {
		return stored[x.Root[i].Offset-f.Offset:][:x.Root[i].Length]
	}
	var stored []byte
	if f.Length > 0 {
		var err error
		stored, err = b.in.Range(ctx, f.Range, func(stored []byte) error {
			for i := f.First; i <= f.Last; i++ {
				if c := x.Root[i]; c.Length > 0 && sha256.Sum256(part(stored, i)) != c.Sum {
					return fmt.Errorf("chunk %d of the root: digest differs: %w", i, release.ErrDamaged)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for i := f.First; i <= f.Last; i++ {
		first, count := x.ChunkBlocksOf(i)
		content := b.buffer[:count*blockSize]
		if err := b.decoder.Decode(content, x.Root[i], part(stored, i)); err != nil {
			return err
		}
		for k := range count {
			if !b.holds(first+k, content[k*blockSize:][:blockSize]) {
				return fmt.Errorf("block %d of version %s is not what the root hash says: the publisher's index and image do not belong together", first+k, b.in.Version)
			}
		}
		if err := b.write(content, first); err != nil {
			return err
		}
	}
	return nil
}
