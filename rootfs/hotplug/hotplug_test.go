package hotplug

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/initrd/uevent"
)

var errEnd = errors.New("no more news")

// script plays news; the zero event is a pause, as long as it is waited for.
type script struct {
	events []uevent.Event
	lost   int // index of the event in whose place some were lost
}

func (s *script) Next(wait time.Duration) (uevent.Event, bool, error) {
	if len(s.events) == 0 {
		return uevent.Event{}, false, errEnd
	}
	event := s.events[0]
	s.events = s.events[1:]
	s.lost--
	if s.lost == 0 {
		return uevent.Event{}, false, uevent.ErrLost
	}
	if event == (uevent.Event{}) {
		time.Sleep(min(wait, time.Second))
		return event, false, nil
	}
	return event, true, nil
}

// device makes a device of the bus pci below sys.
func device(t *testing.T, sys, name, alias string, driver bool) {
	t.Helper()
	dir := filepath.Join(sys, "bus/pci/devices", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "modalias"), []byte(alias+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if driver {
		if err := os.Symlink("../../drivers/it", filepath.Join(dir, "driver")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRun(t *testing.T) {
	add := func(alias string) uevent.Event { return uevent.Event{Action: "add", Modalias: alias} }
	tests := map[string]struct {
		events []uevent.Event
		lost   int
		scan   time.Duration
		want   [][]string
	}{
		"a bus at once, each kind once": {
			events: []uevent.Event{add("usb:1"), add("usb:2"), add("usb:1"), {}, add("usb:2"), {}, add("usb:3"), {}},
			scan:   time.Hour,
			want:   [][]string{{"usb:1", "usb:2"}, {"usb:3"}},
		},
		"what is no new device": {
			events: []uevent.Event{{Action: "remove", Modalias: "usb:1"}, {Action: "add", Subsystem: "net"}, add("usb:9"), {}},
			scan:   time.Hour,
			want:   [][]string{{"usb:9"}},
		},
		"those that came before": {events: []uevent.Event{{}, {}}, want: [][]string{{"pci:b", "pci:c"}}},
		"events that were lost":  {events: []uevent.Event{add("pci:c"), add("pci:b"), {}}, lost: 2, scan: time.Hour, want: [][]string{{"pci:c", "pci:b"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sys := t.TempDir()
			device(t, sys, "0000:00:01.0", "pci:a", true)
			device(t, sys, "0000:00:02.0", "pci:c", false)
			device(t, sys, "0000:00:03.0", "pci:b", false)
			var got [][]string
			f := &Follower{Sys: sys, Settle: time.Millisecond, Scan: test.scan,
				Load: func(_ context.Context, aliases []string) { got = append(got, aliases) }}
			if err := f.Run(t.Context(), &script{events: test.events, lost: test.lost}); !errors.Is(err, errEnd) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEnds: a daemon that ends is not held up.
func TestEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &Follower{Sys: t.TempDir(), Settle: time.Millisecond, Load: func(context.Context, []string) { cancel() }}
	if err := f.Run(ctx, &script{events: []uevent.Event{{Action: "add", Modalias: "usb:1"}, {}, {}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}
