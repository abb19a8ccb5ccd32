package release

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/verity"
)

// incompressible is bytes that do not compress.
func incompressible(seed uint64, blocks int) []byte {
	random := rand.New(rand.NewPCG(seed, 5))
	b := make([]byte, blocks*BlockSize)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], random.Uint64())
	}
	return b
}

func baseOf(t testing.TB, root []byte) BaseRoot {
	t.Helper()
	hash, err := verity.Format(bytes.NewReader(root), int64(len(root)), make(memory, verity.TreeSize(int64(len(root)))), verity.Superblock{Salt: verity.Salt()})
	if err != nil {
		t.Fatal(err)
	}
	return BaseRoot{RootHash: Sum(hash), Root: bytes.NewReader(root), Size: int64(len(root))}
}

// writePatched writes a release of chunks of 8 blocks with patches from two
// roots: the first has all bytes of one half of the new root moved by three,
// and of another part by two blocks and five bytes; the second has other bytes.
func writePatched(t testing.TB) (x *Index, blob, old []byte) {
	t.Helper()
	old = incompressible(1, 96)
	next := bytes.Clone(old[:32*BlockSize])
	next = append(next, "abc"...)
	next = append(next, old[32*BlockSize:64*BlockSize-3]...)
	next = append(next, incompressible(2, 2)...) // what follows is known and moved
	next = append(next, old[64*BlockSize:70*BlockSize]...)
	next = append(next, "abcde"...)
	next = append(next, old[70*BlockSize:80*BlockSize-5]...)
	var out bytes.Buffer
	x, err := Write(t.Context(), &out, Source{
		Root: bytes.NewReader(next), RootSize: int64(len(next)), ChunkBlocks: 8, UKI: []byte("uki"),
		Bases: []BaseRoot{baseOf(t, old), baseOf(t, incompressible(9, 3))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return x, out.Bytes(), old
}

func TestPatches(t *testing.T) {
	x, blob, old := writePatched(t)
	parsed, err := ParseIndex(must(x.MarshalBinary()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(x, parsed); diff != "" {
		t.Fatalf("the parsed index differs (-written +parsed):\n%s", diff)
	}
	if x.BlobSize() != int64(len(blob)) {
		t.Errorf("the index says %d bytes of blob, it has %d", x.BlobSize(), len(blob))
	}
	patches := x.PatchesFrom(x.Bases[0].RootHash)
	if got := x.PatchesFrom(x.Bases[1].RootHash); len(got) != 0 {
		t.Errorf("%d patches from bytes that have nothing in common", len(got))
	}
	if x.PatchesFrom(Sum{}) != nil {
		t.Error("patches from a root that is unknown")
	}
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	seen, total := map[int]bool{}, int64(0)
	for _, p := range patches {
		seen[p.Chunk] = true
		total += p.Length
		c := x.Root[p.Chunk]
		want, got := make([]byte, c.Size), make([]byte, c.Size)
		if err := d.ReadBlob(want, c, bytes.NewReader(blob)); err != nil {
			t.Fatal(err)
		}
		stored, dictionary := blob[p.Offset:p.Range().End()], old[p.From*BlockSize:][:p.Blocks*BlockSize]
		if err := d.DecodePatch(got, p, stored, dictionary); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("patch of chunk %d: wrong bytes, %v", p.Chunk, err)
		}
		if err := d.DecodePatch(got, p, stored[1:], dictionary); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut short: got %v", err)
		}
		if err := d.DecodePatch(got, p, stored, nil); err == nil && bytes.Equal(got, want) {
			t.Errorf("patch of chunk %d does without its dictionary", p.Chunk)
		}
		if err := d.DecodePatch(got[BlockSize:], p, stored, dictionary); err == nil {
			t.Error("the decoder wrote a chunk into less room")
		}
	}
	for i := range x.Root {
		if wanted := i >= 4; seen[i] != wanted { // the first 32 blocks are the same
			t.Errorf("chunk %d: patch %v, want %v", i, seen[i], wanted)
		}
	}
	if limit := int64(5 * BlockSize); total > limit { // two blocks are new
		t.Errorf("patches of %d bytes, want at most %d", total, limit)
	}
}

func TestPatchErrors(t *testing.T) {
	root := incompressible(1, 10)
	wrong := baseOf(t, root)
	wrong.RootHash[0] ^= 1
	_, err := Write(t.Context(), &bytes.Buffer{}, Source{Root: bytes.NewReader(root), RootSize: int64(len(root)), Bases: []BaseRoot{wrong}})
	if err == nil || !strings.Contains(err.Error(), "patches from root hash") {
		t.Errorf("a base with another root hash: got %v", err)
	}
	x, blob := write(t, root, nil)
	if int64(len(blob)) != x.BlobSize() {
		t.Fatal("blob size")
	}
	good := Patch{Chunk: 0, From: 1, Blocks: 1, Offset: x.BlobSize(), Length: 1}
	for name, test := range map[string]struct {
		change func(*Patch)
		want   string
	}{
		"good":              {func(*Patch) {}, ""},
		"no such chunk":     {func(p *Patch) { p.Chunk = 1 }, "chunk of a patch"},
		"empty":             {func(p *Patch) { p.Length = 0 }, "a patch is empty"},
		"no dictionary":     {func(p *Patch) { p.Blocks = 0 }, "a patch is empty"},
		"larger than whole": {func(p *Patch) { p.Length = x.Root[0].Length + 1 }, "length of a patch"},
		"huge dictionary":   {func(p *Patch) { p.Blocks = maxDictionaryBlocks + 1 }, "size of a dictionary"},
	} {
		t.Run(name, func(t *testing.T) {
			p := good
			test.change(&p)
			x.Bases = []Base{{Patches: []Patch{p}}}
			_, err := ParseIndex(must(x.MarshalBinary()))
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
	x.Bases = []Base{{Patches: []Patch{good, {Chunk: 1, Blocks: 1, Length: 1}}}}
	if _, err := ParseIndex(must(x.MarshalBinary())); err == nil {
		t.Error("a patch behind the last chunk went unnoticed")
	}
	x.Bases = make([]Base, MaxBases+1)
	if _, err := x.MarshalBinary(); err == nil {
		t.Error("too many bases went unnoticed")
	}
}
