package delta

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/image/verity"
)

const blockSize = release.BlockSize

// A disk image in these tests is a text: one letter is a block of it, '.' a
// block of zeros.
func blocks(text string) []byte {
	b := make([]byte, len(text)*blockSize)
	for i, letter := range []byte(text) {
		if letter == '.' {
			continue
		}
		block := b[i*blockSize:][:blockSize]
		for j := 0; j < blockSize; j += 8 {
			binary.LittleEndian.PutUint64(block[j:], uint64(letter)*0x9e3779b97f4a7c15+uint64(j)*uint64(letter))
		}
	}
	return b
}

// an image with its hash partition
type installed struct {
	data, tree []byte
	root       release.Sum
}

func install(t testing.TB, data []byte) installed {
	t.Helper()
	in := installed{data: data, tree: make([]byte, verity.TreeSize(int64(len(data))))}
	hash, err := verity.Format(bytes.NewReader(data), int64(len(data)), writer(in.tree), verity.Superblock{Salt: verity.Salt()})
	if err != nil {
		t.Fatal(err)
	}
	copy(in.root[:], hash)
	return in
}

type writer []byte

func (w writer) WriteAt(b []byte, at int64) (int, error) { return copy(w[at:], b), nil }

func (in installed) blocks() int64 { return int64(len(in.data)) / blockSize }

func (in installed) leaves(t testing.TB) []byte {
	t.Helper()
	leaves, err := Leaves(bytes.NewReader(in.tree), in.root, in.blocks())
	if err != nil {
		t.Fatal(err)
	}
	return leaves
}

func publish(t testing.TB, data []byte, chunkBlocks int) (*release.Index, []byte) {
	t.Helper()
	var blob bytes.Buffer
	x, err := release.Write(t.Context(), &blob, release.Source{Root: bytes.NewReader(data), RootSize: int64(len(data)), ChunkBlocks: chunkBlocks})
	if err != nil {
		t.Fatal(err)
	}
	return x, blob.Bytes()
}

// publishRaw is publish without compression, which takes longer than all the
// rest: every chunk is stored as it is.
func publishRaw(in installed, chunkBlocks int) (*release.Index, []byte) {
	x := &release.Index{RootHash: in.root, DataBlocks: in.blocks(), Salt: verity.Salt(), ChunkBlocks: chunkBlocks}
	for at := 0; at < len(in.data); at += chunkBlocks * blockSize {
		stored := in.data[at:min(len(in.data), at+chunkBlocks*blockSize)]
		x.Root = append(x.Root, release.Chunk{Offset: int64(at), Length: int64(len(stored)), Size: int64(len(stored)), Sum: sha256.Sum256(stored)})
	}
	return x, in.data
}

// carryOut does a plan in its order on the target, checking each block first.
func carryOut(t testing.TB, x *release.Index, p *Plan, blob, target []byte, leaves []byte, sources ...[]byte) {
	t.Helper()
	put := func(b int64, content []byte) {
		if d := x.BlockDigest(content); !bytes.Equal(d[:], leaves[b*digestSize:][:digestSize]) {
			t.Fatalf("block %d would be written with wrong content", b)
		}
		copy(target[b*blockSize:], content)
	}
	do := func(c Copy, from []byte) {
		run := bytes.Clone(from[c.From.Block*blockSize:][:c.Blocks*blockSize])
		for i := range c.Blocks {
			put(c.To+i, run[i*blockSize:][:blockSize])
		}
	}
	written := p.Keep
	for _, c := range p.Moves {
		do(c, target)
		written += c.Blocks
	}
	for _, c := range p.Copies {
		do(c, sources[c.From.Source])
		written += c.Blocks
	}
	for _, z := range p.Zeros {
		for i := range z.Blocks {
			put(z.First+i, make([]byte, blockSize))
		}
		written += z.Blocks
	}
	d, err := release.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, f := range p.Fetches {
		got := blob[f.Offset:f.End()]
		for i := f.First; i <= f.Last; i++ {
			c := x.Root[i]
			content := make([]byte, c.Size)
			if err := d.Decode(content, c, got[c.Offset-f.Offset:][:c.Length]); err != nil {
				t.Fatal(err)
			}
			first, n := x.ChunkBlocksOf(i)
			for j := range n {
				put(first+j, content[j*blockSize:][:blockSize])
			}
		}
	}
	if written > x.DataBlocks {
		t.Errorf("%d blocks are kept or copied, the root has %d", written, x.DataBlocks)
	}
}

func TestPlan(t *testing.T) {
	for _, test := range []struct {
		name, running, target, next string
		want                        string
	}{
		{"nothing at hand", "", "", "abcdefgh", "fetch 0-3"},
		{"the same", "abcdefgh", "", "abcdefgh", "copy 0+8>0"},
		{"in place", "abcdefgh", "abcdefgh", "abcdefgh", "keep 8"},
		{"one changed", "abcdefgh", "", "abcdXfgh", "copy 0+4>0, copy 6+2>6, fetch 2-2"},
		{"shifted", "abcdefgh", "", "XYabcdefgh", "copy 0+8>2, fetch 0-0"},
		{"zeros", "abcd", "", "ab....cd", "copy 0+2>0, copy 2+2>6, zero 2+4"},
		{"only in the target, in place", "abcdefgh", "abcdXYgh", "abcdXYgh", "keep 8"},
		{"only in the target, moved up", "", "XYZW", "abXYZW", "move 2+2>4, move 0+2>2, fetch 0-0"},
		{"only in the target, moved down", "", "abXYZW", "XYZW", "move 2+2>0, move 4+2>2"},
		{"exchanged: a circle is fetched", "", "XYab", "abXY", "fetch 0-1"},
		{"one of a circle from elsewhere", "ab", "XYab", "abXY", "move 0+2>2, copy 0+2>0"},
		{"target longer than the new root", "", "abcdXY", "XY", "move 4+2>0"},
		{"repeated", "aabb", "", "aaaabbbb", "copy 0+2>0, copy 0+4>2, copy 2+2>6"},
	} {
		t.Run(test.name, func(t *testing.T) {
			next := install(t, blocks(test.next))
			x, blob := publish(t, next.data, 2)
			known := &Installed{}
			running := blocks(test.running)
			if len(running) > 0 {
				known.Add(0, 0, install(t, running).leaves(t))
			}
			target := blocks(test.target)
			var digests []byte
			for i := 0; i < len(target); i += blockSize {
				d := x.BlockDigest(target[i:][:blockSize])
				digests = append(digests, d[:]...)
			}
			p, err := New(x, next.leaves(t), known, digests)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.text(); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			target = append(target, make([]byte, max(0, len(next.data)-len(target)))...)
			carryOut(t, x, p, blob, target, next.leaves(t), running)
			if !bytes.Equal(target[:len(next.data)], next.data) {
				t.Error("the result is not the new root")
			}
		})
	}
}

func (p *Plan) text() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if p.Keep > 0 {
		add("keep %d", p.Keep)
	}
	for _, c := range p.Moves {
		add("move %d+%d>%d", c.From.Block, c.Blocks, c.To)
	}
	for _, c := range p.Copies {
		add("copy %d+%d>%d", c.From.Block, c.Blocks, c.To)
	}
	for _, z := range p.Zeros {
		add("zero %d+%d", z.First, z.Blocks)
	}
	for _, f := range p.Fetches {
		add("fetch %d-%d", f.First, f.Last)
	}
	return strings.Join(parts, ", ")
}

// Any three images, and a target that was interrupted anywhere: the plan
// makes the new root, and planned again half-way it does too.
func FuzzPlan(f *testing.F) {
	f.Add([]byte("abcdefgh"), []byte("bcdefgha"), []byte("aabbcc.d"), uint8(3))
	f.Add([]byte("abcdefghijklmnop"), []byte("zabcdefghijklmno"), []byte("zabXdefghijklmno"), uint8(9))
	f.Add([]byte(""), []byte("ponmlkjihgfedcba"), []byte("abcdefghijklmnop"), uint8(4))
	f.Fuzz(func(t *testing.T, running, target, next []byte, stop uint8) {
		if len(next) == 0 || len(next) > 40 || len(running) > 40 || len(target) > 40 {
			return
		}
		simple := func(b []byte) []byte { // few letters, so that many blocks are alike
			s := bytes.Clone(b)
			for i, c := range s {
				s[i] = ".abcdefghijklmnopqrstuv"[c%23]
			}
			return blocks(string(s))
		}
		image := install(t, simple(next))
		x, blob := publishRaw(image, 3)
		known, runningData := &Installed{}, simple(running)
		if len(running) > 0 {
			known.Add(0, 0, install(t, runningData).leaves(t))
		}
		slot := simple(target)
		plan := func() *Plan {
			var digests []byte
			for i := 0; i < len(slot); i += blockSize {
				d := x.BlockDigest(slot[i:][:blockSize])
				digests = append(digests, d[:]...)
			}
			p, err := New(x, image.leaves(t), known, digests)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		p := plan()
		slot = append(slot, make([]byte, max(0, len(image.data)-len(slot)))...)
		if n := int(stop) % (len(p.Moves) + 1); n > 0 { // a first try that ends in the moves
			half := *p
			half.Moves, half.Copies, half.Zeros, half.Fetches = p.Moves[:n], nil, nil, nil
			carryOut(t, x, &half, blob, slot, image.leaves(t), runningData)
			p = plan()
		}
		carryOut(t, x, p, blob, slot, image.leaves(t), runningData)
		if !bytes.Equal(slot[:len(image.data)], image.data) {
			t.Fatalf("running %q, target %q, new %q: the result is not the new root", running, target, next)
		}
	})
}

func TestFetchesAreBounded(t *testing.T) {
	x := &release.Index{DataBlocks: 100 * 256, ChunkBlocks: 256}
	at := int64(0)
	for range 100 {
		x.Root = append(x.Root, release.Chunk{Offset: at, Length: 300_000, Size: 1 << 20})
		at += 300_000
	}
	p, err := New(x, make([]byte, x.DataBlocks*digestSize), &Installed{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	for _, f := range p.Fetches {
		if f.Length > MaxFetch || f.First != next || f.Offset != x.Root[f.First].Offset {
			t.Fatalf("fetch %+v after chunk %d", f, next)
		}
		next = f.Last + 1
	}
	if next != 100 || p.FetchBytes() != at {
		t.Errorf("fetches end before chunk %d and are %d bytes, want %d", next, p.FetchBytes(), at)
	}
	if got := Refetch(x, []int64{5, 300, 256 * 50}); len(got) != 2 || got[0].Last != 1 || got[1].First != 50 {
		t.Errorf("refetch: %+v", got)
	}
	if _, err := New(x, nil, &Installed{}, nil); err == nil {
		t.Error("no digests, no error")
	}
}

// random is an image of n blocks, each of its own.
func random(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n*blockSize)
	for i := 0; i < len(b); i += 512 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

func TestReadTree(t *testing.T) {
	old := install(t, random(128*128+300, 1))
	changed := bytes.Clone(old.data)
	changed[5000*blockSize] ^= 1
	next := install(t, changed)
	x, blob := publish(t, next.data, 16)
	known := &Installed{}
	if err := known.AddTree(0, bytes.NewReader(old.tree), old.root, old.blocks()); err != nil {
		t.Fatal(err)
	}
	errBroken := errors.New("unreadable")
	for name, test := range map[string]struct {
		known *Installed
		copy  func(Place, []byte) error
		lies  int // ranges that the first mirror gives wrongly
		want  int64
	}{
		"one leaf changed": {known, nil, 0, 3},
		"a mirror lies":    {known, nil, 2, 3},
		"nothing known":    {&Installed{}, nil, 0, x.TreeBlocks()},
		"unreadable": {known, func(p Place, b []byte) error {
			if p.Block%2 == 0 {
				return errBroken
			}
			copy(b, old.tree[p.Block*blockSize:][:blockSize])
			return nil
		}, 0, 3 + 66},
		"damaged": {known, func(_ Place, b []byte) error { clear(b); return nil }, 0, x.TreeBlocks()},
	} {
		t.Run(name, func(t *testing.T) {
			var fetched int64
			source := TreeSource{Known: test.known, Copy: test.copy, Fetch: func(r release.Range, check func([]byte) error) ([]byte, error) {
				if test.lies--; test.lies >= 0 {
					bad := bytes.Clone(blob[r.Offset:r.End()])
					bad[0] ^= 1
					if err := check(bad); !errors.Is(err, release.ErrDamaged) {
						t.Errorf("a lie is taken: %v", err)
					}
					if err := check(bad[1:]); !errors.Is(err, release.ErrDamaged) {
						t.Errorf("a short answer is taken: %v", err)
					}
				}
				fetched += r.Length
				return blob[r.Offset:r.End()], check(blob[r.Offset:r.End()])
			}}
			if source.Copy == nil {
				source.Copy = func(p Place, b []byte) error { copy(b, old.tree[p.Block*blockSize:]); return nil }
			}
			tree, err := ReadTree(x, source)
			if err != nil {
				t.Fatal(err)
			}
			if err := verity.Verify(bytes.NewReader(next.data), int64(len(next.data)), bytes.NewReader(tree), next.root[:]); err != nil {
				t.Error(err)
			}
			if fetched != test.want*blockSize {
				t.Errorf("fetched %d blocks, want %d", fetched/blockSize, test.want)
			}
		})
	}
	_, err := ReadTree(x, TreeSource{Known: known, Copy: func(Place, []byte) error { return errBroken },
		Fetch: func(release.Range, func([]byte) error) ([]byte, error) { return nil, errBroken }})
	if !errors.Is(err, errBroken) {
		t.Errorf("no server: got %v", err)
	}
	if _, err := Leaves(bytes.NewReader(old.tree[:9000]), old.root, old.blocks()); err == nil {
		t.Error("a short tree went unnoticed")
	}
	if err := (&Installed{}).AddTree(0, bytes.NewReader(old.tree[:9000]), old.root, old.blocks()); err == nil {
		t.Error("a short tree went unnoticed")
	}
}

// A plan over a slot of 1 GiB, all of it known and shifted by one block: time
// and memory of what the agent keeps.
func BenchmarkPlan(b *testing.B) {
	const n = 1 << 18
	r := rand.New(rand.NewPCG(1, 2))
	leaves := make([]byte, (n+1)*digestSize)
	for i := 0; i < len(leaves); i += 8 {
		binary.LittleEndian.PutUint64(leaves[i:], r.Uint64())
	}
	x := &release.Index{DataBlocks: n, ChunkBlocks: 16, Root: make([]release.Chunk, n/16)}
	b.ReportAllocs()
	for b.Loop() {
		known := &Installed{}
		known.Add(0, 0, leaves[:n*digestSize])
		p, err := New(x, leaves[digestSize:], known, leaves[:n*digestSize])
		if err != nil {
			b.Fatal(err)
		}
		if len(p.Copies) != 1 {
			b.Fatalf("%d copies", len(p.Copies))
		}
	}
}
