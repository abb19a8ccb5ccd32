// Package segment is one file of the journal: an append-only sequence of
// frames, each with its own checksum.
//
//	file   = header frame*
//	header = 128 bytes: magic, id, machine, boot, first number, times, CRC
//	frame  = size and type (4) | payload | CRC-32C (4) | whole size (4)
//
// A frame is either a source (the fields that the records of one process
// share: _PID, _COMM, _SYSTEMD_UNIT, PRIORITY ...) or an entry (number, times,
// the distance back to its source, the other fields). So the fields that
// repeat cost two or three bytes, and yet any entry can be read by itself. The
// size at the end lets a reader start from the end: "journalctl -n 10" reads
// some kilobytes of a journal of gigabytes. The CRC is seeded with the file's
// random id, so bytes that a program logged are never taken for a frame.
//
// A record is written by one write call and nothing is ever overwritten:
// cutting the file at any byte loses the frame that was cut and no other, and
// the next writer drops those bytes. Damage in the middle costs the damaged
// frames only; readers look for the next good one.
//
// It is our own format because the kept ones were worse. Measured on two cores
// and ext4 with 300,000 records as dockerd's stdout gives them (16 fields, 600
// bytes), written 64 at a time and synced at the end, each the median of three:
//
//	                    records/s  bytes/record  cut at any byte
//	this package          790,000           182  the last record is lost
//	bbolt 1.5             194,000           616  opening the file panics
//	etcd's WAL 3.7        380,000           854  repair drops the last record
//
// (etcd's figure has the 64 MB that it allocates ahead.) bbolt rewrites pages,
// so a power cut without a sync for each record can lose the tree; a WAL has no
// way to read from the end, and neither shares the fields that repeat.
//
// The format of systemd was not taken: its writer updates hash tables and
// entry arrays in place, so a cut can lose more than the last record, and an
// empty file has 8 MB. Sent 100,000 records by the native protocol, its daemon
// takes 20,000 to 40,000 records/s at 720 bytes and ours 50,000 to 56,000 at
// 204 (BenchmarkDaemon in rootfs/journald). journalctl -o export converts.
package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/coracle-os/coracle/rootfs/journal"
)

const (
	magic      = "CORJRNL1"
	headerSize = 128
	overhead   = 12 // bytes of a frame around its payload

	frameSource = 1
	frameEntry  = 2

	// maxPayload is the largest payload; size shares its word with the type.
	maxPayload = 1<<24 - 1
)

// Header identifies a segment. A segment holds records of one boot.
type Header struct {
	ID        journal.ID // random; seeds the checksums
	Machine   journal.ID
	Boot      journal.ID
	FirstSeq  uint64 // number of the first record
	Realtime  uint64 // microseconds; base of the entries' times
	Monotonic uint64
}

// ErrDamaged says that bytes in a segment are not a good frame.
var ErrDamaged = errors.New("damaged journal segment")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (h Header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, magic...)
	b = append(b, h.ID[:]...)
	b = append(b, h.Machine[:]...)
	b = append(b, h.Boot[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.FirstSeq)
	b = binary.LittleEndian.AppendUint64(b, h.Realtime)
	b = binary.LittleEndian.AppendUint64(b, h.Monotonic)
	b = append(b, make([]byte, headerSize-4-len(b))...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeHeader(b []byte) (h Header, err error) {
	if len(b) < headerSize || string(b[:8]) != magic {
		return h, fmt.Errorf("%w: not a journal segment", ErrDamaged)
	}
	if crc32.Checksum(b[:headerSize-4], castagnoli) != binary.LittleEndian.Uint32(b[headerSize-4:]) {
		return h, fmt.Errorf("%w: checksum of the header", ErrDamaged)
	}
	copy(h.ID[:], b[8:])
	copy(h.Machine[:], b[24:])
	copy(h.Boot[:], b[40:])
	h.FirstSeq = binary.LittleEndian.Uint64(b[56:])
	h.Realtime = binary.LittleEndian.Uint64(b[64:])
	h.Monotonic = binary.LittleEndian.Uint64(b[72:])
	return h, nil
}

// seed starts the checksum of every frame of the file.
func (h Header) seed() uint32 { return crc32.Checksum(h.ID[:], castagnoli) }

// appendFrame adds a frame around payload.
func appendFrame(b []byte, seed uint32, kind byte, payload []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload))|uint32(kind)<<24)
	b = append(b, payload...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(seed, castagnoli, b[start:]))
	return binary.LittleEndian.AppendUint32(b, uint32(len(payload)+overhead))
}

// names are the field names that cost one byte. Numbers are for ever: add at
// the end only. 0 stands for a name that is written out.
var names = []string{
	"", "MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY", "SYSLOG_PID", "SYSLOG_TIMESTAMP", "_TRANSPORT",
	"_PID", "_UID", "_GID", "_COMM", "_EXE", "_CMDLINE", "_SYSTEMD_CGROUP", "_SYSTEMD_UNIT", "_SYSTEMD_SLICE",
	"_HOSTNAME", "_STREAM_ID", "_CAP_EFFECTIVE", "_SYSTEMD_INVOCATION_ID", "_SOURCE_REALTIME_TIMESTAMP",
	"_SOURCE_MONOTONIC_TIMESTAMP", "_RUNTIME_SCOPE", "UNIT", "INVOCATION_ID", "MESSAGE_ID", "CODE_FILE", "CODE_LINE",
	"CODE_FUNC", "TID", "JOB_TYPE", "JOB_RESULT", "JOB_ID", "_KERNEL_SUBSYSTEM", "_KERNEL_DEVICE", "SYSLOG_RAW",
	"_LINE_BREAK", "ERRNO", "STREAM", "EXIT_CODE", "EXIT_STATUS", "COMMAND", "UNIT_RESULT", "LEVEL", "CONTAINER_NAME",
	"CONTAINER_ID", "CONTAINER_ID_FULL", "CONTAINER_TAG", "IMAGE_NAME",
}

func nameNumbers() map[string]uint64 {
	m := make(map[string]uint64, len(names))
	for i, name := range names[1:] {
		m[name] = uint64(i + 1)
	}
	return m
}

// shared reports whether a field belongs to the source: it is the same for
// many records of a process.
func shared(name string) bool {
	switch name {
	case "_SOURCE_REALTIME_TIMESTAMP", "_SOURCE_MONOTONIC_TIMESTAMP", "_LINE_BREAK":
		return false
	case "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY", "SYSLOG_PID", "STREAM",
		"CONTAINER_NAME", "CONTAINER_ID", "CONTAINER_ID_FULL", "CONTAINER_TAG", "IMAGE_NAME":
		return true
	}
	return name != "" && name[0] == '_'
}

func appendField(b []byte, numbers map[string]uint64, f journal.Field) []byte {
	number := numbers[f.Name]
	b = binary.AppendUvarint(b, number)
	if number == 0 {
		b = binary.AppendUvarint(b, uint64(len(f.Name)))
		b = append(b, f.Name...)
	}
	b = binary.AppendUvarint(b, uint64(len(f.Value)))
	return append(b, f.Value...)
}

// decodeFields appends the fields of a payload to fields.
func decodeFields(fields []journal.Field, b []byte) ([]journal.Field, error) {
	d := decoder{b: b}
	for len(d.b) > 0 && !d.bad {
		number := d.uvarint()
		var name string
		switch {
		case number == 0:
			name = string(d.bytes(d.uvarint()))
		case number < uint64(len(names)):
			name = names[number]
		default:
			return fields, fmt.Errorf("%w: field name %d is from a newer version", ErrDamaged, number)
		}
		fields = append(fields, journal.Field{Name: name, Value: string(d.bytes(d.uvarint()))})
	}
	if d.bad {
		return fields, fmt.Errorf("%w: a field ends early", ErrDamaged)
	}
	return fields, nil
}

// decoder takes values off a payload and remembers running out of bytes.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}
