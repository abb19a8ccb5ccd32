package release

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// magic starts an index; its last byte is the version of the format.
const magic = "coracle\x02"

// MarshalBinary returns the index as it is published.
func (x *Index) MarshalBinary() ([]byte, error) {
	if err := x.check(); err != nil {
		return nil, fmt.Errorf("encode index: %w", err)
	}
	if len(x.Root) != x.chunks() {
		return nil, fmt.Errorf("encode index: %d chunks, want %d", len(x.Root), x.chunks())
	}
	b := append([]byte(magic), x.RootHash[:]...)
	b = append(b, x.VerityUUID[:]...)
	b = binary.AppendUvarint(b, uint64(x.DataBlocks))
	b = binary.AppendUvarint(b, uint64(len(x.Salt)))
	b = append(b, x.Salt...)
	b = binary.AppendUvarint(b, uint64(x.ChunkBlocks))
	for _, c := range x.Root {
		b = appendChunk(b, c)
	}
	b = append(b, x.UKISum[:]...)
	b = binary.AppendUvarint(b, uint64(x.UKISize))
	b = binary.AppendUvarint(b, uint64(len(x.UKI)))
	for _, p := range x.UKI {
		b = binary.AppendUvarint(b, uint64(p.Size))
		b = append(b, p.Content[:]...)
		b = appendChunk(b, p.Chunk)
	}
	return x.appendBases(b), nil
}

// appendBases writes the chunk of a patch as the number of chunks since the last
// that has one.
func (x *Index) appendBases(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(x.Bases)))
	for _, base := range x.Bases {
		b = append(b, base.RootHash[:]...)
		b = binary.AppendUvarint(b, uint64(len(base.Patches)))
		next := 0
		for _, p := range base.Patches {
			b = binary.AppendUvarint(b, uint64(p.Chunk-next))
			b = binary.AppendUvarint(b, uint64(p.From))
			b = binary.AppendUvarint(b, uint64(p.Blocks))
			b = binary.AppendUvarint(b, uint64(p.Length))
			b = append(b, p.Sum[:]...)
			next = p.Chunk + 1
		}
	}
	return b
}

func appendChunk(b []byte, c Chunk) []byte {
	b = binary.AppendUvarint(b, uint64(c.Length))
	if c.Length > 0 {
		b = append(b, c.Sum[:]...)
	}
	return b
}

// ParseIndex reads an index. It refuses what MarshalBinary does not write and
// allocates no more than about 64 times the bytes of b. The caller has checked
// the digest of b against signed metadata; what is wrong here is the
// publisher's mistake, or the bytes are not an index.
func ParseIndex(b []byte) (*Index, error) {
	if len(b) > MaxIndexSize {
		return nil, fmt.Errorf("parse index: %d bytes, at most %d", len(b), MaxIndexSize)
	}
	r := reader{rest: b}
	if string(r.bytes(len(magic))) != magic {
		return nil, errors.New("parse index: not an index of a release, or of a format that this version does not know")
	}
	x := &Index{}
	x.parse(&r)
	if r.err != nil {
		return nil, fmt.Errorf("parse index: %w", r.err)
	}
	return x, nil
}

func (x *Index) parse(r *reader) {
	copy(x.RootHash[:], r.bytes(len(x.RootHash)))
	copy(x.VerityUUID[:], r.bytes(len(x.VerityUUID)))
	x.DataBlocks = r.number(MaxDataBlocks, "number of blocks")
	x.Salt = append([]byte{}, r.bytes(int(r.number(maxSalt, "length of the salt")))...)
	x.ChunkBlocks = int(r.number(maxChunkBlocks, "size of chunks"))
	if err := x.check(); err != nil {
		r.fail(err)
	}
	if r.err != nil {
		return
	}
	if x.chunks() > len(r.rest) {
		r.fail(fmt.Errorf("%d chunks cannot be in %d bytes: %w", x.chunks(), len(r.rest), errShort))
		return
	}
	x.Root = make([]Chunk, x.chunks())
	at := int64(0)
	for i := range x.Root {
		size := min(int64(x.ChunkBlocks), x.DataBlocks-int64(i)*int64(x.ChunkBlocks)) * BlockSize
		x.Root[i] = r.chunk(at, size)
		at += x.Root[i].Length
	}
	x.parseUKI(r, at+x.TreeBlocks()*BlockSize)
}

func (x *Index) parseUKI(r *reader, at int64) {
	copy(x.UKISum[:], r.bytes(len(x.UKISum)))
	x.UKISize = r.number(MaxUKISize, "size of the UKI")
	count := int(r.number(maxPieces, "number of pieces"))
	if count > len(r.rest)/len(Sum{}) {
		r.fail(fmt.Errorf("%d pieces cannot be in %d bytes: %w", count, len(r.rest), errShort))
	}
	if r.err != nil {
		return
	}
	x.UKI = make([]Piece, count)
	in := int64(0)
	for i := range x.UKI {
		p := &x.UKI[i]
		size := r.number(MaxPieceSize, "size of a piece")
		p.At = in
		copy(p.Content[:], r.bytes(len(p.Content)))
		p.Chunk = r.chunk(at, size)
		if size == 0 {
			r.fail(errors.New("a piece of the UKI is empty"))
		}
		in, at = in+size, at+p.Length
	}
	if in != x.UKISize {
		r.fail(fmt.Errorf("the pieces of the UKI are %d bytes, want %d", in, x.UKISize))
	}
	x.parseBases(r, at)
}

func (x *Index) parseBases(r *reader, at int64) {
	for range r.number(MaxBases, "number of bases") {
		base := Base{}
		copy(base.RootHash[:], r.bytes(len(base.RootHash)))
		count := int(r.number(int64(len(x.Root)), "number of patches"))
		if count > len(r.rest)/len(Sum{}) {
			r.fail(fmt.Errorf("%d patches cannot be in %d bytes: %w", count, len(r.rest), errShort))
		}
		next := 0
		for range count {
			p := x.parsePatch(r, next, at)
			if r.err != nil {
				return
			}
			base.Patches = append(base.Patches, p)
			next, at = p.Chunk+1, p.Range().End()
		}
		x.Bases = append(x.Bases, base)
	}
	if len(r.rest) > 0 {
		r.fail(fmt.Errorf("%d bytes too many at the end", len(r.rest)))
	}
}

// parsePatch takes a patch that is at this place of the blob and for chunk next
// or a later one.
func (x *Index) parsePatch(r *reader, next int, at int64) Patch {
	p := Patch{Chunk: next + int(r.number(int64(len(x.Root)-1-next), "chunk of a patch")), Offset: at}
	p.From = r.number(MaxDataBlocks, "dictionary of a patch")
	p.Blocks = r.number(maxDictionaryBlocks, "size of a dictionary")
	if r.err != nil {
		return p
	}
	if p.Length = r.number(x.Root[p.Chunk].Length, "length of a patch"); p.Length == 0 || p.Blocks == 0 {
		r.fail(errors.New("a patch is empty"))
	}
	copy(p.Sum[:], r.bytes(len(p.Sum)))
	return p
}

var errShort = errors.New("the index is cut short")

// reader takes values off the front of rest; after the first error it returns
// zeros.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err, r.rest = err, nil
	}
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.rest) {
		r.fail(errShort)
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// number takes a number of the shortest form.
func (r *reader) number(limit int64, what string) int64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.rest)
	switch {
	case n == 0:
		r.fail(errShort)
		return 0
	case n < 0 || limit < 0 || v > uint64(limit):
		r.fail(fmt.Errorf("%s: want at most %d", what, limit))
		return 0
	case n > 1 && r.rest[n-1] == 0:
		r.fail(fmt.Errorf("%s: number %d is not in its shortest form", what, v))
		return 0
	}
	r.rest = r.rest[n:]
	return int64(v)
}

// chunk takes a chunk that is at this place of the blob.
func (r *reader) chunk(at, size int64) Chunk {
	c := Chunk{Offset: at, Size: size, Length: r.number(size, "length of a chunk")}
	if c.Length > 0 {
		copy(c.Sum[:], r.bytes(len(c.Sum)))
	}
	return c
}
