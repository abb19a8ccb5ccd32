package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/image/debian"
	"github.com/coracle-os/coracle/image/grub"
	"github.com/coracle-os/coracle/image/tree"
)

// bios makes the boot loader for legacy BIOS and returns the directory that has
// it; "" when the recipe wants none.
func (b *builder) bios(ctx context.Context, packages *packageSet) (string, error) {
	if b.Recipe.BIOS.Package == "" {
		return "", nil
	}
	key := b.key("bios")
	for _, p := range packages.lock.BIOS {
		key.Add(p.SHA256)
	}
	return b.store.Run(ctx, "bios", key, func(ctx context.Context, dir string) error {
		scratch, err := os.MkdirTemp("", "coracle-grub-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(scratch)
		root := filepath.Join(scratch, "packages")
		for _, p := range packages.lock.BIOS {
			files, err := packages.read(ctx, p)
			if err != nil {
				return err
			}
			if err := unpack(files.Filter(isGRUBOrLibrary), root); err != nil {
				return fmt.Errorf("unpack %s: %w", p.Name, err)
			}
		}
		image, err := grub.Make(ctx, root, scratch)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, grub.BootName), image.Boot, 0o644); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, grub.CoreName), image.Core, 0o644)
	})
}

// isGRUBOrLibrary holds for what grub-mkimage needs to run.
func isGRUBOrLibrary(e tree.Entry) bool {
	name := e.Path
	return name == "usr/bin/grub-mkimage" || strings.HasPrefix(name, "usr/lib/grub/i386-pc/") || strings.HasPrefix(name, "usr/lib64/") ||
		filepath.Dir(name) == "usr/lib/x86_64-linux-gnu" && strings.Contains(name, ".so")
}

// unpack writes the files and links of a tree below dir.
func unpack(files tree.Tree, dir string) error {
	for e := range files.All() {
		name := filepath.Join(dir, filepath.FromSlash(e.Path))
		var err error
		switch {
		case e.Mode.IsDir():
			err = os.MkdirAll(name, 0o755)
		case e.Target != "":
			err = os.Symlink(e.Target, name)
		default:
			var content []byte
			if content, err = e.ReadFile(); err == nil {
				err = os.WriteFile(name, content, e.Mode.Perm())
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// biosPackages are those of the boot loader itself, without what grub-mkimage
// needs to run.
func (l packageLock) biosPackages(name string) []debian.Package {
	var own []debian.Package
	source := ""
	for _, p := range l.BIOS {
		if p.Name == name {
			source = p.Source
		}
	}
	for _, p := range l.BIOS {
		if p.Source == source {
			own = append(own, p)
		}
	}
	return own
}

// biosFiles are what GRUB reads from the ESP.
func (b *builder) biosFiles(ukiFile, rootHash string) ([]tree.Entry, error) {
	f, err := os.Open(ukiFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return grub.NewTree(b.Recipe.Version, rootHash, f, info.Size())
}

// biosTree is the boot loader in dir as the root has it, for the machine that
// installs or updates it; nothing when dir is "".
func biosTree(dir string) (tree.Tree, error) {
	if dir == "" {
		return tree.New()
	}
	boot, err := tree.HostFile(grub.RootDirectory+"/"+grub.BootName, 0o644, filepath.Join(dir, grub.BootName))
	if err != nil {
		return tree.Tree{}, err
	}
	core, err := tree.HostFile(grub.RootDirectory+"/"+grub.CoreName, 0o644, filepath.Join(dir, grub.CoreName))
	if err != nil {
		return tree.Tree{}, err
	}
	return tree.New(boot, core)
}

// installBIOS writes the boot loader in dir to a disk, whose partition for it
// begins at byte start.
func installBIOS(dir string, disk *os.File, start int64) error {
	boot, err := os.ReadFile(filepath.Join(dir, grub.BootName))
	if err != nil {
		return err
	}
	core, err := os.ReadFile(filepath.Join(dir, grub.CoreName))
	if err != nil {
		return err
	}
	return grub.Image{Boot: boot, Core: core}.Install(disk, start)
}
