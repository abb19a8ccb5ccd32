package luks

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/coracle-os/coracle/initrd/devicemapper"
)

// Options are how a volume is made.
type Options struct {
	Label string
	UUID  string // "": a new one
	// Iterations of PBKDF2; 0 is 1000, the least that cryptsetup takes, which is
	// plenty for random keys.
	Iterations int
	SectorSize int // in bytes; 0 is 512
}

// segment says where the data is. Numbers of 64 bits are decimal strings.
type segment struct {
	Type       string `json:"type"`
	Offset     string `json:"offset"`
	Size       string `json:"size"`
	Tweak      string `json:"iv_tweak"`
	Encryption string `json:"encryption"`
	SectorSize int    `json:"sector_size"`
}

// digest tells the volume key from others.
type digest struct {
	Type       string   `json:"type"`
	Slots      []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Hash       string   `json:"hash"`
	Iterations int      `json:"iterations"`
	Salt       []byte   `json:"salt"`
	Digest     []byte   `json:"digest"`
}

// Format makes a volume with one slot for each key, in their order. What f held
// is lost: read through the new key it is noise. It returns the header and the
// volume key. The header comes last: until then there is no volume.
func Format(f File, o Options, keys ...[]byte) (*Header, []byte, error) {
	h, volumeKey, err := format(f, o, keys)
	if err != nil {
		return nil, nil, fmt.Errorf("make LUKS volume: %w", err)
	}
	return h, volumeKey, nil
}

func format(f File, o Options, keys [][]byte) (*Header, []byte, error) {
	if o.UUID == "" {
		o.UUID = uuid.NewString()
	}
	if o.Iterations == 0 {
		o.Iterations = leastIterations
	}
	if o.SectorSize == 0 {
		o.SectorSize = 512
	}
	volumeKey, salt := make([]byte, keySize), make([]byte, 32)
	if _, err := rand.Read(volumeKey); err != nil {
		return nil, nil, err
	}
	if _, err := rand.Read(salt); err != nil {
		return nil, nil, err
	}
	sum, err := pbkdf2.Key(sha256.New, string(volumeKey), salt, o.Iterations, sha256.Size)
	if err != nil {
		return nil, nil, err
	}
	h := &Header{UUID: o.UUID, Label: o.Label, size: headerSize, Tokens: map[string]json.RawMessage{}, slots: map[string]json.RawMessage{}}
	h.segments, err = part(segment{Type: "crypt", Offset: decimal(DataOffset), Size: "dynamic", Tweak: "0", Encryption: cipherName, SectorSize: o.SectorSize})
	if err == nil {
		h.digests, err = part(digest{"pbkdf2", []string{}, []string{"0"}, "sha256", o.Iterations, salt, sum})
	}
	if err == nil {
		h.config, err = json.Marshal(map[string]string{"json_size": decimal(headerSize - binarySize), "keyslots_size": decimal(DataOffset - 2*headerSize)})
	}
	for i, key := range keys {
		if err == nil {
			err = h.setKey(f, i, key, volumeKey, o.Iterations)
		}
	}
	if err == nil {
		err = h.Write(f)
	}
	return h, volumeKey, err
}

// part is a part of the metadata with one entry.
func part(v any) (map[string]json.RawMessage, error) {
	content, err := json.Marshal(v)
	return map[string]json.RawMessage{"0": content}, err
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// Unlock returns the volume key for the key of any slot. An error wraps
// ErrWrongKey when it opens none, ErrUnknown when all are of kinds that are not
// known here.
func (h *Header) Unlock(r io.ReaderAt, key []byte) ([]byte, error) {
	problem := fmt.Errorf("%w: it has no key slot of PBKDF2 with SHA-256, or of Argon2 for this memory, and AES-XTS", ErrUnknown)
	for _, name := range slices.Sorted(maps.Keys(h.slots)) {
		var s slot
		if err := json.Unmarshal(h.slots[name], &s); err != nil || !s.known(h.Memory) {
			continue
		}
		problem = ErrWrongKey
		volumeKey, err := s.open(r, key)
		if err != nil {
			return nil, fmt.Errorf("open LUKS volume: key slot %s: %w", name, err)
		}
		if h.Confirms(volumeKey) {
			return volumeKey, nil
		}
	}
	return nil, fmt.Errorf("open LUKS volume: %w", problem)
}

// Confirms compares a volume key with the digests.
func (h *Header) Confirms(volumeKey []byte) bool {
	for _, text := range h.digests {
		var d digest
		if json.Unmarshal(text, &d) != nil || d.Type != "pbkdf2" || d.Hash != "sha256" || d.Iterations < 1 || d.Iterations > mostIterations || len(d.Digest) == 0 {
			continue
		}
		sum, err := pbkdf2.Key(sha256.New, string(volumeKey), d.Salt, d.Iterations, len(d.Digest))
		if err == nil && subtle.ConstantTimeCompare(sum, d.Digest) == 1 {
			return true
		}
	}
	return false
}

// Target is the device of device-mapper that shows the data of the volume on a
// block device of size bytes. options are those of dm-crypt besides.
func (h *Header) Target(name, device string, size int64, volumeKey []byte, options ...string) (devicemapper.Target, error) {
	var s segment
	if err := json.Unmarshal(h.segments["0"], &s); err != nil || len(h.segments) != 1 || s.Type != "crypt" || s.Size != "dynamic" {
		return devicemapper.Target{}, fmt.Errorf("open LUKS volume on %s: %w: it has not one encrypted segment", device, ErrUnknown)
	}
	var c struct {
		Requirements struct {
			Mandatory []string `json:"mandatory"`
		} `json:"requirements"`
	}
	if err := json.Unmarshal(h.config, &c); err != nil || len(c.Requirements.Mandatory) > 0 {
		return devicemapper.Target{}, fmt.Errorf("open LUKS volume on %s: %w: it requires %q", device, ErrUnknown, c.Requirements.Mandatory)
	}
	offset, err := strconv.ParseInt(s.Offset, 10, 64)
	if err != nil || offset < 0 || offset%512 != 0 || offset >= size || s.SectorSize < 512 || s.SectorSize > 4096 || strings.ContainsAny(s.Encryption+s.Tweak, " \n") {
		return devicemapper.Target{}, fmt.Errorf("open LUKS volume on %s: %w (data of sectors of %d bytes begin at %s of %d)", device, ErrDamaged, s.SectorSize, s.Offset, size)
	}
	if s.SectorSize > 512 {
		options = append(options, fmt.Sprintf("sector_size:%d", s.SectorSize))
	}
	params := fmt.Sprintf("%s %x %s %s %d", s.Encryption, volumeKey, s.Tweak, device, offset/512)
	if len(options) > 0 {
		params += fmt.Sprintf(" %d %s", len(options), strings.Join(options, " "))
	}
	sector := int64(s.SectorSize)
	return devicemapper.Target{
		Name: name, UUID: "CRYPT-LUKS2-" + strings.ReplaceAll(h.UUID, "-", "") + "-" + name,
		Sectors: uint64((size - offset) / sector * (sector / 512)), Kind: "crypt", Secret: true, Params: params,
	}, nil
}
