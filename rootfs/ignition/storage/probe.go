package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
)

// Found is what a device holds.
type Found struct {
	// Kind is "" for nothing that is known, else as blkid(8) calls it: "ext4",
	// "xfs", "vfat", "swap", "crypto_LUKS", "linux_raid_member", "gpt", ...
	Kind  string
	Label string
	UUID  string // lower case, as blkid prints it
}

// signature is how a kind of content is known.
type signature struct {
	kind   string
	offset int64 // from the start; negative from the end
	magic  string
	read   func(r io.ReaderAt, size int64) (label, id string)
}

// signatures are looked for in this order. What a disk image may hold besides
// (an ISO's system area, a boot sector) comes last.
var signatures = []signature{
	{"crypto_LUKS", 0, "LUKS\xba\xbe", readLUKS},
	{"linux_raid_member", 4096, "\xfc\x4e\x2b\xa9", readMD(4096)},
	{"linux_raid_member", 0, "\xfc\x4e\x2b\xa9", readMD(0)},
	{"linux_raid_member", -8192, "\xfc\x4e\x2b\xa9", readMD(-8192)},
	{"LVM2_member", 512 + 24, "LVM2 001", nil},
	{"bcache", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", nil},
	{"swap", 4096 - 10, "SWAPSPACE2", readSwap},
	{"xfs", 0, "XFSB", readXFS},
	{"ext4", 0x438, "\x53\xef", readExt},
	{"btrfs", 0x10040, "_BHRfS_M", readBtrfs},
	{"squashfs", 0, "hsqs", nil},
	{"erofs", 1024, "\xe2\xe1\xf5\xe0", nil},
	{"f2fs", 1024, "\x10\x20\xf5\xf2", nil},
	{"bcachefs", 4096 + 24, "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", nil},
	{"reiserfs", 0x10034, "ReIsEr", nil},
	{"jfs", 0x8000, "JFS1", nil},
	{"ntfs", 3, "NTFS    ", nil},
	{"exfat", 3, "EXFAT   ", nil},
	{"vfat", 82, "FAT32   ", readFAT(67, 71)},
	{"vfat", 54, "FAT16   ", readFAT(39, 43)},
	{"vfat", 54, "FAT12   ", readFAT(39, 43)},
	{"iso9660", 0x8001, "CD001", nil},
	{"udf", 0x8001, "BEA01", nil},
	{"ufs", 8192 + 1372, "\x19\x01\x54\x19", nil},
	{"hfsplus", 1024, "H+\x00\x04", nil},
	{"gpt", 512, "EFI PART", nil},
	{"gpt", 4096, "EFI PART", nil},
}

// Probe looks for what a device of size bytes holds: file systems, swap,
// volumes, members of arrays and partition tables. ZFS and rare formats are not
// known; they are nothing.
func Probe(r io.ReaderAt, size int64) (Found, error) {
	for _, s := range signatures {
		offset := s.offset
		if offset < 0 {
			offset = (size + offset) &^ 4095
		}
		if offset < 0 || offset+int64(len(s.magic)) > size {
			continue
		}
		got, err := read(r, offset, len(s.magic))
		if err != nil {
			return Found{}, fmt.Errorf("look for what is there: %w", err)
		}
		if string(got) != s.magic {
			continue
		}
		found := Found{Kind: s.kind}
		if s.read != nil {
			found.Label, found.UUID = s.read(r, size)
		}
		if s.kind == "ext4" {
			found.Kind = extKind(r)
		}
		return found, nil
	}
	if hasMBR(r) {
		return Found{Kind: "dos"}, nil
	}
	return Found{}, nil
}

func read(r io.ReaderAt, offset int64, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := r.ReadAt(b, offset)
	if err == io.EOF {
		err = nil
	}
	return b, err
}

// field reads what is not worth an error: it is for labels.
func field(r io.ReaderAt, offset int64, n int) []byte {
	b, err := read(r, offset, n)
	if err != nil {
		return make([]byte, n)
	}
	return b
}

func label(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return strings.TrimRight(string(b), " ")
}

func id(b []byte) string {
	u, err := uuid.FromBytes(b)
	if err != nil {
		return ""
	}
	return u.String()
}

func readExt(r io.ReaderAt, _ int64) (string, string) {
	return label(field(r, 0x478, 16)), id(field(r, 0x468, 16))
}

// extKind tells ext2, ext3 and ext4 apart by their features, as blkid does.
func extKind(r io.ReaderAt) string {
	const journal, ext3Incompat, ext3RoCompat = 0x4, 0x2 | 0x4 | 0x10, 0x1 | 0x2 | 0x4
	compat := binary.LittleEndian.Uint32(field(r, 0x45c, 4))
	incompat := binary.LittleEndian.Uint32(field(r, 0x460, 4))
	roCompat := binary.LittleEndian.Uint32(field(r, 0x464, 4))
	switch {
	case incompat&^ext3Incompat != 0 || roCompat&^ext3RoCompat != 0:
		return "ext4"
	case compat&journal != 0:
		return "ext3"
	}
	return "ext2"
}

func readXFS(r io.ReaderAt, _ int64) (string, string) {
	return label(field(r, 108, 12)), id(field(r, 32, 16))
}

func readSwap(r io.ReaderAt, _ int64) (string, string) {
	return label(field(r, 1024+28, 16)), id(field(r, 1024+12, 16))
}

func readBtrfs(r io.ReaderAt, _ int64) (string, string) {
	return label(field(r, 0x1012b, 256)), id(field(r, 0x10020, 16))
}

func readLUKS(r io.ReaderAt, _ int64) (string, string) {
	name := ""
	if binary.BigEndian.Uint16(field(r, 6, 2)) == 2 {
		name = label(field(r, 24, 48))
	}
	return name, label(field(r, 168, 40))
}

func readFAT(idAt, labelAt int64) func(io.ReaderAt, int64) (string, string) {
	return func(r io.ReaderAt, _ int64) (string, string) {
		n := binary.LittleEndian.Uint32(field(r, idAt, 4))
		name := label(field(r, labelAt, 11))
		if name == "NO NAME" {
			name = ""
		}
		return name, strings.ToLower(fmt.Sprintf("%04X-%04X", n>>16, n&0xffff))
	}
}

// readMD reads a superblock of version 1; the label is "host:name".
func readMD(offset int64) func(io.ReaderAt, int64) (string, string) {
	return func(r io.ReaderAt, size int64) (string, string) {
		at := offset
		if at < 0 {
			at = (size + at) &^ 4095
		}
		return label(field(r, at+32, 32)), id(field(r, at+16, 16))
	}
}

// hasMBR recognizes a partition table of the old kind with at least one
// partition.
func hasMBR(r io.ReaderAt) bool {
	b := field(r, 0, 512)
	if b[510] != 0x55 || b[511] != 0xaa {
		return false
	}
	used := false
	for i := range 4 {
		entry := b[446+16*i : 446+16*i+16]
		if entry[0] != 0 && entry[0] != 0x80 {
			return false // a boot sector with code there
		}
		used = used || entry[4] != 0
	}
	return used
}
