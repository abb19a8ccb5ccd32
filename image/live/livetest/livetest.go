// Package livetest makes small images for the tests of live systems' forms.
package livetest

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/coracle-os/coracle/image/erofs"
	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/grub"
	"github.com/coracle-os/coracle/image/tree"
	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/image/verity"
)

const mib = 1 << 20

func ok[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Loader is the file that is the image's boot loader: any EFI program.
const Loader = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// Image makes a raw image of version 1.2.3 and returns it and its size in bytes.
func Image(t testing.TB) (*os.File, int64) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) *os.File {
		f := ok[*os.File](t)(os.Create(filepath.Join(dir, name)))
		t.Cleanup(func() { f.Close() })
		return f
	}
	noise := make([]byte, 3*mib)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(noise)
	core := make([]byte, 4*512)
	core[0x1fc] = 3 // sectors that follow the first
	files := ok[tree.Tree](t)(tree.New(tree.File("usr/bin/large", 0o755, noise), tree.Symlink("bin", "usr/bin"),
		tree.File(grub.RootDirectory+"/"+grub.BootName, 0o644, append([]byte{0xeb}, make([]byte, 511)...)),
		tree.File(grub.RootDirectory+"/"+grub.CoreName, 0o644, core)))
	root, hashes, fat, raw := file("root"), file("verity"), file("esp"), file("coracle.raw")
	size := ok[int64](t)(erofs.Write(root, files, erofs.Options{}))
	hash := ok[[]byte](t)(verity.Format(root, size, hashes, verity.Superblock{Salt: verity.Salt()}))
	stub := ok[[]byte](t)(os.ReadFile(Loader))
	entry := ok[[]byte](t)(uki.Build(stub,
		uki.Section{Name: ".osrel", Data: []byte("VERSION_ID=1.2.3\n")},
		uki.Section{Name: ".uname", Data: []byte("6.12.0")},
		uki.Section{Name: ".cmdline", Data: []byte("roothash=" + hex.EncodeToString(hash) + " quiet")},
		uki.Section{Name: ".linux", Data: bytes.Repeat([]byte("linux"), 50_000)},
		uki.Section{Name: ".initrd", Data: []byte("the initrd")}))
	boot := ok[tree.Tree](t)(tree.New(tree.File("EFI/Linux/coracle-1.2.3.efi", 0o644, entry),
		tree.File("EFI/BOOT/BOOTX64.EFI", 0o644, stub), tree.File("EFI/systemd/systemd-bootx64.efi", 0o644, stub)))
	sizes := gpt.Sizes{BIOSBoot: mib, ESP: 34 * mib, Root: 8 * mib, RootVerity: mib, OEM: mib, State: mib}
	if err := esp.Write(fat, sizes.ESP, boot, esp.Options{Label: "ESP"}); err != nil {
		t.Fatal(err)
	}
	layout := ok[gpt.Layout](t)(gpt.Plan(sizes, hash, "test"))
	if err := gpt.Assemble(t.Context(), raw, layout, map[string]gpt.Content{
		gpt.ESP: {Reader: fat, Size: sizes.ESP}, gpt.RootA: {Reader: root, Size: size},
		gpt.RootAVerity: {Reader: hashes, Size: verity.TreeSize(size)},
	}); err != nil {
		t.Fatal(err)
	}
	return raw, layout.Size
}
