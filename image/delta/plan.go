package delta

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/coracle-os/coracle/image/release"
)

// MaxFetch is the most that one Fetch asks for, in bytes.
const MaxFetch = 4 << 20

// A Plan says how the root in the target slot becomes the new one. The parts
// are done in this order; each block of the new root is in just one of them or
// in Keep. Done again after an interruption, from a fresh look at the target, it
// goes on where it was.
type Plan struct {
	Keep    int64   // blocks that are in place
	Moves   []Copy  // inside the target, one after the other as they stand; From.Source is 0 and means nothing
	Copies  []Copy  // from the other sources
	Zeros   []Run   // blocks of zeros
	Fetches []Fetch // whole chunks; all their blocks are written
}

// A Run is a run of blocks of the new root.
type Run struct{ First, Blocks int64 }

// FetchBytes is how much the plan fetches.
func (p *Plan) FetchBytes() int64 { return sumFetches(p.Fetches) }

func sumFetches(fetches []Fetch) int64 {
	total := int64(0)
	for _, f := range fetches {
		total += f.Length
	}
	return total
}

// New plans the root of x, whose blocks have the digests leaves (32 bytes each,
// the lowest level of its hash tree). Installed knows the blocks of everything
// but the target; target has the digests of the blocks that are in the target
// slot now, from its first on, and may be nil or of another length.
func New(x *release.Index, leaves []byte, installed *Installed, target []byte) (*Plan, error) {
	if int64(len(leaves)) < x.DataBlocks*digestSize || len(x.Root) == 0 {
		return nil, fmt.Errorf("plan update: %d bytes of digests for %d blocks", len(leaves), x.DataBlocks)
	}
	n := planner{x: x, leaves: leaves[:x.DataBlocks*digestSize], target: target, fetch: make([]bool, len(x.Root))}
	n.sort(installed)
	n.orderMoves()
	return n.plan(installed), nil
}

// planner decides for each block; what remains undecided is fetched.
type planner struct {
	x      *release.Index
	leaves []byte
	target []byte
	how    []byte  // for each block of the new root
	from   []int32 // for moves: the block of the target
	order  []int32 // moves in the order that is safe
	fetch  []bool  // for each chunk
}

const (
	byFetch = iota
	keep
	byCopy
	byMove
	byZero
)

func (n *planner) digest(block int64) []byte { return n.leaves[block*digestSize:][:digestSize] }

// sort finds the best way for each block by itself.
func (n *planner) sort(installed *Installed) {
	blocks := n.x.DataBlocks
	n.how, n.from = make([]byte, blocks), make([]int32, blocks)
	inTarget := &Installed{}
	inTarget.Add(0, 0, n.target[:min(len(n.target), release.MaxDataBlocks*digestSize)])
	zero := n.x.BlockDigest(make([]byte, release.BlockSize))
	for b := range blocks {
		d := n.digest(b)
		if end := (b + 1) * digestSize; end <= int64(len(n.target)) && bytes.Equal(n.target[end-digestSize:end], d) {
			n.how[b] = keep
			continue
		}
		if bytes.Equal(d, zero[:]) {
			n.how[b] = byZero
			continue
		}
		if _, ok := installed.Find(d); ok {
			n.how[b] = byCopy
			continue
		}
		if place, ok := inTarget.Find(d); ok {
			n.how[b], n.from[b] = byMove, int32(place.Block)
			continue
		}
		n.fetch[n.x.ChunkOf(b)] = true
	}
	n.dropFetched()
}

// dropFetched leaves to the fetch what comes with fetched chunks anyway.
func (n *planner) dropFetched() {
	for b := range n.how {
		if n.fetch[n.x.ChunkOf(int64(b))] && n.how[b] != keep {
			n.how[b] = byFetch
		}
	}
}

// orderMoves finds an order in which no move overwrites a block that a later
// one reads. Moves in a circle have none: those are fetched.
func (n *planner) orderMoves() {
	readers := make(map[int32][]int32) // moves by the block that they read
	waiting := make(map[int32]int)     // number of moves that read a block, not yet done
	for b, how := range n.how {
		if how == byMove {
			readers[n.from[b]] = append(readers[n.from[b]], int32(b))
			waiting[n.from[b]]++
		}
	}
	var ready []int32
	for b, how := range n.how {
		if how == byMove && waiting[int32(b)] == 0 {
			ready = append(ready, int32(b))
		}
	}
	done := make(map[int32]bool)
	for len(ready) > 0 {
		b := ready[0]
		ready = ready[1:]
		n.order = append(n.order, b)
		done[b] = true
		source := n.from[b]
		waiting[source]--
		if waiting[source] == 0 && int(source) < len(n.how) && n.how[source] == byMove && !done[source] {
			ready = append(ready, source)
		}
	}
	for _, all := range readers {
		for _, b := range all {
			if !done[b] {
				n.fetch[n.x.ChunkOf(int64(b))] = true
			}
		}
	}
	n.dropFetched()
	// A move that its chunk's fetch replaces goes; the order of the others holds.
	n.order = slices.DeleteFunc(n.order, func(b int32) bool { return n.how[b] != byMove })
}

func (n *planner) plan(installed *Installed) *Plan {
	p := &Plan{Fetches: fetches(n.x, n.fetch)}
	for _, b := range n.order {
		p.Moves = appendCopy(p.Moves, Place{0, int64(n.from[b])}, int64(b))
	}
	p.Moves = splitOverlaps(p.Moves)
	for b, how := range n.how {
		switch b := int64(b); how {
		case keep:
			p.Keep++
		case byCopy:
			p.Copies = n.appendBest(p.Copies, installed, b)
		case byZero:
			if k := len(p.Zeros); k > 0 && p.Zeros[k-1].First+p.Zeros[k-1].Blocks == b {
				p.Zeros[k-1].Blocks++
			} else {
				p.Zeros = append(p.Zeros, Run{b, 1})
			}
		}
	}
	return p
}

// appendBest adds the copy of a block, going on with the run before it when
// another place of the same content allows that.
func (n *planner) appendBest(copies []Copy, installed *Installed, b int64) []Copy {
	if k := len(copies); k > 0 && copies[k-1].To+copies[k-1].Blocks == b {
		next := copies[k-1].From
		next.Block += copies[k-1].Blocks
		if installed.has(n.digest(b), next) {
			copies[k-1].Blocks++
			return copies
		}
	}
	place, _ := installed.Find(n.digest(b))
	return appendCopy(copies, place, b)
}

// splitOverlaps cuts runs whose source and goal overlap into pieces that do
// not, so that each can be read as a whole before it is written.
func splitOverlaps(moves []Copy) []Copy {
	var result []Copy
	for _, m := range moves {
		step := max(m.From.Block-m.To, m.To-m.From.Block)
		for at := int64(0); at < m.Blocks; at += step {
			result = append(result, Copy{Place{0, m.From.Block + at}, m.To + at, min(step, m.Blocks-at)})
		}
	}
	return result
}

// Refetch plans the fetch of these blocks, whose content was not what a plan
// took it for.
func Refetch(x *release.Index, blocks []int64) []Fetch {
	wanted := make([]bool, len(x.Root))
	for _, b := range blocks {
		wanted[x.ChunkOf(b)] = true
	}
	return fetches(x, wanted)
}

// fetches joins neighbouring chunks up to MaxFetch bytes.
func fetches(x *release.Index, wanted []bool) []Fetch {
	var result []Fetch
	for i, c := range x.Root {
		if !wanted[i] {
			continue
		}
		if k := len(result); k > 0 {
			last := &result[k-1]
			if last.Last == i-1 && last.Length+c.Length <= MaxFetch {
				last.Last, last.Length = i, last.Length+c.Length
				continue
			}
		}
		result = append(result, Fetch{c.Range(), i, i})
	}
	return result
}
