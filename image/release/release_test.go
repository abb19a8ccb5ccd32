package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/verity"
)

// sample is a root of blocks that compress well, badly and not at all, of
// zeros, and of one block at the end that makes the last chunk short.
func sample(blocks int) []byte {
	random := rand.New(rand.NewPCG(3, 4))
	root := make([]byte, blocks*BlockSize)
	for b := range blocks {
		block := root[b*BlockSize:][:BlockSize]
		switch b / DefaultChunkBlocks % 3 {
		case 0:
			copy(block, bytes.Repeat([]byte{byte(b), 1, 2, 3}, BlockSize/4))
		case 1:
			for i := 0; i < len(block); i += 8 {
				binary.LittleEndian.PutUint64(block[i:], random.Uint64())
			}
		}
	}
	return root
}

func write(t testing.TB, root, uki []byte) (*Index, []byte) {
	t.Helper()
	return writeFast(t, root, uki, false)
}

func writeFast(t testing.TB, root, uki []byte, fast bool) (*Index, []byte) {
	t.Helper()
	var blob bytes.Buffer
	x, err := Write(t.Context(), &blob, Source{Root: bytes.NewReader(root), RootSize: int64(len(root)), UKI: uki, VerityUUID: [16]byte{1, 2}, Fast: fast})
	if err != nil {
		t.Fatal(err)
	}
	return x, blob.Bytes()
}

func TestRoundTrip(t *testing.T) {
	t.Run("best", func(t *testing.T) { roundTrip(t, false) })
	t.Run("fast", func(t *testing.T) { roundTrip(t, true) })
}

func roundTrip(t *testing.T, fast bool) {
	root, uki := sample(130*DefaultChunkBlocks+1), bytes.Repeat([]byte("kernel and initrd"), 20_000)
	written, blob := writeFast(t, root, uki, fast)
	b, err := written.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	x, err := ParseIndex(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(written, x); diff != "" {
		t.Fatalf("the parsed index differs (-written +parsed):\n%s", diff)
	}
	if x.BlobSize() != int64(len(blob)) {
		t.Errorf("the index says %d bytes of blob, it has %d", x.BlobSize(), len(blob))
	}
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var gotRoot, gotUKI []byte
	for i, c := range x.Root {
		dst := bytes.Repeat([]byte{0xff}, int(c.Size))
		if err := d.ReadBlob(dst, c, bytes.NewReader(blob)); err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
		if first, n := x.ChunkBlocksOf(i); first*BlockSize != int64(len(gotRoot)) || n*BlockSize != c.Size {
			t.Fatalf("chunk %d: says blocks %d and %d more", i, first, n)
		}
		gotRoot = append(gotRoot, dst...)
	}
	for i, p := range x.UKI {
		dst := make([]byte, p.Size)
		if err := d.ReadBlob(dst, p.Chunk, bytes.NewReader(blob)); err != nil || p.Content != sha256.Sum256(dst) || p.At != int64(len(gotUKI)) {
			t.Fatalf("piece %d: %v", i, err)
		}
		gotUKI = append(gotUKI, dst...)
	}
	if !bytes.Equal(gotRoot, root) || !bytes.Equal(gotUKI, uki) || sha256.Sum256(gotUKI) != x.UKISum {
		t.Error("what comes out differs from what went in")
	}
	tree := append(must(x.Superblock()), blob[x.TreeRange(1, x.TreeBlocks()).Offset:][:x.TreeBlocks()*BlockSize]...)
	if err := verity.Verify(bytes.NewReader(root), int64(len(root)), bytes.NewReader(tree), x.RootHash[:]); err != nil {
		t.Errorf("the hash tree in the blob: %v", err)
	}
	if len(blob) > len(root)/2 || len(b) > 45*len(x.Root) {
		t.Errorf("blob of %d bytes, index of %d for %d chunks: too large", len(blob), len(b), len(x.Root))
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestSameBytes(t *testing.T) {
	root := sample(100)
	one, blob1 := write(t, root, []byte("uki"))
	two, blob2 := write(t, root, []byte("uki"))
	if !bytes.Equal(must(one.MarshalBinary()), must(two.MarshalBinary())) || !bytes.Equal(blob1, blob2) {
		t.Error("two releases of one image differ")
	}
}

func TestSmallest(t *testing.T) {
	x, blob := write(t, sample(1), nil)
	if x.TreeBlocks() != 0 || len(x.Levels()) != 0 || int64(len(blob)) != x.Root[0].Length {
		t.Errorf("one block: tree of %d blocks, blob of %d bytes", x.TreeBlocks(), len(blob))
	}
	if _, err := ParseIndex(must(x.MarshalBinary())); err != nil {
		t.Error(err)
	}
}

func TestWriteErrors(t *testing.T) {
	for name, test := range map[string]struct {
		source Source
		want   string
	}{
		"no root":      {Source{Root: bytes.NewReader(nil)}, "0 blocks"},
		"odd size":     {Source{Root: bytes.NewReader(make([]byte, 5000)), RootSize: 5000}, "multiple of 4096"},
		"short":        {Source{Root: bytes.NewReader(make([]byte, 5000)), RootSize: 8192}, "unexpected EOF"},
		"large chunks": {Source{Root: bytes.NewReader(make([]byte, 4096)), RootSize: 4096, ChunkBlocks: 257}, "chunks of 257 blocks"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Write(t.Context(), &bytes.Buffer{}, test.source)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
	if _, err := Write(t.Context(), full{}, Source{Root: bytes.NewReader(sample(20)), RootSize: 20 * BlockSize}); !errors.Is(err, errFull) {
		t.Errorf("full disk: got %v", err)
	}
}

type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

// Every index that is cut short is refused, and nothing panics.
func TestCutIndex(t *testing.T) {
	x, _ := write(t, sample(100), bytes.Repeat([]byte("u"), 100_000))
	b := must(x.MarshalBinary())
	for n := range b {
		if _, err := ParseIndex(b[:n]); err == nil {
			t.Fatalf("an index of %d of %d bytes is accepted", n, len(b))
		}
	}
	if _, err := ParseIndex(append(b, 0)); err == nil || !strings.Contains(err.Error(), "1 bytes too many") {
		t.Errorf("a byte too many: got %v", err)
	}
}

func TestHostileIndex(t *testing.T) {
	head := append([]byte(magic), make([]byte, 32+16)...)
	number := func(numbers ...uint64) []byte {
		b := bytes.Clone(head)
		for _, n := range numbers {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	for name, test := range map[string]struct {
		index []byte
		want  string
	}{
		"text":             {[]byte("<html>not found</html>"), "not an index"},
		"next format":      {[]byte("coracle\x03"), "does not know"},
		"huge root":        {number(1 << 40), "number of blocks: want at most"},
		"no root":          {number(0, 0, 16), "0 blocks"},
		"huge salt":        {number(10, 1<<30), "length of the salt"},
		"no chunk size":    {number(10, 0, 0), "chunks of 0 blocks"},
		"chunks missing":   {number(MaxDataBlocks, 0, 1), "cannot be in 0 bytes"},
		"chunk too long":   {number(1, 0, 1, BlockSize+1), "length of a chunk: want at most 4096"},
		"pieces missing":   {append(number(1, 0, 1, 0), append(make([]byte, 32), 100, 0xff, 0xff, 3)...), "pieces cannot be in"},
		"long form number": {append(bytes.Clone(head), 0x81, 0x00), "shortest form"},
		"endless number":   {append(bytes.Clone(head), bytes.Repeat([]byte{0xff}, 20)...), "number of blocks"},
		"too large":        {make([]byte, MaxIndexSize+1), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseIndex(test.index); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestDamagedChunk(t *testing.T) {
	x, blob := write(t, sample(16), nil)
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c := x.Root[0]
	stored := blob[:c.Length]
	dst := make([]byte, c.Size)
	flipped := bytes.Clone(stored)
	flipped[len(flipped)/2] ^= 1
	for name, bad := range map[string][]byte{"flipped": flipped, "short": stored[:len(stored)-1], "empty": nil, "long": append(bytes.Clone(stored), 0)} {
		if err := d.Decode(dst, c, bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
	}
	// A publisher whose chunk unpacks to another size, or to none.
	for name, size := range map[string]int64{"more": c.Size - BlockSize, "less": c.Size + BlockSize} {
		lie := c
		lie.Size = size
		if err := d.Decode(make([]byte, size), lie, stored); err == nil || errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want another error than ErrDamaged", name, err)
		}
	}
	room := bytes.Repeat([]byte{0xff}, 2*len(dst))
	if err := d.Decode(room[:len(dst)], c, stored); err != nil {
		t.Errorf("the decoder is of no use after errors: %v", err)
	}
	if !bytes.Equal(room[len(dst):], bytes.Repeat([]byte{0xff}, len(dst))) {
		t.Error("the decoder wrote behind its room")
	}
}

func TestCutUKI(t *testing.T) {
	cut := func(b []byte) map[Sum]bool {
		pieces, err := CutUKI(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		sums, at := map[Sum]bool{}, int64(0)
		for _, p := range pieces {
			if p.At != at || p.Size < 1 || p.Size > ukiStep || p.Content != sha256.Sum256(b[at:at+p.Size]) {
				t.Fatalf("piece %+v at %d", p, at)
			}
			sums[p.Content] = true
			at += p.Size
		}
		if at != int64(len(b)) {
			t.Fatalf("pieces end at %d of %d", at, len(b))
		}
		return sums
	}
	one, two := cut(fakeUKI(t, "roothash=1")), cut(fakeUKI(t, "roothash=2 and "+strings.Repeat("more arguments ", 200)))
	same := 0
	for sum := range two {
		if one[sum] {
			same++
		}
	}
	if len(two)-same > 4 {
		t.Errorf("%d of %d pieces are new after a longer command line, want at most 4", len(two)-same, len(two))
	}
	cut([]byte("no UKI"))
	if _, err := CutUKI(strings.NewReader("short"), 100); err == nil {
		t.Error("a short UKI went unnoticed")
	}
}
