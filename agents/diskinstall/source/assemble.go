package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/coracle-os/coracle/agents/diskinstall/target"
	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/ext4"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/grub"
	"github.com/coracle-os/coracle/image/tree"
	"github.com/coracle-os/coracle/image/verity"
)

// parts are what a disk is assembled from that is not there as an image.
type parts struct {
	version  string
	rootHash string
	loader   []byte
	uki      []byte
	rootSize int64 // of the data, in bytes
	// fill writes root and hash tree.
	fill func(ctx context.Context, d *target.Disk, l gpt.Layout, done func(int64)) error
}

// loaderConf is systemd-boot's configuration on an installed disk, the same as
// in an image (see image/build).
const loaderConf = "timeout 0\nreboot-on-error yes\n"

// plan lays a disk out for the parts: as an image's, with larger slots if the
// root needs them.
func (p *parts) plan() (gpt.Layout, error) {
	hash, err := hex.DecodeString(p.rootHash)
	if err != nil {
		return gpt.Layout{}, fmt.Errorf("root hash %q: %w", p.rootHash, err)
	}
	sizes := gpt.DefaultSizes()
	const slack = 64 << 20 // the next releases are larger
	sizes.Root = max(sizes.Root, align(p.rootSize+p.rootSize/2+slack))
	sizes.RootVerity = max(sizes.RootVerity, align(verity.TreeSize(sizes.Root)))
	return gpt.Plan(sizes, hash, "coracle "+p.version)
}

func align(n int64) int64 { return (n + gpt.Alignment - 1) / gpt.Alignment * gpt.Alignment }

// assemble writes all partitions.
func (p *parts) assemble(ctx context.Context, d *target.Disk, begin func(gpt.Layout) error, progress func(done, whole int64)) (Result, error) {
	layout, err := p.plan()
	if err != nil {
		return Result{}, err
	}
	scratch, err := os.MkdirTemp("", "coracle-install-")
	if err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(scratch)
	// These files are sparse and small. They come first: what they lack (space,
	// mke2fs) must be known before anything is erased.
	if err := p.small(ctx, layout, scratch); err != nil {
		return Result{}, err
	}
	if err := begin(layout); err != nil {
		return Result{}, err
	}
	done, whole := int64(0), p.rootSize
	for _, name := range smallOnes {
		part, _ := layout.Find(name)
		whole += part.Size
	}
	report := func(n int64) {
		done += n
		progress(done, whole)
	}
	if err := p.fill(ctx, d, layout, report); err != nil {
		return Result{}, err
	}
	for _, name := range smallOnes {
		part, _ := layout.Find(name)
		if err := writePart(ctx, d, part, filepath.Join(scratch, name), report); err != nil {
			return Result{}, err
		}
	}
	bootCode, err := installBIOS(d, layout)
	if err != nil {
		return Result{}, err
	}
	return Result{
		Layout: layout, BootCode: bootCode, Version: p.version, RootHash: p.rootHash,
		Check: func() error { return p.check(d, layout) },
	}, nil
}

// installBIOS writes the GRUB that is in the root on the disk to its partition,
// and returns the boot code for the MBR; nil when the release has no GRUB.
func installBIOS(d *target.Disk, layout gpt.Layout) ([]byte, error) {
	part, _ := layout.Find(gpt.RootA)
	root, err := erofs.Open(io.NewSectionReader(d.File, part.Start, part.Size))
	if err != nil {
		return nil, fmt.Errorf("open the root as written: %w", err)
	}
	image, err := grub.FromRoot(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	bios, _ := layout.Find(gpt.BIOSBoot)
	return image.InstallCore(d.File, bios.Start)
}

// smallOnes are the partitions that are made as files first.
var smallOnes = []string{gpt.ESP, gpt.OEM, gpt.State}

// small makes the files.
func (p *parts) small(ctx context.Context, layout gpt.Layout, scratch string) error {
	entries := []tree.Entry{
		tree.File("EFI/BOOT/BOOTX64.EFI", 0o644, p.loader),
		tree.File("EFI/systemd/systemd-bootx64.efi", 0o644, p.loader),
		tree.File("loader/loader.conf", 0o644, []byte(loaderConf)),
		tree.File("EFI/Linux/coracle-"+p.version+".efi", 0o644, p.uki),
	}
	bios, err := grub.NewTree(p.version, p.rootHash, bytes.NewReader(p.uki), int64(len(p.uki)))
	if err != nil {
		return err
	}
	files, err := tree.New(append(entries, bios...)...)
	if err != nil {
		return err
	}
	seed := "coracle " + p.version
	volume := gpt.DerivedUUID(seed, "ESP volume")
	stamp := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	part, _ := layout.Find(gpt.ESP)
	f, err := os.Create(filepath.Join(scratch, gpt.ESP))
	if err != nil {
		return err
	}
	err = esp.Write(f, part.Size, files, esp.Options{Label: "ESP", VolumeID: binary.BigEndian.Uint32(volume[:]), Time: stamp})
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, name := range []string{gpt.OEM, gpt.State} {
		part, _ := layout.Find(name)
		err := ext4.Write(ctx, ext4.Exec, filepath.Join(scratch, name), part.Size, scratch, ext4.Options{
			Label: strings.ToUpper(name), Time: stamp, Growable: name == gpt.State,
			UUID: gpt.DerivedUUID(seed, name+" file system").String(), HashSeed: gpt.DerivedUUID(seed, name+" hash seed").String(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func writePart(ctx context.Context, d *target.Disk, part gpt.Partition, file string, report func(int64)) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.Write(ctx, part.Start, f, part.Size, report); err != nil {
		return fmt.Errorf("partition %s: %w", part.Name, err)
	}
	return nil
}

// check reads back what the disk must hold to be started.
func (p *parts) check(d *target.Disk, layout gpt.Layout) error {
	hash, err := hex.DecodeString(p.rootHash)
	if err != nil {
		return err
	}
	section := func(name string) *io.SectionReader {
		part, _ := layout.Find(name)
		return io.NewSectionReader(d.File, part.Start, part.Size)
	}
	root := section(gpt.RootA)
	if err := verity.Verify(root, root.Size(), section(gpt.RootAVerity), hash); err != nil {
		return err
	}
	volume, err := esp.Open(section(gpt.ESP), section(gpt.ESP).Size())
	if err != nil {
		return err
	}
	files, err := volume.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasSuffix(f.Path, "coracle-"+p.version+".efi") {
			r, err := volume.OpenFile(f)
			if err != nil {
				return err
			}
			content, err := io.ReadAll(r)
			if err == nil && string(content) != string(p.uki) {
				err = errors.New("the boot entry differs")
			}
			return err
		}
	}
	return errors.New("the boot entry is not there")
}
