// Package entries is the boot entries on the EFI system partition: the file
// names of automatic boot assessment, what they say, and what an update does
// with them. The update engine arms new releases with it and the health gate
// marks them good.
//
// It follows the Boot Loader Specification and the UAPI group's "Automatic Boot
// Assessment": `coracle-<version>+<left>-<done>.efi` in EFI/Linux is counted
// down by systemd-boot itself; `coracle-<version>.efi` is good. The names are
// the whole boot state: there is no default entry and no environment block.
//
// Planning is pure: a Listing and an aim give Steps, and Apply performs them on
// a Dir. The order of the steps is the order of durability. Left out on
// purpose: type #1 entries (.conf files) and other systems' files, which are
// never touched.
package entries

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// Directory is where the entries are on the EFI system partition.
	Directory = "EFI/Linux"
	// Tries is how often a new release may be tried before the loader gives
	// up on it.
	Tries = 3

	prefix     = "coracle-"
	suffix     = ".efi"
	tempSuffix = ".new" // no loader takes a file of this name for an entry
)

// Name is what the name of an entry says.
type Name struct {
	Version string
	// Counted is true for an entry on trial. Left is the number of tries that
	// remain and Done that of the tries made; both are 0 without Counted.
	Counted    bool
	Left, Done int
}

// ErrName says that a file name is not that of one of our entries.
var ErrName = errors.New("not the name of a boot entry")

// ParseName reads a file name such as "coracle-1.2.3+2-1.efi".
func ParseName(file string) (Name, error) {
	rest, ok := strings.CutPrefix(file, prefix)
	if !ok {
		return Name{}, fmt.Errorf("%w: %q does not start with %q", ErrName, file, prefix)
	}
	if rest, ok = strings.CutSuffix(rest, suffix); !ok {
		return Name{}, fmt.Errorf("%w: %q does not end in %q", ErrName, file, suffix)
	}
	version, counters, counted := strings.Cut(rest, "+")
	n := Name{Version: version, Counted: counted}
	if err := CheckVersion(version); err != nil {
		return Name{}, fmt.Errorf("%w: %q: %w", ErrName, file, err)
	}
	if !counted {
		return n, nil
	}
	left, done, hasDone := strings.Cut(counters, "-")
	var err error
	if n.Left, err = counter(left); err != nil {
		return Name{}, fmt.Errorf("%w: %q: tries left: %w", ErrName, file, err)
	}
	if hasDone {
		if n.Done, err = counter(done); err != nil {
			return Name{}, fmt.Errorf("%w: %q: tries done: %w", ErrName, file, err)
		}
	}
	return n, nil
}

// counter reads a number as systemd-boot does: digits only.
func counter(s string) (int, error) {
	if s == "" || len(s) > 9 || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a number of at most nine digits", s)
	}
	return strconv.Atoi(s)
}

// CheckVersion fails for what cannot be the version in an entry's name: the
// characters are those of the Boot Loader Specification's file names, without
// "+", which starts the counters.
func CheckVersion(version string) error {
	if version == "" || len(version) > 100 {
		return fmt.Errorf("version %q has %d characters, want 1 to 100", version, len(version))
	}
	for _, r := range version {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_~^", r) {
			return fmt.Errorf("version %q: %q cannot stand in a file name of the boot loader", version, r)
		}
	}
	if strings.HasPrefix(version, ".") {
		return fmt.Errorf("version %q starts with a dot", version)
	}
	return nil
}

// String is the file name.
func (n Name) String() string {
	if !n.Counted {
		return prefix + n.Version + suffix
	}
	return fmt.Sprintf("%s%s+%d-%d%s", prefix, n.Version, n.Left, n.Done, suffix)
}

// Good is true for an entry that was marked good.
func (n Name) Good() bool { return !n.Counted }

// Bad is true for an entry whose tries are spent: the loader takes it last.
func (n Name) Bad() bool { return n.Counted && n.Left == 0 }

// Temp is the name that the file has until it is whole.
func (n Name) Temp() string { return prefix + n.Version + suffix + tempSuffix }

// IsTemp is true for names that only a half-done write leaves behind.
func IsTemp(file string) bool {
	return strings.HasPrefix(file, prefix) && strings.HasSuffix(file, suffix+tempSuffix)
}
