package iso

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/live"
	"github.com/coracle-os/coracle/image/live/livetest"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

// TestWrite writes an image twice, and has isoinfo, xorriso and sgdisk look at it.
func TestWrite(t *testing.T) {
	p, err := live.Open(livetest.Image(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	image, again := filepath.Join(dir, "a.iso"), filepath.Join(dir, "another.iso")
	for _, name := range []string{image, again} {
		if err := Write(t.Context(), p, name, t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	a, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(again)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("two images differ: %v", err)
	}
	head := run(t, "isoinfo", "-d", "-i", image)
	for _, want := range []string{"Volume id: CORACLE\n", "El Torito", "Arch 0 (x86)", "Rock Ridge"} {
		if !strings.Contains(head, want) {
			t.Errorf("isoinfo does not say %q:\n%s", want, head)
		}
	}
	if report := run(t, "xorriso", "-indev", image, "-report_el_torito", "plain"); !strings.Contains(report, "UEFI") || !strings.Contains(report, "BIOS") {
		t.Errorf("the boot catalogue has not both:\n%s", report)
	}
	root, err := io.ReadAll(io.NewSectionReader(p.Root, 0, p.Root.Size()))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"/coracle/root.erofs": root, "/coracle/coracle.efi": p.UKI, "/boot/vmlinuz": p.Kernel} {
		if got := run(t, "isoinfo", "-R", "-x", name, "-i", image); got != string(want) {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(want))
		}
	}
	if config := run(t, "isoinfo", "-R", "-x", "/isolinux/isolinux.cfg", "-i", image); !strings.Contains(config, "APPEND roothash="+p.RootHash+" quiet coracle.live=medium\n") {
		t.Errorf("ISOLINUX is told\n%s", config)
	}
	if table := run(t, "sgdisk", "-p", image); !strings.Contains(table, "EF00") {
		t.Errorf("sgdisk finds no EFI system partition:\n%s", table)
	}
	checkESP(t, a, p)
}

// checkESP reads what UEFI starts, from the partition of a USB stick.
func checkESP(t *testing.T, image []byte, p *live.Parts) {
	layout, err := gpt.Read(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range layout.Partitions {
		if part.Type.String() != gpt.TypeESP {
			continue
		}
		volume, err := esp.Open(bytes.NewReader(image[part.Start:][:part.Size]), part.Size)
		if err != nil {
			t.Fatal(err)
		}
		files, err := volume.Files()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, f := range files {
			if f.Dir {
				continue
			}
			r, err := volume.OpenFile(f)
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			found[strings.ToLower(f.Path)] = string(content)
		}
		if found["efi/boot/bootx64.efi"] != string(p.Loader) || found["coracle/vmlinuz"] != string(p.Kernel) ||
			!strings.Contains(found["loader/entries/coracle.conf"], "options roothash="+p.RootHash+" quiet coracle.live=medium\n") {
			t.Errorf("the EFI system partition has %d files, entry %q", len(found), found["loader/entries/coracle.conf"])
		}
		return
	}
	t.Errorf("there is no EFI system partition: %+v", layout.Partitions)
}
