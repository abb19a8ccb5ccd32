package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
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

// limits are the bounds of one directory in bytes.
type limits struct{ configured, total, segment int64 }

// measure computes the bounds from the file system. configured replaces the
// share of the file system when it is not 0.
func measure(dir string, configured int64, persistent bool) limits {
	var stat unix.Statfs_t
	total := configured
	if err := unix.Statfs(dir, &stat); err == nil {
		size, free := int64(stat.Blocks)*stat.Bsize, int64(stat.Bavail)*stat.Bsize
		used, _ := Usage(dir)
		total = bound(size, free, used, configured, persistent)
	} else if total == 0 {
		total = MinUse
	}
	return limits{configured, total, min(maxSegment, max(minSegment, total/8))}
}

// bound is the rule of the package comment, in bytes.
func bound(size, free, used, configured int64, persistent bool) int64 {
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
	keep := size / 100 * keepFreeShare
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
		if used <= max(total, 0) && len(files)-i <= maxFiles {
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
