package storage

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// linuxData is the type of a partition that the config gives none.
const linuxData = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"

// align is what partitions begin at a multiple of, in bytes.
const align = 1 << 20

// Geometry is a disk's size in bytes and its logical sectors'.
type Geometry struct {
	Size   int64
	Sector int
}

func (g Geometry) first() uint64 { return align / uint64(g.Sector) }

// last is the last sector before the second copy of the table.
func (g Geometry) last() uint64 {
	entries := (128*128 + g.Sector - 1) / g.Sector
	return uint64(g.Size)/uint64(g.Sector) - uint64(entries) - 2
}

// PlanTable returns the partition table that a disk is to have and whether it
// differs from the one that it has; now is nil for a disk without one. newGUID
// makes a random GUID.
//
// What exists and is as the config says stays. What exists and is not is an
// error, unless wipePartitionEntry or, for the size alone, resize allows it.
func PlanTable(now *gpt.Table, d types.Disk, g Geometry, newGUID func() string) (*gpt.Table, bool, error) {
	table := &gpt.Table{LogicalSectorSize: g.Sector, PhysicalSectorSize: g.Sector, GUID: newGUID(), ProtectiveMBR: true}
	changed := now == nil
	if now != nil && !isTrue(d.WipeTable) {
		table.GUID = now.GUID
		for _, p := range now.Partitions {
			if p.Type != gpt.Unused {
				copied := *p
				table.Partitions = append(table.Partitions, &copied)
			}
		}
	} else if now != nil {
		changed = true
	}
	specs := slices.Clone(d.Partitions)
	slices.SortStableFunc(specs, func(a, b types.Partition) int {
		if (a.Number == 0) != (b.Number == 0) {
			if a.Number == 0 {
				return 1
			}
			return -1
		}
		return 0
	})
	var errs []error
	for _, spec := range specs {
		c, err := planPartition(table, spec, g, newGUID)
		if err != nil {
			errs = append(errs, fmt.Errorf("partition %s: %w", nameOf(spec), err))
		}
		changed = changed || c
	}
	if len(errs) > 0 {
		return nil, false, errors.Join(errs...)
	}
	slices.SortFunc(table.Partitions, func(a, b *gpt.Partition) int { return a.Index - b.Index })
	return table, changed, nil
}

func nameOf(p types.Partition) string {
	if p.Label != nil {
		return fmt.Sprintf("%d %q", p.Number, *p.Label)
	}
	return fmt.Sprint(p.Number)
}

func planPartition(table *gpt.Table, spec types.Partition, g Geometry, newGUID func() string) (changed bool, err error) {
	at := slices.IndexFunc(table.Partitions, func(p *gpt.Partition) bool {
		if spec.Number == 0 {
			return spec.Label != nil && p.Name == *spec.Label
		}
		return p.Index == spec.Number
	})
	wipe := isTrue(spec.WipePartitionEntry)
	if isFalse(spec.ShouldExist) {
		if at < 0 {
			return false, nil
		}
		if !wipe {
			return false, errors.New("it exists and should not; set wipePartitionEntry to true to delete it")
		}
		table.Partitions = slices.Delete(table.Partitions, at, at+1)
		return true, nil
	}
	if at < 0 {
		p, err := newPartition(table, spec, g, newGUID)
		if err != nil {
			return false, err
		}
		table.Partitions = append(table.Partitions, p)
		return true, nil
	}
	existing := table.Partitions[at]
	mismatch, sizeOnly := compare(existing, spec, g)
	if mismatch == nil {
		return false, nil
	}
	others := &gpt.Table{Partitions: slices.Delete(slices.Clone(table.Partitions), at, at+1)}
	switch {
	case sizeOnly && isTrue(spec.Resize):
		end := g.limit(others, existing.Start)
		if spec.SizeMiB != nil && *spec.SizeMiB > 0 {
			want := existing.Start + g.sectors(*spec.SizeMiB) - 1
			if want > end {
				return false, fmt.Errorf("there is no room to make it %d MiB large", *spec.SizeMiB)
			}
			end = want
		}
		resized := *existing
		resized.End, resized.Size = end, (end-existing.Start+1)*uint64(g.Sector)
		table.Partitions[at] = &resized
	case wipe:
		spec.Number = existing.Index
		p, err := newPartition(others, spec, g, newGUID)
		if err != nil {
			return false, err
		}
		table.Partitions[at] = p
	case sizeOnly:
		return false, fmt.Errorf("%w; set resize to true to change it", mismatch)
	default:
		return false, fmt.Errorf("%w; set wipePartitionEntry to true to replace it", mismatch)
	}
	return true, nil
}

func (g Geometry) sectors(mib int) uint64 { return uint64(mib) * (1 << 20) / uint64(g.Sector) }

// compare says how a partition differs from what it should be.
func compare(p *gpt.Partition, spec types.Partition, g Geometry) (mismatch error, sizeOnly bool) {
	switch {
	case spec.StartMiB != nil && *spec.StartMiB > 0 && g.sectors(*spec.StartMiB) != p.Start:
		return fmt.Errorf("it begins at sector %d, not at %d MiB", p.Start, *spec.StartMiB), false
	case deref(spec.GUID) != "" && !strings.EqualFold(*spec.GUID, p.GUID):
		return fmt.Errorf("its GUID is %s", p.GUID), false
	case deref(spec.TypeGUID) != "" && !strings.EqualFold(*spec.TypeGUID, string(p.Type)):
		return fmt.Errorf("its type GUID is %s", p.Type), false
	case spec.Label != nil && *spec.Label != p.Name:
		return fmt.Errorf("its label is %q", p.Name), false
	case spec.SizeMiB != nil && *spec.SizeMiB > 0 && g.sectors(*spec.SizeMiB) != p.End-p.Start+1:
		return fmt.Errorf("it has %d MiB, not %d", (p.End-p.Start+1)*uint64(g.Sector)>>20, *spec.SizeMiB), true
	}
	return nil, false
}

// newPartition finds a number and a place.
func newPartition(table *gpt.Table, spec types.Partition, g Geometry, newGUID func() string) (*gpt.Partition, error) {
	p := &gpt.Partition{Index: spec.Number, Type: linuxData, Name: deref(spec.Label), GUID: newGUID()}
	for p.Index == 0 || (spec.Number == 0 && slices.ContainsFunc(table.Partitions, func(o *gpt.Partition) bool { return o.Index == p.Index })) {
		p.Index++
	}
	if guid := deref(spec.GUID); guid != "" {
		p.GUID = strings.ToUpper(guid)
	}
	if kind := deref(spec.TypeGUID); kind != "" {
		p.Type = gpt.Type(strings.ToUpper(kind))
	}
	start, end := g.largest(table)
	if spec.StartMiB != nil && *spec.StartMiB > 0 {
		start = g.sectors(*spec.StartMiB)
		for _, o := range table.Partitions {
			if start >= o.Start && start <= o.End {
				return nil, fmt.Errorf("%d MiB is inside partition %d", *spec.StartMiB, o.Index)
			}
		}
		end = g.limit(table, start)
	}
	if start == 0 || start > end {
		return nil, errors.New("there is no room for it on the disk")
	}
	if spec.SizeMiB != nil && *spec.SizeMiB > 0 {
		want := start + g.sectors(*spec.SizeMiB) - 1
		if want > end {
			return nil, fmt.Errorf("it needs %d MiB, and %d MiB are free there", *spec.SizeMiB, (end-start+1)*uint64(g.Sector)>>20)
		}
		end = want
	}
	p.Start, p.End, p.Size = start, end, (end-start+1)*uint64(g.Sector)
	return p, nil
}

// limit is the last sector that a partition from start may have.
func (g Geometry) limit(table *gpt.Table, start uint64) uint64 {
	end := g.last()
	for _, o := range table.Partitions {
		if o.Start > start {
			end = min(end, o.Start-1)
		}
	}
	return end
}

// largest is the largest free block, from an aligned sector on.
func (g Geometry) largest(table *gpt.Table) (start, end uint64) {
	starts := []uint64{g.first()}
	for _, o := range table.Partitions {
		starts = append(starts, (o.End+g.first())/g.first()*g.first())
	}
	for _, s := range starts {
		if slices.ContainsFunc(table.Partitions, func(o *gpt.Partition) bool { return s >= o.Start && s <= o.End }) || s > g.last() {
			continue
		}
		if e := g.limit(table, s); start == 0 || e-s > end-start {
			start, end = s, e
		}
	}
	return start, end
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }
