// Package luks makes and opens LUKS2 volumes, as LUKS2 On-Disk Format
// Specification 1.1 describes them: stage 1 those of the state partition,
// Ignition those that a config names. cryptsetup opens what is made here; what
// cryptsetup made is opened when its key slot is of PBKDF2 with SHA-256 or of
// Argon2, and of AES-XTS.
//
// Keys are random (of a TPM, a key file, a recovery key), so PBKDF2 is enough for
// what is made here. Argon2 takes up to a gigabyte, which stage 1 does not have.
// Parts of a header that are not known here (key slots of people's passwords,
// tokens, flags) stay as they are when it is written again.
//
// There is no LUKS library to be had as a Go module, and cryptsetup brings 8 MB
// of libraries along; x/crypto has the ciphers. Left out on purpose: other
// ciphers, integrity, detached headers, reencryption, LUKS1.
package luks

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Sizes in bytes. DataOffset is where the data of volumes begins that are made
// here.
const (
	DataOffset   = 16 << 20
	binarySize   = 4096
	headerSize   = 16 << 10 // of binary header and JSON; there are two
	smallestSize = 16 << 10 // that the specification allows
	largestSize  = 4 << 20
)

// Errors of this package.
var (
	// ErrNotLUKS says that there is no LUKS2 volume, ErrDamaged that there was one.
	ErrNotLUKS = errors.New("it is not a LUKS2 volume")
	ErrDamaged = errors.New("the header of the LUKS2 volume is damaged: restore it with \"cryptsetup luksHeaderRestore\", or all in the volume is lost")
	// ErrWrongKey says that a key does not open a volume.
	ErrWrongKey = errors.New("the key does not open the volume")
	// ErrUnknown says that a volume uses what is not known here.
	ErrUnknown = errors.New("it uses what only cryptsetup knows")
)

// File is what a volume is in.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// A Header is the header of a volume.
type Header struct {
	UUID     string
	Label    string                     // at most 47 bytes
	Tokens   map[string]json.RawMessage // how other programs open slots
	Memory   int64                      // bytes that Argon2 may take; slots that need more are not known
	slots    map[string]json.RawMessage
	digests  map[string]json.RawMessage
	segments map[string]json.RawMessage
	config   json.RawMessage
	size     int64 // of one copy
	sequence uint64
}

// metadata is the JSON of a header.
type metadata struct {
	Slots    map[string]json.RawMessage `json:"keyslots"`
	Tokens   map[string]json.RawMessage `json:"tokens"`
	Segments map[string]json.RawMessage `json:"segments"`
	Digests  map[string]json.RawMessage `json:"digests"`
	Config   json.RawMessage            `json:"config"`
}

// Offsets in the binary header.
const (
	offVersion  = 6
	offSize     = 8
	offSequence = 16
	offLabel    = 24
	offSumKind  = 72
	offSalt     = 104
	offUUID     = 168
	offPlace    = 256
	offSum      = 448
	sumSize     = 64
)

var magics = [2]string{"LUKS\xba\xbe", "SKUL\xba\xbe"}

// Read reads the newer of the two copies of a header that are whole. An error
// wraps ErrNotLUKS or ErrDamaged when there is none.
func Read(r io.ReaderAt) (*Header, error) {
	newest, problem := readCopy(r, 0, magics[0])
	// The second copy is behind the first, whose size a damaged one does not say.
	for at := int64(smallestSize); at <= largestSize; at *= 2 {
		h, err := readCopy(r, at, magics[1])
		if err == nil && (newest == nil || h.sequence > newest.sequence) {
			newest = h
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("read LUKS header: %w", problem)
	}
	return newest, nil
}

func readCopy(r io.ReaderAt, at int64, magic string) (*Header, error) {
	b := make([]byte, binarySize)
	if _, err := r.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotLUKS, err)
	}
	be := binary.BigEndian
	if string(b[:len(magic)]) != magic || be.Uint16(b[offVersion:]) != 2 {
		return nil, ErrNotLUKS
	}
	size := be.Uint64(b[offSize:])
	if size < smallestSize || size > largestSize || be.Uint64(b[offPlace:]) != uint64(at) || text(b[offSumKind:offSumKind+32]) != "sha256" {
		return nil, fmt.Errorf("%w (%d bytes at %d)", ErrDamaged, size, be.Uint64(b[offPlace:]))
	}
	b = make([]byte, size)
	if _, err := r.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	sum := bytes.Clone(b[offSum : offSum+sha256.Size])
	clear(b[offSum : offSum+sumSize])
	if own := sha256.Sum256(b); !bytes.Equal(own[:], sum) {
		return nil, fmt.Errorf("%w (the checksum is wrong)", ErrDamaged)
	}
	var m metadata
	if err := json.Unmarshal([]byte(text(b[binarySize:])), &m); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	h := &Header{UUID: text(b[offUUID : offUUID+40]), Label: text(b[offLabel : offLabel+48]), Tokens: m.Tokens,
		slots: m.Slots, digests: m.Digests, segments: m.Segments, config: m.Config, size: int64(size), sequence: be.Uint64(b[offSequence:])}
	for _, parts := range []*map[string]json.RawMessage{&h.Tokens, &h.slots, &h.digests, &h.segments} {
		if *parts == nil {
			*parts = map[string]json.RawMessage{}
		}
	}
	return h, nil
}

func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// Write replaces both copies, one after the other: one is whole at any time.
func (h *Header) Write(f File) error {
	h.sequence++
	for i := range magics {
		b, err := h.encode(i)
		if err == nil {
			_, err = f.WriteAt(b, int64(i)*h.size)
		}
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			return fmt.Errorf("write LUKS header: %w", err)
		}
	}
	return nil
}

// encode makes one of the two copies.
func (h *Header) encode(i int) ([]byte, error) {
	b := make([]byte, h.size)
	be := binary.BigEndian
	copy(b, magics[i])
	be.PutUint16(b[offVersion:], 2)
	be.PutUint64(b[offSize:], uint64(h.size))
	be.PutUint64(b[offSequence:], h.sequence)
	copy(b[offLabel:offLabel+47], h.Label)
	copy(b[offSumKind:], "sha256")
	if _, err := rand.Read(b[offSalt : offSalt+64]); err != nil {
		return nil, err
	}
	copy(b[offUUID:offUUID+39], h.UUID)
	be.PutUint64(b[offPlace:], uint64(i)*uint64(h.size))
	content, err := json.Marshal(metadata{h.slots, h.Tokens, h.segments, h.digests, h.config})
	if err != nil {
		return nil, err
	}
	if len(content) >= len(b)-binarySize {
		return nil, fmt.Errorf("%d bytes of metadata are too many", len(content))
	}
	copy(b[binarySize:], content)
	sum := sha256.Sum256(b)
	copy(b[offSum:], sum[:])
	return b, nil
}
