package luks

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
)

// mostSlots is the number of key slots that a volume can have.
const mostSlots = 32

// RecoveryToken is systemd's type of the token of a slot with a recovery key.
const RecoveryToken = "systemd-recovery"

// A Slot is a key slot.
type Slot struct {
	Number int
	Token  string // its type: what opens the slot; "" for a password
}

// Slots returns the key slots, by their numbers.
func (h *Header) Slots() []Slot {
	kinds := map[string]string{}
	for _, text := range h.Tokens {
		if t, err := parseToken(text); err == nil {
			for _, name := range t.slots {
				kinds[name] = t.kind
			}
		}
	}
	var all []Slot
	for name := range h.slots {
		if number, err := strconv.Atoi(name); err == nil {
			all = append(all, Slot{number, kinds[name]})
		}
	}
	slices.SortFunc(all, func(a, b Slot) int { return a.Number - b.Number })
	return all
}

// token is what all tokens have.
type token struct {
	kind  string
	slots []string
	all   map[string]json.RawMessage
}

func parseToken(text json.RawMessage) (t token, err error) {
	if err = json.Unmarshal(text, &t.all); err == nil {
		err = errors.Join(json.Unmarshal(t.all["type"], &t.kind), json.Unmarshal(t.all["keyslots"], &t.slots))
	}
	return t, err
}

// Place returns the name of the token of a kind and the number of its slot: those
// that are there, else the first that nobody has.
func (h *Header) Place(kind string) (name string, number int, err error) {
	name, number = strconv.Itoa(firstFree(h.Tokens, 0)), firstFree(h.slots, 0)
	for _, other := range slices.Sorted(maps.Keys(h.Tokens)) {
		t, err := parseToken(h.Tokens[other])
		if err != nil || t.kind != kind {
			continue
		}
		name = other
		if len(t.slots) == 1 {
			if n, err := strconv.Atoi(t.slots[0]); err == nil {
				return name, n, nil
			}
		}
		break
	}
	if number == mostSlots {
		return "", 0, fmt.Errorf("all %d key slots are in use", mostSlots)
	}
	return name, number, nil
}

// AddKey writes a slot for another key and the header, and returns the slot's
// number. kind is the type of its token. Slot and token 0 are left to stage 1,
// which writes those of the TPM.
func (h *Header) AddKey(f File, kind string, key, volumeKey []byte) (int, error) {
	number := firstFree(h.slots, 1)
	if number == mostSlots {
		return 0, fmt.Errorf("add a key to the LUKS volume: all %d key slots are in use", mostSlots)
	}
	if err := h.SetKey(f, number, key, volumeKey); err != nil {
		return 0, err
	}
	h.Tokens[strconv.Itoa(firstFree(h.Tokens, 1))] = json.RawMessage(fmt.Sprintf(`{"type":%q,"keyslots":["%d"]}`, kind, number))
	return number, h.Write(f)
}

func firstFree(used map[string]json.RawMessage, n int) int {
	for used[strconv.Itoa(n)] != nil {
		n++
	}
	return n
}

// RemoveKey destroys the material of a slot, and then takes the slot and what
// names it out of the header: after a power cut in between the slot is there
// and opens nothing.
func (h *Header) RemoveKey(f File, number int) error {
	if err := h.removeKey(f, strconv.Itoa(number)); err != nil {
		return fmt.Errorf("remove LUKS key slot %d: %w", number, err)
	}
	return nil
}

func (h *Header) removeKey(f File, name string) error {
	if h.slots[name] == nil {
		return errors.New("there is no such slot")
	}
	var s slot
	if err := json.Unmarshal(h.slots[name], &s); err != nil {
		return err
	}
	offset, offsetErr := strconv.ParseInt(s.Area.Offset, 10, 64)
	size, sizeErr := strconv.ParseInt(s.Area.Size, 10, 64)
	if err := errors.Join(offsetErr, sizeErr); err != nil {
		return err
	}
	if size < 0 || size > DataOffset || offset < 2*h.size {
		return fmt.Errorf("%w: an area of %d bytes at %d", ErrDamaged, size, offset)
	}
	if _, err := io.Copy(io.NewOffsetWriter(f, offset), io.LimitReader(rand.Reader, size)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	delete(h.slots, name)
	if err := h.forget(name); err != nil {
		return err
	}
	return h.Write(f)
}

// forget takes a slot out of digests and tokens; a token without a slot goes.
func (h *Header) forget(name string) error {
	for _, part := range []map[string]json.RawMessage{h.digests, h.Tokens} {
		for id, text := range maps.Clone(part) {
			var all map[string]json.RawMessage
			var slots []string
			if err := json.Unmarshal(text, &all); err != nil {
				return err
			}
			if err := json.Unmarshal(all["keyslots"], &slots); err != nil {
				return err
			}
			if !slices.Contains(slots, name) {
				continue
			}
			slots = slices.DeleteFunc(slots, func(s string) bool { return s == name })
			var err error
			if all["keyslots"], err = json.Marshal(slots); err == nil {
				part[id], err = json.Marshal(all)
			}
			if err != nil {
				return err
			}
		}
	}
	maps.DeleteFunc(h.Tokens, func(_ string, text json.RawMessage) bool {
		t, err := parseToken(text)
		return err == nil && len(t.slots) == 0
	})
	return nil
}
