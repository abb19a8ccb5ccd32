package forward

import (
	"errors"
	"io"
	"os"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/segment"
	"github.com/coracle-os/coracle/rootfs/journal/store"
)

// source reads the records of a journal in order, behind its writer. Unlike
// package query it opens one segment at a time, and looks for others by their
// names only: it runs for as long as the machine does.
type source struct {
	dirs   []string
	next   uint64 // number of the record wanted
	reader *segment.Reader
	offset int64
}

// seek goes on with the record seq or the first one after it.
func (s *source) seek(seq uint64) {
	s.close()
	s.next = seq
}

func (s *source) close() {
	if s.reader != nil {
		s.reader.Close()
	}
	s.reader, s.offset = nil, 0
}

// read returns the next record; io.EOF says that there is none yet.
func (s *source) read() (journal.Record, error) {
	for {
		if s.reader == nil && !s.open(0) {
			return journal.Record{}, io.EOF
		}
		record, err := s.record()
		if !errors.Is(err, io.EOF) {
			return record, err
		}
		// A segment that others follow is complete, but may have become so
		// after we reached its end.
		first := s.reader.Header().FirstSeq
		if next, ok := following(s.dirs, first); ok {
			if record, err = s.record(); !errors.Is(err, io.EOF) {
				return record, err
			}
			s.close()
			if s.open(next) {
				continue
			}
		}
		return journal.Record{}, io.EOF
	}
}

// record reads on in the open segment.
func (s *source) record() (journal.Record, error) {
	for {
		record, next, err := s.reader.Next(s.offset)
		if err != nil && !errors.Is(err, segment.ErrDamaged) {
			return record, err
		}
		s.offset = next
		if err == nil && record.Seq >= s.next {
			s.next = record.Seq + 1
			return record, nil
		}
	}
}

// open opens the segment that holds the wanted record, or the first one from
// number first on.
func (s *source) open(first uint64) bool {
	names, _ := store.Names(s.dirs...) // a directory that cannot be read has nothing for us
	at := 0
	for i, name := range names {
		if name.First <= max(s.next, first) {
			at = i
		}
	}
	for ; at < len(names); at++ {
		if names[at].First < first {
			continue
		}
		reader, err := segment.Open(names[at].Path)
		if err == nil {
			s.reader, s.offset = reader, segment.First
			return true
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, segment.ErrDamaged) {
			return false
		}
	}
	return false
}

// following returns the number of the first segment after the one that begins
// with first.
func following(dirs []string, first uint64) (uint64, bool) {
	names, _ := store.Names(dirs...)
	for _, name := range names {
		if name.First > first {
			return name.First, true
		}
	}
	return 0, false
}
