// Package grub is the way of a Coracle disk through legacy BIOS: GRUB's boot
// sector and core image, the state in which GRUB counts tries, and the files by
// which it finds kernel and initrd inside a release's UKI. The builder writes
// them into an image, package bootstate keeps them on a machine, and inspect
// reads them.
//
// GRUB follows boot.cfg, which is inside the core image. It starts the very UKI
// that UEFI starts: a loop device over the file, of which it loads the sectors of
// .linux and .initrd, after the whole file has the SHA-256 that it must have. So
// there is one copy of each kernel, and a damaged one is never started. The SHA-256
// finds damage, not malice: who can write to the disk can write the boot sector
// too. What the kernel then mounts is verified against the root hash either way.
//
// It follows GRUB's manual (environment block, block list syntax, sha256sum) and
// the layout that grub-bios-setup gives boot sector and core image. The core is
// made by Debian's own grub-mkimage, run with its own libraries. Left out on
// purpose: Reed-Solomon codes in the core, a boot flag in the protective MBR,
// disks with sectors of 4096 bytes, and kernel arguments through SMBIOS.
package grub

import (
	"archive/tar"
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed early.cfg
var earlyConfig []byte

//go:embed boot.cfg
var bootConfig []byte

// modules are what boot.cfg needs.
var modules = []string{
	"biosdisk", "part_gpt", "fat", "memdisk", "tar", "normal", "test", "regexp", "eval", "loadenv", "loopback",
	"hashsum", "gcry_sha256", "linux", "search", "search_fs_file", "configfile", "reboot", "echo", "sleep", "serial", "terminal",
}

// Image is GRUB for BIOS before it is put anywhere.
type Image struct {
	Boot []byte // boot.img, one sector
	Core []byte // diskboot.img and what it loads
}

// Places of fields in boot sector and core image.
const (
	bootCode    = 440  // bytes of the MBR that are a program
	bootCore    = 0x5c // first sector of the core, 64 bits
	bootCheck   = 0x66 // a jump that trusts the BIOS' drive number; grub-bios-setup takes it out for hard disks
	coreNext    = 0x1f4
	coreLength  = coreNext + 8
	bootImgSize = 512
	// half is where the second place for a core begins in the partition.
	half = 512 << 10
)

// Debian's files, below a directory in which the packages are unpacked.
const (
	modulesDir = "usr/lib/grub/i386-pc"
	mkimage    = "usr/bin/grub-mkimage"
	linker     = "usr/lib64/ld-linux-x86-64.so.2"
	libraries  = "usr/lib/x86_64-linux-gnu"
)

// Make runs grub-mkimage. packages is where Debian's grub-common and grub-pc-bin
// are unpacked with the libraries that they need, so that the result does not
// depend on this host; scratch is an empty directory.
func Make(ctx context.Context, packages, scratch string) (Image, error) {
	image, err := build(ctx, packages, scratch)
	if err != nil {
		return Image{}, fmt.Errorf("make GRUB's core image: %w", err)
	}
	return image, nil
}

func build(ctx context.Context, packages, scratch string) (Image, error) {
	disk, err := memdisk()
	if err != nil {
		return Image{}, err
	}
	early, memory, out := filepath.Join(scratch, "early.cfg"), filepath.Join(scratch, "memdisk.tar"), filepath.Join(scratch, "core.img")
	if err := errors.Join(os.WriteFile(early, earlyConfig, 0o644), os.WriteFile(memory, disk, 0o644)); err != nil {
		return Image{}, err
	}
	at := func(name string) string { return filepath.Join(packages, name) }
	args := append([]string{"--library-path", at(libraries), at(mkimage), "-O", "i386-pc", "-d", at(modulesDir),
		"-o", out, "-m", memory, "-c", early, "-p", "/" + Directory}, modules...)
	if text, err := exec.CommandContext(ctx, at(linker), args...).CombinedOutput(); err != nil {
		return Image{}, fmt.Errorf("grub-mkimage: %w: %s", err, text)
	}
	boot, errBoot := os.ReadFile(filepath.Join(at(modulesDir), "boot.img"))
	core, errCore := os.ReadFile(out)
	if err := errors.Join(errBoot, errCore); err != nil {
		return Image{}, err
	}
	return Image{boot, core}, (Image{boot, core}).check()
}

// memdisk is the archive with the configuration.
func memdisk() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "grub.cfg", Mode: 0o644, Size: int64(len(bootConfig)), Format: tar.FormatUSTAR})
	if err == nil {
		_, err = w.Write(bootConfig)
	}
	return b.Bytes(), errors.Join(err, w.Close())
}

// check fails when the files are not what Place knows to change.
func (g Image) check() error {
	switch {
	case len(g.Boot) != bootImgSize || g.Boot[0] != 0xeb:
		return fmt.Errorf("boot.img has %d bytes and is no boot sector as GRUB 2 has it", len(g.Boot))
	case len(g.Core) < 2*sector || len(g.Core) > half:
		return fmt.Errorf("the core image has %d bytes, want %d to %d", len(g.Core), 2*sector, half)
	case int(binary.LittleEndian.Uint16(g.Core[coreLength:])) != (len(g.Core)+sector-1)/sector-1:
		return fmt.Errorf("the core image of %d bytes says that it has %d more sectors", len(g.Core), binary.LittleEndian.Uint16(g.Core[coreLength:]))
	}
	return nil
}

// Install writes the loader to a disk: the core into the partition that begins
// at byte start, then the program of the MBR that points to it. The partition
// table is not touched.
func (g Image) Install(disk io.WriterAt, start int64) error {
	boot, err := g.InstallCore(disk, start)
	if err != nil {
		return err
	}
	if _, err := disk.WriteAt(boot, 0); err != nil {
		return fmt.Errorf("install GRUB: boot sector: %w", err)
	}
	return nil
}

// InstallCore is Install without the last write, which is what it returns.
func (g Image) InstallCore(disk io.WriterAt, start int64) (bootCode []byte, err error) {
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("install GRUB: %w", err)
	}
	if _, err := disk.WriteAt(g.coreAt(start), start); err != nil {
		return nil, fmt.Errorf("install GRUB: core image: %w", err)
	}
	return g.bootFor(start), nil
}

// coreAt is the core image for a place on the disk, in whole sectors.
func (g Image) coreAt(start int64) []byte {
	core := append(bytes.Clone(g.Core), make([]byte, -len(g.Core)&(sector-1))...)
	binary.LittleEndian.PutUint64(core[coreNext:], uint64(start/sector+1))
	return core
}

// bootFor is the MBR's program for a core at a place on the disk.
func (g Image) bootFor(start int64) []byte {
	boot := bytes.Clone(g.Boot[:bootCode])
	binary.LittleEndian.PutUint64(boot[bootCore:], uint64(start/sector))
	boot[bootCheck], boot[bootCheck+1] = 0x90, 0x90
	return boot
}
