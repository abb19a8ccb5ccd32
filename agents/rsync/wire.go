package rsync

import (
	"bufio"
	"encoding/binary"
	"io"
	"sync"
)

// Lengths that nothing honest exceeds.
const (
	maxName = 4096
	maxRule = 4096
)

// reader reads the client's numbers, all little-endian. The first error stays, and
// all that is read after it is zero.
type reader struct {
	*bufio.Reader
	err error
}

func newReader(in io.Reader) *reader { return &reader{Reader: bufio.NewReaderSize(in, 64<<10)} }

func (r *reader) bytes(n int) []byte {
	b := make([]byte, n)
	if r.err == nil {
		_, r.err = io.ReadFull(r.Reader, b)
		if r.err == io.EOF {
			r.err = io.ErrUnexpectedEOF
		}
	}
	if r.err != nil {
		clear(b)
	}
	return b
}

func (r *reader) byte() byte { return r.bytes(1)[0] }

func (r *reader) int() int32 { return int32(binary.LittleEndian.Uint32(r.bytes(4))) }

// long is a length: 4 bytes, or, where they are all ones, 8 more.
func (r *reader) long() int64 {
	if n := r.int(); n != -1 {
		return int64(n)
	}
	return int64(binary.LittleEndian.Uint64(r.bytes(8)))
}

// message is what a part of the stream to the client is.
type message byte

const (
	messageData  message = 7
	messageError message = 8
)

// writer writes to the client: content and messages to its user, each part with a
// header. Several goroutines may use it.
type writer struct {
	mu  sync.Mutex
	out io.Writer
	buf []byte
	err error
}

// The methods that put content must be called by one goroutine at a time, with
// flush between two.

func (w *writer) int(n int32) { w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(n)) }

func (w *writer) long(n int64) {
	if n >= 0 && n < 1<<31 {
		w.int(int32(n))
		return
	}
	w.int(-1)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(n))
}

func (w *writer) bytes(b []byte) { w.buf = append(w.buf, b...) }

// plain writes what was put without a header: before the versions are known.
func (w *writer) plain() error {
	_, err := w.out.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// flush writes what was put.
func (w *writer) flush() error {
	for rest := w.buf; len(rest) > 0; {
		n := min(len(rest), 32<<10)
		w.message(messageData, rest[:n])
		rest = rest[n:]
	}
	w.buf = w.buf[:0]
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// message writes one part.
func (w *writer) message(kind message, text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	part := binary.LittleEndian.AppendUint32(nil, uint32(kind)<<24|uint32(len(text)))
	if w.err == nil {
		_, w.err = w.out.Write(append(part, text...))
	}
}
