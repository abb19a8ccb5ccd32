package journal

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of one native message. A message is made by any process, so it must
// not cost journald more memory than this.
const (
	MaxFields = 1024    // fields of one record
	MaxRecord = 1 << 20 // bytes of all values of one record
)

// ValidName reports whether a client may use the field name: capitals, digits
// and underscores, at most 64, not beginning with a digit. Names that begin
// with an underscore are journald's own.
func ValidName(name string) bool {
	if name == "" || len(name) > 64 || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c != '_' && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// ParseNative reads a datagram of the native protocol: records of fields, one
// empty line between records. It returns what it could read before an error, and
// what fits of a record that is too large: then the error says what was cut.
// Fields whose names a client may not use are left out, as systemd does, unless
// trusted says that the text comes from a journal (export format).
func ParseNative(data string, trusted bool) (records [][]Field, err error) {
	var fields []Field
	var cut error
	size := 0
	flush := func() {
		if len(fields) > 0 {
			records = append(records, fields)
		}
		fields, size = nil, 0
	}
	for data != "" {
		var field Field
		if data[0] == '\n' {
			flush()
			data = data[1:]
			continue
		}
		if field, data, err = cutField(data); err != nil {
			flush()
			return records, err
		}
		if field.Name == "" || !ValidName(field.Name) || field.Name[0] == '_' && !trusted {
			continue
		}
		if len(fields) == MaxFields {
			cut = fmt.Errorf("native message: a record has more than %d fields; the rest is left out", MaxFields)
			continue
		}
		if left := MaxRecord - size; len(field.Value) > left {
			cut = fmt.Errorf("native message: field %q has %d bytes, and a record can have %d; the rest is left out", field.Name, len(field.Value), MaxRecord)
			field.Value = strings.Clone(field.Value[:left]) // not to keep all of it
		}
		size += len(field.Value)
		fields = append(fields, field)
	}
	flush()
	return records, cut
}

// cutField takes one field off the front. A line without a name gives an empty
// Field, which is skipped.
func cutField(data string) (field Field, rest string, err error) {
	line, rest, _ := strings.Cut(data, "\n")
	if name, value, ok := strings.Cut(line, "="); ok {
		return Field{name, value}, rest, nil
	}
	if strings.HasPrefix(line, "#") {
		return Field{}, rest, nil
	}
	if len(rest) < 8 {
		return Field{}, "", fmt.Errorf("native message: field %q has no size", line)
	}
	size := binary.LittleEndian.Uint64([]byte(rest[:8]))
	rest = rest[8:]
	if size >= uint64(len(rest)) || rest[size] != '\n' {
		return Field{}, "", fmt.Errorf("native message: field %q says %d bytes, and has fewer or no newline after them", line, size)
	}
	return Field{line, rest[:size]}, rest[size+1:], nil
}

// AppendField adds a field in the export format, binary when it must be.
func AppendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	if Printable(value, false) {
		b = append(b, '=')
		b = append(b, value...)
		return append(b, '\n')
	}
	b = append(b, '\n')
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	b = append(b, value...)
	return append(b, '\n')
}

// Printable reports whether a value is UTF-8 without control characters other
// than tab (and newline, when newline is set), systemd's test for text.
func Printable(s string, newline bool) bool {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < ' ' && c != '\t' && (c != '\n' || !newline) || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || r >= 0x80 && r < 0xa0 {
			return false
		}
		i += n
	}
	return true
}
