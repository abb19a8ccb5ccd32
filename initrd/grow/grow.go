// Package grow makes the state partition fill the disk, on every boot that
// finds the disk larger than its partition table: a fresh image written to a
// larger disk, or a virtual disk that was enlarged.
//
// It is for stage 1. Only the table's two copies, the size in the protective
// MBR and the state file system change; every other partition, attribute and
// identity stays.
//
// Order of durability, so that a power cut at any point leaves a disk that
// boots:
//
//  1. the second copy of the table, entries and then header, at the new end of
//     the disk, each flushed. The first copy still describes the old layout
//     and names the old second copy, which is untouched.
//  2. the first copy, entries and then header, each flushed. A cut between the
//     two leaves it damaged; firmware and [Repair] use the second copy then.
//  3. the size in the protective MBR. Nothing that we boot reads it.
//  4. the kernel's view of the partition (BLKPG). It reads the table anew on
//     the next boot.
//  5. the file system, online. ext4 journals it; on the next boot a file system
//     that is smaller than its partition is enlarged again from where it was.
//
// Every step is decided from what is on the disk, so that repeating it after
// success changes nothing. Tables are written by go-diskfs, which keeps to the
// order of 1 and 2.
package grow

import (
	"errors"
	"fmt"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Align is what the end of the enlarged partition is a multiple of, in bytes.
// A smaller gain than this is not taken.
const Align = 1 << 20

// Plan is what is to be done to a table. The zero Plan is: nothing.
type Plan struct {
	// MoveBackup is true if the second copy is not at the end of the disk.
	MoveBackup bool
	// Index is the partition to enlarge, from 1, or 0; OldEnd and NewEnd are
	// its last sectors, inclusive.
	Index          int
	OldEnd, NewEnd uint64
	// Reason says in words why, or why nothing is to be done.
	Reason string
}

// Empty is true if there is nothing to do.
func (p Plan) Empty() bool { return !p.MoveBackup && p.Index == 0 }

// Errors of Make.
var (
	ErrDiskSmaller = errors.New("the disk is smaller than its partition table: the disk was exchanged or the image cut off")
	ErrNotLast     = errors.New("another partition lies behind the state partition: it cannot grow")
	ErrNoPartition = errors.New("no such partition")
)

// Make plans for a table on a disk of the given size in bytes, whose partition
// index (from 1) is to grow. With ErrNotLast the plan still moves the backup.
func Make(table *gpt.Table, size int64, index int) (Plan, error) {
	sector := int64(table.LogicalSectorSize)
	size -= size % sector
	total := int64(table.TotalSize())
	if total > size {
		return Plan{}, fmt.Errorf("%w (%d of %d bytes)", ErrDiskSmaller, size, total)
	}
	var state *gpt.Partition
	for _, part := range table.Partitions {
		if part.Index == index && part.Type != gpt.Unused {
			state = part
		}
	}
	if state == nil {
		return Plan{}, fmt.Errorf("%w: %d", ErrNoPartition, index)
	}
	larger := *table
	larger.Resize(uint64(size))
	plan := Plan{MoveBackup: total < size}
	// The last usable sector, down to the alignment.
	end := (larger.LastDataSector()+1)*uint64(sector)/Align*Align/uint64(sector) - 1
	for _, part := range table.Partitions {
		if part.Type != gpt.Unused && part.Start > state.End {
			plan.Reason = fmt.Sprintf("partition %d lies behind partition %d", part.Index, index)
			return plan, fmt.Errorf("%w: partition %d (%s)", ErrNotLast, part.Index, part.Name)
		}
	}
	if end >= state.End+Align/uint64(sector) {
		plan.Index, plan.OldEnd, plan.NewEnd = index, state.End, end
	}
	switch gain := plan.NewEnd - plan.OldEnd; {
	case plan.Index != 0:
		plan.Reason = fmt.Sprintf("the disk has %d MiB behind partition %d", gain*uint64(sector)>>20, index)
	case plan.MoveBackup:
		plan.Reason = "the second copy of the partition table is not at the end of the disk"
	default:
		plan.Reason = "partition and disk end together"
	}
	return plan, nil
}

// Apply changes the table in memory as planned, for a disk of size bytes.
func Apply(table *gpt.Table, size int64, plan Plan) {
	sector := uint64(table.LogicalSectorSize)
	table.Resize(uint64(size) / sector * sector)
	for _, part := range table.Partitions {
		if part.Index == plan.Index {
			part.Expand(plan.NewEnd - plan.OldEnd)
		}
	}
}
