// Package live takes a raw disk image apart into what machines need that run
// without a disk of their own: the forms for the network and for media, pxe and
// iso, are made of these parts. So any image can be given in those forms, not
// only one that was just built.
//
// The parts are the release's own, byte by byte: the same kernel, initrd, root
// and root hash as on a disk. Only the command line says more (Arguments).
package live

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/inspect"
	"github.com/coracle-os/coracle/image/livename"
	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/image/verity"
)

// loaderPath is systemd-boot on the ESP.
const loaderPath = "EFI/systemd/systemd-bootx64.efi"

// Parts are the parts of one release.
type Parts struct {
	Version  string
	RootHash string // 64 hexadecimal digits
	Cmdline  string // of the UKI, with roothash=
	Kernel   []byte
	Initrd   []byte // compressed
	UKI      []byte // with all of these, for disks
	Loader   []byte // systemd-boot
	Root     *io.SectionReader
	Hashes   *io.SectionReader
}

// ErrNotOne says that an image does not hold exactly one release.
var ErrNotOne = errors.New("want an image as it was built, with one release")

// Open reads the parts from a raw image of size bytes.
func Open(raw io.ReaderAt, size int64) (*Parts, error) {
	img, err := inspect.Open(raw, size)
	if err != nil {
		return nil, err
	}
	if len(img.Problems) > 0 {
		return nil, fmt.Errorf("take the image apart: %s", strings.Join(img.Problems, "; "))
	}
	if len(img.UKIs) != 1 {
		return nil, fmt.Errorf("take the image apart: %w: it has %d boot entries", ErrNotOne, len(img.UKIs))
	}
	p := &Parts{Version: img.UKIs[0].Version, RootHash: img.UKIs[0].RootHash, Cmdline: img.UKIs[0].Cmdline}
	layout, err := gpt.Read(raw, size)
	if err == nil {
		err = p.readESP(raw, layout, img.UKIs[0].Path)
	}
	if err == nil {
		err = p.readRoot(raw, layout, img)
	}
	if err != nil {
		return nil, fmt.Errorf("take the image apart: %w", err)
	}
	return p, nil
}

func (p *Parts) readESP(raw io.ReaderAt, layout gpt.Layout, ukiPath string) error {
	part, _ := layout.Find(gpt.ESP) // inspect has read it
	volume, err := esp.Open(io.NewSectionReader(raw, part.Start, part.Size), part.Size)
	if err != nil {
		return err
	}
	files, err := volume.Files()
	if err != nil {
		return err
	}
	read := func(name string) (content []byte, err error) {
		at := slices.IndexFunc(files, func(f esp.File) bool { return strings.EqualFold(f.Path, name) })
		if at < 0 {
			return nil, fmt.Errorf("the ESP has no %s", name)
		}
		r, err := volume.OpenFile(files[at])
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	}
	if p.UKI, err = read(ukiPath); err != nil {
		return err
	}
	if p.Loader, err = read(loaderPath); err != nil {
		return err
	}
	image, err := uki.Read(strings.NewReader(string(p.UKI)))
	if err != nil {
		return err
	}
	if p.Kernel, err = image.Section(".linux"); err != nil {
		return err
	}
	p.Initrd, err = image.Section(".initrd")
	return err
}

func (p *Parts) readRoot(raw io.ReaderAt, layout gpt.Layout, img *inspect.Image) error {
	at := slices.IndexFunc(img.Slots, func(s inspect.Slot) bool { return s.RootHash == p.RootHash })
	if at < 0 {
		return fmt.Errorf("%w: no slot has the root hash of its boot entry", ErrNotOne)
	}
	names := map[string][2]string{"A": {gpt.RootA, gpt.RootAVerity}, "B": {gpt.RootB, gpt.RootBVerity}}[img.Slots[at].Name]
	root, _ := layout.Find(names[0])
	hashes, _ := layout.Find(names[1])
	data := img.Slots[at].DataSize
	p.Root = io.NewSectionReader(raw, root.Start, data)
	p.Hashes = io.NewSectionReader(raw, hashes.Start, verity.TreeSize(data))
	return nil
}

// Arguments is the command line of a live system of a kind (of package
// livename).
func (p *Parts) Arguments(kind string) string {
	line := p.Cmdline + " " + livename.RootArgument + "=" + kind
	if kind == livename.Memory {
		// A tmpfs would take half of the memory at most.
		line += " rootfstype=ramfs"
	}
	return line
}
