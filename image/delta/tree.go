package delta

import (
	"bytes"
	"fmt"
	"io"

	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/image/verity"
)

// Leaves reads the digests of the data blocks from a hash partition: what Add
// and New want for an installed root. A tree over one block has none but the
// root hash.
func Leaves(hashes io.ReaderAt, rootHash release.Sum, dataBlocks int64) ([]byte, error) {
	levels := verity.Levels(dataBlocks)
	if len(levels) == 0 {
		return rootHash[:], nil
	}
	// Read before allocating by number: a damaged superblock may lie.
	leaves, err := io.ReadAll(io.NewSectionReader(hashes, levels[0].Start*release.BlockSize, dataBlocks*digestSize))
	if err != nil {
		return nil, fmt.Errorf("read installed hash tree: %w", err)
	}
	if int64(len(leaves)) != dataBlocks*digestSize {
		return nil, fmt.Errorf("read installed hash tree: it is cut short: %w", io.ErrUnexpectedEOF)
	}
	return leaves, nil
}

// AddTree makes known the blocks of an installed hash tree itself, by their
// place in the hash partition.
func (in *Installed) AddTree(source int, hashes io.ReaderAt, rootHash release.Sum, dataBlocks int64) error {
	levels := verity.Levels(dataBlocks)
	digests := rootHash[:]
	for i := len(levels) - 1; i >= 0; i-- {
		l := levels[i]
		if int64(len(digests)) < l.Blocks*digestSize {
			return fmt.Errorf("read installed hash tree: it is cut short: %w", io.ErrUnexpectedEOF)
		}
		in.Add(source, l.Start, digests[:l.Blocks*digestSize])
		if i == 0 {
			break // the digests in it are those of data
		}
		var err error
		digests, err = io.ReadAll(io.NewSectionReader(hashes, l.Start*release.BlockSize, l.Blocks*release.BlockSize))
		if err != nil {
			return fmt.Errorf("read installed hash tree: %w", err)
		}
	}
	return nil
}

// A TreeFetch is a range of the blob with blocks of the hash tree.
type TreeFetch struct {
	release.Range
	First, Blocks int64 // in the hash partition
}

// PlanLevel plans one level of the new hash tree, whose blocks have these
// digests: what is copied from installed trees and what is fetched. Copies are
// proposals, as in a Plan.
func PlanLevel(x *release.Index, l verity.Level, digests []byte, known *Installed) (copies []Copy, fetches []TreeFetch) {
	for i := range l.Blocks {
		block := l.Start + i
		if place, ok := known.Find(digests[i*digestSize:][:digestSize]); ok {
			copies = appendCopy(copies, place, block)
			continue
		}
		fetches = appendTreeFetch(fetches, x, block)
	}
	return copies, fetches
}

func appendTreeFetch(fetches []TreeFetch, x *release.Index, block int64) []TreeFetch {
	if n := len(fetches); n > 0 {
		f := &fetches[n-1]
		if f.First+f.Blocks == block && f.Length < MaxFetch {
			f.Blocks++
			f.Range = x.TreeRange(f.First, f.Blocks)
			return fetches
		}
	}
	return append(fetches, TreeFetch{x.TreeRange(block, 1), block, 1})
}

// A TreeSource is where ReadTree gets blocks from.
type TreeSource struct {
	Known *Installed // blocks of installed trees
	// Copy reads one block of an installed tree into block. Its failure means
	// that the block is fetched.
	Copy func(from Place, block []byte) error
	// Fetch returns a range of the blob. It calls check with what a mirror
	// gave and goes on to the next mirror while that fails.
	Fetch func(r release.Range, check func([]byte) error) ([]byte, error)
}

// ReadTree returns the content of the new hash partition, superblock and tree,
// checked from the root hash down. It fetches only blocks that no installed
// tree has; x.RootHash is what was signed.
func ReadTree(x *release.Index, s TreeSource) ([]byte, error) {
	superblock, err := x.Superblock()
	if err != nil {
		return nil, fmt.Errorf("read new hash tree: %w", err)
	}
	tree := append(superblock, make([]byte, x.TreeBlocks()*release.BlockSize)...)
	digests := x.RootHash[:]
	levels := x.Levels()
	for i := len(levels) - 1; i >= 0; i-- {
		if err := readLevel(x, levels[i], digests, s, tree); err != nil {
			return nil, fmt.Errorf("read new hash tree: %w", err)
		}
		digests = tree[levels[i].Start*release.BlockSize:][:levels[i].Blocks*release.BlockSize]
	}
	return tree, nil
}

func readLevel(x *release.Index, l verity.Level, digests []byte, s TreeSource, tree []byte) error {
	digest := func(block int64) []byte { return digests[(block-l.Start)*digestSize:][:digestSize] }
	holds := func(block int64, content []byte) bool {
		got := x.BlockDigest(content)
		return bytes.Equal(got[:], digest(block))
	}
	copies, fetches := PlanLevel(x, l, digests, s.Known)
	for _, c := range copies {
		for i := range c.Blocks {
			content := tree[(c.To+i)*release.BlockSize:][:release.BlockSize]
			err := s.Copy(Place{c.From.Source, c.From.Block + i}, content)
			if err != nil || !holds(c.To+i, content) {
				fetches = appendTreeFetch(fetches, x, c.To+i)
			}
		}
	}
	for _, f := range fetches {
		check := func(b []byte) error {
			if int64(len(b)) != f.Length {
				return fmt.Errorf("hash tree, block %d: %d bytes of %d: %w", f.First, len(b), f.Length, release.ErrDamaged)
			}
			for i := range f.Blocks {
				if !holds(f.First+i, b[i*release.BlockSize:][:release.BlockSize]) {
					return fmt.Errorf("hash tree, block %d: digest differs: %w", f.First+i, release.ErrDamaged)
				}
			}
			return nil
		}
		b, err := s.Fetch(f.Range, check)
		if err != nil {
			return err
		}
		if err := check(b); err != nil {
			return err
		}
		copy(tree[f.First*release.BlockSize:], b)
	}
	return nil
}
