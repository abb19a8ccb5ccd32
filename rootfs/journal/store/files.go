package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal/segment"
	"golang.org/x/sys/unix"
)

const (
	suffix = ".cjournal"

	// MinUse is what the journal may always take, however full the disk is,
	// unless its file system or the configured bound is smaller.
	MinUse = 4 << 20

	maxUse        = 4 << 30
	maxRuntime    = 32 << 20
	maxSegment    = 32 << 20
	minSegment    = 256 << 10
	maxFiles      = 1000 // a machine that reboots in a loop fills no directory
	usePercent    = 10
	keepFreeShare = 15
)

type file struct {
	path   string
	size   int64
	header segment.Header
}

func fileName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, suffix) }

// list returns the segments of a directory, oldest first. Files that are no
// segment (a cut header) are left out.
func list(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list journal: %w", err)
	}
	var files []file
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), suffix) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		r, err := segment.Open(path)
		if err != nil {
			continue
		}
		size, err := r.End()
		r.Close()
		if err == nil {
			files = append(files, file{path, size, r.Header()})
		}
	}
	sort.Slice(files, func(i, j int) bool { return files[i].header.FirstSeq < files[j].header.FirstSeq })
	return files, nil
}

// Name is a segment as its file's name tells it.
type Name struct {
	Path  string
	First uint64 // number of its first record
}

// Names lists the segments of the directories by their names alone, in the
// order of their records. Of two with the same number, one is the copy of the
// other that is being moved, and the one in the first directory is listed.
func Names(dirs ...string) (names []Name, err error) {
	for _, dir := range dirs {
		entries, readErr := os.ReadDir(dir)
		if readErr != nil && !errors.Is(readErr, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("list journal: %w", readErr))
		}
		for _, entry := range entries {
			number, ok := strings.CutSuffix(entry.Name(), suffix)
			first, parseErr := strconv.ParseUint(number, 16, 64)
			if ok && parseErr == nil {
				names = append(names, Name{filepath.Join(dir, entry.Name()), first})
			}
		}
	}
	sort.SliceStable(names, func(i, k int) bool { return names[i].First < names[k].First })
	return slices.CompactFunc(names, func(a, b Name) bool { return a.First == b.First }), err
}

// Segments returns the paths of all segments in the directories, oldest first.
func Segments(dirs ...string) (paths []string, err error) {
	var all []file
	for _, dir := range dirs {
		files, listErr := list(dir)
		err = errors.Join(err, listErr)
		all = append(all, files...)
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].header.FirstSeq < all[j].header.FirstSeq })
	for _, f := range all {
		paths = append(paths, f.path)
	}
	return paths, err
}

func lastSeq(path string) (uint64, error) {
	r, err := segment.Open(path)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	end, err := r.End()
	if err != nil {
		return 0, err
	}
	record, _, err := r.Prev(end)
	if errors.Is(err, io.EOF) {
		return r.Header().FirstSeq - 1, nil
	}
	return record.Seq, err
}

// Bounds are what a directory of segments may take; 0 means the default.
type Bounds struct {
	MaxUse   int64 // bytes in all: 10 % of the file system, at most 4 GiB (32 MiB in memory)
	KeepFree int64 // bytes of the file system left to others: 15 %
	MaxFile  int64 // bytes of a segment: an eighth of MaxUse, at most 32 MiB
	MaxFiles int   // segments: 1000
}

// limits are the bounds of one directory as they come out on its file system.
type limits struct {
	total, segment int64 // bytes
	files          int
}

// measure computes the limits from the bounds and the file system.
func measure(dir string, b Bounds, persistent bool) limits {
	var stat unix.Statfs_t
	total := b.MaxUse
	if err := unix.Statfs(dir, &stat); err == nil {
		size, free := int64(stat.Blocks)*stat.Bsize, int64(stat.Bavail)*stat.Bsize
		used, _ := Usage(dir)
		total = bound(size, free, used, b, persistent)
	} else if total == 0 {
		total = MinUse
	}
	segment := cmp.Or(b.MaxFile, maxSegment)
	return limits{total, min(segment, max(minSegment, total/8)), cmp.Or(b.MaxFiles, maxFiles)}
}

// bound is the rule of the package comment, in bytes.
func bound(size, free, used int64, b Bounds, persistent bool) int64 {
	configured := b.MaxUse
	total := configured
	if total == 0 {
		most := int64(maxUse)
		if !persistent {
			most = maxRuntime
		}
		total = min(size/100*usePercent, most)
	}
	floor := min(MinUse, max(total, 1<<20))
	if configured > 0 {
		floor = min(MinUse, configured)
	}
	keep := cmp.Or(b.KeepFree, size/100*keepFreeShare)
	return max(min(total, used+free-keep), floor)
}

// Usage returns the bytes that the segments of the directories take.
func Usage(dirs ...string) (int64, error) {
	var total int64
	for _, dir := range dirs {
		files, err := list(dir)
		if err != nil {
			return total, err
		}
		for _, f := range files {
			total += f.size
		}
	}
	return total, nil
}

// Vacuum deletes the oldest segments of dir until the rest takes at most total
// bytes. The segment at path keep, the one being written, is never deleted. It
// returns what it deleted.
func Vacuum(dir string, total int64, keep string) (deleted []string, err error) {
	return vacuum(dir, total, maxFiles, keep)
}

func vacuum(dir string, total int64, most int, keep string) (deleted []string, err error) {
	files, err := list(dir)
	if err != nil {
		return nil, err
	}
	removeStale(dir, files)
	var used int64
	for _, f := range files {
		used += f.size
	}
	for i, f := range files {
		if used <= max(total, 0) && len(files)-i <= most {
			break
		}
		if f.path == keep {
			continue
		}
		if removeErr := os.Remove(f.path); removeErr != nil {
			err = errors.Join(err, fmt.Errorf("delete old journal: %w", removeErr))
			continue
		}
		used -= f.size
		deleted = append(deleted, f.path)
	}
	return deleted, err
}

// VacuumTime deletes the segments whose last write is before limit.
func VacuumTime(dir string, limit time.Time, keep string) (deleted []string, err error) {
	files, err := list(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		info, statErr := os.Stat(f.path)
		if statErr != nil || f.path == keep || !info.ModTime().Before(limit) {
			continue
		}
		if removeErr := os.Remove(f.path); removeErr != nil {
			err = errors.Join(err, fmt.Errorf("delete old journal: %w", removeErr))
			continue
		}
		deleted = append(deleted, f.path)
	}
	return deleted, err
}

// removeStale deletes what a power cut left: half-made and headless files.
func removeStale(dir string, good []file) {
	known := map[string]bool{}
	for _, f := range good {
		known[f.path] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		name := entry.Name()
		if strings.HasSuffix(name, suffix+".new") || strings.HasPrefix(name, ".probe-") || strings.HasSuffix(name, suffix) && !known[path] {
			os.Remove(path)
		}
	}
}
