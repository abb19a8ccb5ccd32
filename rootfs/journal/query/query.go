// Package query finds records in a journal: filters by unit, boot, priority,
// time and fields as journalctl(1) means them, the last N from the end, and new
// ones as they arrive. journalctl and "systemctl status" use it; it only reads
// and needs no daemon.
//
// A record that cannot be read (damage) is left out; the rest is found. Left
// out on purpose: an index. Filters look at every record of the boots asked
// for, some million a second, and the tail is read from the end.
package query

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sort"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/segment"
	"github.com/coracle-os/coracle/rootfs/journal/store"
)

// Dirs returns the directories in which a machine's journal is.
func Dirs(machine journal.ID) []string {
	return []string{"/var/log/journal/" + machine.String(), "/run/log/journal/" + machine.String()}
}

// LocalDirs returns Dirs of the machine whose /etc/machine-id is below root.
func LocalDirs(root string) ([]string, error) {
	text, err := os.ReadFile(root + "/etc/machine-id")
	if err != nil {
		return nil, fmt.Errorf("find journal: %w", err)
	}
	machine, err := journal.ParseID(string(text))
	if err != nil {
		return nil, fmt.Errorf("find journal: /etc/machine-id: %w", err)
	}
	dirs := Dirs(machine)
	for i := range dirs {
		dirs[i] = root + dirs[i]
	}
	return dirs, nil
}

// Journal is a journal opened for reading. It is for one goroutine.
type Journal struct {
	dirs     []string
	segments []*segment.Reader
	open     map[journal.ID]bool
}

// Open opens the segments that are in the directories now. Missing directories
// are empty ones. Without any segment it is an empty journal.
func Open(dirs ...string) (*Journal, error) {
	j := &Journal{dirs: dirs, open: map[journal.ID]bool{}}
	return j, j.refresh()
}

// refresh opens the segments that came since.
func (j *Journal) refresh() error {
	paths, err := store.Segments(j.dirs...)
	for _, path := range paths {
		r, openErr := segment.Open(path)
		switch {
		case errors.Is(openErr, os.ErrNotExist), errors.Is(openErr, segment.ErrDamaged):
		case openErr != nil:
			err = errors.Join(err, openErr)
		case j.open[r.Header().ID]:
			r.Close() // moved to the other directory
		default:
			j.open[r.Header().ID] = true
			j.segments = append(j.segments, r)
		}
	}
	sort.SliceStable(j.segments, func(a, b int) bool {
		return j.segments[a].Header().FirstSeq < j.segments[b].Header().FirstSeq
	})
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	return nil
}

// Close closes the files.
func (j *Journal) Close() {
	for _, s := range j.segments {
		s.Close()
	}
	j.segments = nil
}

// Forward yields the matching records, oldest first.
func (j *Journal) Forward(filter *Filter) iter.Seq[journal.Record] {
	return func(yield func(journal.Record) bool) {
		for _, s := range j.segments {
			if !filter.wants(s.Header()) {
				continue
			}
			offset := segment.First
			for {
				record, next, err := s.Next(offset)
				if err != nil && !errors.Is(err, segment.ErrDamaged) {
					break
				}
				offset = next
				if err == nil && filter.Match(&record) && !yield(record) {
					return
				}
			}
		}
	}
}

// Backward yields the matching records, newest first.
func (j *Journal) Backward(filter *Filter) iter.Seq[journal.Record] {
	return func(yield func(journal.Record) bool) {
		for i := len(j.segments) - 1; i >= 0; i-- {
			s := j.segments[i]
			if !filter.wants(s.Header()) {
				continue
			}
			offset, err := s.End()
			for err == nil {
				var record journal.Record
				record, offset, err = s.Prev(offset)
				if errors.Is(err, segment.ErrDamaged) {
					err = nil
					continue
				}
				if err == nil && filter.Match(&record) && !yield(record) {
					return
				}
			}
		}
	}
}

// Tail returns the last n matching records, oldest first.
func (j *Journal) Tail(filter *Filter, n int) []journal.Record {
	var records []journal.Record
	if n <= 0 {
		return nil
	}
	for record := range j.Backward(filter) {
		if records = append(records, record); len(records) == n {
			break
		}
	}
	for i, k := 0, len(records)-1; i < k; i, k = i+1, k-1 {
		records[i], records[k] = records[k], records[i]
	}
	return records
}

// Boot is one boot of the machine as the journal knows it.
type Boot struct {
	ID          journal.ID
	First, Last uint64 // reception times, microseconds since 1970
}

// Boots lists the boots, oldest first.
func (j *Journal) Boots() []Boot {
	var boots []Boot
	for _, s := range j.segments {
		header := s.Header()
		first, _, err := s.Next(segment.First)
		if err != nil {
			continue
		}
		end, err := s.End()
		if err != nil {
			continue
		}
		last, _, err := s.Prev(end)
		if errors.Is(err, io.EOF) {
			continue
		}
		if n := len(boots); n > 0 && boots[n-1].ID == header.Boot {
			boots[n-1].Last = last.Realtime
			continue
		}
		boots = append(boots, Boot{header.Boot, first.Realtime, last.Realtime})
	}
	return boots
}

// BootAt finds a boot by journalctl's offset: 0 is the last one, -1 the one
// before it, 1 the first one.
func (j *Journal) BootAt(offset int) (journal.ID, error) {
	boots := j.Boots()
	i := len(boots) - 1 + offset
	if offset > 0 {
		i = offset - 1
	}
	if i < 0 || i >= len(boots) {
		return journal.ID{}, fmt.Errorf("no boot %+d in the journal, which has %d; see --list-boots", offset, len(boots))
	}
	return boots[i].ID, nil
}
