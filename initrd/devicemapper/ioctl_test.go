package devicemapper

import (
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestLayout compares what is encoded here with the structures of x/sys.
func TestLayout(t *testing.T) {
	spec, err := encodeSpec(Target{Name: "root", UUID: "u", Sectors: 2048, Kind: "verity", Params: "1 a b"})
	if err != nil {
		t.Fatal(err)
	}
	b := message("root", readOnlyFlag, spec)
	header := (*unix.DmIoctl)(unsafe.Pointer(&b[0]))
	if header.Version[0] != 4 || int(header.Data_size) != len(b) || header.Data_start != uint32(unsafe.Sizeof(*header)) ||
		header.Target_count != 1 || header.Flags != 1 || unix.ByteSliceToString(header.Name[:]) != "root" {
		t.Errorf("header %+v", header)
	}
	target := (*unix.DmTargetSpec)(unsafe.Pointer(&b[header.Data_start]))
	if target.Sector_start != 0 || target.Length != 2048 || int(target.Next) != len(spec) || unix.ByteSliceToString(target.Target_type[:]) != "verity" {
		t.Errorf("target %+v", target)
	}
	if got := unix.ByteSliceToString(spec[unsafe.Sizeof(*target):]); got != "1 a b" {
		t.Errorf("parameters %q", got)
	}
	if got, err := decodeParams(b); got != "1 a b" || err != nil {
		t.Errorf("parameters read back: %q, %v", got, err)
	}
	if _, err := decodeParams(message("root", 0, nil)); err == nil {
		t.Error("a reply without a target has parameters")
	}
	if offset := unsafe.Offsetof(header.Uuid); offset != 176 {
		t.Errorf("the UUID is at %d", offset)
	}
	if offset := unsafe.Offsetof(header.Dev); offset != 40 {
		t.Errorf("the device number is at %d", offset)
	}
}

func TestNameTooLong(t *testing.T) {
	if _, err := Create(Target{Name: strings.Repeat("x", 128), Kind: "verity"}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v, want an error about the length", err)
	}
}
