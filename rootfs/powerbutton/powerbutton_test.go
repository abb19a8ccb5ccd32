package powerbutton

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDevices(t *testing.T) {
	sys := t.TempDir()
	for event, name := range map[string]string{"event0": "Power Button\n", "event1": "AT Translated Set 2 keyboard\n"} {
		dir := filepath.Join(sys, "class/input", event, "device")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Devices(sys, "/dev")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/dev/input/event0"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWatch(t *testing.T) {
	event := func(kind, code uint16, value uint32) []byte {
		b := make([]byte, eventSize)
		binary.NativeEndian.PutUint16(b[16:], kind)
		binary.NativeEndian.PutUint16(b[18:], code)
		binary.NativeEndian.PutUint32(b[20:], value)
		return b
	}
	stream := bytes.Join([][]byte{
		event(evKey, keyPower, 1), event(0, 0, 0), // down, sync
		event(evKey, keyPower, 0), event(evKey, keyPower, 2), // up, repeat
		event(evKey, 30, 1), event(4, keyPower, 1), // another key, another kind
	}, nil)
	presses := 0
	if err := Watch(t.Context(), bytes.NewReader(stream), func() { presses++ }); err != nil {
		t.Fatal(err)
	}
	if presses != 1 {
		t.Errorf("%d presses, want 1", presses)
	}
	if err := Watch(t.Context(), bytes.NewReader(stream[:30]), func() {}); err == nil || err == io.EOF {
		t.Errorf("a cut event: %v, want an error that says so", err)
	}
}
