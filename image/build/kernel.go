package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/image/initramfs"
	"github.com/coracle-os/coracle/image/kmod"
	"github.com/coracle-os/coracle/image/recipe"
	"github.com/coracle-os/coracle/image/tree"
)

// kernelResult is the result of the step kernel.
type kernelResult struct {
	dir     string // the key of later steps: a result never changes
	release string // as uname -r says
	image   string // file with the kernel
	modules string // directory with usr/lib/modules of the root
	initrd  string // directory with usr/lib/modules of the initrd
}

// kernel takes kernel and modules out of the kernel package.
func (b *builder) kernel(ctx context.Context, packages *packageSet) (*kernelResult, error) {
	p := packages.lock.Kernel
	k := b.Recipe.Kernel
	key := b.key("kernel", p.SHA256, strings.Join(k.InitrdModules, " "), strings.Join(k.RootModules, " "), strings.Join(k.RareModules, " "))
	dir, err := b.store.Run(ctx, "kernel", key, func(ctx context.Context, dir string) error {
		files, err := packages.read(ctx, p)
		if err != nil {
			return err
		}
		modules, err := kmod.Open(files)
		if err != nil {
			return err
		}
		image, ok := files.Lookup("boot/vmlinuz-" + modules.Release)
		if !ok {
			return fmt.Errorf("package %s has no boot/vmlinuz-%s", p.Name, modules.Release)
		}
		content, err := image.ReadFile()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "vmlinuz"), content, 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "release"), []byte(modules.Release), 0o644); err != nil {
			return err
		}
		return selectModules(ctx, modules, k, dir)
	})
	if err != nil {
		return nil, err
	}
	release, err := os.ReadFile(filepath.Join(dir, "release"))
	if err != nil {
		return nil, err
	}
	return &kernelResult{
		dir: dir, release: string(release), image: filepath.Join(dir, "vmlinuz"),
		modules: filepath.Join(dir, "root"), initrd: filepath.Join(dir, "initrd"),
	}, nil
}

// selectModules writes the modules of initrd and root into directories below dir.
func selectModules(ctx context.Context, modules *kmod.Kernel, k recipe.Kernel, dir string) error {
	first, err := modules.Closure(k.InitrdModules)
	if err != nil {
		return err
	}
	plain, err := modules.Closure(k.RootModules)
	if err != nil {
		return err
	}
	// The root has those of the initrd too: a machine may get such a disk later.
	all, err := modules.Closure(slices.Concat(k.InitrdModules, k.RootModules, k.RareModules))
	if err != nil {
		return err
	}
	if err := stageModules(ctx, modules, first, filepath.Join(dir, "initrd")); err != nil {
		return err
	}
	return stageModules(ctx, modules, modules.Packed(all, plain), filepath.Join(dir, "root"))
}

// stageModules writes the modules and their index below dir.
func stageModules(ctx context.Context, kernel *kmod.Kernel, modules []tree.Entry, dir string) error {
	scratch, err := os.MkdirTemp("", "coracle-modules-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	files, err := kernel.Index(ctx, modules, scratch)
	if err != nil {
		return err
	}
	return writeTree(files, dir)
}

// writeTree writes the files and directories of a tree that has nothing else.
func writeTree(files tree.Tree, dir string) error {
	for entry := range files.All() {
		target := filepath.Join(dir, filepath.FromSlash(entry.Path))
		if entry.Mode.IsDir() {
			if err := os.MkdirAll(target, 0o755); err != nil {
				return err
			}
			continue
		}
		content, err := entry.ReadFile()
		if err != nil {
			return err
		}
		if err := os.WriteFile(target, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// initrdRelease marks the archive as an initrd, as systemd's tools look for it.
// It does not say the version, which the UKI's .osrel does: an archive with a new
// version is new to an update as a whole, because it is compressed.
const (
	initrdRelease     = "etc/initrd-release"
	initrdReleaseText = "NAME=\"Coracle\"\nID=coracle\n"
)

// initrd packs stage 1 and its modules and returns the archive's path.
func (b *builder) initrd(ctx context.Context, kernel *kernelResult, programs []program) (string, error) {
	key := b.key("initrd", filepath.Base(kernel.dir), initrdReleaseText)
	for _, p := range programs {
		if p.initrd {
			key.Add(p.path, p.sha256)
		}
	}
	dir, err := b.store.Run(ctx, "initrd", key, func(_ context.Context, dir string) error {
		modules, err := tree.FromDir(kernel.initrd)
		if err != nil {
			return err
		}
		entries := []tree.Entry{
			tree.Symlink("lib", "usr/lib"),
			tree.Directory("dev", 0o755), tree.Directory("proc", 0o755), tree.Directory("sys", 0o755),
			tree.Directory("run", 0o755), tree.Directory("sysroot", 0o755), tree.Directory("tmp", 0o777|fs.ModeSticky),
			// Without it the kernel cannot open a console for the first program.
			tree.CharDevice("dev/console", 0o600, 5, 1),
			tree.File(initrdRelease, 0o644, []byte(initrdReleaseText)),
		}
		for _, p := range programs {
			if !p.initrd {
				continue
			}
			entry, err := tree.HostFile(p.path, 0o755, p.file)
			if err != nil {
				return err
			}
			entries = append(entries, entry)
		}
		own, err := tree.New(entries...)
		if err != nil {
			return err
		}
		files, err := tree.Merge(own, modules)
		if err != nil {
			return err
		}
		out, err := os.Create(filepath.Join(dir, "initrd.cpio.zst"))
		if err != nil {
			return err
		}
		defer out.Close()
		if err := initramfs.Write(out, files); err != nil {
			return err
		}
		return out.Close()
	})
	return filepath.Join(dir, "initrd.cpio.zst"), err
}

// readJSON reads what writeJSON wrote.
func readJSON(name string, value any) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("read %s: %w", path.Base(name), err)
	}
	return nil
}
