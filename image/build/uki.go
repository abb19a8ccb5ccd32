package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/image/uki"
)

// stubPath is the stub in Debian's systemd-boot-efi.
const stubPath = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// cmdline is the kernel's command line.
func (b *builder) cmdline(root *rootResult) string {
	args := append([]string{"roothash=" + root.info.RootHash}, b.Recipe.Kernel.Arguments...)
	if how := b.Recipe.SecureBoot.Encrypt; how != "" {
		args = append(args, "coracle.encrypt="+how)
	}
	return strings.Join(args, " ")
}

// uki puts kernel, initrd and command line into one EFI program and returns its
// path.
func (b *builder) uki(ctx context.Context, packages *packageSet, kernel *kernelResult, initrd string, root *rootResult) (string, error) {
	key := b.key("uki", packages.lock.Boot.SHA256, filepath.Base(kernel.dir), filepath.Base(filepath.Dir(initrd)),
		b.cmdline(root), b.osRelease(), b.sign.id)
	dir, err := b.store.Run(ctx, "uki", key, func(ctx context.Context, dir string) error {
		stub, err := b.bootFile(ctx, packages, stubPath)
		if err != nil {
			return err
		}
		kernelImage, err := os.ReadFile(kernel.image)
		if err != nil {
			return err
		}
		linux, err := uki.Linux(kernelImage)
		if err != nil {
			return err
		}
		archive, err := os.ReadFile(initrd)
		if err != nil {
			return err
		}
		image, err := b.sign.uki(stub, []uki.Section{
			{Name: ".osrel", Data: []byte(b.osRelease())},
			{Name: ".uname", Data: []byte(kernel.release)},
			{Name: ".cmdline", Data: []byte(b.cmdline(root))},
			linux,
			{Name: ".initrd", Data: archive},
		})
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, UKIName), image, 0o644)
	})
	return filepath.Join(dir, UKIName), err
}

// bootFile returns a file of the boot package.
func (b *builder) bootFile(ctx context.Context, packages *packageSet, name string) ([]byte, error) {
	p := packages.lock.Boot
	files, err := packages.read(ctx, p)
	if err != nil {
		return nil, err
	}
	entry, ok := files.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("package %s %s has no file %s", p.Name, p.Version, name)
	}
	return entry.ReadFile()
}
