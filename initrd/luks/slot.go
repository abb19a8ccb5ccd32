package luks

import (
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/xts"
)

// What is written here, and most of what is read.
const (
	cipherName      = "aes-xts-plain64"
	keySize         = 64 // AES-256 in XTS mode
	stripes         = 4000
	slotSize        = (keySize*stripes + 4095) &^ 4095
	slotSector      = 512
	leastIterations = 1000
	mostIterations  = 100_000_000
)

// slot is a key slot: the volume key, split and encrypted by another key.
type slot struct {
	Type    string `json:"type"`
	KeySize int    `json:"key_size"`
	Split   struct {
		Type    string `json:"type"`
		Stripes int    `json:"stripes"`
		Hash    string `json:"hash"`
	} `json:"af"`
	Area struct {
		Type       string `json:"type"`
		Offset     string `json:"offset"`
		Size       string `json:"size"`
		Encryption string `json:"encryption"`
		KeySize    int    `json:"key_size"`
	} `json:"area"`
	Derivation struct {
		Type       string `json:"type"`
		Hash       string `json:"hash,omitempty"`
		Iterations int    `json:"iterations,omitempty"`
		Salt       []byte `json:"salt"`
		argon2Cost
	} `json:"kdf"`
}

// argon2Cost is what Argon2 has in place of Hash and Iterations.
type argon2Cost struct {
	Time   int `json:"time,omitempty"`
	Memory int `json:"memory,omitempty"` // KiB
	CPUs   int `json:"cpus,omitempty"`
}

// known is true for what can be computed in so many bytes, before long.
func (c argon2Cost) known(memory int64) bool {
	return c.Time >= 1 && c.Time <= 1000 && c.CPUs >= 1 && c.CPUs <= 255 && c.Memory >= 1 && int64(c.Memory) <= memory>>10
}

// known is true for slots that can be opened here, with so many bytes for Argon2.
func (s slot) known(memory int64) bool {
	return s.Type == "luks2" && (s.KeySize == 32 || s.KeySize == keySize) && s.Split.Stripes == stripes && s.Split.Hash == "sha256" &&
		s.Area.Type == "raw" && s.Area.Encryption == cipherName && (s.Area.KeySize == 32 || s.Area.KeySize == keySize) &&
		s.derivable(memory)
}

func (s slot) derivable(memory int64) bool {
	d := s.Derivation
	switch d.Type {
	case "pbkdf2":
		return d.Hash == "sha256" && d.Iterations >= 1 && d.Iterations <= mostIterations
	case "argon2i", "argon2id":
		return d.argon2Cost.known(memory)
	}
	return false
}

// derive makes the slot's key of the one that a person or program has.
func (s slot) derive(key []byte) ([]byte, error) {
	d := s.Derivation
	size := uint32(s.Area.KeySize)
	switch d.Type {
	case "argon2i":
		return argon2.Key(key, d.Salt, uint32(d.Time), uint32(d.Memory), uint8(d.CPUs), size), nil
	case "argon2id":
		return argon2.IDKey(key, d.Salt, uint32(d.Time), uint32(d.Memory), uint8(d.CPUs), size), nil
	}
	return pbkdf2.Key(sha256.New, string(key), d.Salt, d.Iterations, s.Area.KeySize)
}

// SetKey gives a slot to another key. The header must be written after it; until
// then neither the old nor the new key opens the slot. Other slots stay.
func (h *Header) SetKey(f File, number int, key, volumeKey []byte) error {
	if err := h.setKey(f, number, key, volumeKey, leastIterations); err != nil {
		return fmt.Errorf("write LUKS key slot %d: %w", number, err)
	}
	return nil
}

func (h *Header) setKey(f File, number int, key, volumeKey []byte, iterations int) error {
	name := strconv.Itoa(number)
	delete(h.slots, name)
	offset, err := h.freeArea()
	if err != nil {
		return err
	}
	s := slot{Type: "luks2", KeySize: len(volumeKey)}
	s.Split.Type, s.Split.Stripes, s.Split.Hash = "luks1", stripes, "sha256"
	s.Area.Type, s.Area.Offset, s.Area.Size, s.Area.Encryption, s.Area.KeySize = "raw", decimal(offset), decimal(slotSize), cipherName, keySize
	s.Derivation.Type, s.Derivation.Hash, s.Derivation.Iterations, s.Derivation.Salt = "pbkdf2", "sha256", iterations, make([]byte, 32)
	if _, err := rand.Read(s.Derivation.Salt); err != nil {
		return err
	}
	material, err := split(volumeKey)
	if err != nil {
		return err
	}
	area := make([]byte, slotSize)
	copy(area, material)
	if err := s.crypt(area, key, (*xts.Cipher).Encrypt); err != nil {
		return err
	}
	if _, err := f.WriteAt(area, offset); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if h.slots[name], err = json.Marshal(s); err != nil {
		return err
	}
	return h.vouch(name)
}

// vouch has the digest of the data stand for a slot.
func (h *Header) vouch(name string) error {
	var d map[string]json.RawMessage
	var slots []string
	if err := json.Unmarshal(h.digests["0"], &d); err != nil {
		return fmt.Errorf("digest 0: %w", err)
	}
	if err := json.Unmarshal(d["keyslots"], &slots); err != nil {
		return fmt.Errorf("digest 0: %w", err)
	}
	if slices.Contains(slots, name) {
		return nil
	}
	var err error
	if d["keyslots"], err = json.Marshal(append(slots, name)); err == nil {
		h.digests["0"], err = json.Marshal(d)
	}
	return err
}

// freeArea finds room for the material of a key behind the header.
func (h *Header) freeArea() (int64, error) {
	var c struct {
		Size string `json:"keyslots_size"`
	}
	if err := json.Unmarshal(h.config, &c); err != nil {
		return 0, err
	}
	size, err := strconv.ParseInt(c.Size, 10, 64)
	if err != nil {
		return 0, err
	}
	at := 2 * h.size
	for end := at + size; at+slotSize <= end; {
		next, err := h.behind(at)
		if err != nil {
			return 0, err
		}
		if next == at {
			return at, nil
		}
		at = next
	}
	return 0, errors.New("the volume has no room for another key")
}

// behind is the end of what lies in the way of an area at an offset, or the
// offset itself.
func (h *Header) behind(at int64) (int64, error) {
	for name, text := range h.slots {
		var s slot
		err := json.Unmarshal(text, &s)
		offset, offsetErr := strconv.ParseInt(s.Area.Offset, 10, 64)
		size, sizeErr := strconv.ParseInt(s.Area.Size, 10, 64)
		if err := errors.Join(err, offsetErr, sizeErr); err != nil {
			return 0, fmt.Errorf("key slot %s: %w", name, err)
		}
		if size > 0 && at < offset+size && offset < at+slotSize {
			return offset + size, nil
		}
	}
	return at, nil
}

// open decrypts what the slot holds; the digest tells whether it is the key.
func (s slot) open(r io.ReaderAt, key []byte) ([]byte, error) {
	offset, err := strconv.ParseInt(s.Area.Offset, 10, 64)
	if err != nil {
		return nil, err
	}
	material := make([]byte, (s.KeySize*stripes+slotSector-1)/slotSector*slotSector)
	if _, err := r.ReadAt(material, offset); err != nil {
		return nil, err
	}
	if err := s.crypt(material, key, (*xts.Cipher).Decrypt); err != nil {
		return nil, err
	}
	return merge(material, s.KeySize), nil
}

// crypt applies a direction of the slot's cipher to its area.
func (s slot) crypt(area, key []byte, apply func(c *xts.Cipher, to, from []byte, sector uint64)) error {
	derived, err := s.derive(key)
	if err != nil {
		return err
	}
	c, err := xts.NewCipher(aes.NewCipher, derived)
	if err != nil {
		return err
	}
	for n := 0; n < len(area); n += slotSector {
		apply(c, area[n:n+slotSector], area[n:n+slotSector], uint64(n/slotSector))
	}
	return nil
}

// split makes stripes of a key that are all needed to get it back (AFsplit of
// LUKS1).
func split(key []byte) ([]byte, error) {
	material := make([]byte, len(key)*stripes)
	last := material[len(key)*(stripes-1):]
	if _, err := rand.Read(material[:len(material)-len(last)]); err != nil {
		return nil, err
	}
	subtle.XORBytes(last, mix(material, len(key)), key)
	return material, nil
}

func merge(material []byte, size int) []byte {
	key := mix(material, size)
	subtle.XORBytes(key, key, material[size*(stripes-1):size*stripes])
	return key
}

// mix is what the last stripe is combined with.
func mix(material []byte, size int) []byte {
	state := make([]byte, size)
	for i := range stripes - 1 {
		subtle.XORBytes(state, state, material[i*size:(i+1)*size])
		for j := 0; j*sha256.Size < size; j++ {
			part := state[j*sha256.Size : min((j+1)*sha256.Size, size)]
			sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, uint32(j)), part...))
			copy(part, sum[:])
		}
	}
	return state
}
