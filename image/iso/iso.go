// Package iso writes a release as an ISO 9660 image that starts on UEFI and on
// legacy BIOS, from a CD or, written to it as it is, from a USB stick. It is a
// live system, and installs itself (coracle-install).
//
// The image is made by xorriso, which knows El Torito and the hybrid boot
// records better than any Go library; it and ISOLINUX, which starts the kernel
// on BIOS, come from Debian packages. UEFI finds systemd-boot on a FAT file
// system that is a partition of the image. The root lies in the image as a file,
// under the volume label that stage 1 looks for, and is verified as on a disk.
//
// The same image and the same packages give the same bytes. Left out on purpose:
// 32-bit UEFI, and Secure Boot, which needs the owner's signature on each part.
package iso

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/live"
	"github.com/coracle-os/coracle/image/livename"
	"github.com/coracle-os/coracle/image/tree"
)

// Tools are the files of the host that writing needs, with their packages.
func Tools() map[string]string {
	return map[string]string{isolinux: "isolinux", mbr: "isolinux", ldlinux: "syslinux-common"}
}

const (
	isolinux = "/usr/lib/ISOLINUX/isolinux.bin"
	mbr      = "/usr/lib/ISOLINUX/isohdpfx.bin"
	ldlinux  = "/usr/lib/syslinux/modules/bios/ldlinux.c32"
)

// Check tells before any work whether what writing needs is there.
func Check() error {
	for file, name := range Tools() {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("write ISO: %w; install the Debian package %s (make setup does)", err, name)
		}
	}
	if _, err := exec.LookPath("xorriso"); err != nil {
		return fmt.Errorf("write ISO: %w; install the Debian package xorriso (make setup does)", err)
	}
	return nil
}

// stamp is the time of everything in the image: FAT knows none before 1980.
var stamp = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// Write writes the image to out. Intermediate files, about as large, go to
// scratch, a directory.
func Write(ctx context.Context, p *live.Parts, out, scratch string) error {
	if err := Check(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(scratch, ".iso-")
	if err != nil {
		return fmt.Errorf("write ISO: %w", err)
	}
	defer os.RemoveAll(dir)
	top, fat := filepath.Join(dir, "top"), filepath.Join(dir, "fat")
	if err := stage(p, top); err != nil {
		return fmt.Errorf("write ISO: %w", err)
	}
	if err := writeFAT(p, fat); err != nil {
		return fmt.Errorf("write ISO: %w", err)
	}
	if err := xorriso(ctx, p, top, fat, out); err != nil {
		return fmt.Errorf("write ISO: %w", err)
	}
	return nil
}

// stage puts the files of the image below top.
func stage(p *live.Parts, top string) error {
	files := map[string]io.Reader{
		"boot/vmlinuz":           strings.NewReader(string(p.Kernel)),
		"boot/initrd.cpio.zst":   strings.NewReader(string(p.Initrd)),
		"isolinux/isolinux.cfg":  strings.NewReader(isolinuxConfig(p)),
		coracle(livename.Root):   io.NewSectionReader(p.Root, 0, p.Root.Size()),
		coracle(livename.Hashes): io.NewSectionReader(p.Hashes, 0, p.Hashes.Size()),
		coracle(livename.UKI):    strings.NewReader(string(p.UKI)),
		coracle(livename.Loader): strings.NewReader(string(p.Loader)),
		"isolinux/isolinux.bin":  nil,
		"isolinux/ldlinux.c32":   nil,
	}
	for name, host := range map[string]string{"isolinux/isolinux.bin": isolinux, "isolinux/ldlinux.c32": ldlinux} {
		f, err := os.Open(host)
		if err != nil {
			return err
		}
		defer f.Close()
		files[name] = f
	}
	for name, content := range files {
		if err := stageFile(filepath.Join(top, name), content); err != nil {
			return err
		}
	}
	return nil
}

func coracle(name string) string { return livename.Directory + "/" + name }

func stageFile(name string, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	return f.Close()
}

// isolinuxConfig is the menu of BIOS machines (syslinux.cfg). It is on the
// serial console too; TAB shows the command line for changes.
func isolinuxConfig(p *live.Parts) string {
	return fmt.Sprintf(`SERIAL 0 115200
SAY Coracle %s: starting. Hold SHIFT or press TAB at the prompt for other kernel arguments.
DEFAULT coracle
PROMPT 1
TIMEOUT 30
LABEL coracle
  LINUX /boot/vmlinuz
  INITRD /boot/initrd.cpio.zst
  APPEND %s
`, p.Version, p.Arguments(livename.Medium))
}

// loaderEntry is the menu entry of UEFI machines (Boot Loader Specification,
// type 1).
func loaderEntry(p *live.Parts) string {
	return fmt.Sprintf("title Coracle %s, live and installer\nversion %s\nlinux /coracle/vmlinuz\ninitrd /coracle/initrd.cpio.zst\noptions %s\n",
		p.Version, p.Version, p.Arguments(livename.Medium))
}

// writeFAT writes the EFI system partition of the image.
func writeFAT(p *live.Parts, out string) error {
	files, err := tree.New(
		tree.File("EFI/BOOT/BOOTX64.EFI", 0o644, p.Loader),
		tree.File("loader/loader.conf", 0o644, []byte("timeout 3\n")),
		tree.File("loader/entries/coracle.conf", 0o644, []byte(loaderEntry(p))),
		tree.File("coracle/vmlinuz", 0o644, p.Kernel),
		tree.File("coracle/initrd.cpio.zst", 0o644, p.Initrd),
	)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	const mib = 1 << 20
	size := max(esp.MinSize, files.Size()+2*mib)
	size = (size + mib - 1) / mib * mib
	if err := esp.Write(f, size, files, esp.Options{Label: "CORACLE-EFI", VolumeID: 0xc04ac1e, Time: stamp}); err != nil {
		return err
	}
	return f.Close()
}

// xorriso makes the image of the tree.
func xorriso(ctx context.Context, p *live.Parts, top, fat, out string) error {
	seconds := fmt.Sprint(stamp.Unix())
	cmd := exec.CommandContext(ctx, "xorriso", "-as", "mkisofs", "-quiet",
		"-volid", livename.VolumeLabel, "-appid", "Coracle "+p.Version, "-rational-rock", "-full-iso9660-filenames",
		"--modification-date=1980010100000000", "--set_all_file_dates", "1980010100000000", "--gpt_disk_guid", "modification-date",
		"-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
		"-isohybrid-mbr", mbr, "-partition_offset", "16",
		"-append_partition", "2", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", fat, "-appended_part_as_gpt",
		"-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot",
		"-output", out, top)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+seconds, "TZ=UTC", "LC_ALL=C")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("xorriso: %w: %s", err, strings.TrimSpace(string(text)))
	}
	return nil
}
