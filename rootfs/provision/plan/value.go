package plan

import (
	"bytes"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// FileMode turns permission bits as chmod takes them into a FileMode.
func FileMode(bits uint64) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for _, special := range specialBits {
		if bits&special.bit != 0 {
			mode |= special.mode
		}
	}
	return mode
}

// UnixMode turns a FileMode into permission bits as chmod takes them.
func UnixMode(mode fs.FileMode) uint64 {
	bits := uint64(mode.Perm())
	for _, special := range specialBits {
		if mode&special.mode != 0 {
			bits |= special.bit
		}
	}
	return bits
}

var specialBits = []struct {
	bit  uint64
	mode fs.FileMode
}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}}

// MergeLines sets variables in the text of a file of KEY=value lines such as
// /etc/environment: in place where a key is, else at the end, sorted. Other
// lines stay; line ends become LF.
func MergeLines(base []byte, values map[string]string) []byte {
	left := maps.Clone(values)
	var b bytes.Buffer
	for line := range strings.Lines(string(base)) {
		line = strings.TrimRight(line, "\r\n")
		key, _, found := strings.Cut(line, "=")
		if value, ok := values[key]; ok && found {
			line = key + "=" + value
			delete(left, key)
		}
		b.WriteString(line + "\n")
	}
	for _, key := range slices.Sorted(maps.Keys(left)) {
		b.WriteString(key + "=" + left[key] + "\n")
	}
	return b.Bytes()
}
