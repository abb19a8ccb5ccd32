// Package bootstate keeps the boot state of a disk the same for both of its
// boot loaders: systemd-boot on UEFI and GRUB on legacy BIOS. Stage 1, the health
// gate and the update engine open it; the plans of package entries (arm, mark
// good, roll back, give up, remove) then hold whichever loader counts.
//
// There is one state: the names of the entries in EFI/Linux. systemd-boot counts
// in them itself. GRUB cannot rename a file, so it counts in an environment of its
// own (package image/grub), of which there are two copies. A Loader is what
// differs: Settle brings what its loader has counted into the names, before they
// are read; Publish tells its loader of the names, after they were changed. Both
// loaders are served on every machine, so a disk can be moved from one firmware
// to the other: it goes on with the counts of its last running system, and at
// worst a release on trial gets back the tries that the other loader has made
// since and no running system has seen.
//
// Order of durability: the names first, then what GRUB reads, with one copy of its
// state whole at any time. Between the two GRUB knows the state before. That is
// harmless: a release that was removed meanwhile is passed over, because its UKI
// is not there or does not have the digest, and one that was armed is not started
// until a running system has published it.
//
// Left out on purpose: EFI variables, whose loss must not matter.
package bootstate

import (
	"errors"
	"os"

	"github.com/coracle-os/coracle/image/grub"
	"github.com/coracle-os/coracle/initrd/entries"
)

// A Loader is a boot loader that counts tries.
type Loader interface {
	// Settle brings what was counted into the names of the entries.
	Settle(entries.Dir) error
	// Publish tells the loader of the entries.
	Publish(entries.Dir) error
}

// SystemdBoot counts in the entries' names: there is nothing to do.
type SystemdBoot struct{}

// Settle does nothing.
func (SystemdBoot) Settle(entries.Dir) error { return nil }

// Publish does nothing.
func (SystemdBoot) Publish(entries.Dir) error { return nil }

// With calls f with the entries as the loaders have left them, and tells the
// loaders what f made of them, even when f fails: every step of a plan leaves a
// state that is to be booted.
func With(d entries.Dir, loaders []Loader, f func(entries.Dir) error) error {
	for _, l := range loaders {
		if err := l.Settle(d); err != nil {
			return err
		}
	}
	err := f(d)
	for _, l := range loaders {
		err = errors.Join(err, l.Publish(d))
	}
	return err
}

// UEFI tells if the running system was started by a UEFI firmware. sys is the
// mount point of sysfs.
func UEFI(sys string) bool {
	_, err := os.Stat(sys + "/firmware/efi")
	return err == nil
}

// Loaders are those of a disk. path returns where a directory of its EFI system
// partition is. A disk that was written before it had GRUB on it is left without.
// With uefi the machine does not depend on GRUB: what goes wrong with its files
// is left to the next time, and must not keep an update or a mark from UEFI.
func Loaders(path func(name string) string, uefi bool) []Loader {
	all := []Loader{SystemdBoot{}}
	files := path(grub.Directory)
	if info, err := os.Stat(files); err != nil || !info.IsDir() {
		return all
	}
	if uefi {
		return append(all, lenient{GRUB{entries.OSDir(files)}})
	}
	return append(all, GRUB{entries.OSDir(files)})
}

// lenient is a loader that the machine was not started by.
type lenient struct{ loader Loader }

func (l lenient) Settle(d entries.Dir) error  { _ = l.loader.Settle(d); return nil }
func (l lenient) Publish(d entries.Dir) error { _ = l.loader.Publish(d); return nil }
