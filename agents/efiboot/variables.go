// Package efiboot is the firmware's own boot entries, and what it says of how it
// started this machine, for the update of the boot loader.
//
// It follows the UEFI specification (2.3: the boot manager and its variables,
// 10.3: device paths) and systemd's Boot Loader Interface, through the kernel's
// efivarfs. The boot state is not here: a firmware that forgets its entries, or
// has no room for any, starts EFI/BOOT/BOOTX64.EFI, and nothing is lost but a
// second way to start. So everything here may fail, and says why.
//
// efibootmgr could do it; it is a program with three libraries more in the root for
// a hundred lines. Left out on purpose: the entries of others, which are never
// changed, and removing our own of a disk that is gone.
package efiboot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/image/secureboot"
)

// Path is where efivarfs is on a machine.
const Path = "/sys/firmware/efi/efivars"

// Vendors of variables.
const (
	global = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	loader = "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f" // systemd-boot and the stub
)

// attributes of what is written: it stays, and both firmware and system have it.
const attributes = 7

// Errors of variables that cannot be written.
var (
	// ErrFull says that the firmware has no room for another variable.
	ErrFull = errors.New("the firmware's memory for variables (NVRAM) is full: remove entries that nobody needs in its menu, or its dumps in /sys/fs/pstore")
	// ErrReadOnly says that the firmware or the kernel does not let variables be written.
	ErrReadOnly = errors.New("the firmware's variables cannot be written on this machine")
)

// Variables are those in an efivarfs.
type Variables struct {
	Dir string // Path, but in tests
}

// Read returns a variable's content; name has its vendor behind it.
func (v Variables) Read(name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(v.Dir, name))
	if err != nil {
		return nil, err
	}
	if len(data) < 4 {
		return nil, fmt.Errorf("variable %q has %d bytes, want four of attributes first", name, len(data))
	}
	return data[4:], nil
}

// write replaces a variable; efivarfs wants it in one piece.
func (v Variables) write(name string, content []byte) error {
	path := filepath.Join(v.Dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return explain(name, err)
	}
	_, err = f.Write(append(binary.LittleEndian.AppendUint32(nil, attributes), content...))
	if err = errors.Join(err, f.Close()); err != nil {
		if info, statErr := os.Stat(path); statErr == nil && info.Size() == 0 {
			os.Remove(path)
		}
		return explain(name, err)
	}
	return nil
}

// explain says what can be done about a variable that was not written.
func explain(name string, err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EDQUOT):
		err = errors.Join(ErrFull, err)
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EIO):
		err = errors.Join(ErrReadOnly, err)
	}
	return fmt.Errorf("write EFI variable %q: %w", name, err)
}

// StartedBy returns which boot loader started this machine, as it says itself:
// its path on the EFI system partition, such as "\EFI\BOOT\BOOTX64.EFI", and what
// it is, such as "systemd-boot 262-1". They are "" when nothing says so.
func (v Variables) StartedBy() (path, info string) {
	return v.text("LoaderImageIdentifier" + loader), v.text("LoaderInfo" + loader)
}

// text reads a variable of UTF-16.
func (v Variables) text(name string) string {
	data, err := v.Read(name)
	if err != nil {
		return ""
	}
	return fromUTF16(data)
}

// fromUTF16 reads up to the first zero.
func fromUTF16(data []byte) string {
	var units []uint16
	for ; len(data) >= 2; data = data[2:] {
		u := binary.LittleEndian.Uint16(data)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// toUTF16 ends in a zero.
func toUTF16(text string) []byte {
	var data []byte
	for _, u := range append(utf16.Encode([]rune(text)), 0) {
		data = binary.LittleEndian.AppendUint16(data, u)
	}
	return data
}

// Trust is what the firmware starts with Secure Boot.
func (v Variables) Trust() (secureboot.Trust, error) {
	db, err := v.Read(secureboot.Variable("db"))
	if err != nil {
		return secureboot.Trust{}, fmt.Errorf("read the firmware's keys: %w", err)
	}
	dbx, err := v.Read(secureboot.Variable("dbx"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return secureboot.Trust{}, fmt.Errorf("read the firmware's keys: %w", err)
	}
	return secureboot.ReadTrust(db, dbx)
}
