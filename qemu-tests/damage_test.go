package qemutests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/coracle-os/coracle/tools/qemu"
)

// damages are bytes of a UKI: one of the program's header, one inside
// kernel and initrd, and one of the root hash in the command line.
var damages = []string{"header", ".linux", ".initrd", ".cmdline"}

// badEntries puts entries with one try each on the disk's ESP, newer than what
// is there: the UKI at good with one byte flipped, and the UKI at unsigned if
// there is one. It returns their names without the tries, in the order in which
// they are started.
func badEntries(t *testing.T, disk, good, unsigned string) (names []string) {
	t.Helper()
	f, err := os.Open(good)
	must(t, err)
	defer f.Close()
	image, err := uki.Read(f)
	must(t, err)
	add := func(file string) {
		names = append(names, fmt.Sprintf("coracle-9.9.%d", 9-len(names)))
		onESP(t, disk, "mcopy", file, "::/EFI/Linux/"+names[len(names)-1]+"+1-0.efi")
	}
	for _, what := range damages {
		at := int64(0x3c) // the offset of the PE header
		for _, s := range image.Sections {
			if s.Name == what {
				at = s.Offset + s.Size/2
			}
			switch {
			case what == ".cmdline" && s.Name == what:
				at = s.Offset + 20
			case what == ".initrd" && s.Name == what:
				at = s.Offset + s.Size/8*7 // stage 1 itself is before that
			}
		}
		bad := filepath.Join(t.TempDir(), "bad.efi")
		run(t, "cp", good, bad)
		flip(t, bad, at)
		add(bad)
	}
	if unsigned != "" {
		add(unsigned)
	}
	return names
}

// TestUEFI starts UKIs with one flipped byte each, without Secure Boot, and the
// good one in the end by itself. Entries stand for releases: what is noticed, and
// by whom, is the same with the tries of an update.
func TestUEFI(t *testing.T) {
	t.Parallel()
	disk, overlay := diskCopy(t), ""
	names := badEntries(t, disk, filepath.Join(filepath.Dir(machine.Image(t)), "coracle.efi"), "")
	m := machine.Boot(t, machine.Options{Change: func(c *qemu.Config) {
		c.Image, overlay = disk, filepath.Join(c.Dir, "disk.qcow2")
	}})
	from := 0
	for _, want := range []string{ // what is no entry is passed over
		`Decompression failed[^\a]*Failed to execute [^\a]*` + names[1] + `[^\a]*Rebooting`,
		`Linux version[^\a]*boot failed: [^\a]*the initrd is damaged[^\a]*restarting`,
		`Linux version[^\a]*boot failed: command line: [^\a]*restarting`,
		`Linux version[^\a]*Started Journal Service`,
	} {
		m.WaitConsole(want, from, 2*time.Minute)
		from = len(m.Console())
	}
	m.Kill()
	run(t, "qemu-img", "commit", "-q", overlay)
	entries := onESP(t, disk, "mdir", "-b", "::/EFI/Linux")
	for i, name := range names {
		left := "+0-1"
		if damages[i] == "header" {
			left = "+1-0"
		}
		if !strings.Contains(entries, name+left+".efi") {
			t.Errorf("after the start of the good UKI the ESP holds %q, want %s", entries, name+left)
		}
	}
}
