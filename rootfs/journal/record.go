// Package journal defines what a log record is and how it travels: the record
// with systemd's field names, the native and export formats, the header of a
// stdout stream, and the lines of /dev/log and /dev/kmsg. journald, journalctl,
// systemctl status and PID 1 share it. It does no I/O.
//
// It follows systemd.journal-fields(7), "Native Journal Protocol" and "Journal
// Export Formats" of systemd's documentation, and RFC 3164 for /dev/log.
// Packages below it store records (segment, store), find them (query) and
// print them (format).
//
// Left out on purpose: the on-disk format of systemd (package segment says
// why), message catalogs, per-user journals and sealing.
package journal

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Field is one NAME=value of a record. Values are bytes of any kind.
type Field struct{ Name, Value string }

// Record is one log entry. Field names may repeat.
type Record struct {
	Seq       uint64 // position in the machine's journal, from 1
	Realtime  uint64 // reception, microseconds since 1970 (CLOCK_REALTIME)
	Monotonic uint64 // reception, microseconds since boot (CLOCK_MONOTONIC)
	Boot      ID
	Machine   ID
	File      ID // of the segment that holds the record; part of the cursor
	Fields    []Field
}

// Get returns the first value of a field, or "". The fields that journald
// itself keeps (_BOOT_ID, _MACHINE_ID and the __ ones) are answered too.
func (r *Record) Get(name string) string {
	switch name {
	case "_BOOT_ID":
		return r.Boot.String()
	case "_MACHINE_ID":
		return r.Machine.String()
	case "__REALTIME_TIMESTAMP":
		return strconv.FormatUint(r.Realtime, 10)
	case "__MONOTONIC_TIMESTAMP":
		return strconv.FormatUint(r.Monotonic, 10)
	case "__CURSOR":
		return r.Cursor()
	}
	for i := range r.Fields {
		if r.Fields[i].Name == name {
			return r.Fields[i].Value
		}
	}
	return ""
}

// Has reports whether a field has this value, also when the field repeats.
func (r *Record) Has(name, value string) bool {
	switch name {
	case "_BOOT_ID", "_MACHINE_ID":
		return r.Get(name) == value
	}
	for i := range r.Fields {
		if r.Fields[i].Name == name && r.Fields[i].Value == value {
			return true
		}
	}
	return false
}

// Cursor names the record for ever, in systemd's syntax.
func (r *Record) Cursor() string {
	return fmt.Sprintf("s=%s;i=%x;b=%s;m=%x;t=%x;x=%x", r.File, r.Seq, r.Boot, r.Monotonic, r.Realtime, r.hash())
}

// hash is FNV-1a over the fields, for the cursor.
func (r *Record) hash() uint64 {
	h := uint64(14695981039346656037)
	for _, f := range r.Fields {
		for i := range len(f.Name) {
			h = (h ^ uint64(f.Name[i])) * 1099511628211
		}
		for i := range len(f.Value) {
			h = (h ^ uint64(f.Value[i])) * 1099511628211
		}
	}
	return h
}

// ParseCursor returns the sequence number and boot of a cursor.
func ParseCursor(cursor string) (seq uint64, boot ID, err error) {
	found := false
	for part := range strings.SplitSeq(cursor, ";") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "i":
			seq, err = strconv.ParseUint(value, 16, 64)
			found = true
		case "b":
			boot, err = ParseID(value)
		}
		if err != nil {
			return 0, ID{}, fmt.Errorf("parse cursor %q: %w", cursor, err)
		}
	}
	if !found {
		return 0, ID{}, fmt.Errorf("parse cursor %q: it has no i=; take it from --show-cursor or -o export", cursor)
	}
	return seq, boot, nil
}

// ID is a 128-bit machine or boot id.
type ID [16]byte

// String returns 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads 32 hexadecimal digits, with or without the dashes of a UUID.
func ParseID(s string) (ID, error) {
	var id ID
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), "-", ""))
	if err != nil || len(raw) != len(id) {
		return ID{}, fmt.Errorf("%q is not an id of 32 hexadecimal digits", s)
	}
	copy(id[:], raw)
	return id, nil
}

// Priorities of syslog(3).
const (
	Emerg = iota
	Alert
	Crit
	Err
	Warning
	Notice
	Info
	Debug
)

var priorityNames = [...]string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}

// ParsePriority reads a level by number or name, as journalctl -p takes it.
func ParsePriority(s string) (int, error) {
	for i, name := range priorityNames {
		if s == name || s == strconv.Itoa(i) {
			return i, nil
		}
	}
	switch s {
	case "panic":
		return Emerg, nil
	case "error":
		return Err, nil
	case "warn":
		return Warning, nil
	}
	return 0, fmt.Errorf("unknown log level %q: expected 0 to 7 or one of %s", s, strings.Join(priorityNames[:], " "))
}

// Priority returns the PRIORITY of the record; a record without one is info.
func (r *Record) Priority() int {
	if p := r.Get("PRIORITY"); len(p) == 1 && p[0] >= '0' && p[0] <= '7' {
		return int(p[0] - '0')
	}
	return Info
}
