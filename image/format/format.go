// Package format turns a raw disk image into the forms in which platforms take
// one: virtual disks (by qemu-img, which knows them best), archives, and the
// packages of virtual machines around them.
//
// The same image gives the same bytes where the form allows; Formats says what
// stamps which of the others. Left out: forms of platforms that nobody asked
// for (Parallels, Hyper-V's dynamic VHDX), and uploading, which is publishing.
package format

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Format is one form of an image.
type Format struct {
	Name    string
	File    string // ending of its file names, with the dot
	For     string // who takes it
	Stamped string // what makes two conversions differ; "" if nothing does
	Tools   []string
	write   func(ctx context.Context, j job) error
}

// job is one conversion while it runs.
type job struct {
	Source
	out string // path to write to; renamed by the caller
}

// Source is the image to convert.
type Source struct {
	Raw     string // path of the raw image
	Name    string // "coracle", for names within a package
	Version string // of the release
}

// Formats are all forms, by name.
func Formats() []Format {
	qemu := []string{"qemu-img"}
	return []Format{
		{Name: "gce", File: ".tar.gz", For: "Google Compute Engine", write: writeGCE},
		{Name: "ova", File: ".ova", For: "VMware, VirtualBox and other importers of OVF", Stamped: "qemu-img stamps its disk", Tools: qemu, write: writeOVA},
		{Name: "qcow2", File: ".qcow2", For: "QEMU, libvirt, OpenStack, DigitalOcean", Tools: qemu, write: virtualDisk("qcow2", "compat=1.1,cluster_size=65536,compression_type=zstd", "-c")},
		{Name: "raw", File: ".raw", For: "dd, EC2, everything", write: copyRaw},
		{Name: "raw.zst", File: ".raw.zst", For: "the installer, dd after zstd -d", write: writeZstd},
		{Name: "vagrant-libvirt", File: ".libvirt.box", For: "Vagrant with libvirt", Tools: qemu, write: writeLibvirtBox},
		{Name: "vagrant-virtualbox", File: ".virtualbox.box", For: "Vagrant with VirtualBox", Stamped: "qemu-img stamps its disk", Tools: qemu, write: writeVirtualBoxBox},
		{Name: "vdi", File: ".vdi", For: "VirtualBox", Stamped: "qemu-img gives it a random UUID", Tools: qemu, write: virtualDisk("vdi", "")},
		{Name: "vhd", File: ".vhd", For: "Azure", Stamped: "qemu-img writes the time and a random UUID", Tools: qemu, write: virtualDisk("vpc", "subformat=fixed,force_size=on")},
		{Name: "vmdk", File: ".vmdk", For: "VMware", Stamped: "qemu-img gives it a random content ID", Tools: qemu, write: virtualDisk("vmdk", "subformat=streamOptimized,adapter_type=lsilogic")},
	}
}

// ErrUnknown says that there is no such form.
var ErrUnknown = errors.New("unknown format")

// Find gives the form of a name.
func Find(name string) (Format, error) {
	all := Formats()
	var names []string
	for _, f := range all {
		if f.Name == name {
			return f, nil
		}
		names = append(names, f.Name)
	}
	return Format{}, fmt.Errorf("%w %q: there are %s", ErrUnknown, name, strings.Join(names, ", "))
}

// ForFile finds the form whose file names end as path does, the longest end
// first.
func ForFile(path string) (Format, error) {
	all := Formats()
	slices.SortFunc(all, func(a, b Format) int { return len(b.File) - len(a.File) })
	for _, f := range all {
		if strings.HasSuffix(path, f.File) {
			return f, nil
		}
	}
	return Format{}, fmt.Errorf("%w: the name %q does not tell it; give it with -format", ErrUnknown, path)
}

// Check tells before any work whether the form's tools are there.
func (f Format) Check() error {
	for _, tool := range f.Tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("write %s: %w; install the Debian package qemu-utils (make setup does)", f.Name, err)
		}
	}
	return nil
}

// Write converts source into the file at path, which is there only when it is
// whole.
func (f Format) Write(ctx context.Context, source Source, path string) error {
	if err := f.Check(); err != nil {
		return err
	}
	info, err := os.Stat(source.Raw)
	if err != nil {
		return fmt.Errorf("convert to %s: %w", f.Name, err)
	}
	if info.Size()%(1<<20) != 0 {
		return fmt.Errorf("convert to %s: %q has %d bytes, which are no whole MiB: it is no image of ours", f.Name, source.Raw, info.Size())
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("convert to %s: %w", f.Name, err)
	}
	temporary.Close()
	defer os.Remove(temporary.Name())
	if err := f.write(ctx, job{Source: source, out: temporary.Name()}); err != nil {
		return fmt.Errorf("convert to %s: %w", f.Name, err)
	}
	if err := os.Chmod(temporary.Name(), 0o644); err != nil {
		return fmt.Errorf("convert to %s: %w", f.Name, err)
	}
	return os.Rename(temporary.Name(), path)
}

// virtualDisk is a form that qemu-img writes.
func virtualDisk(kind, options string, more ...string) func(context.Context, job) error {
	return func(ctx context.Context, j job) error { return qemuImg(ctx, kind, options, j.Raw, j.out, more...) }
}

func qemuImg(ctx context.Context, kind, options, raw, out string, more ...string) error {
	args := append([]string{"convert", "-q", "-f", "raw", "-O", kind}, more...)
	if options != "" {
		args = append(args, "-o", options)
	}
	text, err := exec.CommandContext(ctx, "qemu-img", append(args, raw, out)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, strings.TrimSpace(string(text)))
	}
	return nil
}

// copyRaw copies what is not zero.
func copyRaw(ctx context.Context, j job) error {
	return qemuImg(ctx, "raw", "", j.Raw, j.out)
}
