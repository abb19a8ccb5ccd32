// Package powerbutton tells PID 1 when the machine's power button is pressed,
// which a hypervisor's "shut down" does too. On other systems logind listens
// for it.
//
// It reads Linux input events (struct input_event, see the kernel's
// Documentation/input/input.rst) of the devices that are there at boot and
// that the kernel names a power button; hot-plugged keyboards with such a key
// are left out on purpose.
package powerbutton

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	eventSize = 24  // struct input_event on 64-bit machines
	evKey     = 1   // EV_KEY
	keyPower  = 116 // KEY_POWER
)

// Devices returns the event devices (paths below dev, as in /dev/input/event0)
// of the power buttons that sys (/sys) lists.
func Devices(sys, dev string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(sys, "class/input/event*/device/name"))
	if err != nil {
		return nil, fmt.Errorf("find power buttons: %w", err)
	}
	var devices []string
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(text)) != "Power Button" {
			continue
		}
		event := filepath.Base(filepath.Dir(filepath.Dir(name)))
		devices = append(devices, filepath.Join(dev, "input", event))
	}
	return devices, nil
}

// Watch reads input events from r until it ends, and calls pressed for each
// time the key goes down. It returns nil when r or ctx ends.
func Watch(ctx context.Context, r io.Reader, pressed func()) error {
	event := make([]byte, eventSize)
	for ctx.Err() == nil {
		if _, err := io.ReadFull(r, event); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
				return nil
			}
			return fmt.Errorf("read power button: %w", err)
		}
		kind, code := binary.NativeEndian.Uint16(event[16:]), binary.NativeEndian.Uint16(event[18:])
		if kind == evKey && code == keyPower && binary.NativeEndian.Uint32(event[20:]) == 1 {
			pressed()
		}
	}
	return nil
}
