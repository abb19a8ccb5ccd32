package build

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/ext4"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/sdboot"
	"github.com/coracle-os/coracle/image/tree"
)

// loaderConf configures systemd-boot (loader.conf(5)). There is no default
// entry: naming one would switch off the counting of tries.
const loaderConf = "timeout 0\nreboot-on-error yes\n"

// Times in file systems: the same in every image. FAT knows none before 1980.
var (
	espTime  = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	ext4Time = time.Unix(rootTime, 0).UTC()
)

// ukiPath is where the UKI of this release is on the ESP.
func (b *builder) ukiPath() string { return "EFI/Linux/coracle-" + b.Recipe.Version + ".efi" }

// espTree returns the files of the ESP.
func (b *builder) espTree(ctx context.Context, packages *packageSet, uki, rootHash string) (tree.Tree, error) {
	loader, err := b.loader(ctx, packages)
	if err != nil {
		return tree.Tree{}, err
	}
	image, err := tree.HostFile(b.ukiPath(), 0o644, uki)
	if err != nil {
		return tree.Tree{}, err
	}
	entries := append(b.sign.files(),
		tree.File(sdboot.Fallback, 0o644, loader),
		tree.File(sdboot.Second, 0o644, loader),
		tree.File("loader/loader.conf", 0o644, []byte(loaderConf+b.sign.loaderConf)),
		image,
	)
	if b.Recipe.BIOS.Package != "" {
		files, err := b.biosFiles(uki, rootHash)
		if err != nil {
			return tree.Tree{}, err
		}
		entries = append(entries, files...)
	}
	return tree.New(entries...)
}

// loader is systemd-boot, signed.
func (b *builder) loader(ctx context.Context, packages *packageSet) ([]byte, error) {
	program, err := b.bootFile(ctx, packages, sdboot.InRoot)
	if err != nil {
		return nil, err
	}
	return b.sign.program(program)
}

// loaderTree is systemd-boot as the root has it, for the machine that updates it.
func (b *builder) loaderTree(ctx context.Context, packages *packageSet) (tree.Tree, error) {
	program, err := b.loader(ctx, packages)
	if err != nil {
		return tree.Tree{}, err
	}
	return tree.New(tree.File(sdboot.InRoot, 0o644, program))
}

// disk writes the raw image to out.
func (b *builder) disk(ctx context.Context, packages *packageSet, root *rootResult, uki, bios, out string) error {
	scratch, err := os.MkdirTemp(b.store.Dir, ".disk-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	rootHash, err := hex.DecodeString(root.info.RootHash)
	if err != nil {
		return err
	}
	p := b.Recipe.Partitions
	seed := "coracle " + b.Recipe.Version
	layout, err := gpt.Plan(gpt.Sizes{
		BIOSBoot: gpt.Alignment, ESP: int64(p.ESP), Root: int64(p.Root), RootVerity: int64(p.Verity),
		OEM: int64(p.OEM), State: int64(p.State),
	}, rootHash, seed)
	if err != nil {
		return err
	}
	files, err := b.espTree(ctx, packages, uki, root.info.RootHash)
	if err != nil {
		return err
	}
	volume := gpt.DerivedUUID(seed, "ESP volume")
	paths := map[string]string{gpt.RootA: root.image, gpt.RootAVerity: root.hashes, gpt.ESP: filepath.Join(scratch, "esp")}
	if err := writeFile(paths[gpt.ESP], func(f *os.File) error {
		return esp.Write(f, int64(p.ESP), files, esp.Options{
			Label: "ESP", VolumeID: binary.BigEndian.Uint32(volume[:]), Time: espTime,
		})
	}); err != nil {
		return err
	}
	for name, size := range map[string]int64{gpt.OEM: int64(p.OEM), gpt.State: int64(p.State)} {
		paths[name] = filepath.Join(scratch, name)
		options := ext4.Options{
			Label: strings.ToUpper(name), Time: ext4Time, Growable: name == gpt.State,
			UUID: gpt.DerivedUUID(seed, name+" file system").String(), HashSeed: gpt.DerivedUUID(seed, name+" hash seed").String(),
		}
		if err := ext4.Write(ctx, ext4.Exec, paths[name], size, scratch, options); err != nil {
			return err
		}
	}
	contents := map[string]gpt.Content{}
	for name, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		contents[name] = gpt.Content{Reader: file, Size: info.Size()}
	}
	return writeFile(out, func(f *os.File) error {
		if err := gpt.Assemble(ctx, f, layout, contents); err != nil || bios == "" {
			return err
		}
		part, _ := layout.Find(gpt.BIOSBoot)
		return installBIOS(bios, f, part.Start)
	})
}

// writeFile creates a file, fills and closes it.
func writeFile(name string, fill func(*os.File) error) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fill(f); err != nil {
		return err
	}
	return f.Close()
}

// qcow2 converts the raw image. The clusters are compressed with zstd, which
// QEMU reads from 5.1 on. The output is the same for the same input: qemu-img
// writes the clusters in order unless it is told otherwise (-W).
func qcow2(ctx context.Context, raw, out string) error {
	qemuImg, err := exec.LookPath("qemu-img")
	if err != nil {
		return fmt.Errorf("find qemu-img: %w; install the Debian package qemu-utils (make setup does)", err)
	}
	cmd := exec.CommandContext(ctx, qemuImg, "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd", raw, out)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, text)
	}
	return nil
}

// linkOrCopy makes to the same file as from, or a copy where that cannot be.
func linkOrCopy(from, to string) error {
	if err := os.Remove(to); err != nil && !os.IsNotExist(err) {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, fs.FileMode(0o644))
}
