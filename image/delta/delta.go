// Package delta plans how a new root is put together from what a machine has:
// which blocks are already in place, which are copied from an installed root,
// which runs of the published blob are fetched, and which of those fetches
// patches of the running root replace. It knows blocks by their
// digests in dm-verity hash trees; one salt for all releases makes the trees of
// installed roots the index. The update agent asks it; values in, values out.
//
// A plan is a proposal: digests of installed trees are taken at their word and
// kept as 64 bits, so whoever carries a plan out checks every block against the
// new tree before writing it and fetches (Refetch) what does not hold.
//
// Left out on purpose: finding moved data below 4 KiB (shifted bytes inside a
// block), which would need a second index. The publisher's patches do that for
// the roots that it knows.
package delta

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/coracle-os/coracle/image/release"
)

// A Place is a block of something installed.
type Place struct {
	Source int   // as given to Add
	Block  int64 // in blocks of 4 KiB from its start
}

// Installed finds blocks by digest. It takes 16 bytes for each block.
type Installed struct {
	entries []entry
	sorted  bool
}

type entry struct {
	key   uint64 // start of the digest
	place uint64 // source and block
}

const blockBits = 56

// Add makes known the blocks of a source from block first on, whose digests
// are these, 32 bytes each. When digests repeat, the source with the lower
// number and the earlier block are found.
func (in *Installed) Add(source int, first int64, digests []byte) {
	in.sorted = false
	in.entries = slices.Grow(in.entries, len(digests)/digestSize)
	for i := range int64(len(digests) / digestSize) {
		key := binary.BigEndian.Uint64(digests[i*digestSize:])
		in.entries = append(in.entries, entry{key, uint64(source)<<blockBits | uint64(first+i)})
	}
}

const digestSize = 32

// Find returns where a block with this digest seems to be.
func (in *Installed) Find(digest []byte) (Place, bool) {
	i, ok := in.search(entry{key: binary.BigEndian.Uint64(digest)})
	if !ok {
		return Place{}, false
	}
	return Place{int(in.entries[i].place >> blockBits), int64(in.entries[i].place & (1<<blockBits - 1))}, true
}

// has says whether the place has a block with this digest.
func (in *Installed) has(digest []byte, p Place) bool {
	want := entry{binary.BigEndian.Uint64(digest), uint64(p.Source)<<blockBits | uint64(p.Block)}
	i, _ := in.search(want)
	return i < len(in.entries) && in.entries[i] == want
}

// search finds the first entry that is not before e, and whether it has e's
// key.
func (in *Installed) search(e entry) (int, bool) {
	if !in.sorted {
		slices.SortFunc(in.entries, compare)
		in.sorted = true
	}
	i, _ := slices.BinarySearchFunc(in.entries, e, compare)
	return i, i < len(in.entries) && in.entries[i].key == e.key
}

func compare(a, b entry) int {
	return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.place, b.place))
}

// A Copy copies a run of blocks.
type Copy struct {
	From   Place
	To     int64 // first block of the new root or tree
	Blocks int64
}

// A Fetch is one range of the blob and the chunks of the root in it.
type Fetch struct {
	release.Range
	First, Last int // chunks of the index, both included
}

// appendCopy adds one block to the copies, to the last of them if it goes on
// from there.
func appendCopy(copies []Copy, from Place, to int64) []Copy {
	if n := len(copies); n > 0 {
		c := &copies[n-1]
		if c.From.Source == from.Source && c.From.Block+c.Blocks == from.Block && c.To+c.Blocks == to {
			c.Blocks++
			return copies
		}
	}
	return append(copies, Copy{from, to, 1})
}
