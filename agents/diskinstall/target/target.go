// Package target is the disk that the installer writes to: whether it may be
// written, and the order in which it is.
//
// The order makes a cut harmless: first the old partition tables go, the new
// content comes, and only when all of it is on the disk and was read back does
// the new table make a disk of it. Whatever a cut leaves has no table, so no
// firmware starts it, and the next try begins anew.
//
// The disk may be a file too, for tests and for making images. Left out on
// purpose: disks with sectors of 4096 bytes, which the image's layout is not for.
package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/coracle-os/coracle/image/gpt"
)

// File is what is written: a block device, a file, or a test's.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Disk is an opened disk.
type Disk struct {
	Name string // for messages: "/dev/sda"
	File File
	Size int64 // in bytes
	// Zero makes a range read as zeros, if the disk can do that faster than by
	// writing them; nil if it cannot.
	Zero func(offset, length int64) error
}

// edge is what the tables at both ends have, in bytes.
const edge = gpt.Alignment

// ErrTooSmall says that a disk has no room.
var ErrTooSmall = errors.New("the disk is too small")

// Fits checks the size of the disk against a layout.
func (d *Disk) Fits(l gpt.Layout) error {
	end := int64(0)
	for _, p := range l.Partitions {
		end = max(end, p.Start+p.Size)
	}
	if end+edge > d.Size {
		return fmt.Errorf("%w: %s has %d MiB, %d are needed", ErrTooSmall, d.Name, d.Size>>20, (end+edge)>>20)
	}
	return nil
}

// Begin takes the partition tables from the disk, and returns when they are gone.
func (d *Disk) Begin() error {
	for _, at := range []int64{d.Size - edge, 0} {
		if err := d.zeros(at, edge); err != nil {
			return fmt.Errorf("erase the partition table of %s: %w", d.Name, err)
		}
	}
	if err := d.File.Sync(); err != nil {
		return fmt.Errorf("erase the partition table of %s: %w", d.Name, err)
	}
	return nil
}

// Finish writes the table of a layout, which is the last write, and the 440
// bytes of boot code in front of it. check reads back what the disk holds.
func (d *Disk) Finish(l gpt.Layout, bootCode []byte, check func() error) error {
	if err := d.File.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", d.Name, err)
	}
	if u, ok := d.File.(interface{ Uncache() }); ok {
		u.Uncache() // so that the disk itself is read
	}
	if err := check(); err != nil {
		return fmt.Errorf("%s does not hold what was written to it: %w; the disk fails", d.Name, err)
	}
	const most = 440 // the rest of the first sector is the table's
	if len(bootCode) > 0 {
		if _, err := d.File.WriteAt(bootCode[:min(most, len(bootCode))], 0); err != nil {
			return fmt.Errorf("write boot code: %w", err)
		}
	}
	l.Size = d.Size / gpt.SectorSize * gpt.SectorSize
	if err := gpt.WriteTable(d.File, l); err != nil {
		return err
	}
	if err := d.File.Sync(); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	return nil
}

// chunk is how much is written at a time, in bytes.
const chunk = 1 << 20

// Write writes size bytes from r to the disk from offset on; what the reader has
// left over is not read. The zeros in it are written too: a disk is rarely empty.
func (d *Disk) Write(ctx context.Context, offset int64, r io.Reader, size int64, progress func(int64)) error {
	buffer := make([]byte, chunk)
	zero := make([]byte, chunk)
	pending := int64(0) // zeros before offset that are not written yet
	flush := func() error {
		err := d.zeros(offset-pending, pending)
		pending = 0
		return err
	}
	for size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buffer[:min(chunk, size)]
		if _, err := io.ReadFull(r, part); err != nil {
			return fmt.Errorf("read what is to be written at byte %d: %w", offset, noEOF(err))
		}
		if string(part) == string(zero[:len(part)]) {
			pending += int64(len(part))
		} else {
			if err := flush(); err != nil {
				return err
			}
			if _, err := d.File.WriteAt(part, offset); err != nil {
				return fmt.Errorf("write %s at byte %d: %w", d.Name, offset, err)
			}
		}
		offset += int64(len(part))
		size -= int64(len(part))
		progress(int64(len(part)))
	}
	return flush()
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// zeros makes a range read as zeros.
func (d *Disk) zeros(offset, length int64) error {
	if length == 0 {
		return nil
	}
	if d.Zero != nil && d.Zero(offset, length) == nil {
		return nil
	}
	zero := make([]byte, min(chunk, length))
	for length > 0 {
		n := min(int64(len(zero)), length)
		if _, err := d.File.WriteAt(zero[:n], offset); err != nil {
			return fmt.Errorf("write %s at byte %d: %w", d.Name, offset, err)
		}
		offset += n
		length -= n
	}
	return nil
}

// Open opens a disk, or a file in place of one, that InUse has nothing against.
// close tells the kernel to read the new table.
func Open(name string) (d *Disk, close func() error, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("open disk: %w", err)
	}
	flags := os.O_RDWR
	if info.Mode()&os.ModeDevice != 0 {
		if info.Mode()&os.ModeCharDevice != 0 {
			return nil, nil, fmt.Errorf("open disk: %s is no disk", name)
		}
		flags |= os.O_EXCL // the kernel refuses when anybody has it mounted or claimed
	} else if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("open disk: %s is no disk", name)
	}
	f, err := os.OpenFile(name, flags, 0)
	if errors.Is(err, errBusy) {
		return nil, nil, fmt.Errorf("open disk: %w: %s", ErrInUse, name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open disk: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("open disk: %w", err)
	}
	if flags&os.O_EXCL != 0 {
		if sector, err := sectorSize(f); err == nil && sector != gpt.SectorSize {
			f.Close()
			return nil, nil, fmt.Errorf("open disk: %s has sectors of %d bytes; only those with %d can be started from", name, sector, gpt.SectorSize)
		}
	}
	disk := &Disk{Name: name, File: file{f}, Size: size, Zero: zeroer(f, flags&os.O_EXCL != 0)}
	return disk, func() error { return errors.Join(reread(f, flags&os.O_EXCL != 0), f.Close()) }, nil
}
