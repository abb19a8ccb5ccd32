// Package format turns a raw disk image into the forms in which platforms take
// one: virtual disks (by qemu-img, which knows them best), archives, and the
// packages of virtual machines around them.
//
// The same image gives the same bytes, with the same qemu-img: what that stamps
// is replaced by what follows from the image (stamp.go). Left out: forms of
// platforms that nobody asked for (Parallels, Hyper-V's dynamic VHDX), and
// uploading, which is publishing.
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

	"github.com/coracle-os/coracle/image/iso"
)

// Format is one form of an image.
type Format struct {
	Name  string
	File  string // ending of its file names, with the dot; "" for a directory
	For   string // who takes it
	Tools []string
	check func() error // for more than Tools; nil for none
	write func(ctx context.Context, j job) error
}

// Default is the form's name in the directory of a build.
func (f Format) Default(name string) string {
	if f.File == "" {
		return f.Name
	}
	return name + f.File
}

// job is one conversion while it runs.
type job struct {
	Source
	dir string // for temporary files; removed by the caller
	out string // path to write to, in dir; renamed by the caller
}

// Source is the image to convert.
type Source struct {
	Raw     string // path of the raw image
	Name    string // "coracle", for names within a package
	Version string // of the release
}

// Formats are all forms, by name.
func Formats() []Format {
	qemu, box := []string{"qemu-img"}, []string{"qemu-img", "mke2fs", "debugfs"}
	return []Format{
		{Name: "gce", File: ".tar.gz", For: "Google Compute Engine", write: writeGCE},
		{Name: "iso", File: ".iso", For: "CDs and USB sticks: a live system that installs itself", check: iso.Check, write: writeISO},
		{Name: "ova", File: ".ova", For: "VMware, VirtualBox and other importers of OVF", Tools: qemu, write: writeOVA},
		{Name: "pxe", For: "network boot, a directory; coracle pxe serve", write: writePXE},
		{Name: "qcow2", File: ".qcow2", For: "QEMU, libvirt, OpenStack, DigitalOcean", Tools: qemu, write: writeQcow2},
		{Name: "raw", File: ".raw", For: "dd, EC2, everything", write: copyRaw},
		{Name: "raw.zst", File: ".raw.zst", For: "the installer, dd after zstd -d", write: writeZstd},
		{Name: "vagrant-libvirt", File: ".libvirt.box", For: "Vagrant with libvirt", Tools: box, write: writeLibvirtBox},
		{Name: "vagrant-virtualbox", File: ".virtualbox.box", For: "Vagrant with VirtualBox", Tools: box, write: writeVirtualBoxBox},
		{Name: "vdi", File: ".vdi", For: "VirtualBox", Tools: qemu, write: writeVDI},
		{Name: "vhd", File: ".vhd", For: "Azure", Tools: qemu, write: writeVHD},
		{Name: "vmdk", File: ".vmdk", For: "VMware", Tools: qemu, write: writeVMDK},
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
		if f.File != "" && strings.HasSuffix(path, f.File) {
			return f, nil
		}
	}
	return Format{}, fmt.Errorf("%w: the name %q does not tell it; give it with -format", ErrUnknown, path)
}

// Check tells before any work whether the form's tools are there.
func (f Format) Check() error {
	if f.check != nil {
		if err := f.check(); err != nil {
			return err
		}
	}
	for _, tool := range f.Tools {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		// Debian has some of them in a directory that is not in every user's PATH.
		if _, err := exec.LookPath("/usr/sbin/" + tool); err != nil {
			return fmt.Errorf("write %s: find %s: %w; install the Debian packages qemu-utils and e2fsprogs (make setup does)", f.Name, tool, exec.ErrNotFound)
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
	// Some forms hold the name of their file, so that is not the random one.
	dir, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("convert to %s: %w", f.Name, err)
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, f.Default(source.Name))
	if err := f.write(ctx, job{Source: source, dir: dir, out: out}); err != nil {
		return fmt.Errorf("convert to %s: %w", f.Name, err)
	}
	if f.File == "" { // a directory, whose files were written with care
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("convert to %s: %w", f.Name, err)
		}
		return os.Rename(out, path)
	}
	if err := os.Chmod(out, 0o644); err != nil {
		return fmt.Errorf("convert to %s: %w", f.Name, err)
	}
	return os.Rename(out, path)
}
