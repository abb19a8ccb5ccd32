package format

import (
	"compress/gzip"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/image/ext4"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/tree"
)

// A Vagrant box (https://developer.hashicorp.com/vagrant/docs/boxes/format) is
// an archive of metadata, a Vagrantfile and the provider's disk. The image in a
// box differs from the released one in its OEM partition only, which lets
// Vagrant's well-known key in until Vagrant has replaced it.

//go:embed Vagrantfile
var vagrantfile []byte

//go:embed vagrant.yml
var vagrantConfig []byte

//go:embed vagrant.pub
var vagrantKey []byte

// oemTime is the time of everything in a box's OEM partition.
var oemTime = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// boxDisk makes the image of a box in j.dir.
func (j job) boxDisk(ctx context.Context) (path string, size int64, err error) {
	if path, size, err = j.grown(ctx); err != nil {
		return "", 0, err
	}
	disk, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", 0, err
	}
	err = j.replaceOEM(ctx, disk)
	if e := disk.Close(); err == nil {
		err = e
	}
	return path, size, err
}

// replaceOEM makes the OEM partition of disk anew.
func (j job) replaceOEM(ctx context.Context, disk *os.File) error {
	info, err := os.Stat(j.Raw)
	if err != nil {
		return err
	}
	layout, err := gpt.Read(disk, info.Size()) // the disk itself has grown
	if err != nil {
		return err
	}
	oem, found := layout.Find(gpt.OEM)
	if !found {
		return errors.New("the image has no OEM partition")
	}
	content, err := tree.New(tree.File("cloud-config.yml", 0o644, vagrantConfig), tree.File("vagrant.pub", 0o644, vagrantKey))
	if err != nil {
		return err
	}
	path, seed := filepath.Join(j.dir, "oem"), layout.DiskUUID.String()+" vagrant"
	if err := ext4.Write(ctx, ext4.Exec, path, oem.Size, j.dir, ext4.Options{
		Label: "OEM", UUID: gpt.DerivedUUID(seed, "oem file system").String(), HashSeed: gpt.DerivedUUID(seed, "oem hash seed").String(),
		Time: oemTime, Content: content,
	}); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.NewOffsetWriter(disk, oem.Start), cancelled{ctx, f})
	return err
}

// box writes an archive of the members.
func box(ctx context.Context, out string, members []member) error {
	return writeFile(out, func(f *os.File) error {
		z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if err := pack(ctx, z, members); err != nil {
			return err
		}
		return z.Close()
	})
}

func metadata(fields map[string]any) member {
	text, _ := json.Marshal(fields) // strings and numbers cannot fail
	return member{Name: "metadata.json", Text: append(text, '\n')}
}

func writeLibvirtBox(ctx context.Context, j job) error {
	raw, size, err := j.boxDisk(ctx)
	if err != nil {
		return err
	}
	disk := filepath.Join(j.dir, "box.img")
	if err := qemuImg(ctx, "qcow2", "compat=1.1,cluster_size=65536,compression_type=zstd", raw, disk, "-c"); err != nil {
		return err
	}
	return box(ctx, j.out, []member{
		metadata(map[string]any{"provider": "libvirt", "format": "qcow2", "virtual_size": (size + gib - 1) / gib, "architecture": "amd64"}),
		{Name: "Vagrantfile", Text: vagrantfile},
		{Name: "box.img", Path: disk},
	})
}

func writeVirtualBoxBox(ctx context.Context, j job) error {
	raw, size, err := j.boxDisk(ctx)
	if err != nil {
		return err
	}
	const disk = "box-disk1.vmdk"
	path, description, err := j.machine(ctx, virtualBox, raw, size, disk)
	if err != nil {
		return err
	}
	return box(ctx, j.out, []member{
		metadata(map[string]any{"provider": "virtualbox", "architecture": "amd64"}),
		{Name: "Vagrantfile", Text: vagrantfile},
		{Name: "box.ovf", Text: description},
		{Name: disk, Path: path},
	})
}
