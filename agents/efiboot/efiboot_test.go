package efiboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

var partition = Partition{Number: 2, UUID: uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff"), Start: 4096, Size: 1048576}

var both = []Entry{
	{"Coracle", partition, `\EFI\BOOT\BOOTX64.EFI`},
	{"Coracle (second copy)", partition, `\EFI\systemd\systemd-bootx64.efi`},
}

func (v Variables) set(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(v.Dir, name), append([]byte{7, 0, 0, 0}, content...), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (v Variables) mustOrder(t *testing.T) []uint16 {
	t.Helper()
	order, err := v.order()
	if err != nil {
		t.Fatal(err)
	}
	return order
}

// TestEncode has the bytes of an EFI_LOAD_OPTION as the specification lays them out;
// that a firmware takes them is shown in qemu-tests.
func TestEncode(t *testing.T) {
	want := "\x01\x00\x00\x00" + "\x62\x00" + "O\x00K\x00\x00\x00" +
		"\x04\x01\x2a\x00\x02\x00\x00\x00" + "\x00\x10\x00\x00\x00\x00\x00\x00" + "\x00\x00\x10\x00\x00\x00\x00\x00" +
		"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff" + "\x02\x02" +
		"\x04\x04\x34\x00" + string(toUTF16(`\EFI\BOOT\FALLBACKX64.E`)) + "\x7f\xff\x04\x00"
	got := Entry{"OK", partition, `\EFI\BOOT\FALLBACKX64.E`}.encode()
	if diff := cmp.Diff([]byte(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEnsure(t *testing.T) {
	v := Variables{Dir: t.TempDir()}
	v.set(t, option(0), []byte("\x01\x00\x00\x00\x00\x00O\x00\x00\x00 of another system"))
	v.set(t, option(2), []byte("short"))
	v.set(t, "BootOrder"+global, []byte{2, 0, 0, 0})
	v.set(t, "BootCurrent"+global, []byte{2, 0})
	for range 2 { // the second time there is nothing to do
		numbers, err := v.Ensure(both...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]uint16{1, 3}, numbers); diff != "" {
			t.Errorf("numbers (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]uint16{2, 1, 3, 0}, v.mustOrder(t)); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	}
	// The partition was moved: its entry is renewed. Another disk has its own.
	moved := both[0]
	moved.Partition.Start *= 2
	if numbers, err := v.Ensure(moved); err != nil || numbers[0] != 1 {
		t.Errorf("a moved partition: %v, %v", numbers, err)
	}
	other := both[0]
	other.Partition.UUID = uuid.MustParse("ffffffff-4455-6677-8899-aabbccddeeff")
	if numbers, err := v.Ensure(other); err != nil || numbers[0] != 4 {
		t.Errorf("another disk: %v, %v", numbers, err)
	}
	if err := v.Next(3); err != nil {
		t.Fatal(err)
	}
	if next, err := v.Read("BootNext" + global); err != nil || binary.LittleEndian.Uint16(next) != 3 {
		t.Errorf("BootNext %v, %v", next, err)
	}

	// The firmware forgets everything.
	forgetful := Variables{Dir: t.TempDir()}
	if numbers, err := forgetful.Ensure(both...); err != nil || !cmp.Equal(numbers, []uint16{0, 1}) {
		t.Errorf("a firmware that forgot: %v, %v", numbers, err)
	}
}

// TestFull has a firmware without room: nothing half-written stays, and what was
// there is as it was.
func TestFull(t *testing.T) {
	v := Variables{Dir: t.TempDir()}
	if err := unix.Mount("tmpfs", v.Dir, "tmpfs", 0, "nr_inodes=3,size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(v.Dir, unix.MNT_DETACH)
	v.set(t, "BootOrder"+global, []byte{9, 0})
	for range 2 {
		if _, err := v.Ensure(both...); !errors.Is(err, ErrFull) {
			t.Errorf("Ensure: %v, want ErrFull", err)
		}
		if diff := cmp.Diff([]uint16{9}, v.mustOrder(t)); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
	}
	if err := v.Next(1); !errors.Is(err, ErrFull) {
		t.Errorf("Next: %v, want ErrFull", err)
	}
	if err := unix.Mount("", v.Dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := v.Next(1); !errors.Is(err, ErrReadOnly) {
		t.Errorf("read-only: %v, want ErrReadOnly", err)
	}
	if err := (Variables{Dir: v.Dir + "/nowhere"}).Next(1); !errors.Is(err, ErrReadOnly) {
		t.Errorf("no efivarfs: %v, want ErrReadOnly", err)
	}
	if _, err := (Variables{Dir: v.Dir + "/nowhere"}).Trust(); err == nil {
		t.Error("keys of no firmware")
	}
	many := Variables{Dir: t.TempDir()}
	for n := range maxEntries {
		many.set(t, option(uint16(n)), []byte("an entry"))
	}
	if _, err := many.Ensure(both...); !errors.Is(err, ErrFull) {
		t.Errorf("no number is free: %v", err)
	}
}

func TestStartedBy(t *testing.T) {
	v := Variables{Dir: t.TempDir()}
	if path, info := v.StartedBy(); path != "" || info != "" {
		t.Errorf("without the variables: %q, %q", path, info)
	}
	v.set(t, "LoaderImageIdentifier"+loader, toUTF16(`\EFI\systemd\systemd-bootx64.efi`))
	v.set(t, "LoaderInfo"+loader, bytes.TrimSuffix(toUTF16("systemd-boot 262-1"), []byte{0, 0}))
	if path, info := v.StartedBy(); path != `\EFI\systemd\systemd-bootx64.efi` || info != "systemd-boot 262-1" {
		t.Errorf("%q, %q", path, info)
	}
}
