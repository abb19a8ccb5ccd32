// Package store keeps a journal as a directory of bounded segments: it numbers
// records, begins new segments, deletes the oldest when the bound is reached,
// and writes to a volatile directory while the persistent one cannot be
// written. journald is its only writer; journalctl uses Usage and Vacuum.
//
// Bounds are systemd's: the journal takes at most 10 % of its file system and
// never more than 4 GiB, and shrinks to leave 15 % of the file system free, but
// not below MinUse. A segment is an eighth of the bound, at most 32 MiB, so
// that deleting one frees an eighth. See journald.conf(5), SystemMaxUse=.
//
// Order of durability: a segment is renamed into place with its header whole;
// a volatile segment is copied, synced and renamed before its original is
// deleted, so a record is in one of the two directories at every moment.
package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/segment"
)

// Config says where a journal is and whose it is.
type Config struct {
	Persistent string // directory in the state partition; "" = volatile only
	Volatile   string // directory in /run
	Machine    journal.ID
	Boot       journal.ID
	System     Bounds // of Persistent
	Runtime    Bounds // of Volatile
	// MaxAge is the time after which a segment is ended, so that it can be
	// deleted when its records are too old; 0 = never.
	MaxAge time.Duration
	Log    *slog.Logger
}

// Store is an open journal. It is for one goroutine, except Syncer's result.
type Store struct {
	config     Config
	writer     *segment.Writer
	path       string // of the segment being written
	persistent bool   // writer is in config.Persistent
	lastSeq    uint64
	limits     limits
	unsynced   bool
}

// Open finds the end of the journal and goes on there. When the persistent
// directory cannot be used it opens the volatile one; only when neither can be
// written is there an error.
func Open(config Config) (*Store, error) {
	s := &Store{config: config}
	for _, dir := range []string{config.Persistent, config.Volatile} {
		if dir == "" {
			continue
		}
		files, err := list(dir)
		if err != nil {
			continue
		}
		for _, f := range files {
			if last, err := lastSeq(f.path); err == nil {
				s.lastSeq = max(s.lastSeq, last)
			}
		}
	}
	if err := s.use(true); err != nil {
		config.Log.Warn("journal is volatile until the state partition can be written", "err", err)
		if err := s.use(false); err != nil {
			return nil, err
		}
		return s, nil
	}
	if err := s.adopt(); err != nil {
		config.Log.Warn("move volatile journal", "err", err)
	}
	return s, nil
}

// Persistent reports whether records survive a reboot.
func (s *Store) Persistent() bool { return s.persistent }

// LastSeq returns the number of the last record, 0 for an empty journal.
func (s *Store) LastSeq() uint64 { return s.lastSeq }

// FirstOfBoot returns the number of the first record of this boot, or of the
// next record when it has none.
func (s *Store) FirstOfBoot() uint64 {
	first := s.lastSeq + 1
	for _, dir := range []string{s.config.Persistent, s.config.Volatile} {
		if dir == "" {
			continue
		}
		files, err := list(dir)
		if err != nil {
			continue
		}
		for _, f := range files {
			if f.header.Boot == s.config.Boot {
				first = min(first, f.header.FirstSeq)
			}
		}
	}
	return first
}

// Path returns the segment that is being written.
func (s *Store) Path() string { return s.path }

func (s *Store) dir(persistent bool) string {
	if persistent {
		return s.config.Persistent
	}
	return s.config.Volatile
}

// use opens the newest segment of one directory for writing, if it is of this
// boot, or leaves it to the first record to begin one.
func (s *Store) use(persistent bool) error {
	dir := s.dir(persistent)
	if dir == "" {
		return errors.New("open journal: no directory configured")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	if err := probe(dir); err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	s.close()
	s.persistent = persistent
	s.limits = s.measure()
	files, err := list(dir)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return nil
	}
	newest := files[len(files)-1]
	if newest.header.Boot != s.config.Boot || newest.header.Machine != s.config.Machine || newest.size >= s.limits.segment {
		return nil
	}
	writer, dropped, err := segment.Append(newest.path)
	if err != nil {
		s.config.Log.Warn("begin a new journal segment", "err", err)
		return nil
	}
	if dropped > 0 {
		s.config.Log.Warn("journal was cut while it was written; dropped the last record", "bytes", dropped, "segment", newest.path)
	}
	if writer.LastSeq() < s.lastSeq {
		return writer.Close() // a later number is in use elsewhere
	}
	s.writer, s.path = writer, newest.path
	return nil
}

func (s *Store) measure() limits {
	b := s.config.System
	if !s.persistent {
		b = s.config.Runtime
	}
	return measure(s.dir(s.persistent), b, s.persistent)
}

// probe says whether a file can be made and written in dir.
func probe(dir string) error {
	file, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(make([]byte, 4096))
	return errors.Join(err, file.Close())
}

// Write numbers the records and appends them. On a full disk it deletes the
// oldest segments, and when that does not help it goes on in the volatile
// directory. An error means that the records are in neither.
func (s *Store) Write(records []journal.Record) error {
	if len(records) == 0 {
		return nil
	}
	for i := range records {
		s.lastSeq++
		records[i].Seq = s.lastSeq
	}
	err := s.tryWrite(records)
	for err != nil && s.dropOldest() {
		err = s.tryWrite(records)
	}
	if err == nil || !s.persistent {
		return err
	}
	s.config.Log.Warn("journal goes on in memory", "err", err, "directory", s.config.Volatile)
	if useErr := s.use(false); useErr != nil {
		return errors.Join(err, useErr)
	}
	return s.tryWrite(records)
}

func (s *Store) tryWrite(records []journal.Record) error {
	if s.writer != nil && (s.writer.Size() >= s.limits.segment || s.aged(&records[0])) {
		s.Rotate()
	}
	if s.writer == nil {
		if err := s.begin(&records[0]); err != nil {
			return err
		}
	}
	if err := s.writer.Write(records); err != nil {
		return err
	}
	s.unsynced = true
	return nil
}

// aged reports whether the segment is too old for one more record.
func (s *Store) aged(record *journal.Record) bool {
	begin := s.writer.Header().Realtime
	return s.config.MaxAge > 0 && record.Realtime > begin && record.Realtime-begin > uint64(s.config.MaxAge.Microseconds())
}

// begin makes a new segment whose first record is record, and room for it.
func (s *Store) begin(record *journal.Record) error {
	dir := s.dir(s.persistent)
	s.limits = s.measure()
	if _, err := vacuum(dir, s.limits.total-s.limits.segment, s.limits.files-1, ""); err != nil {
		s.config.Log.Warn("shrink journal", "err", err)
	}
	header := segment.Header{Machine: s.config.Machine, Boot: s.config.Boot,
		FirstSeq: record.Seq, Realtime: record.Realtime, Monotonic: record.Monotonic}
	rand.Read(header.ID[:]) // never fails
	path := filepath.Join(dir, fileName(header.FirstSeq))
	temporary := path + ".new"
	os.Remove(temporary)
	writer, err := segment.Create(temporary, header)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		writer.Close()
		return fmt.Errorf("begin journal segment: %w", err)
	}
	s.writer, s.path = writer, path
	return nil
}

// dropOldest deletes one segment that is not being written, to make room.
func (s *Store) dropOldest() bool {
	files, err := list(s.dir(s.persistent))
	if err != nil {
		return false
	}
	for _, f := range files {
		if f.path != s.path && os.Remove(f.path) == nil {
			return true
		}
	}
	return false
}

// Rotate ends the segment; the next record begins a new one.
func (s *Store) Rotate() {
	if s.writer != nil && s.unsynced {
		if err := s.writer.Sync(); err != nil {
			s.config.Log.Warn("sync journal segment", "err", err)
		}
	}
	s.close()
}

func (s *Store) close() {
	if s.writer != nil {
		s.writer.Close()
	}
	s.writer, s.path, s.unsynced = nil, "", false
}

// Syncer returns a function that waits until all records written so far are on
// the disk, or nil when they are. It may run in another goroutine, so that a
// slow disk does not hold up the writer.
func (s *Store) Syncer() func() error {
	if s.writer == nil || !s.unsynced || !s.persistent {
		return nil
	}
	s.unsynced = false
	return s.writer.Sync
}

// Close syncs and closes the journal.
func (s *Store) Close() error {
	var err error
	if sync := s.Syncer(); sync != nil {
		err = sync()
	}
	s.close()
	return err
}
