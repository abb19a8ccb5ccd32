package erofs

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"slices"

	goerofs "github.com/erofs/go-erofs"

	"github.com/coracle-os/coracle/image/tree"
)

const (
	// Alignment is what large files start at multiples of, in bytes: the data
	// under one block of dm-verity's hash tree (128 digests of 32 bytes). A
	// large file that grows moves those behind it by whole multiples, so that
	// the blocks of the hash tree over them stay equal and an update need not
	// fetch them.
	Alignment = 128 * BlockSize
	// LargeFile is the size of the files that are aligned, in bytes. The gaps
	// are zeros, half of Alignment for each file on average.
	LargeFile = 2 * Alignment
)

// Offsets in the superblock and in both forms of an inode, and the one layout
// of inodes whose data are in blocks of their own.
const (
	sbBlocks     = 1024 + 36
	sbMetaBlocks = 1024 + 40
	inodeBlock   = 16
	flatPlain    = 0
	nidSize      = 32
)

// A File is what an image is written to; *os.File is one.
type File interface {
	io.WriteSeeker
	io.ReaderAt
	io.WriterAt
}

// extent is the data of one inode.
type extent struct {
	inode         int64 // offset of the inode in the metadata
	block, blocks int64
	large         bool
	to            int64 // the block that it moves to
}

// alignLarge moves the data of an image of this size apart so that large files
// are aligned, and returns the new size. The library writes the superblock,
// then all data without gaps, then all metadata, and has no option for gaps.
func alignLarge(out File, size int64, t tree.Tree) (int64, error) {
	head := make([]byte, BlockSize)
	if _, err := out.ReadAt(head, 0); err != nil {
		return 0, err
	}
	metaBlock := int64(binary.LittleEndian.Uint32(head[sbMetaBlocks:]))
	if metaBlock*BlockSize > size {
		return 0, fmt.Errorf("metadata at block %d of an image of %d bytes", metaBlock, size)
	}
	meta := make([]byte, size-metaBlock*BlockSize)
	if _, err := out.ReadAt(meta, metaBlock*BlockSize); err != nil {
		return 0, err
	}
	extents, err := readExtents(out, meta, t)
	if err != nil {
		return 0, err
	}
	end := int64(1)
	for i := range extents {
		e := &extents[i]
		if e.block+e.blocks > metaBlock || i > 0 && e.block < extents[i-1].block+extents[i-1].blocks {
			return 0, fmt.Errorf("data at block %d: not in the order that the library writes", e.block)
		}
		if e.large {
			end = (end + Alignment/BlockSize - 1) / (Alignment / BlockSize) * (Alignment / BlockSize)
		}
		e.to = end
		end += e.blocks
		binary.LittleEndian.PutUint32(meta[e.inode+inodeBlock:], uint32(e.to))
	}
	if end == metaBlock {
		return size, nil
	}
	if err := moveApart(out, extents); err != nil {
		return 0, err
	}
	binary.LittleEndian.PutUint32(head[sbMetaBlocks:], uint32(end))
	binary.LittleEndian.PutUint32(head[sbBlocks:], uint32(end+int64(len(meta))/BlockSize))
	if _, err := out.WriteAt(meta, end*BlockSize); err != nil {
		return 0, err
	}
	if _, err := out.WriteAt(head, 0); err != nil {
		return 0, err
	}
	return end*BlockSize + int64(len(meta)), nil
}

// readExtents finds the inodes that have data in blocks of their own.
func readExtents(image io.ReaderAt, meta []byte, t tree.Tree) ([]extent, error) {
	opened, err := goerofs.Open(image)
	if err != nil {
		return nil, err
	}
	var extents []extent
	for e := range t.All() {
		info, err := fs.Lstat(opened, e.Path)
		if err != nil {
			return nil, err
		}
		stat, ok := info.Sys().(*goerofs.Stat)
		if !ok {
			return nil, fmt.Errorf("%q: the library tells nothing of its inode", e.Path)
		}
		kind := e.Mode.Type()
		if stat.InodeLayout != flatPlain || stat.Size == 0 || kind != 0 && kind != fs.ModeDir && kind != fs.ModeSymlink {
			continue
		}
		at := stat.Ino * nidSize
		if at < 0 || at+nidSize > int64(len(meta)) {
			return nil, fmt.Errorf("%q: inode %d is outside the metadata", e.Path, stat.Ino)
		}
		extents = append(extents, extent{
			inode: at, block: int64(binary.LittleEndian.Uint32(meta[at+inodeBlock:])),
			blocks: (stat.Size + BlockSize - 1) / BlockSize, large: kind == 0 && stat.Size >= LargeFile,
		})
	}
	slices.SortFunc(extents, func(a, b extent) int { return cmp.Compare(a.block, b.block) })
	return extents, nil
}

// moveApart moves data up, the last first, and clears the gaps.
func moveApart(out File, extents []extent) error {
	buffer := make([]byte, 256*BlockSize)
	for i := len(extents) - 1; i >= 0; i-- {
		e := extents[i]
		if e.to != e.block {
			for left := e.blocks; left > 0; {
				n := min(left, int64(len(buffer))/BlockSize)
				left -= n
				part := buffer[:n*BlockSize]
				if _, err := out.ReadAt(part, (e.block+left)*BlockSize); err != nil {
					return err
				}
				if _, err := out.WriteAt(part, (e.to+left)*BlockSize); err != nil {
					return err
				}
			}
		}
		gap := int64(1)
		if i > 0 {
			gap = extents[i-1].to + extents[i-1].blocks
		}
		zeros := make([]byte, (e.to-gap)*BlockSize)
		if len(zeros) > 0 {
			if _, err := out.WriteAt(zeros, gap*BlockSize); err != nil {
				return err
			}
		}
	}
	return nil
}
