package query

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/segment"
	"golang.org/x/sys/unix"
)

// rescan is how often a follower looks for directories that did not exist when
// it began, and for changes that inotify did not tell.
const rescan = 2 * time.Second

// Last returns the number of the newest record, 0 for an empty journal.
func (j *Journal) Last() uint64 {
	for i := len(j.segments) - 1; i >= 0; i-- {
		end, err := j.segments[i].End()
		if err != nil {
			continue
		}
		if record, _, err := j.segments[i].Prev(end); err == nil {
			return record.Seq
		}
	}
	return 0
}

// Follow yields the matching records with numbers above after, those that are
// there and then those that come, until ctx ends or the yield stops it.
func (j *Journal) Follow(ctx context.Context, filter *Filter, after uint64) iter.Seq2[journal.Record, error] {
	return func(yield func(journal.Record, error) bool) {
		watch, err := newWatch(j.dirs)
		if err != nil {
			yield(journal.Record{}, err)
			return
		}
		defer watch.close()
		f := follower{journal: j, filter: filter, last: after, offsets: map[journal.ID]int64{}}
		for fresh := true; ctx.Err() == nil; fresh = watch.wait(ctx) {
			if fresh {
				if err := j.refresh(); err != nil {
					yield(journal.Record{}, err)
					return
				}
			}
			if !f.read(yield) {
				return
			}
		}
	}
}

// follower remembers how far each segment was read.
type follower struct {
	journal *Journal
	filter  *Filter
	last    uint64
	offsets map[journal.ID]int64
}

// read yields what is new. It reports whether to go on.
func (f *follower) read(yield func(journal.Record, error) bool) bool {
	segments := f.journal.segments
	for i, s := range segments {
		if i+1 < len(segments) && segments[i+1].Header().FirstSeq <= f.last+1 && f.offsets[s.Header().ID] == 0 {
			continue // all of it is older
		}
		offset, known := f.offsets[s.Header().ID]
		if !known {
			offset = f.begin(s)
		}
		for {
			record, next, err := s.Next(offset)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil && !errors.Is(err, segment.ErrDamaged) {
				return yield(record, err)
			}
			offset = next
			if err != nil || record.Seq <= f.last {
				continue
			}
			f.last = record.Seq
			if f.filter.Match(&record) && !yield(record, nil) {
				return false
			}
		}
		f.offsets[s.Header().ID] = offset
	}
	return true
}

// begin finds the offset of the first record after last, from the end.
func (f *follower) begin(s *segment.Reader) int64 {
	offset, err := s.End()
	if err != nil {
		return segment.First
	}
	for {
		record, at, err := s.Prev(offset)
		if err != nil && !errors.Is(err, segment.ErrDamaged) {
			return segment.First
		}
		if err == nil && record.Seq <= f.last {
			return offset
		}
		offset = at
	}
}

// watch waits for changes in the directories.
type watch struct {
	file *os.File
	dirs map[string]bool // watched
	all  []string
}

func newWatch(dirs []string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("follow journal: %w", err)
	}
	w := &watch{file: os.NewFile(uintptr(fd), "inotify"), dirs: map[string]bool{}, all: dirs}
	w.add()
	return w, nil
}

// add watches the directories that exist by now.
func (w *watch) add() {
	for _, dir := range w.all {
		if w.dirs[dir] {
			continue
		}
		const events = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO
		if _, err := unix.InotifyAddWatch(int(w.file.Fd()), filepath.Clean(dir), events); err == nil {
			w.dirs[dir] = true
		}
	}
}

// wait returns on a change, after the rescan time, or when ctx ends. fresh says
// that there may be new segments.
func (w *watch) wait(ctx context.Context) (fresh bool) {
	w.add()
	fd := int32(w.file.Fd())
	for deadline := time.Now().Add(rescan); ctx.Err() == nil; {
		left := min(time.Until(deadline), 200*time.Millisecond)
		if left <= 0 {
			return true
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: fd, Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return true
		}
		if n > 0 {
			return w.drain()
		}
	}
	return false
}

// drain takes the events that wait and reports whether a file is new.
func (w *watch) drain() (fresh bool) {
	var events [4096]byte
	n, err := unix.Read(int(w.file.Fd()), events[:])
	if err != nil {
		return true
	}
	for at := 0; at+unix.SizeofInotifyEvent <= n; {
		mask := binary.NativeEndian.Uint32(events[at+4:])
		at += unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[at+12:]))
		fresh = fresh || mask&^unix.IN_MODIFY != 0
	}
	return fresh
}

func (w *watch) close() { w.file.Close() }
