package partition

import (
	"errors"
	"fmt"
	"strings"
)

// Found is a root partition with its hash tree, ready to be opened.
type Found struct {
	Root, Verity Partition
	Disk         Disk // the one with the root
	// Notices are oddities for the owner, such as a second copy of the pair.
	Notices []string
}

// ErrNotYet says that a partition of the pair was not found: a disk may still
// be on its way.
var ErrNotYet = errors.New("partition not found")

// Select picks the pair from what is there. Both partitions may be on any
// disk; when there are several, those on one disk win, and then the first.
//
// The error wraps ErrNotYet when waiting may help. It wraps the disk's problem
// (ErrTruncated, ErrDamaged) when the pair is there but the kernel cannot use
// it. Half is true when one of the two was found.
func Select(disks []Disk, pair Pair) (found Found, half bool, err error) {
	var best *Found
	copies := 0
	for i := range disks {
		root, hasRoot := byUUID(disks[i], pair.Root)
		if !hasRoot {
			continue
		}
		half = true
		if problem := unusable(disks[i], root); problem != nil {
			err = errors.Join(err, problem)
			continue
		}
		verity, hasVerity := byUUID(disks[i], pair.Verity)
		sameDisk := hasVerity
		for j := 0; j < len(disks) && !hasVerity; j++ {
			verity, hasVerity = byUUID(disks[j], pair.Verity)
		}
		if !hasVerity {
			continue
		}
		copies++
		if best == nil || (sameDisk && !onDisk(best.Disk, best.Verity)) {
			best = &Found{Root: root, Verity: verity, Disk: disks[i]}
		}
	}
	if best != nil {
		if best.Verity.Device == "" {
			return Found{}, true, fmt.Errorf("%w: the kernel does not show partition %d (%s) yet", ErrNotYet, best.Verity.Index, best.Verity.Name)
		}
		if copies > 1 {
			best.Notices = append(best.Notices, fmt.Sprintf("%d disks hold this root; using %s: remove the others, or it may change at the next boot", copies, best.Root.Device))
		}
		return *best, true, nil
	}
	if err != nil {
		return Found{}, half, err
	}
	return Found{}, half, missing(disks, pair)
}

func byUUID(disk Disk, uuid string) (Partition, bool) {
	for _, part := range disk.Partitions {
		if part.UUID == uuid {
			return part, true
		}
	}
	return Partition{}, false
}

func onDisk(disk Disk, part Partition) bool {
	for _, p := range disk.Partitions {
		if p == part {
			return true
		}
	}
	return false
}

// unusable says why the kernel has no device for a partition of the table.
func unusable(disk Disk, part Partition) error {
	switch {
	case errors.Is(disk.Problem, ErrTruncated):
		return fmt.Errorf("disk %s: %w", disk.Device, disk.Problem)
	case part.Device != "":
		return nil
	case disk.Problem != nil:
		return fmt.Errorf("disk %s: %w", disk.Device, disk.Problem)
	}
	return fmt.Errorf("%w: the kernel does not show partition %d (%s) of disk %s yet", ErrNotYet, part.Index, part.Name, disk.Device)
}

// missing says which of the pair is not there, and what is.
func missing(disks []Disk, pair Pair) error {
	var text strings.Builder
	name, uuid := "root", pair.Root
	for _, disk := range disks {
		if root, ok := byUUID(disk, pair.Root); ok {
			name, uuid = "verity", pair.Verity
			fmt.Fprintf(&text, "; root is partition %d (%s) of %s", root.Index, root.Name, disk.Device)
			break
		}
	}
	if len(disks) == 0 {
		text.WriteString("; no disk at all: the initrd may lack the driver of its controller")
	}
	for _, disk := range disks {
		if disk.Problem != nil {
			fmt.Fprintf(&text, "; disk %s: %v", disk.Device, disk.Problem)
		} else {
			fmt.Fprintf(&text, "; disk %s: %d partitions", disk.Device, len(disk.Partitions))
		}
	}
	return fmt.Errorf("%w: no %s partition with UUID %s%s", ErrNotYet, name, uuid, text.String())
}

// State gives the state partition of a disk: by type and name, or else the
// only one of the type.
func State(disk Disk) (Partition, bool) {
	var ofType []Partition
	for _, part := range disk.Partitions {
		if part.Type != TypeState {
			continue
		}
		if part.Name == "state" {
			return part, true
		}
		ofType = append(ofType, part)
	}
	if len(ofType) == 1 {
		return ofType[0], true
	}
	return Partition{}, false
}

// Slot gives the letter at the end of a root partition's name, "root-A".
func Slot(name string) string {
	if slot, ok := strings.CutPrefix(name, "root-"); ok {
		return slot
	}
	return ""
}
