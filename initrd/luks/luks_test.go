package luks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const id = "6d1fd4ea-4a3b-4c1e-9d3c-0f6b6a8c1d11"

func image(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "luks"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(32 << 20); err != nil {
		t.Fatal(err)
	}
	return f
}

func volume(t *testing.T) (*os.File, *Header, []byte, string) {
	t.Helper()
	f := image(t)
	recovery, err := NewRecoveryKey()
	if err != nil {
		t.Fatal(err)
	}
	h, key, err := Format(f, Options{Label: "STATE", UUID: id, SectorSize: 4096}, []byte("of the TPM"), []byte(recovery))
	if err != nil {
		t.Fatal(err)
	}
	return f, h, key, recovery
}

// cryptsetup runs Debian's. key is given as a file.
func cryptsetup(t *testing.T, key string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("cryptsetup", append([]string{"-q", "--key-file", file}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("cryptsetup %q: %v: %s", args, err, out)
	}
	return string(out)
}

// read reads the header anew and checks which keys open it to the volume key.
func read(t *testing.T, f *os.File, volumeKey []byte, keys map[string]error) *Header {
	t.Helper()
	h, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range keys {
		if got, err := h.Unlock(f, []byte(key)); !errors.Is(err, want) || err == nil && !bytes.Equal(got, volumeKey) {
			t.Errorf("key %q: %v, want %v", key, err, want)
		}
	}
	return h
}

// TestFormat has cryptsetup read what is written here.
func TestFormat(t *testing.T) {
	f, _, volumeKey, recovery := volume(t)
	out := cryptsetup(t, "", "luksDump", f.Name())
	for _, want := range []string{"STATE", id, "aes-xts-plain64", "sector: 4096", "offset: 16777216", "0: luks2", "1: luks2"} {
		if !strings.Contains(out, want) {
			t.Errorf("luksDump does not say %q:\n%s", want, out)
		}
	}
	for slot, key := range []string{"of the TPM", recovery} {
		out := filepath.Join(t.TempDir(), "volume")
		cryptsetup(t, key, "luksDump", "--dump-volume-key", "--volume-key-file", out, f.Name())
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, volumeKey) {
			t.Errorf("slot %d: cryptsetup finds another volume key (%v)", slot, err)
		}
	}
	read(t, f, volumeKey, map[string]error{"of the TPM": nil, recovery: nil, "wrong": ErrWrongKey,
		RecoveryKey(" " + strings.ToUpper(strings.ReplaceAll(recovery, "-", " "))): nil})
}

// TestCryptsetup opens what cryptsetup makes.
func TestCryptsetup(t *testing.T) {
	tests := map[string]struct {
		args []string
		want error
	}{
		"PBKDF2":             {[]string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}, nil},
		"AES-128":            {[]string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-size", "256", "--sector-size", "4096"}, nil},
		"a larger header":    {[]string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--luks2-metadata-size", "64k"}, nil},
		"Argon2id":           {[]string{"--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", "--pbkdf-parallel", "1"}, nil},
		"Argon2i":            {[]string{"--pbkdf", "argon2i", "--pbkdf-force-iterations", "5", "--pbkdf-memory", "1024", "--pbkdf-parallel", "2"}, nil},
		"Argon2, large":      {[]string{"--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "1025", "--pbkdf-parallel", "1"}, ErrUnknown},
		"another cipher":     {[]string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"}, ErrUnknown},
		"the first, LUKS1's": {[]string{"--type", "luks1", "--pbkdf-force-iterations", "1000"}, ErrNotLUKS},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := image(t)
			cryptsetup(t, "key", append([]string{"luksFormat", "--type", "luks2", f.Name()}, test.args...)...)
			h, err := Read(f)
			var key []byte
			if err == nil {
				h.Memory = 1 << 20
				key, err = h.Unlock(f, []byte("key"))
			}
			if !errors.Is(err, test.want) {
				t.Fatalf("open: %v, want %v", err, test.want)
			}
			if err != nil {
				return
			}
			if target, err := h.Target("x", "/dev/x", 32<<20, key); err != nil || target.Sectors != 32768 {
				t.Errorf("%d sectors, %v", target.Sectors, err)
			}
			if err := h.Write(f); err != nil {
				t.Fatal(err)
			}
			cryptsetup(t, "key", "open", "--test-passphrase", f.Name())
		})
	}
}

// TestSetKey gives the slot of a TPM to another one, in a volume to which the
// owner added a password with cryptsetup.
func TestSetKey(t *testing.T) {
	f, _, volumeKey, recovery := volume(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("password"), 0o600); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, recovery, "luksAddKey", "--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", f.Name(), password)
	h := read(t, f, volumeKey, map[string]error{"of the TPM": nil})
	if err := h.SetKey(f, 0, []byte("of another TPM"), volumeKey); err != nil {
		t.Fatal(err)
	}
	read(t, f, volumeKey, map[string]error{recovery: nil}) // before the header is written
	h.Tokens["0"] = json.RawMessage(`{"type":"x","keyslots":["0"]}`)
	if err := h.Write(f); err != nil {
		t.Fatal(err)
	}
	h = read(t, f, volumeKey, map[string]error{"of another TPM": nil, recovery: nil, "of the TPM": ErrWrongKey})
	if len(h.Tokens) != 1 {
		t.Errorf("tokens %s", h.Tokens)
	}
	for _, key := range []string{"of another TPM", recovery, "password"} {
		cryptsetup(t, key, "open", "--test-passphrase", f.Name())
	}

	// A slot that cryptsetup destroyed is made anew, beside the others.
	cryptsetup(t, recovery, "luksKillSlot", f.Name(), "0")
	h = read(t, f, volumeKey, map[string]error{"of another TPM": ErrWrongKey, recovery: nil})
	if err := errors.Join(h.SetKey(f, 0, []byte("again"), volumeKey), h.Write(f)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"again", recovery, "password"} {
		cryptsetup(t, key, "open", "--test-passphrase", f.Name())
	}
}

// TestPlace wipes the slot of a TPM and gives it to a password with cryptsetup:
// the TPM gets another one.
func TestPlace(t *testing.T) {
	f, h, volumeKey, recovery := volume(t)
	h.Tokens["0"] = json.RawMessage(`{"type":"tpm","keyslots":["0"]}`)
	if err := h.Write(f); err != nil {
		t.Fatal(err)
	}
	place := func(h *Header, wantName string, wantNumber int) {
		t.Helper()
		if name, number, err := h.Place("tpm"); name != wantName || number != wantNumber || err != nil {
			t.Errorf("token %q, slot %d, %v; want %q, %d", name, number, err, wantName, wantNumber)
		}
	}
	place(h, "0", 0)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("password"), 0o600); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, recovery, "luksKillSlot", f.Name(), "0")
	place(read(t, f, volumeKey, map[string]error{recovery: nil}), "0", 0)
	cryptsetup(t, recovery, "luksAddKey", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-slot", "0", f.Name(), password)
	h = read(t, f, volumeKey, map[string]error{recovery: nil})
	place(h, "0", 2)
	if err := h.SetKey(f, 2, []byte("of the TPM again"), volumeKey); err != nil {
		t.Fatal(err)
	}
	h.Tokens["0"] = json.RawMessage(`{"type":"tpm","keyslots":["2"]}`)
	if err := h.Write(f); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"of the TPM again", recovery, "password"} {
		cryptsetup(t, key, "open", "--test-passphrase", f.Name())
	}
}

// TestKeys adds a recovery key and removes the one before, beside a password of
// cryptsetup's, which sees and opens the same.
func TestKeys(t *testing.T) {
	f, h, volumeKey, old := volume(t)
	h.Tokens["1"] = json.RawMessage(`{"type":"systemd-recovery","keyslots":["1"]}`)
	if err := h.Write(f); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, old, "luksKillSlot", f.Name(), "0")
	h = read(t, f, volumeKey, map[string]error{old: nil})
	for i := range 2 { // slot 0 stays the TPM's
		number, err := h.AddKey(f, RecoveryToken, []byte(fmt.Sprintf("new %d", i)), volumeKey)
		if err != nil || number != 2+i {
			t.Fatalf("slot %d, %v", number, err)
		}
	}
	if err := h.RemoveKey(f, 1); err != nil {
		t.Fatal(err)
	}
	h = read(t, f, volumeKey, map[string]error{"new 0": nil, "new 1": nil, old: ErrWrongKey})
	if diff := cmp.Diff([]Slot{{2, RecoveryToken}, {3, RecoveryToken}}, h.Slots()); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	for _, key := range []string{"new 0", "new 1"} {
		cryptsetup(t, key, "open", "--test-passphrase", f.Name())
	}
	out := cryptsetup(t, "", "luksDump", f.Name())
	if strings.Count(out, "systemd-recovery") != 2 || strings.Contains(out, "1: luks2") {
		t.Errorf("luksDump: %s", out)
	}
	if err := h.RemoveKey(f, 1); err == nil {
		t.Error("a slot that is not there was removed")
	}
	for range mostSlots - 3 {
		if _, err := h.AddKey(f, RecoveryToken, []byte("x"), volumeKey); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.AddKey(f, RecoveryToken, []byte("x"), volumeKey); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a key too many: %v", err)
	}
}

// TestDamage destroys one copy of the header, then both.
func TestDamage(t *testing.T) {
	f, h, volumeKey, recovery := volume(t)
	h.Label = "later"
	if err := h.Write(f); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 5000); err != nil {
		t.Fatal(err)
	}
	if h := read(t, f, volumeKey, map[string]error{recovery: nil}); h.Label != "later" {
		t.Errorf("label %q", h.Label)
	}
	if _, err := f.WriteAt([]byte("damage"), headerSize+5000); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(f); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("both copies damaged: %v", err)
	}
	for _, content := range [][]byte{nil, make([]byte, 100), make([]byte, 1<<20)} {
		if _, err := Read(bytes.NewReader(content)); !errors.Is(err, ErrNotLUKS) {
			t.Errorf("%d zeros: %v", len(content), err)
		}
	}
}

// TestTarget compares with the tables of cryptsetup(8)'s documentation of
// dm-crypt: cipher, key, IV offset, device, offset in sectors, options.
func TestTarget(t *testing.T) {
	_, h, _, _ := volume(t)
	got, err := h.Target("state", "/dev/vda8", 32<<20+100, []byte{0xab, 1}, "allow_discards")
	if err != nil || got.Params != "aes-xts-plain64 ab01 0 /dev/vda8 32768 2 allow_discards sector_size:4096" || got.Sectors != 32768 ||
		!got.Secret || got.ReadOnly || got.UUID != "CRYPT-LUKS2-6d1fd4ea4a3b4c1e9d3c0f6b6a8c1d11-state" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := h.Target("state", "/dev/vda8", DataOffset, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("a device that is too small: %v", err)
	}
	h.config = json.RawMessage(`{"requirements":{"mandatory":["online-reencrypt-v2"]}}`)
	if _, err := h.Target("state", "/dev/vda8", 32<<20, nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("in the middle of reencryption: %v", err)
	}
}

// FuzzRead reads headers with damage that the checksum does not find.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"keyslots":{"0":{"type":"luks2","area":{"offset":"-1","size":"9"}}},"digests":{"0":{}},"config":{}}`))
	f.Add([]byte(`{"keyslots":{"0":null},"digests":{"0":null},"segments":{"0":{"type":"crypt","size":"dynamic","offset":"x"}},"config":null}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		var m metadata
		if json.Unmarshal(content, &m) != nil {
			return
		}
		h := &Header{Tokens: m.Tokens, slots: m.Slots, digests: m.Digests, segments: m.Segments, config: m.Config, size: headerSize, Memory: 64 << 10}
		for name, text := range h.slots { // no hours of PBKDF2
			var s slot
			if json.Unmarshal(text, &s) == nil && max(s.Derivation.Iterations, s.Derivation.Time) > 1000 {
				delete(h.slots, name)
			}
		}
		data := bytes.NewReader(make([]byte, 1<<20))
		_, _ = h.Unlock(data, []byte("key"))
		_, _ = h.Target("x", "/dev/x", 32<<20, []byte("key"))
		if h.slots == nil {
			return
		}
		if at, err := h.freeArea(); err == nil && (at < 0 || at%512 == 0 && at < 2*headerSize) {
			t.Errorf("a free area at %d", at)
		}
	})
}
