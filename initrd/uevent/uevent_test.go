package uevent

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		in   []string
		want Event
		ok   bool
	}{
		{"disk", []string{"add@/devices/pci0/virtio1/block/vda", "ACTION=add",
			"DEVPATH=/devices/pci0/virtio1/block/vda", "SUBSYSTEM=block", "MAJOR=254", "DEVNAME=vda", "SEQNUM=1"},
			Event{Action: "add", DevPath: "/devices/pci0/virtio1/block/vda", Subsystem: "block", DevName: "vda"}, true},
		{"device with an alias", []string{"add@/devices/x", "ACTION=add", "DEVPATH=/devices/x",
			"SUBSYSTEM=virtio", "MODALIAS=virtio:d00000002v00001AF4"},
			Event{Action: "add", DevPath: "/devices/x", Subsystem: "virtio", Modalias: "virtio:d00000002v00001AF4"}, true},
		{"udev's own", []string{"libudev", "ACTION=add"}, Event{}, false},
		{"no action", []string{"add@/x", "SUBSYSTEM=block"}, Event{Subsystem: "block"}, false},
		{"empty", nil, Event{}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := Parse([]byte(strings.Join(test.in, "\x00")))
			if ok != test.ok {
				t.Errorf("got ok %v, want %v", ok, test.ok)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

// TestKernel asks the kernel to announce a device again and hears it.
func TestKernel(t *testing.T) {
	conn, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, ok, err := conn.Next(0); ok || err != nil {
		t.Fatalf("before anything happened: got an event %v, error %v", ok, err)
	}
	if err := os.WriteFile("/sys/devices/virtual/mem/null/uevent", []byte("change"), 0o200); err != nil {
		t.Fatal(err)
	}
	for {
		event, ok, err := conn.Next(5 * time.Second)
		if err != nil || !ok {
			t.Fatalf("got no event within 5 s (error %v)", err)
		}
		if event.DevName == "null" && event.Action == "change" && event.Subsystem == "mem" {
			return
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("add@/devices/x\x00ACTION=add\x00SUBSYSTEM=block\x00"))
	f.Fuzz(func(t *testing.T, message []byte) { Parse(message) })
}
