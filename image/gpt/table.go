package gpt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/diskfs/go-diskfs/backend"
	diskgpt "github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"
)

// maxArray bounds the partition entries that are read, in bytes; usual are 16 KiB.
const maxArray = 1 << 20

// ErrNoTable says that there is no GUID partition table.
var ErrNoTable = errors.New("no GUID partition table")

// WriteTable writes protective MBR, table and backup table of the layout. The
// first 440 bytes of the disk, where boot code goes, stay as they are.
func WriteTable(disk io.WriterAt, l Layout) error {
	table := &diskgpt.Table{
		LogicalSectorSize: SectorSize, PhysicalSectorSize: SectorSize,
		GUID: l.DiskUUID.String(), ProtectiveMBR: true,
	}
	for i, p := range l.Partitions {
		table.Partitions = append(table.Partitions, &diskgpt.Partition{
			Index: i + 1, Name: p.Name, Size: uint64(p.Size),
			Start: uint64(p.Start / SectorSize), End: uint64((p.Start+p.Size)/SectorSize - 1),
			Type: diskgpt.Type(strings.ToUpper(p.Type.String())), GUID: p.UUID.String(),
		})
	}
	if err := table.Write(writer{disk}, l.Size); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	return nil
}

// Read reads the partition table of a disk of size bytes. Partitions that are
// outside the disk or over each other are errors, as in a truncated image.
func Read(disk io.ReaderAt, size int64) (Layout, error) {
	if err := checkHeader(disk, size); err != nil {
		return Layout{}, fmt.Errorf("read partition table: %w", err)
	}
	table, err := diskgpt.Read(reader{io.NewSectionReader(disk, 0, size)}, SectorSize, SectorSize)
	if err != nil {
		return Layout{}, fmt.Errorf("read partition table: %w: %w", ErrNoTable, err)
	}
	l := Layout{Size: size, FromBackup: table.RecoveredFromBackup}
	if l.DiskUUID, err = uuid.Parse(table.GUID); err != nil {
		return Layout{}, fmt.Errorf("read partition table: disk: %w", err)
	}
	for _, p := range table.Partitions {
		if p.Type == diskgpt.Unused {
			continue
		}
		part, err := fromDisk(p)
		if err != nil {
			return Layout{}, fmt.Errorf("read partition table: partition %q: %w", p.Name, err)
		}
		l.Partitions = append(l.Partitions, part)
	}
	if err := checkPlaces(l); err != nil {
		return Layout{}, fmt.Errorf("read partition table: %w", err)
	}
	return l, nil
}

// checkPlaces fails when a partition is not on the disk or over another. The
// table need not be in the order of the disk.
func checkPlaces(l Layout) error {
	sorted := slices.SortedFunc(slices.Values(l.Partitions), func(a, b Partition) int { return cmp.Compare(a.Start, b.Start) })
	end := int64(0)
	for _, p := range sorted {
		if p.Start < end || p.Size <= 0 {
			return fmt.Errorf("partition %q starts at byte %d, inside the one before it", p.Name, p.Start)
		}
		if end = p.Start + p.Size; end > l.Size {
			return fmt.Errorf("partition %q ends at byte %d, the disk has %d; the image is cut short", p.Name, end, l.Size)
		}
	}
	return nil
}

func fromDisk(p *diskgpt.Partition) (Partition, error) {
	kind, err := uuid.Parse(string(p.Type))
	if err != nil {
		return Partition{}, err
	}
	id, err := uuid.Parse(p.GUID)
	if err != nil {
		return Partition{}, err
	}
	const most = uint64(1) << 54
	if p.Start > most || p.End > most || p.End < p.Start {
		return Partition{}, fmt.Errorf("sectors %d to %d make no sense", p.Start, p.End)
	}
	start := int64(p.Start) * SectorSize
	return Partition{Name: p.Name, Type: kind, UUID: id, Start: start, Size: int64(p.End+1)*SectorSize - start}, nil
}

// checkHeader refuses a header that would make go-diskfs allocate without
// bound, in both places of the table.
func checkHeader(disk io.ReaderAt, size int64) error {
	const least = 2 * (34 * SectorSize)
	if size < least {
		return fmt.Errorf("%w: %d bytes are too few for one", ErrNoTable, size)
	}
	for _, at := range []int64{SectorSize, size/SectorSize*SectorSize - SectorSize} {
		var b [92]byte
		if _, err := disk.ReadAt(b[:], at); err != nil {
			return err
		}
		if string(b[:8]) != "EFI PART" {
			continue
		}
		entries, each := binary.LittleEndian.Uint32(b[80:]), binary.LittleEndian.Uint32(b[84:])
		if each < 128 || each%128 != 0 || uint64(entries)*uint64(each) > maxArray {
			return fmt.Errorf("%w: %d entries of %d bytes", ErrNoTable, entries, each)
		}
	}
	return nil
}

// reader is what go-diskfs wants of a disk to read.
type reader struct{ *io.SectionReader }

func (reader) Stat() (fs.FileInfo, error) { return nil, fs.ErrInvalid }
func (reader) Close() error               { return nil }

// writer is what go-diskfs wants of a disk to write a table. It has no Sync,
// which go-diskfs would call five times: the image is not yet anyone's disk.
type writer struct{ io.WriterAt }

var _ backend.WritableFile = writer{}

func (writer) Stat() (fs.FileInfo, error)        { return nil, fs.ErrInvalid }
func (writer) Close() error                      { return nil }
func (writer) Read([]byte) (int, error)          { return 0, fs.ErrInvalid }
func (writer) ReadAt([]byte, int64) (int, error) { return 0, fs.ErrInvalid }
func (writer) Seek(int64, int) (int64, error)    { return 0, fs.ErrInvalid }
