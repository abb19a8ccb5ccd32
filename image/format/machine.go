package format

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/template"
)

// What a virtual machine gets when nobody says otherwise.
const (
	processors = 2
	memoryMiB  = 2048
)

//go:embed machine.ovf
var ovfText string

//go:embed Vagrantfile
var vagrantfile []byte

// ovf describes the virtual machine (DMTF DSP0243, OVF 1.0, which VMware and
// VirtualBox read).
func ovf(j job, disk string, capacity, diskBytes int64) ([]byte, error) {
	t, err := template.New("ovf").Parse(ovfText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Name": j.Name, "Version": j.Version, "Disk": disk, "Capacity": capacity, "Bytes": diskBytes,
		"Processors": processors, "Memory": memoryMiB,
	})
	return b.Bytes(), err
}

// vmdk writes the image as a VMDK beside out and describes a machine with it.
func vmdk(ctx context.Context, j job, name string) (path string, description []byte, err error) {
	info, err := os.Stat(j.Raw)
	if err != nil {
		return "", nil, err
	}
	path = j.out + ".vmdk"
	if err := virtualDisk("vmdk", "subformat=streamOptimized,adapter_type=lsilogic")(ctx, job{Source: j.Source, out: path}); err != nil {
		return "", nil, err
	}
	disk, err := os.Stat(path)
	if err != nil {
		return path, nil, err
	}
	description, err = ovf(j, name, info.Size(), disk.Size())
	return path, description, err
}

// writeOVA packs description, digests and disk, in this order, as OVF asks for.
func writeOVA(ctx context.Context, j job) error {
	disk := j.Name + "-disk1.vmdk"
	path, description, err := vmdk(ctx, j, disk)
	if path != "" {
		defer os.Remove(path)
	}
	if err != nil {
		return err
	}
	sum, err := digest(path)
	if err != nil {
		return err
	}
	name := j.Name + ".ovf"
	digests := fmt.Appendf(nil, "SHA256(%s)= %x\nSHA256(%s)= %x\n", name, sha256.Sum256(description), disk, sum)
	return writeFile(j.out, func(f *os.File) error {
		return pack(ctx, f, []member{{Name: name, Text: description}, {Name: j.Name + ".mf", Text: digests}, {Name: disk, Path: path}})
	})
}

func digest(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

// box writes a Vagrant box: a compressed archive of the members.
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
	info, err := os.Stat(j.Raw)
	if err != nil {
		return err
	}
	disk := j.out + ".qcow2"
	defer os.Remove(disk)
	if err := qemuImg(ctx, "qcow2", "compat=1.1,cluster_size=65536", j.Raw, disk, "-c"); err != nil {
		return err
	}
	return box(ctx, j.out, []member{
		metadata(map[string]any{"provider": "libvirt", "format": "qcow2", "virtual_size": (info.Size() + gib - 1) / gib, "architecture": "amd64"}),
		{Name: "Vagrantfile", Text: vagrantfile},
		{Name: "box.img", Path: disk},
	})
}

func writeVirtualBoxBox(ctx context.Context, j job) error {
	disk := "box-disk1.vmdk"
	path, description, err := vmdk(ctx, j, disk)
	if path != "" {
		defer os.Remove(path)
	}
	if err != nil {
		return err
	}
	return box(ctx, j.out, []member{
		metadata(map[string]any{"provider": "virtualbox", "architecture": "amd64"}),
		{Name: "Vagrantfile", Text: vagrantfile},
		{Name: "box.ovf", Text: description},
		{Name: filepath.Base(disk), Path: path},
	})
}
