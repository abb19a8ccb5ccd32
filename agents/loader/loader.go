// Package loader brings the boot loader on the disk to that of the running
// release, for the health gate: a release has its boot loader in its root, where
// the root hash verifies it, and once the release was marked good its loader is
// taken over.
//
// GRUB has two places in its partition, systemd-boot two files on the EFI system
// partition. The order of durability of GRUB is that of image/grub's Update; what a
// BIOS starts cannot be tried first. systemd-boot is tried first (see UEFI). In both
// cases a power cut leaves the old loader or the new one. Left out on purpose: on a
// machine that was started by a BIOS, systemd-boot, which could not be tried there.
package loader

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/grub"
)

// Update brings GRUB on a disk of size bytes to the one in root, and returns
// false when there is nothing to do: it is that one, or the release or the disk
// has none.
func Update(root fs.FS, disk grub.Disk, size int64) (changed bool, err error) {
	image, err := grub.FromRoot(root)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	layout, err := gpt.Read(disk, size)
	if err != nil {
		return false, fmt.Errorf("update the boot loader: %w", err)
	}
	part, ok := layout.Find(gpt.BIOSBoot)
	if !ok {
		return false, nil
	}
	return image.Update(disk, part.Start, part.Size)
}
