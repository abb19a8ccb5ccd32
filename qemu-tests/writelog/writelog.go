// Package writelog makes, from the log of all writes to a machine's disk, the
// disks that a power cut could have left behind, for tests of updates.
//
// The log is that of QEMU's blklogwrites driver, whose format is the kernel's
// dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst). What
// was written before a flush is on the disk; of what was written since, any
// part may be. A QEMU that is killed loses nothing of it, so killing it proves
// less than this does. Left out on purpose: sectors torn in themselves, and
// marks, which the driver does not write.
package writelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	magic       = 0x6a736677736872
	sectorSize  = 512 // of the log, which QEMU is told
	flagFlush   = 1
	flagDiscard = 4
)

// An Entry is one write, flush or discard.
type Entry struct {
	Offset, Length int64 // bytes on the disk; no length: a flush only
	Flush          bool  // what was written before is on the disk
	discard        bool
	data           int64 // where the log holds what was written
}

// Read returns the entries of a log in the order in which they ended.
func Read(log io.ReaderAt) ([]Entry, error) {
	var head [28]byte
	if _, err := log.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("read log of writes: %w", err)
	}
	if binary.LittleEndian.Uint64(head[:]) != magic || binary.LittleEndian.Uint32(head[24:]) != sectorSize {
		return nil, fmt.Errorf("read log of writes: starts with %x, which is no log of %d-byte sectors", head, sectorSize)
	}
	at := int64(sectorSize)
	entries := make([]Entry, binary.LittleEndian.Uint64(head[16:]))
	for i := range entries {
		var b [32]byte
		if _, err := log.ReadAt(b[:], at); err != nil {
			return nil, fmt.Errorf("read log of writes: entry %d: %w", i, err)
		}
		at += sectorSize
		flags := binary.LittleEndian.Uint64(b[16:])
		e := Entry{
			Offset: int64(binary.LittleEndian.Uint64(b[0:])) * sectorSize,
			Length: int64(binary.LittleEndian.Uint64(b[8:])) * sectorSize,
			Flush:  flags&flagFlush != 0, discard: flags&flagDiscard != 0, data: at,
		}
		if !e.discard {
			at += e.Length
		}
		entries[i] = e
	}
	return entries, nil
}

// A Disk is what a power cut left of a disk.
type Disk struct {
	File *os.File // at first as before the first entry
	Log  io.ReaderAt
}

// Cuts replays the entries. Where cut says so the power is cut after entry i:
// of what was not flushed, the part for which survives says true is kept, and
// visit sees the disk.
func (d Disk) Cuts(entries []Entry, cut func(i int) bool, survives func() bool, visit func(i int) error) error {
	var pending []Entry
	for i, e := range entries {
		if e.Length > 0 {
			pending = append(pending, e)
		}
		if e.Flush {
			for _, p := range pending {
				if err := d.write(p); err != nil {
					return err
				}
			}
			pending = nil
		}
		if !cut(i) {
			continue
		}
		if err := d.with(pending, survives, func() error { return visit(i) }); err != nil {
			return fmt.Errorf("power cut after write %d of %d: %w", i+1, len(entries), err)
		}
	}
	return nil
}

// with calls f while those of the entries that survive are on the disk.
func (d Disk) with(pending []Entry, survives func() bool, f func() error) (err error) {
	type old struct {
		at      int64
		content []byte
	}
	var undo []old
	for _, e := range pending {
		if !survives() {
			continue
		}
		content := make([]byte, e.Length)
		if _, err := d.File.ReadAt(content, e.Offset); err != nil {
			return fmt.Errorf("read the disk at %d: %w", e.Offset, err)
		}
		undo = append(undo, old{e.Offset, content})
		if err := d.write(e); err != nil {
			return err
		}
	}
	defer func() {
		for i := len(undo) - 1; i >= 0; i-- {
			_, wrong := d.File.WriteAt(undo[i].content, undo[i].at)
			err = errors.Join(err, wrong)
		}
	}()
	return f()
}

// write writes what the entry did. A discard leaves what was there, as a disk may.
func (d Disk) write(e Entry) error {
	if e.discard {
		return nil
	}
	content := make([]byte, e.Length)
	if _, err := d.Log.ReadAt(content, e.data); err != nil {
		return fmt.Errorf("read log of writes at %d: %w", e.data, err)
	}
	if _, err := d.File.WriteAt(content, e.Offset); err != nil {
		return fmt.Errorf("write the disk at %d: %w", e.Offset, err)
	}
	return nil
}
