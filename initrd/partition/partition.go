// Package partition finds partitions by the identities in their GUID partition
// table (UEFI specification, chapter 5.3), for stage 1: the root and its hash
// tree by UUID on any disk, the state partition by type on the same disk.
//
// The tables are read by go-diskfs from the disk itself and then compared with
// what the kernel shows in /sys, so that a table that the kernel refuses (a
// truncated image, a damaged first copy) is a cause with a name rather than a
// disk without partitions. Left out on purpose: MBR partitions, and partitions
// in partitions.
package partition

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Types of the Discoverable Partitions Specification that stage 1 looks for.
const (
	TypeRoot   = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" // x86-64 root
	TypeVerity = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5" // x86-64 root verity
	TypeState  = "4d21b016-b534-45c2-a9fb-5c16e091fd2d" // variable data
)

// Pair is the UUIDs of a root partition and its hash tree.
type Pair struct{ Root, Verity string }

// PairOf gives the UUIDs that belong to a root hash: its first and its last
// 128 bits, as hexadecimal digits in UUID order.
func PairOf(rootHash [32]byte) Pair {
	return Pair{Root: uuid(rootHash[:16]), Verity: uuid(rootHash[16:])}
}

func uuid(b []byte) string {
	s := hex.EncodeToString(b)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// Partition is one entry of a table.
type Partition struct {
	Index  int    // from 1
	Name   string // the table's name for it, such as "root-A"
	Type   string // type GUID, lower case
	UUID   string // its own GUID, lower case
	Start  int64  // in bytes from the start of the disk
	Size   int64  // in bytes
	Device string // device node; "" if the kernel does not show the partition
}

// Disk is a block device with what was found on it.
type Disk struct {
	Device     string // device node, such as "/dev/vda"
	Size       int64  // in bytes
	SectorSize int    // logical, in bytes
	// Table is nil if the disk has no usable table; Problem says why. With a
	// table, Problem says why the kernel cannot use it.
	Table      *gpt.Table
	Partitions []Partition
	Problem    error
}

// Problems of a disk.
var (
	ErrNoTable   = errors.New("no GUID partition table")
	ErrTruncated = errors.New("the disk is smaller than its partition table says: the image was cut off; write it again")
	ErrDamaged   = errors.New("the first copy of the partition table is damaged, the second is good")
)

// Scan looks at every disk that the kernel shows below sys/class/block, in the
// order of their names. dev is the directory of the device nodes. Disks that
// cannot be read are in the result with their Problem.
func Scan(sys, dev string) ([]Disk, error) {
	names, err := os.ReadDir(filepath.Join(sys, "class/block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var disks []Disk
	for _, entry := range names {
		directory := filepath.Join(sys, "class/block", entry.Name())
		if _, err := os.Stat(filepath.Join(directory, "partition")); err == nil {
			continue
		}
		if virtual(entry.Name()) {
			continue
		}
		sectors, err := number(filepath.Join(directory, "size"))
		if err != nil || sectors == 0 {
			continue // an empty drive, or one that is going away
		}
		disks = append(disks, scanDisk(directory, filepath.Join(dev, entry.Name())))
	}
	return disks, nil
}

// virtual is true for block devices that are memory or made of other ones.
func virtual(name string) bool {
	for _, prefix := range []string{"loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && strings.Trim(rest, "0123456789") == "" {
			return true
		}
	}
	return false
}

func scanDisk(directory, device string) Disk {
	sectorSize, err := number(filepath.Join(directory, "queue/logical_block_size"))
	if err != nil {
		sectorSize = 512
	}
	disk := Disk{Device: device, SectorSize: int(sectorSize)}
	file, err := os.Open(device)
	if err != nil {
		disk.Problem = fmt.Errorf("open disk: %w", err)
		return disk
	}
	defer file.Close()
	if disk.Size, err = file.Seek(0, 2); err != nil {
		disk.Problem = fmt.Errorf("ask for the size of disk %s: %w", device, err)
		return disk
	}
	disk.Table, disk.Problem = ReadTable(file, disk.Size, disk.SectorSize)
	if disk.Table != nil {
		disk.Partitions = partitions(disk.Table, disk.SectorSize)
		nameDevices(directory, filepath.Dir(device), disk.Partitions)
	}
	return disk
}

// ReadTable reads and checks the table of a disk of the given size in bytes
// and logical sector size. With ErrTruncated and ErrDamaged there is a table
// too, since it says what the disk was meant to hold.
func ReadTable(file backend.File, size int64, sectorSize int) (*gpt.Table, error) {
	if err := plausible(file, size, sectorSize); err != nil {
		return nil, err
	}
	table, err := gpt.Read(file, sectorSize, sectorSize)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoTable, err)
	}
	end := int64(table.TotalSize())
	for _, part := range table.Partitions {
		end = max(end, int64(part.End+1)*int64(sectorSize))
	}
	switch {
	case end > size:
		return table, fmt.Errorf("%w (%d of %d bytes)", ErrTruncated, size, end)
	case table.RecoveredFromBackup:
		return table, ErrDamaged
	}
	return table, nil
}

// plausible keeps disks from the library that have no table at all, and tables
// whose entries would not fit into memory: neither copy may claim more entries
// than any real disk has.
func plausible(file backend.File, size int64, sectorSize int) error {
	const most = 1024 // entries; 128 is usual
	found := false
	for _, offset := range []int64{int64(sectorSize), size/int64(sectorSize)*int64(sectorSize) - int64(sectorSize)} {
		var header [92]byte
		if offset < int64(sectorSize) || size < offset+int64(sectorSize) {
			continue
		}
		if _, err := file.ReadAt(header[:], offset); err != nil {
			return fmt.Errorf("read partition table: %w", err)
		}
		if string(header[:8]) != "EFI PART" {
			continue
		}
		count := uint32(header[80]) | uint32(header[81])<<8 | uint32(header[82])<<16 | uint32(header[83])<<24
		entry := uint32(header[84]) | uint32(header[85])<<8 | uint32(header[86])<<16 | uint32(header[87])<<24
		if count > most || entry != gpt.PartitionEntrySize {
			return fmt.Errorf("%w: %d entries of %d bytes, want at most %d of %d", ErrNoTable, count, entry, most, gpt.PartitionEntrySize)
		}
		found = true
	}
	if !found {
		return ErrNoTable
	}
	return nil
}

func partitions(table *gpt.Table, sectorSize int) []Partition {
	var list []Partition
	for _, part := range table.Partitions {
		if part.Type == gpt.Unused || part.End < part.Start {
			continue
		}
		list = append(list, Partition{
			Index: part.Index,
			Name:  part.Name,
			Type:  strings.ToLower(string(part.Type)),
			UUID:  strings.ToLower(part.GUID),
			Start: int64(part.Start) * int64(sectorSize),
			Size:  int64(part.End-part.Start+1) * int64(sectorSize),
		})
	}
	slices.SortFunc(list, func(a, b Partition) int { return a.Index - b.Index })
	return list
}

// nameDevices fills in the device nodes: those of the kernel's partitions with
// the same number and the same start.
func nameDevices(directory, dev string, list []Partition) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return
	}
	for _, entry := range entries {
		index, err := number(filepath.Join(directory, entry.Name(), "partition"))
		if err != nil {
			continue
		}
		// The kernel counts in units of 512 bytes whatever the sector size.
		start, err := number(filepath.Join(directory, entry.Name(), "start"))
		if err != nil {
			continue
		}
		for i := range list {
			if int64(list[i].Index) == index && list[i].Start == start*512 {
				list[i].Device = filepath.Join(dev, entry.Name())
			}
		}
	}
}

func number(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}
