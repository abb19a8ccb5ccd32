// Package gpt lays out a disk image and writes it: the plan of the partitions
// (a pure function of sizes and identities), the GUID partition table, and the
// assembly of partition images into one sparse file. The builder writes with
// it; inspect reads the table back.
//
// It follows UEFI 2.10 chapter 5 for the table and the Discoverable Partitions
// Specification of the UAPI group for types and for the UUIDs of the root
// partitions, which are the two halves of the root hash. go-diskfs encodes and
// decodes the table.
//
// Left out on purpose: disks with 4096-byte sectors (images are files with
// 512-byte sectors), boot code in the MBR, and changing a table on a machine's
// disk, which stage 1 does.
package gpt

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Names of an image's partitions, in the order of the disk.
const (
	BIOSBoot    = "BIOS-BOOT"
	ESP         = "ESP"
	RootA       = "root-A"
	RootAVerity = "root-A-verity"
	RootB       = "root-B"
	RootBVerity = "root-B-verity"
	OEM         = "oem"
	State       = "state"
)

// Partition type GUIDs; the root types are those of x86-64.
const (
	TypeBIOSBoot   = "21686148-6449-6e6f-744e-656564454649"
	TypeESP        = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	TypeRoot       = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
	TypeRootVerity = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"
	TypeLinux      = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	TypeState      = "4d21b016-b534-45c2-a9fb-5c16e091fd2d" // /var
)

const (
	// SectorSize is the size of a sector in bytes.
	SectorSize = 512
	// Alignment is what partitions start at multiples of, in bytes.
	Alignment = 1 << 20
	// MaxSize is the largest disk in bytes that the plan makes.
	MaxSize = int64(1) << 44
)

// A Partition is one partition of a Layout.
type Partition struct {
	Name  string    // at most 36 characters
	Type  uuid.UUID // what it is for
	UUID  uuid.UUID // which one it is
	Start int64     // first byte on the disk
	Size  int64     // in bytes
}

// A Layout is a partition table.
type Layout struct {
	DiskUUID   uuid.UUID
	Size       int64 // of the disk in bytes
	Partitions []Partition
	// FromBackup says that Read had to use the table at the disk's end,
	// because the one at its start is damaged.
	FromBackup bool
}

// Find returns the partition of that name.
func (l Layout) Find(name string) (Partition, bool) {
	for _, p := range l.Partitions {
		if p.Name == name {
			return p, true
		}
	}
	return Partition{}, false
}

// Sizes are the partitions' sizes in bytes, each a positive multiple of
// Alignment. Both slots have the same sizes.
type Sizes struct {
	BIOSBoot, ESP, Root, RootVerity, OEM, State int64
}

// DefaultSizes are those of the default recipe.
func DefaultSizes() Sizes {
	const mib = 1 << 20
	return Sizes{BIOSBoot: mib, ESP: 512 * mib, Root: 1024 * mib, RootVerity: 16 * mib, OEM: 64 * mib, State: 256 * mib}
}

// Plan returns the layout of an image whose slot A holds the root with this
// root hash, of 32 bytes. All UUIDs that do not come from the root hash come
// from seed, so that equal arguments give equal disks.
func Plan(sizes Sizes, rootHash []byte, seed string) (Layout, error) {
	root, verity, err := RootUUIDs(rootHash)
	if err != nil {
		return Layout{}, fmt.Errorf("plan disk: %w", err)
	}
	parts := []Partition{
		{Name: BIOSBoot, Type: uuid.MustParse(TypeBIOSBoot), Size: sizes.BIOSBoot},
		{Name: ESP, Type: uuid.MustParse(TypeESP), Size: sizes.ESP},
		{Name: RootA, Type: uuid.MustParse(TypeRoot), UUID: root, Size: sizes.Root},
		{Name: RootAVerity, Type: uuid.MustParse(TypeRootVerity), UUID: verity, Size: sizes.RootVerity},
		{Name: RootB, Type: uuid.MustParse(TypeRoot), Size: sizes.Root},
		{Name: RootBVerity, Type: uuid.MustParse(TypeRootVerity), Size: sizes.RootVerity},
		{Name: OEM, Type: uuid.MustParse(TypeLinux), Size: sizes.OEM},
		{Name: State, Type: uuid.MustParse(TypeState), Size: sizes.State},
	}
	layout := Layout{DiskUUID: DerivedUUID(seed, "disk")}
	var errs []error
	next := int64(Alignment)
	for _, p := range parts {
		if p.UUID == uuid.Nil {
			p.UUID = DerivedUUID(seed, "partition "+p.Name)
		}
		if p.Size <= 0 || p.Size%Alignment != 0 || p.Size > MaxSize {
			errs = append(errs, fmt.Errorf("partition %s: size %d, want a positive multiple of %d (1 MiB)", p.Name, p.Size, Alignment))
			continue
		}
		p.Start = next
		next += p.Size
		layout.Partitions = append(layout.Partitions, p)
	}
	layout.Size = next + Alignment // the backup table is in the last 33 sectors
	if layout.Size > MaxSize {
		errs = append(errs, fmt.Errorf("the disk would have %d bytes, at most %d", layout.Size, MaxSize))
	}
	if err := errors.Join(errs...); err != nil {
		return Layout{}, fmt.Errorf("plan disk: %w", err)
	}
	return layout, nil
}

// RootUUIDs returns the UUIDs of the partitions that hold the root with this
// root hash and its hash tree: the first and the last 128 bits.
func RootUUIDs(rootHash []byte) (root, verity uuid.UUID, err error) {
	if len(rootHash) != 32 {
		return uuid.Nil, uuid.Nil, fmt.Errorf("root hash of %d bytes, want 32", len(rootHash))
	}
	copy(root[:], rootHash[:16])
	copy(verity[:], rootHash[16:])
	return root, verity, nil
}

// DerivedUUID returns the UUID (version 5) that stands for name under seed.
func DerivedUUID(seed, name string) uuid.UUID {
	space := uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/coracle-os/coracle"))
	return uuid.NewSHA1(uuid.NewSHA1(space, []byte(seed)), []byte(name))
}
