// Package sdboot is systemd-boot as a file: where its copies are, whether one is
// whole, and which of two is the newer. The builder puts it into root and EFI
// system partition, package loader of agents keeps it there.
//
// A program says its version in a line "#### LoaderInfo: systemd-boot 262-1 ####",
// by which bootctl(1) knows it too. Left out on purpose: other loaders.
package sdboot

import (
	"bytes"
	"cmp"
	"debug/pe"
	"errors"
	"fmt"
	"time"

	"github.com/coracle-os/coracle/image/efisign"
	"github.com/coracle-os/coracle/image/release"
)

// Where it is.
const (
	// InRoot is the release's own in its root, signed as on the partition, so that
	// the root hash verifies it.
	InRoot = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
	// Fallback is the copy on the EFI system partition that firmware starts without
	// being told to.
	Fallback = "EFI/BOOT/BOOTX64.EFI"
	// Second is the other copy there, where bootctl(1) has it too.
	Second = "EFI/systemd/systemd-bootx64.efi"
)

// Errors of a file that is not a whole systemd-boot.
var (
	ErrDamaged = errors.New("it is damaged")
	ErrForeign = errors.New("it is not systemd-boot")
)

// A Program is a whole systemd-boot.
type Program struct {
	Content []byte
	Version string    // such as "262-1"
	Signed  time.Time // from when on its certificate is valid; zero without one
}

// Info is what it says of itself when it runs.
func (p Program) Info() string { return "systemd-boot " + p.Version }

// Read reads a program. An error wraps ErrDamaged or ErrForeign.
func Read(content []byte) (Program, error) {
	if err := whole(content); err != nil {
		return Program{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	_, after, found := bytes.Cut(content, []byte("#### LoaderInfo: systemd-boot "))
	version, _, ends := bytes.Cut(after, []byte(" ####"))
	if !found || !ends || len(version) == 0 || len(version) > 100 {
		return Program{}, ErrForeign
	}
	p := Program{Content: content, Version: string(version)}
	certificate, err := efisign.Verify(bytes.NewReader(content))
	switch {
	case err == nil:
		p.Signed = certificate.NotBefore
	case !errors.Is(err, efisign.ErrUnsigned):
		return Program{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return p, nil
}

// whole fails when a program lacks a part.
func whole(content []byte) error {
	file, err := pe.NewFile(bytes.NewReader(content))
	if err != nil {
		return err
	}
	for _, s := range file.Sections {
		if end := int64(s.Offset) + int64(s.Size); end > int64(len(content)) {
			return fmt.Errorf("section %q ends at byte %d of %d", s.Name, end, len(content))
		}
	}
	return nil
}

// Compare orders two by version, then by the age of what signed them: -1 when p
// is the older one. Two that are equal are of the same release of systemd-boot,
// and the same bytes unless one is damaged.
func (p Program) Compare(other Program) int {
	return cmp.Or(release.CompareVersions(p.Version, other.Version), p.Signed.Compare(other.Signed))
}
