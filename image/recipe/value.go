package recipe

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as "512 MiB".
type Size int64

// Units of Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

// UnmarshalText reads a number and a unit, KiB, MiB or GiB.
func (s *Size) UnmarshalText(text []byte) error {
	fields := strings.Fields(string(text))
	if len(fields) == 1 {
		digits := strings.TrimRight(fields[0], "KMGTiB")
		fields = []string{digits, strings.TrimPrefix(fields[0], digits)}
	}
	units := map[string]Size{"KiB": KiB, "MiB": MiB, "GiB": GiB}
	if len(fields) == 2 {
		number, err := strconv.ParseInt(fields[0], 10, 32)
		if unit, ok := units[fields[1]]; ok && err == nil && number > 0 {
			*s = Size(number) * unit
			return nil
		}
	}
	return fmt.Errorf("%q is no size; write a whole number with KiB, MiB or GiB, such as 512 MiB", text)
}

// String is the size in the largest unit that leaves a whole number.
func (s Size) String() string {
	switch {
	case s != 0 && s%GiB == 0:
		return fmt.Sprintf("%d GiB", s/GiB)
	case s != 0 && s%MiB == 0:
		return fmt.Sprintf("%d MiB", s/MiB)
	case s != 0 && s%KiB == 0:
		return fmt.Sprintf("%d KiB", s/KiB)
	}
	return fmt.Sprintf("%d B", int64(s))
}

// Mode is the permission bits of a file, written in octal as chmod(1) takes them.
type Mode uint32

// UnmarshalText reads an octal number of at most 07777.
func (m *Mode) UnmarshalText(text []byte) error {
	number, err := strconv.ParseUint(strings.TrimPrefix(string(text), "0o"), 8, 32)
	if err != nil || number > 0o7777 || number == 0 {
		return fmt.Errorf("%q is no file mode; write it in octal, such as 0644", text)
	}
	*m = Mode(number)
	return nil
}

// FileMode returns the bits as io/fs has them.
func (m Mode) FileMode() fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	for bit, flag := range map[Mode]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&bit != 0 {
			mode |= flag
		}
	}
	return mode
}
