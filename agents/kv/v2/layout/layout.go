// Package layout says how what etcd 2 knows about keys lies in etcd 3's
// keyspace. A key is the same in both: "/a/b" with its value. What version 3
// does not keep lies beside it, under names that do not begin with a slash:
//
//	_etcd2/dir/a     the directory /a, which may be empty and may expire
//	_etcd2/key/a/b   of the key /a/b: the index of its creation, its expiry
//	_etcd2/op        what the transaction did that wrote it last
//
// A record about a key holds as long as both were written by the same
// transaction: a program of version 3 that writes the key makes it anew, and
// the record void. A directory is also what any key lies below, recorded or
// not. Where a key is a file and has keys below, as version 3 allows, version 2
// sees the directory.
package layout

import (
	"encoding/json"
	"strings"
)

// Names of records.
const (
	Prefix    = "_etcd2/"
	PrefixEnd = "_etcd20" // the first name after those with Prefix
	dirs      = "_etcd2/dir"
	keys      = "_etcd2/key"
	OpKey     = "_etcd2/op"
)

// Record is beside a key or marks a directory.
type Record struct {
	Created int64 `json:"c,omitempty"` // index; 0 for the record's own (directory) or the key's (file)
	Expire  int64 `json:"e,omitempty"` // in nanoseconds since 1970, 0 for never
	Life    int64 `json:"l,omitempty"` // nanoseconds between the write and Expire, at least 1; 0 when that is not known
}

// Op is what a transaction did, where the keys it wrote do not tell.
type Op struct {
	Action  string `json:"a"`
	Key     []byte `json:"k"` // any bytes, so no JSON string
	Refresh bool   `json:"r,omitempty"`
}

// DirKey is where the directory's record is.
func DirKey(path string) string { return dirs + path }

// RecordKey is where the record beside a file is.
func RecordKey(path string) string { return keys + path }

// Below returns the range of the keys below a directory in version 3's terms.
// It also serves for the records below DirKey and RecordKey.
func Below(key string) (from, to string) { return key + "/", key + "0" }

// Kind is what a key of version 3 means.
type Kind int

// Kinds of keys.
const (
	Other Kind = iota // not seen by version 2
	File
	DirRecord
	FileRecord
	OpRecord
)

// Read says what a key of version 3 means, and of which path.
func Read(key string) (Kind, string) {
	switch {
	case strings.HasPrefix(key, "/"):
		return File, key
	case !strings.HasPrefix(key, Prefix):
		return Other, ""
	case key == OpKey:
		return OpRecord, ""
	case strings.HasPrefix(key, dirs+"/"):
		return DirRecord, key[len(dirs):]
	case strings.HasPrefix(key, keys+"/"):
		return FileRecord, key[len(keys):]
	}
	return Other, ""
}

// Split takes a path into its components. It returns as rest what begins with
// the first component that no path of version 2 can have, and "" else.
func Split(path string) (components []string, rest string) {
	components = make([]string, 0, strings.Count(path, "/"))
	for path != "" {
		name, tail, more := strings.Cut(path[1:], "/")
		if name == "" || name == "." || name == ".." {
			return components, path
		}
		components = append(components, name)
		path = ""
		if more {
			path = "/" + tail
		}
	}
	return components, ""
}

// Encode returns a record's text.
func Encode(record any) []byte {
	b, _ := json.Marshal(record) // numbers, strings and booleans always can be
	return b
}

// DecodeRecord reads a record. What is none says nothing.
func DecodeRecord(text []byte) (r Record) {
	if json.Unmarshal(text, &r) != nil {
		return Record{}
	}
	return r
}

// DecodeOp reads what a transaction did. What is none says nothing.
func DecodeOp(text []byte) (op Op) {
	if json.Unmarshal(text, &op) != nil {
		return Op{}
	}
	return op
}
