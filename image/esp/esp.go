// Package esp writes and reads the EFI system partition: a FAT32 file system
// with systemd-boot, the UKIs and the loader's configuration. The builder
// writes one from a list of files, inspect reads it.
//
// It follows Microsoft's FAT specification (2005) as UEFI names it. go-diskfs
// writes the file system; what it takes from the clock or leaves unset (times,
// volume serial number, free cluster counts, the root's number in "..") is
// then put right on the disk, so that the same files give the same bytes and
// fsck.fat finds nothing. Reading is written here because go-diskfs's reader
// follows a cyclic chain for ever and hides read errors, and inspect must
// survive a damaged image.
//
// Left out on purpose: FAT12 and FAT16, changing an existing file system (on
// a machine the kernel does that) and names outside ASCII.
package esp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"github.com/coracle-os/coracle/image/tree"
)

// Options are what a file system says besides its files.
type Options struct {
	Label    string    // up to 11 upper-case letters and digits, like "ESP"
	VolumeID uint32    // serial number
	Time     time.Time // of all files, to 2 s, not before 1980; taken as UTC
}

const (
	sectorSize = 512
	// minClusters is where FAT32 begins: firmware takes less for FAT16.
	minClusters = 65525
	// MinSize is the least size of a file system in bytes.
	MinSize = 34 << 20
)

// ErrFull says that the files do not fit.
var ErrFull = errors.New("the files do not fit in the EFI system partition")

// Write makes f a sparse file of size bytes that holds a FAT32 file system
// with the directories and regular files of t. What f held before is lost.
// Modes and owners are dropped; links, devices, names that FAT cannot hold and
// names that differ only in case are errors.
func Write(f *os.File, size int64, t tree.Tree, opts Options) error {
	if err := write(f, size, t, opts); err != nil {
		return fmt.Errorf("write EFI system partition: %w", err)
	}
	return nil
}

func write(f *os.File, size int64, t tree.Tree, opts Options) error {
	if size < MinSize || size%sectorSize != 0 || size > 1<<40 {
		return fmt.Errorf("size %d: want a multiple of %d from %d MiB to 1 TiB", size, sectorSize, MinSize>>20)
	}
	if err := checkNames(t, opts.Label); err != nil {
		return err
	}
	fat, volume, err := format(f, size, opts.Label)
	if err != nil {
		return err
	}
	if need := clustersFor(t, volume.clusterSize); need > int64(volume.clusters) {
		return fmt.Errorf("%w: they need %d MiB of %d; make the partition larger or take files out", ErrFull,
			need*volume.clusterSize>>20, int64(volume.clusters)*volume.clusterSize>>20)
	}
	for e := range t.All() {
		if err := writeEntry(fat, e); err != nil {
			return err
		}
	}
	return normalise(f, size, opts)
}

// format makes an empty file system. For some sizes go-diskfs makes allocation
// tables that are two entries short; then a file system that leaves the last
// sectors of the partition unused is right.
func format(f *os.File, size int64, label string) (*fat32.FileSystem, *Volume, error) {
	const step, tries = 4096, 16
	for unused := int64(0); ; unused += step {
		if err := errors.Join(f.Truncate(0), f.Truncate(size)); err != nil {
			return nil, nil, err
		}
		fat, err := fat32.Create(file.New(f, false), size-unused, 0, sectorSize, label, true)
		if err != nil {
			return nil, nil, err
		}
		volume, err := Open(f, size)
		if errors.Is(err, errShortTable) && unused < step*tries {
			continue
		}
		if err == nil && volume.clusters < minClusters {
			err = fmt.Errorf("%d clusters, FAT32 begins at %d; make the partition larger", volume.clusters, minClusters)
		}
		return fat, volume, err
	}
}

func writeEntry(fat *fat32.FileSystem, e tree.Entry) error {
	if e.Path == "." {
		return nil
	}
	if e.Mode.IsDir() {
		return fat.Mkdir("/" + e.Path)
	}
	content, err := e.ReadFile()
	if err != nil {
		return err
	}
	out, err := fat.OpenFile("/"+e.Path, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return fmt.Errorf("create %q: %w", e.Path, err)
	}
	defer out.Close()
	if len(content) == 0 {
		return nil
	}
	if _, err := out.Write(content); err != nil {
		return fmt.Errorf("write %q: %w", e.Path, err)
	}
	return nil
}

// clustersFor is how many clusters the tree takes, directories by an upper
// bound of their entries.
func clustersFor(t tree.Tree, clusterSize int64) int64 {
	slots := map[string]int64{".": 1}
	total := int64(0)
	for e := range t.All() {
		if e.Path != "." {
			slots[path.Dir(e.Path)] += 2 + int64(len(path.Base(e.Path)))/13
		}
		if e.Mode.IsDir() {
			slots[e.Path] += 2
		} else {
			total += (max(e.Size, 1) + clusterSize - 1) / clusterSize
		}
	}
	for _, n := range slots {
		total += (n*dirEntrySize + clusterSize - 1) / clusterSize
	}
	return total
}

func checkNames(t tree.Tree, label string) error {
	if label == "" || len(label) > 11 || strings.ToUpper(label) != label || !plainName(label) {
		return fmt.Errorf("label %q: want 1 to 11 upper-case ASCII characters", label)
	}
	seen := make(map[string]string)
	for e := range t.All() {
		if e.Path == "." {
			continue
		}
		if !e.Mode.IsDir() && !e.Mode.IsRegular() || e.Mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
			return fmt.Errorf("path %q: FAT has only plain files and directories, not %v", e.Path, e.Mode)
		}
		if e.Size >= 1<<32 {
			return fmt.Errorf("path %q: %d bytes, FAT holds less than 4 GiB", e.Path, e.Size)
		}
		if name := path.Base(e.Path); !plainName(name) {
			return fmt.Errorf("path %q: want ASCII without any of \"*:<>?\\| and no dot or space at the end", e.Path)
		}
		fold := strings.ToLower(e.Path)
		if other, ok := seen[fold]; ok {
			return fmt.Errorf("paths %q and %q: FAT does not tell cases apart; rename one", other, e.Path)
		}
		seen[fold] = e.Path
	}
	return nil
}

func plainName(name string) bool {
	for _, c := range []byte(name) {
		if c < 0x20 || c > 0x7e || strings.IndexByte(`"*:<>?\|/`, c) >= 0 {
			return false
		}
	}
	return !strings.HasSuffix(name, ".") && !strings.HasSuffix(name, " ")
}
