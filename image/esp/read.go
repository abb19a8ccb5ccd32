package esp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf16"
)

const (
	firstCluster = 2
	dirEntrySize = 32
	attrLong     = 0x0f
	attrLabel    = 0x08
	attrDir      = 0x10
	clusterMask  = 0x0fffffff
	endOfChain   = 0x0ffffff8
	maxDirSize   = 2 << 20 // the specification's limit, in bytes
)

// ErrNotFAT32 says that there is no FAT32 file system.
var ErrNotFAT32 = errors.New("no FAT32 file system")

var errShortTable = errors.New("allocation table does not cover all clusters")

// A Volume is a FAT32 file system that is read.
type Volume struct {
	Label       string // from the root directory, "" when there is none
	r           io.ReaderAt
	clusterSize int64
	clusters    uint32
	root        uint32
	dataStart   int64
	fatStarts   []int64
	fat         []uint32
}

// A File is a file or directory of a volume.
type File struct {
	Path    string // io/fs path with the long name
	Dir     bool
	Size    int64 // in bytes
	cluster uint32
}

// Open reads the file system of size bytes at the start of r. What is no
// FAT32 is ErrNotFAT32; what contradicts itself is another error.
func Open(r io.ReaderAt, size int64) (*Volume, error) {
	b := make([]byte, sectorSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read boot sector: %w", err)
	}
	u16 := func(at int) int64 { return int64(binary.LittleEndian.Uint16(b[at:])) }
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }
	bytesPerSector, perCluster, reserved, fats := u16(11), int64(b[13]), u16(14), int64(b[16])
	total, perFAT := u32(32), u32(36)
	if u16(510) != 0xaa55 || u16(22) != 0 || u16(17) != 0 || perFAT == 0 {
		return nil, ErrNotFAT32
	}
	if bytesPerSector < 512 || bytesPerSector > 4096 || bytesPerSector&(bytesPerSector-1) != 0 ||
		perCluster == 0 || perCluster&(perCluster-1) != 0 || reserved == 0 || fats == 0 || fats > 4 {
		return nil, fmt.Errorf("%w: boot sector makes no sense", ErrNotFAT32)
	}
	if total*bytesPerSector > size {
		return nil, fmt.Errorf("file system of %d bytes in a partition of %d; the image is cut short", total*bytesPerSector, size)
	}
	dataStart := (reserved + fats*perFAT) * bytesPerSector
	clusters := (total*bytesPerSector - dataStart) / (perCluster * bytesPerSector)
	if clusters < 1 || perFAT*bytesPerSector < (clusters+firstCluster)*4 {
		return nil, fmt.Errorf("%w: %w: %d clusters", ErrNotFAT32, errShortTable, clusters)
	}
	v := &Volume{r: r, clusterSize: perCluster * bytesPerSector, clusters: uint32(clusters), root: uint32(u32(44)), dataStart: dataStart}
	for i := range fats {
		v.fatStarts = append(v.fatStarts, (reserved+i*perFAT)*bytesPerSector)
	}
	if err := v.readFAT(); err != nil {
		return nil, err
	}
	return v, v.readLabel()
}

func (v *Volume) readFAT() error {
	raw := make([]byte, (int64(v.clusters)+firstCluster)*4)
	if _, err := v.r.ReadAt(raw, v.fatStarts[0]); err != nil {
		return fmt.Errorf("read allocation table: %w", err)
	}
	v.fat = make([]uint32, len(raw)/4)
	for i := range v.fat {
		v.fat[i] = binary.LittleEndian.Uint32(raw[i*4:]) & clusterMask
	}
	return nil
}

func (v *Volume) readLabel() error {
	slots, err := v.readDir(v.root)
	if err != nil {
		return err
	}
	for _, s := range slots {
		if s.isLabel {
			v.Label = strings.TrimRight(string(s.raw[:11]), " ")
		}
	}
	return nil
}

// chain returns the clusters of a file of at most limit bytes.
func (v *Volume) chain(first uint32, limit int64) ([]uint32, error) {
	var all []uint32
	limit = min(limit, int64(v.clusters)*v.clusterSize)
	for c := first; c < endOfChain; c = v.fat[c] {
		if c < firstCluster || c >= firstCluster+v.clusters {
			return nil, fmt.Errorf("cluster chain from %d leads to cluster %d of %d; the file system is damaged", first, c, v.clusters)
		}
		if int64(len(all))*v.clusterSize >= limit {
			return nil, fmt.Errorf("cluster chain from %d is longer than %d bytes; the file system is damaged", first, limit)
		}
		all = append(all, c)
	}
	return all, nil
}

func (v *Volume) clusterOffset(c uint32) int64 {
	return v.dataStart + int64(c-firstCluster)*v.clusterSize
}

// A slot is a directory entry with a short name, and its long name.
type slot struct {
	raw     []byte // the 32 bytes, to be changed by normalise
	offset  int64  // of raw in the file system
	name    string
	isDir   bool
	isLabel bool
	size    int64
	cluster uint32
}

func (v *Volume) readDir(first uint32) ([]*slot, error) {
	clusters, err := v.chain(first, maxDirSize)
	if err != nil {
		return nil, err
	}
	var slots []*slot
	var long []uint16
	for _, c := range clusters {
		b := make([]byte, v.clusterSize)
		if _, err := v.r.ReadAt(b, v.clusterOffset(c)); err != nil {
			return nil, fmt.Errorf("read directory: %w", err)
		}
		for at := 0; at < len(b); at += dirEntrySize {
			raw := b[at : at+dirEntrySize : at+dirEntrySize]
			switch {
			case raw[0] == 0:
				return slots, nil
			case raw[0] == 0xe5:
				long = nil
			case raw[11]&0x3f == attrLong:
				long = append(longPart(raw), long...)
			default:
				slots = append(slots, newSlot(raw, v.clusterOffset(c)+int64(at), long))
				long = nil
			}
		}
	}
	return slots, nil
}

// longPart returns the 13 characters of a long-name entry, or fewer at its end.
func longPart(raw []byte) []uint16 {
	var part []uint16
	for _, span := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for at := span[0]; at < span[1]; at += 2 {
			c := binary.LittleEndian.Uint16(raw[at:])
			if c == 0 {
				return part
			}
			part = append(part, c)
		}
	}
	return part
}

func newSlot(raw []byte, offset int64, long []uint16) *slot {
	s := &slot{raw: raw, offset: offset, isDir: raw[11]&attrDir != 0, isLabel: raw[11]&attrLabel != 0}
	s.size = int64(binary.LittleEndian.Uint32(raw[28:]))
	s.cluster = uint32(binary.LittleEndian.Uint16(raw[20:]))<<16 | uint32(binary.LittleEndian.Uint16(raw[26:]))
	s.name = string(utf16.Decode(long))
	if s.name == "" {
		s.name = strings.TrimRight(string(raw[:8]), " ")
		if ext := strings.TrimRight(string(raw[8:11]), " "); ext != "" {
			s.name += "." + ext
		}
	}
	return s
}

// Files returns all files and directories, each directory before what is in
// it, in the order of the disk.
func (v *Volume) Files() ([]File, error) {
	w := walk{v: v, seen: make(map[uint32]bool)}
	if err := w.directory(v.root, "."); err != nil {
		return nil, fmt.Errorf("read file system: %w", err)
	}
	return w.files, nil
}

type walk struct {
	v     *Volume
	seen  map[uint32]bool // directories by first cluster
	files []File
}

func (w *walk) directory(first uint32, name string) error {
	if w.seen[first] {
		return fmt.Errorf("directory %q: its content is another directory's; the file system is damaged", name)
	}
	w.seen[first] = true
	slots, err := w.v.readDir(first)
	if err != nil {
		return fmt.Errorf("directory %q: %w", name, err)
	}
	for _, s := range slots {
		if s.isLabel || s.name == "." || s.name == ".." || strings.Contains(s.name, "/") {
			continue
		}
		f := File{Path: path.Join(name, s.name), Dir: s.isDir, Size: s.size, cluster: s.cluster}
		w.files = append(w.files, f)
		if s.isDir {
			if err := w.directory(s.cluster, f.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// OpenFile returns a reader of the content of a file that Files returned.
func (v *Volume) OpenFile(f File) (*io.SectionReader, error) {
	if f.Dir {
		return nil, &fs.PathError{Op: "open", Path: f.Path, Err: errors.New("is a directory")}
	}
	content := &content{v: v}
	if f.Size > 0 {
		var err error
		if content.clusters, err = v.chain(f.cluster, f.Size); err != nil {
			return nil, &fs.PathError{Op: "open", Path: f.Path, Err: err}
		}
	}
	return io.NewSectionReader(content, 0, f.Size), nil
}

type content struct {
	v        *Volume
	clusters []uint32
}

func (c *content) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		i := at / c.v.clusterSize
		if i >= int64(len(c.clusters)) {
			return done, io.ErrUnexpectedEOF
		}
		within := at % c.v.clusterSize
		part := p[done:min(len(p), done+int(c.v.clusterSize-within))]
		n, err := c.v.r.ReadAt(part, c.v.clusterOffset(c.clusters[i])+within)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
