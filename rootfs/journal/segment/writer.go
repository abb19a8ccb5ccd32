package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/coracle-os/coracle/rootfs/journal"
)

// Writer appends to one segment. It is for one goroutine; Sync may be called
// from another one.
type Writer struct {
	header  Header
	seed    uint32
	file    *os.File
	size    int64
	lastSeq uint64
	numbers map[string]uint64
	sources map[string]int64 // encoded source -> offset
	buffer  []byte
	scratch []byte
}

// Create makes a new segment at path, which must not exist.
func Create(path string, header Header) (*Writer, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, fmt.Errorf("create journal segment: %w", err)
	}
	if _, err := file.Write(header.encode()); err != nil {
		file.Close()
		os.Remove(path)
		return nil, fmt.Errorf("create journal segment: %w", err)
	}
	return newWriter(file, header, headerSize), nil
}

func newWriter(file *os.File, header Header, size int64) *Writer {
	return &Writer{header: header, seed: header.seed(), file: file, size: size, lastSeq: header.FirstSeq - 1,
		numbers: nameNumbers(), sources: map[string]int64{}}
}

// Append opens a segment to go on writing. Bytes of a cut frame at the end are
// dropped; dropped is how many. The error wraps ErrDamaged when there is damage
// before the last good frame: then a new segment must be begun.
func Append(path string) (w *Writer, dropped int64, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open journal segment: %w", err)
	}
	if w, dropped, err = recoverTail(file); err != nil {
		file.Close()
		return nil, 0, fmt.Errorf("go on with journal segment %q: %w", path, err)
	}
	return w, dropped, nil
}

func recoverTail(file *os.File) (*Writer, int64, error) {
	r, err := newReader(file)
	if err != nil {
		return nil, 0, err
	}
	end, err := r.End()
	if err != nil {
		return nil, 0, err
	}
	good := end
	if _, _, err := r.before(end); end > headerSize && err != nil {
		good, err = r.goodEnd()
		if err != nil {
			return nil, 0, err
		}
		if err := file.Truncate(good); err != nil {
			return nil, 0, err
		}
	}
	w := newWriter(file, r.header, good)
	last, _, err := r.Prev(good)
	switch {
	case err == nil:
		w.lastSeq = last.Seq
	case !errors.Is(err, io.EOF):
		return nil, 0, err
	}
	return w, end - good, nil
}

// goodEnd is where the first cut frame begins. A good frame behind that place
// means that this is no cut.
func (r *Reader) goodEnd() (int64, error) {
	at := int64(headerSize)
	for {
		_, _, size, err := r.frame(at, false)
		switch {
		case err == nil:
			at += size
		case errors.Is(err, io.EOF):
			return at, nil
		case errors.Is(err, ErrDamaged):
			if found, ok := r.resync(at + 1); ok {
				return 0, fmt.Errorf("%w: bytes %d to %d", ErrDamaged, at, found)
			}
			return at, nil
		default:
			return 0, err
		}
	}
}

// Header returns the identity of the segment.
func (w *Writer) Header() Header { return w.header }

// Size returns the bytes in the file.
func (w *Writer) Size() int64 { return w.size }

// LastSeq returns the number of the last record, or one less than the first.
func (w *Writer) LastSeq() uint64 { return w.lastSeq }

// Write appends records with rising Seq, all with one write call. After an
// error none of them is in the file, and the writer can be used again.
func (w *Writer) Write(records []journal.Record) error {
	w.buffer = w.buffer[:0]
	for i := range records {
		if err := w.encode(&records[i]); err != nil {
			clear(w.sources) // some may be of frames that are not written
			return err
		}
	}
	if _, err := w.file.WriteAt(w.buffer, w.size); err != nil {
		clear(w.sources)
		if truncateErr := w.file.Truncate(w.size); truncateErr != nil {
			err = errors.Join(err, truncateErr)
		}
		return fmt.Errorf("write journal: %w", err)
	}
	w.size += int64(len(w.buffer))
	if n := len(records); n > 0 {
		w.lastSeq = records[n-1].Seq
	}
	if cap(w.buffer) > 1<<20 {
		w.buffer, w.scratch = nil, nil
	}
	return nil
}

// encode adds the frames of a record to the buffer.
func (w *Writer) encode(record *journal.Record) error {
	b := w.scratch[:0]
	for _, f := range record.Fields {
		if shared(f.Name) {
			b = appendField(b, w.numbers, f)
		}
	}
	offset, known := w.sources[string(b)]
	if !known {
		offset = w.size + int64(len(w.buffer))
		if len(b) > maxPayload {
			return fmt.Errorf("write journal: a record has %d bytes of trusted fields", len(b))
		}
		w.buffer = appendFrame(w.buffer, w.seed, frameSource, b)
		if len(w.sources) >= maxSources {
			clear(w.sources)
		}
		w.sources[string(b)] = offset
	}
	b = b[:0]
	b = binary.AppendUvarint(b, record.Seq-w.header.FirstSeq)
	b = binary.AppendVarint(b, int64(record.Realtime-w.header.Realtime))
	b = binary.AppendVarint(b, int64(record.Monotonic-w.header.Monotonic))
	b = binary.AppendUvarint(b, uint64(w.size+int64(len(w.buffer))-offset))
	for _, f := range record.Fields {
		if !shared(f.Name) {
			b = appendField(b, w.numbers, f)
		}
	}
	w.scratch = b
	if len(b) > maxPayload {
		return fmt.Errorf("write journal: a record has %d bytes, more than %d", len(b), maxPayload)
	}
	w.buffer = appendFrame(w.buffer, w.seed, frameEntry, b)
	return nil
}

// Sync waits until everything written is on the disk.
func (w *Writer) Sync() error { return w.file.Sync() }

// Close closes the file without syncing it.
func (w *Writer) Close() error { return w.file.Close() }
