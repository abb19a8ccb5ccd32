package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/coracle-os/coracle/image/delta"
	"github.com/coracle-os/coracle/image/release"
)

// patch does what it can of these fetches with patches of what runs, and
// returns the others. Chunks whose patch did not give the right blocks, because
// the running slot is not what its tree says, are noted as bad.
func (b *blocks) patch(ctx context.Context, planned []delta.Fetch) ([]delta.Fetch, error) {
	running, err := hex.DecodeString(b.in.Running)
	if err != nil || len(running) != sha256.Size {
		return nil, fmt.Errorf("running root hash %q: want %d hex digits", b.in.Running, 2*sha256.Size)
	}
	patches, rest := delta.Patched(b.in.Index, release.Sum(running), planned, atOnce)
	for _, f := range patches {
		if err := b.fetchPatches(ctx, f); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

func (b *blocks) fetchPatches(ctx context.Context, f delta.PatchFetch) error {
	part := func(stored []byte, p release.Patch) []byte { return stored[p.Offset-f.Offset:][:p.Length] }
	stored, err := b.in.Range(ctx, f.Range, func(stored []byte) error {
		for _, p := range f.Patches {
			if sha256.Sum256(part(stored, p)) != p.Sum {
				return fmt.Errorf("patch of chunk %d of the root: digest differs: %w", p.Chunk, release.ErrDamaged)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range f.Patches {
		if err := b.applyPatch(p, part(stored, p)); err != nil {
			return err
		}
	}
	return nil
}

func (b *blocks) applyPatch(p release.Patch, stored []byte) error {
	first, count := b.in.Index.ChunkBlocksOf(p.Chunk)
	content := b.buffer[:count*blockSize]
	dictionary := make([]byte, p.Blocks*blockSize)
	_, err := b.in.Disk.Section(b.in.pair.Running.Root).ReadAt(dictionary, p.From*blockSize)
	if err == nil {
		err = b.decoder.DecodePatch(content, p, stored, dictionary)
	}
	if err != nil {
		b.in.Log.Warn("patch not usable, fetching the chunk", "chunk", p.Chunk, "error", err)
		b.bad = append(b.bad, first)
		return nil
	}
	return b.writeGood(content, first)
}
