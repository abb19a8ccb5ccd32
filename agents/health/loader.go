package health

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"github.com/google/uuid"

	"github.com/coracle-os/coracle/agents/efiboot"
	"github.com/coracle-os/coracle/agents/esp"
	"github.com/coracle-os/coracle/agents/loader"
	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/agents/update/store"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/sdboot"
	"github.com/coracle-os/coracle/initrd/bootstate"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/initrd/partition"
	"github.com/coracle-os/coracle/rootfs/firmware"
)

// countVariable is the variable in which systemd-boot names the entry that it
// booted and counts; systemd-boot(7). Entries that do not count have none.
const countVariable = "/sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// loaderCount returns the file name in the variable, such as
// "coracle-2+2-1.efi"; "" when there is none.
func loaderCount(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return countedName(data)
}

// countedName reads the variable: four bytes of attributes, then a path in
// UTF-16.
func countedName(data []byte) string {
	if len(data) < 4 {
		return ""
	}
	var units []uint16
	for data = data[4:]; len(data) >= 2; data = data[2:] {
		u := binary.LittleEndian.Uint16(data)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	text := string(utf16.Decode(units))
	return text[strings.LastIndexAny(text, `\/`)+1:]
}

// updateLoader updates the boot loaders on the disk of the root.
func updateLoader(rootDevice string, s *store.Store) (done string, err error) {
	disk, err := slots.Open("/sys", "/dev", rootDevice)
	if err != nil {
		return "", err
	}
	defer disk.File.Close()
	if disk.SectorSize == gpt.SectorSize { // GRUB starts from no others
		changed, errGRUB := loader.Update(os.DirFS("/"), disk.File, disk.Size)
		if changed {
			done = "GRUB is now that of this release"
		}
		err = errGRUB
	}
	if !bootstate.UEFI("/sys") {
		return done, err
	}
	errFiles := esp.Partition(rootDevice, func(path func(string) string, part partition.Partition) error {
		id, err := uuid.Parse(part.UUID)
		if err != nil {
			return fmt.Errorf("the EFI system partition %s: %w", part.Device, err)
		}
		sector := int64(disk.SectorSize)
		where := efiboot.Partition{Number: uint32(part.Index), UUID: id, Start: part.Start / sector, Size: part.Size / sector}
		return updateSystemdBoot(path, where, s, &done)
	})
	return done, errors.Join(err, errFiles)
}

// updateSystemdBoot updates the files on the EFI system partition.
func updateSystemdBoot(path func(string) string, where efiboot.Partition, s *store.Store, done *string) error {
	variables := efiboot.Variables{Dir: efiboot.Path}
	if err := os.MkdirAll(path(filepath.Dir(sdboot.Second)), 0o700); err != nil {
		return err
	}
	u := loader.UEFI{Root: os.DirFS("/"), Variables: variables, Partition: where,
		Fallback: entries.OSDir(path(filepath.Dir(sdboot.Fallback))), Second: entries.OSDir(path(filepath.Dir(sdboot.Second))),
		Tried: func() (string, error) { return s.Value("systemd-boot") }, SetTried: func(v string) error { return s.SetValue("systemd-boot", v) },
	}
	if firmware.Read(os.DirFS("/")).SecureBoot {
		trust, err := variables.Trust()
		u.Trust = trust.Check
		if err != nil { // then nothing new is installed
			u.Trust = func(io.ReaderAt) error { return err }
		}
	}
	text, err := u.Update()
	if text != "" && *done != "" {
		text = *done + "; " + text
	}
	if text != "" {
		*done = text
	}
	return err
}
