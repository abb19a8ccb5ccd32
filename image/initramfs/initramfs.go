// Package initramfs writes a tree as the archive that the kernel unpacks before
// its first program: cpio in the newc format (kernel documentation,
// driver-api/early-userspace/buffer-format), compressed with zstd.
//
// It is for the builder. The same tree gives the same bytes: entries are in the
// tree's order, times are 0, inode numbers count up. There are no hard links.
package initramfs

import (
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/coracle-os/coracle/image/tree"
)

// Write writes files to w.
func Write(w io.Writer, files tree.Tree) error {
	// One goroutine: the block boundaries, and so the bytes, must not depend on
	// the number of processors.
	compressor, err := zstd.NewWriter(w,
		zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	archive := cpio.Newc.Writer(compressor)
	inode := uint64(0)
	for entry := range files.All() {
		if entry.Path == "." {
			continue
		}
		inode++
		record, err := record(entry, inode)
		if err != nil {
			return fmt.Errorf("write initrd: %w", err)
		}
		if err := archive.WriteRecord(record); err != nil {
			return fmt.Errorf("write initrd: %s: %w", entry.Path, err)
		}
	}
	if err := cpio.WriteTrailer(archive); err != nil {
		return fmt.Errorf("write initrd: %w", err)
	}
	if err := compressor.Close(); err != nil {
		return fmt.Errorf("write initrd: %w", err)
	}
	return nil
}

// Types of cpio, those of stat(2).
const (
	typeDirectory = 0o040000
	typeRegular   = 0o100000
	typeSymlink   = 0o120000
	typeCharacter = 0o020000
	typeBlock     = 0o060000
)

func record(entry tree.Entry, inode uint64) (cpio.Record, error) {
	info := cpio.Info{
		Name: entry.Path, Ino: inode, NLink: 1, Mode: permissions(entry.Mode),
		UID: uint64(entry.UID), GID: uint64(entry.GID),
	}
	var content []byte
	switch entry.Mode.Type() {
	case 0:
		info.Mode |= typeRegular
		var err error
		if content, err = entry.ReadFile(); err != nil {
			return cpio.Record{}, err
		}
	case fs.ModeDir:
		info.Mode |= typeDirectory
	case fs.ModeSymlink:
		info.Mode |= typeSymlink
		content = []byte(entry.Target)
	case fs.ModeDevice | fs.ModeCharDevice:
		info.Mode |= typeCharacter
		info.Rmajor, info.Rminor = uint64(entry.Major), uint64(entry.Minor)
	case fs.ModeDevice:
		info.Mode |= typeBlock
		info.Rmajor, info.Rminor = uint64(entry.Major), uint64(entry.Minor)
	default:
		return cpio.Record{}, fmt.Errorf("%s: an initrd cannot hold a file of type %v", entry.Path, entry.Mode.Type())
	}
	return cpio.StaticRecord(content, info), nil
}

func permissions(mode fs.FileMode) uint64 {
	result := uint64(mode.Perm())
	for _, bit := range []struct {
		mode  fs.FileMode
		value uint64
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if mode&bit.mode != 0 {
			result |= bit.value
		}
	}
	return result
}
