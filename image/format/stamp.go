package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/google/uuid"

	"github.com/coracle-os/coracle/image/gpt"
)

// qemu-img stamps what it writes with random numbers and the time, and has no
// option against it. The functions here put numbers that follow from the image
// in their place, so that the same image gives the same bytes.

// identity is what the numbers of an image's forms are derived from: the digest
// of its first MiB, where the partition table holds the root hash.
func identity(raw string) (string, error) {
	f, err := os.Open(raw)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(h, f, 1<<20); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// stamp changes the file of a conversion in place.
func (j job) stamp(path string, change func(f *os.File, id func(name string) uuid.UUID) error) error {
	seed, err := identity(j.Raw)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = change(f, func(name string) uuid.UUID { return gpt.DerivedUUID(seed, name) })
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// errOther says that a file is not what qemu-img used to write.
var errOther = errors.New("qemu-img wrote another header than expected; this version of it is not known to us")

// Places in the header of a VMDK (VMware, Virtual Disk Format 1.1); numbers are
// little endian, of sectors.
const (
	vmdkDescriptor = 28 // where the text is, and in the next number its room
	vmdkSector     = 512
	vmdkSignature  = "KDMV"
)

var contentID = regexp.MustCompile(`(?m)^CID=[0-9a-f]+$`)

// stampVMDK replaces the content ID, which is of one to eight digits in the
// text within the file.
func stampVMDK(f *os.File, id func(string) uuid.UUID) error {
	head := make([]byte, vmdkSector)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	at, room := binary.LittleEndian.Uint64(head[vmdkDescriptor:]), binary.LittleEndian.Uint64(head[vmdkDescriptor+8:])
	if !bytes.HasPrefix(head, []byte(vmdkSignature)) || at == 0 || at > 1<<10 || room > 1<<10 {
		return fmt.Errorf("vmdk: %w", errOther)
	}
	text := make([]byte, room*vmdkSector)
	if _, err := f.ReadAt(text, int64(at)*vmdkSector); err != nil {
		return err
	}
	value := id("vmdk")
	line := fmt.Appendf(nil, "CID=%08x", binary.BigEndian.Uint32(value[:]))
	changed := contentID.ReplaceAll(bytes.TrimRight(text, "\x00"), line)
	if !bytes.Contains(changed, line) || len(changed) > len(text) {
		return fmt.Errorf("vmdk: %w", errOther)
	}
	clear(text[copy(text, changed):])
	_, err := f.WriteAt(text, int64(at)*vmdkSector)
	return err
}

// Places in the footer of a VHD (Microsoft, Virtual Hard Disk Image Format
// Specification); numbers are big endian.
const (
	vhdFooter    = 512
	vhdTime      = 24 // seconds since 2000
	vhdChecksum  = 64 // the complement of the sum of all other bytes
	vhdUUID      = 68
	vhdSignature = "conectix"
)

// stampVHD replaces time and UUID in the footer of a fixed disk.
func stampVHD(f *os.File, id func(string) uuid.UUID) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	footer := make([]byte, vhdFooter)
	if _, err := f.ReadAt(footer, end-vhdFooter); err != nil {
		return err
	}
	if !bytes.HasPrefix(footer, []byte(vhdSignature)) {
		return fmt.Errorf("vhd: %w", errOther)
	}
	value := id("vhd")
	clear(footer[vhdTime : vhdTime+4])
	copy(footer[vhdUUID:], value[:])
	binary.BigEndian.PutUint32(footer[vhdChecksum:], checksum(footer))
	_, err = f.WriteAt(footer, end-vhdFooter)
	return err
}

func checksum(footer []byte) uint32 {
	var sum uint32
	for i, b := range footer {
		if i < vhdChecksum || i >= vhdChecksum+4 {
			sum += uint32(b)
		}
	}
	return ^sum
}

// Places in the header of a VDI, of which VirtualBox's source is the only
// description.
const (
	vdiMagic     = 0x40
	vdiImage     = 0x188 // UUID of the image
	vdiSnapshot  = 0x198 // UUID of its last change
	vdiSignature = 0xbeda107f
)

// stampVDI replaces both UUIDs.
func stampVDI(f *os.File, id func(string) uuid.UUID) error {
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], vdiMagic); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(magic[:]) != vdiSignature {
		return fmt.Errorf("vdi: %w", errOther)
	}
	image, snapshot := id("vdi"), id("vdi snapshot")
	_, err := f.WriteAt(append(image[:], snapshot[:]...), vdiImage)
	return err
}
