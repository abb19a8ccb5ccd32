package loader

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/grub"
)

func TestUpdate(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const mib = 1 << 20
	layout, err := gpt.Plan(gpt.Sizes{BIOSBoot: mib, ESP: mib, Root: mib, RootVerity: mib, OEM: mib, State: mib}, make([]byte, 32), "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := gpt.Assemble(t.Context(), f, layout, nil); err != nil {
		t.Fatal(err)
	}
	boot, core := append([]byte{0xeb}, make([]byte, 511)...), make([]byte, 4*512)
	core[0x1fc] = 3 // sectors that follow
	root := fstest.MapFS{}
	if changed, err := Update(root, f, layout.Size); changed || err != nil {
		t.Errorf("a release without GRUB: %v, %v", changed, err)
	}
	root[grub.RootDirectory+"/"+grub.BootName] = &fstest.MapFile{Data: boot}
	root[grub.RootDirectory+"/"+grub.CoreName] = &fstest.MapFile{Data: core}
	for i, want := range []bool{true, false} {
		if changed, err := Update(root, f, layout.Size); changed != want || err != nil {
			t.Errorf("time %d: %v, %v", i, changed, err)
		}
	}
	part, _ := layout.Find(gpt.BIOSBoot)
	if at, ok := grub.Installed(f, part.Start); !ok || at != part.Start {
		t.Errorf("installed at %d, %v", at, ok)
	}
	if again, err := gpt.Read(f, layout.Size); err != nil || again.FromBackup {
		t.Errorf("the partition table: %v", err)
	}
	if _, err := Update(root, f, 1000); err == nil {
		t.Error("a disk without a table: no error")
	}
}
