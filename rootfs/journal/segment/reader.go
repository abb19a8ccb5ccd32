package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/coracle-os/coracle/rootfs/journal"
)

// Reader reads one segment, forwards or backwards, also while it is written.
// It is for one goroutine.
type Reader struct {
	header  Header
	seed    uint32
	file    *os.File
	window  []byte // bytes of the file from start on
	start   int64
	sources map[int64][]journal.Field
}

const (
	windowSize = 64 << 10
	// maxSources bounds the decoded sources that a reader remembers.
	maxSources = 512
)

// First is the offset of the first record, for Next.
const First = int64(headerSize)

// Open opens a segment. The error wraps ErrDamaged when the file is no segment
// or its header is cut.
func Open(path string) (*Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open journal segment: %w", err)
	}
	r, err := newReader(file)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	return r, nil
}

func newReader(file *os.File) (*Reader, error) {
	b := make([]byte, headerSize)
	if _, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	header, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	return &Reader{header: header, seed: header.seed(), file: file, sources: map[int64][]journal.Field{}}, nil
}

// Header returns the identity of the segment.
func (r *Reader) Header() Header { return r.header }

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }

// End returns the size of the file, the offset to start from with Prev.
func (r *Reader) End() (int64, error) {
	info, err := r.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Next returns the first record at or after offset and the offset behind it.
// Damaged bytes are passed over. At the end it returns io.EOF and the offset
// from which a later call can go on.
func (r *Reader) Next(offset int64) (record journal.Record, next int64, err error) {
	for {
		kind, payload, size, err := r.frame(offset, false)
		if errors.Is(err, ErrDamaged) {
			// The window may hold the rest of a failed write that has
			// since been replaced.
			r.window = r.window[:0]
			found, ok := r.resync(offset)
			if !ok {
				return record, offset, io.EOF
			}
			offset = found
			continue
		}
		if err != nil {
			return record, offset, err
		}
		if kind == frameEntry {
			record, err = r.decode(offset, payload)
			return record, offset + size, err
		}
		offset += size
	}
}

// Prev returns the last record that ends at or before offset, and the offset
// where it begins. Before the first record it returns io.EOF. When the bytes
// before offset are not the end of a frame, as after a cut, it finds the last
// good frame before them.
func (r *Reader) Prev(offset int64) (record journal.Record, at int64, err error) {
	for offset > headerSize {
		begin, kind, err := r.before(offset)
		if errors.Is(err, ErrDamaged) {
			if begin, kind, err = r.lastBefore(offset); errors.Is(err, io.EOF) {
				return record, headerSize, io.EOF
			}
		}
		if err != nil {
			return record, offset, err
		}
		offset = begin
		if kind == frameEntry {
			_, payload, _, err := r.frame(offset, true)
			if err != nil {
				return record, offset, err
			}
			record, err = r.decode(offset, payload)
			return record, offset, err
		}
	}
	return record, headerSize, io.EOF
}

// before finds the frame that ends exactly at offset.
func (r *Reader) before(offset int64) (begin int64, kind byte, err error) {
	if offset < headerSize+overhead {
		return 0, 0, ErrDamaged
	}
	b, err := r.bytes(offset-4, 4, true)
	if err != nil {
		return 0, 0, err
	}
	size := int64(binary.LittleEndian.Uint32(b))
	if size < overhead || offset-size < headerSize {
		return 0, 0, ErrDamaged
	}
	kind, _, whole, err := r.frame(offset-size, true)
	if err == nil && whole != size {
		err = ErrDamaged
	}
	return offset - size, kind, err
}

// lastBefore scans from the beginning for the last good frame that ends at or
// before offset. Only damage makes this necessary.
func (r *Reader) lastBefore(offset int64) (begin int64, kind byte, err error) {
	at, found := int64(headerSize), false
	for at < offset {
		k, _, size, err := r.frame(at, false)
		if errors.Is(err, ErrDamaged) {
			next, ok := r.resync(at + 1)
			if !ok {
				break
			}
			at = next
			continue
		}
		if err != nil || at+size > offset {
			break
		}
		begin, kind, found = at, k, true
		at += size
	}
	if !found {
		return 0, 0, io.EOF
	}
	return begin, kind, nil
}

// resync looks for the next good frame at or after offset.
func (r *Reader) resync(offset int64) (int64, bool) {
	end, err := r.End()
	if err != nil {
		return 0, false
	}
	for ; offset+overhead <= end; offset++ {
		if _, _, _, err := r.frame(offset, false); err == nil {
			return offset, true
		}
	}
	return 0, false
}

// frame reads and checks the frame at offset: ErrDamaged when there is none,
// io.EOF when offset is the end of the file. The payload is valid until the
// next call. backward says where the window should lie.
func (r *Reader) frame(offset int64, backward bool) (kind byte, payload []byte, size int64, err error) {
	b, err := r.bytes(offset, 4, backward)
	if err != nil {
		return 0, nil, 0, err
	}
	word := binary.LittleEndian.Uint32(b)
	kind, size = byte(word>>24), int64(word&maxPayload)+overhead
	if kind != frameSource && kind != frameEntry {
		return 0, nil, 0, ErrDamaged
	}
	if !r.endsWith(offset+size, uint32(size)) {
		return 0, nil, 0, ErrDamaged
	}
	if b, err = r.bytes(offset, int(size), backward); err != nil {
		return 0, nil, 0, ErrDamaged
	}
	if crc32.Update(r.seed, castagnoli, b[:size-8]) != binary.LittleEndian.Uint32(b[size-8:]) {
		return 0, nil, 0, ErrDamaged
	}
	return kind, b[4 : size-8], size, nil
}

// endsWith looks at the size at the end of a frame, before all of it is read:
// damaged bytes must not make us read 16 MB at each of them, nor move the window.
func (r *Reader) endsWith(end int64, size uint32) bool {
	at := end - 4
	if at >= r.start && end <= r.start+int64(len(r.window)) {
		return binary.LittleEndian.Uint32(r.window[at-r.start:]) == size
	}
	var tail [4]byte
	if _, err := r.file.ReadAt(tail[:], at); err != nil {
		return false
	}
	return binary.LittleEndian.Uint32(tail[:]) == size
}

// bytes returns n bytes at offset from the window, which it moves if needed.
// io.EOF means that offset is the end, ErrDamaged that fewer than n are there.
func (r *Reader) bytes(offset int64, n int, backward bool) ([]byte, error) {
	if offset >= r.start && offset+int64(n) <= r.start+int64(len(r.window)) {
		return r.window[offset-r.start:][:n], nil
	}
	size := max(windowSize, n)
	start := offset
	if backward {
		start = max(0, offset+int64(n)-int64(size))
	}
	if cap(r.window) < size {
		r.window = make([]byte, size)
	}
	got, err := r.file.ReadAt(r.window[:size], start)
	r.window, r.start = r.window[:got], start
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read journal segment: %w", err)
	}
	at := offset - start
	switch {
	case at >= int64(got):
		return nil, io.EOF
	case at+int64(n) > int64(got):
		return nil, ErrDamaged
	}
	return r.window[at:][:n], nil
}

// decode builds the record of an entry frame.
func (r *Reader) decode(offset int64, payload []byte) (journal.Record, error) {
	d := decoder{b: payload}
	record := journal.Record{Boot: r.header.Boot, Machine: r.header.Machine, File: r.header.ID}
	record.Seq = r.header.FirstSeq + d.uvarint()
	record.Realtime = r.header.Realtime + uint64(d.varint())
	record.Monotonic = r.header.Monotonic + uint64(d.varint())
	back := d.uvarint()
	if d.bad {
		return record, fmt.Errorf("%w: an entry ends early", ErrDamaged)
	}
	own := append([]byte(nil), d.b...)
	var source []journal.Field
	var err error
	if back <= uint64(offset-headerSize) { // else there is no source: a forged entry leads out of the file
		if source, err = r.source(offset - int64(back)); err != nil {
			return record, err
		}
	}
	record.Fields = make([]journal.Field, len(source), len(source)+2)
	copy(record.Fields, source)
	record.Fields, err = decodeFields(record.Fields, own)
	return record, err
}

// source returns the fields of the source frame at offset. A damaged source
// has none: the message is worth more than an error.
func (r *Reader) source(offset int64) ([]journal.Field, error) {
	if fields, ok := r.sources[offset]; ok {
		return fields, nil
	}
	kind, payload, _, err := r.frame(offset, true)
	if errors.Is(err, ErrDamaged) || errors.Is(err, io.EOF) || err == nil && kind != frameSource {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	fields, err := decodeFields(nil, payload)
	if err != nil {
		return nil, err
	}
	if len(r.sources) >= maxSources {
		clear(r.sources)
	}
	r.sources[offset] = fields
	return fields, nil
}
