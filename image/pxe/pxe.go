// Package pxe writes a release as the files that machines start from over the
// network: kernel, initrd, the root as a second initrd, and a script for iPXE
// that names them. Any TFTP or web server can serve them; `coracle pxe serve`
// does.
//
// The kernel unpacks both initrds into memory; stage 1 finds the root there and
// verifies it against roothash= as it does on a disk. The same image gives the
// same bytes. Left out on purpose: the boot programs of the network themselves
// (Debian's package ipxe has them).
package pxe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/coracle-os/coracle/image/live"
	"github.com/coracle-os/coracle/image/livename"
)

// Names of the files of a set.
const (
	KernelName = "vmlinuz"
	InitrdName = "initrd.cpio.zst"
	RootName   = "root.cpio.zst"
	ScriptName = "coracle.ipxe"
)

// Names are those of all files of a set.
func Names() []string { return []string{KernelName, InitrdName, RootName, ScriptName} }

// Write writes the set into dir, which is made if need be. Each file is there
// only when it is whole, and the script last.
func Write(p *live.Parts, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write PXE set: %w", err)
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{KernelName, content(p.Kernel)},
		{InitrdName, content(p.Initrd)},
		{RootName, func(w io.Writer) error { return writeRoot(w, p) }},
		{ScriptName, content([]byte(Script(p)))},
	} {
		if err := writeFile(filepath.Join(dir, f.name), f.write); err != nil {
			return fmt.Errorf("write PXE set: %s: %w", f.name, err)
		}
	}
	return nil
}

func content(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// ArgumentsVariable is the iPXE setting whose value is added to the kernel's
// arguments, for a script that chains to this one.
const ArgumentsVariable = "coracle-args"

// Script is the iPXE script (ipxe.org/cmd). The names of the initrds on the
// command line are for kernels that UEFI starts; others ignore them.
func Script(p *live.Parts) string {
	return fmt.Sprintf(`#!ipxe
# Coracle %s, root %s
echo Coracle %s: loading kernel and root
kernel %s initrd=%s initrd=%s %s ${%s} || goto failed
initrd %s || goto failed
initrd %s || goto failed
boot || goto failed
:failed
echo Coracle could not be loaded; trying again in 30 seconds
imgfree
sleep 30
exit 1
`, p.Version, p.RootHash, p.Version, KernelName, InitrdName, RootName, p.Arguments(livename.Memory), ArgumentsVariable, InitrdName, RootName)
}

// window is how far back compression looks, in bytes: what it costs the kernel
// in memory beside the root that it unpacks.
const window = 8 << 20

// writeRoot writes root, hash tree and boot files as a compressed cpio archive.
func writeRoot(w io.Writer, p *live.Parts) error {
	// One goroutine, so that the bytes do not depend on the number of processors.
	compressor, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		return err
	}
	archive := cpio.Newc.Writer(compressor)
	const directory, regular = 0o040755, 0o100644
	records := []cpio.Record{{Info: cpio.Info{Name: livename.Directory, Ino: 1, NLink: 2, Mode: directory}}}
	for i, f := range []struct {
		name    string
		content io.ReaderAt
		size    int64
	}{
		{livename.Root, p.Root, p.Root.Size()},
		{livename.Hashes, p.Hashes, p.Hashes.Size()},
		{livename.UKI, strings.NewReader(string(p.UKI)), int64(len(p.UKI))},
		{livename.Loader, strings.NewReader(string(p.Loader)), int64(len(p.Loader))},
	} {
		records = append(records, cpio.Record{ReaderAt: f.content, Info: cpio.Info{
			Name: livename.Directory + "/" + f.name, Ino: uint64(i + 2), NLink: 1, Mode: regular, FileSize: uint64(f.size),
		}})
	}
	var errs []error
	for _, r := range records {
		errs = append(errs, archive.WriteRecord(r))
	}
	errs = append(errs, cpio.WriteTrailer(archive), compressor.Close())
	return errors.Join(errs...)
}
