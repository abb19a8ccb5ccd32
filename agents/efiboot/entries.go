package efiboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/google/uuid"
)

// A Partition is one of a GPT.
type Partition struct {
	Number      uint32 // from 1
	UUID        uuid.UUID
	Start, Size int64 // in sectors
}

// An Entry is a boot entry of the firmware: a program on a partition.
type Entry struct {
	Name      string // what the firmware's menu shows
	Partition Partition
	File      string // such as "\EFI\BOOT\BOOTX64.EFI"
}

// active lets the firmware start an entry by itself.
const active = 1

// encode is an EFI_LOAD_OPTION.
func (e Entry) encode() []byte {
	le := binary.LittleEndian
	id := e.Partition.UUID
	drive := le.AppendUint32([]byte{4, 1, 42, 0}, e.Partition.Number)
	drive = le.AppendUint64(drive, uint64(e.Partition.Start))
	drive = le.AppendUint64(drive, uint64(e.Partition.Size))
	drive = append(drive, id[3], id[2], id[1], id[0], id[5], id[4], id[7], id[6])
	drive = append(drive, id[8:]...)
	drive = append(drive, 2, 2) // GPT, and its GUID is the signature
	name := toUTF16(e.File)
	path := append(drive, 4, 4)
	path = le.AppendUint16(path, uint16(4+len(name)))
	path = append(path, name...)
	path = append(path, 0x7f, 0xff, 4, 0)
	option := le.AppendUint32(nil, active)
	option = le.AppendUint16(option, uint16(len(path)))
	option = append(option, toUTF16(e.Name)...)
	return append(option, path...)
}

// of tells if an option is this entry, perhaps with an older place of its
// partition: firmware finds that by its GUID.
func (e Entry) of(option []byte) bool {
	name := toUTF16(e.Name)
	if len(option) < 6+len(name) || !bytes.Equal(option[6:6+len(name)], name) {
		return false
	}
	drive := option[6+len(name):]
	const guid, end = 24, 40
	return len(drive) >= end && bytes.Equal(drive[guid:end], e.encode()[6+len(name):][guid:end])
}

// Ensure makes the entries that are not there, in the firmware's order behind the
// one that started this machine, and returns the numbers of all. (At the end
// would be behind the firmware's shell, from which nothing comes back.) What is there is not
// written again.
func (v Variables) Ensure(entries ...Entry) ([]uint16, error) {
	order, err := v.order()
	if err != nil {
		return nil, err
	}
	place := len(order)
	if data, err := v.Read("BootCurrent" + global); err == nil && len(data) >= 2 {
		if i := slices.Index(order, binary.LittleEndian.Uint16(data)); i >= 0 {
			place = i + 1
		}
	}
	var numbers []uint16
	before := len(order)
	for _, e := range entries {
		number, err := v.ensure(e)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, number)
		if !slices.Contains(order, number) {
			order = slices.Insert(order, place, number)
			place++
		}
	}
	if len(order) == before {
		return numbers, nil
	}
	var content []byte
	for _, n := range order {
		content = binary.LittleEndian.AppendUint16(content, n)
	}
	return numbers, v.write("BootOrder"+global, content)
}

// ensure makes one entry, in the first number that is free.
func (v Variables) ensure(e Entry) (uint16, error) {
	want, free, found := e.encode(), -1, -1
	for n := range maxEntries {
		have, err := v.Read(option(uint16(n)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if free < 0 {
				free = n
			}
		case err != nil:
		case bytes.Equal(have, want):
			return uint16(n), nil
		case found < 0 && e.of(have):
			found = n
		}
	}
	if found >= 0 {
		free = found
	}
	if free < 0 {
		return 0, fmt.Errorf("make the boot entry %q: %w", e.Name, ErrFull)
	}
	return uint16(free), v.write(option(uint16(free)), want)
}

// maxEntries is how many numbers are looked at; firmware counts from 0.
const maxEntries = 256

func option(number uint16) string { return fmt.Sprintf("Boot%04X%s", number, global) }

// order is the firmware's.
func (v Variables) order() ([]uint16, error) {
	data, err := v.Read("BootOrder" + global)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the firmware's boot order: %w", err)
	}
	var order []uint16
	for ; len(data) >= 2; data = data[2:] {
		order = append(order, binary.LittleEndian.Uint16(data))
	}
	return order, nil
}

// Next has the firmware start an entry the next time, and only then.
func (v Variables) Next(number uint16) error {
	return v.write("BootNext"+global, binary.LittleEndian.AppendUint16(nil, number))
}
