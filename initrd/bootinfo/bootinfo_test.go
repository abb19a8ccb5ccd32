package bootinfo

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coracle", "boot.json")
	want := Info{
		RootHash:      strings.Repeat("ab", 32),
		Slot:          "B",
		RootDevice:    "/dev/vda5",
		VerityDevice:  "/dev/vda6",
		VolatileState: true,
		Notices:       []string{"no state partition"},
		Watchdogs:     []Watchdog{{Device: "/dev/watchdog0", TimeoutSeconds: 60}},
		KernelMillis:  1200,
		Stage1Millis:  300,
		Steps:         []Step{{Name: "modules", EndMillis: 1300, Millis: 100}},
	}
	if err := Write(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestReadErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boot.json")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: got %v, want fs.ErrNotExist", err)
	}
	if err := os.WriteFile(path, []byte(`{"rootHash": 1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("bad file: got %v, want an error that names %s", err, path)
	}
}

func TestNoticesAreNeverNull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boot.json")
	if err := Write(path, Info{}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), `"notices": []`) {
		t.Errorf("got %s, want an empty list of notices", data)
	}
}

func TestEncryption(t *testing.T) {
	for key, want := range map[string]string{"": "none", ByTPM: "opened by the TPM", ByRecoveryKey: "opened by the recovery key", Closed: "type the recovery key"} {
		if got := (Info{StateKey: key}).Encryption(); !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q in it", key, got, want)
		}
	}
}
