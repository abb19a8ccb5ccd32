package grow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"
)

// File is a disk that can be written and flushed; an *os.File is one.
type File interface {
	backend.WritableFile
	Sync() error
}

// Write writes both copies of the table to a disk of size bytes in the order
// that the package comment gives, and then the size in the protective MBR.
func Write(file File, size int64, table *gpt.Table) error {
	// The library would write a wrong MBR for disks of 2 TiB and more, and
	// would write it first.
	table.ProtectiveMBR = false
	if err := table.Write(file, size); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	return writeProtective(file, size/int64(table.LogicalSectorSize))
}

// writeProtective sets the size of the one protective partition in an MBR, and
// touches nothing else of it: there is boot code in front. An MBR that is not
// a plain protective one is left as it is.
func writeProtective(file File, sectors int64) error {
	const first, entry = 446, 16
	var mbr [512]byte
	if _, err := file.ReadAt(mbr[:], 0); err != nil {
		return fmt.Errorf("read protective MBR: %w", err)
	}
	for _, b := range mbr[first+entry : first+4*entry] {
		if b != 0 {
			return nil
		}
	}
	if mbr[first+4] != 0xee || mbr[510] != 0x55 || mbr[511] != 0xaa {
		return nil
	}
	var count [4]byte
	binary.LittleEndian.PutUint32(count[:], uint32(min(sectors-1, 0xffffffff)))
	if [4]byte(mbr[first+12:first+16]) == count {
		return nil
	}
	if _, err := file.WriteAt(count[:], first+12); err != nil {
		return fmt.Errorf("write protective MBR: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("flush protective MBR: %w", err)
	}
	return nil
}

// Repair writes a table that was read from the second copy over the damaged
// first one and makes the kernel read the partitions again.
func Repair(device string, size int64, table *gpt.Table) error {
	file, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("repair partition table: %w", err)
	}
	defer file.Close()
	if err := Write(file, size, table); err != nil {
		return fmt.Errorf("repair partition table of %s: %w", device, err)
	}
	if err := unix.IoctlSetInt(int(file.Fd()), unix.BLKRRPART, 0); err != nil {
		return fmt.Errorf("read the partitions of %s again: %w", device, err)
	}
	return nil
}

// ResizePartition tells the kernel the new end of a partition that may be in
// use; start and size are in bytes.
func ResizePartition(device string, index int, start, size int64) error {
	file, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("resize partition: %w", err)
	}
	defer file.Close()
	partition := unix.BlkpgPartition{Start: start, Length: size, Pno: int32(index)}
	arg := unix.BlkpgIoctlArg{
		Op:      unix.BLKPG_RESIZE_PARTITION,
		Datalen: int32(unsafe.Sizeof(partition)),
		Data:    (*byte)(unsafe.Pointer(&partition)),
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("resize partition %d of %s to %d bytes: %w", index, device, size, errno)
	}
	return nil
}

// extIocResizeFS is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64), of
// fs/ext4/ext4.h; it is in no header for programs.
const extIocResizeFS = 0x40086610

// ResizeFS enlarges the mounted ext4 file system at directory to the given
// number of blocks.
func ResizeFS(directory string, blocks uint64) error {
	file, err := os.Open(directory)
	if err != nil {
		return fmt.Errorf("resize file system: %w", err)
	}
	defer file.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), extIocResizeFS, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		if errors.Is(errno, unix.EPERM) {
			return fmt.Errorf("resize file system to %d blocks: %w: it has errors; run e2fsck", blocks, errno)
		}
		return fmt.Errorf("resize file system to %d blocks: %w", blocks, errno)
	}
	return nil
}

// Disk does all of it but the file system: it reads the table of the disk
// again, plans, writes, and tells the kernel. The plan says what was done. An
// error after the first write is safe to repeat.
func Disk(device string, sectorSize, index int, read func(backend.File, int64, int) (*gpt.Table, error)) (Plan, error) {
	file, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return Plan{}, fmt.Errorf("open disk to grow: %w", err)
	}
	defer file.Close()
	size, err := file.Seek(0, 2)
	if err != nil {
		return Plan{}, fmt.Errorf("ask for the size of disk %s: %w", device, err)
	}
	table, err := read(file, size, sectorSize)
	if err != nil {
		return Plan{}, fmt.Errorf("grow partition %d of %s: %w", index, device, err)
	}
	plan, planErr := Make(table, size, index)
	if plan.Empty() || (planErr != nil && !errors.Is(planErr, ErrNotLast)) {
		return plan, planErr
	}
	Apply(table, size, plan)
	if err := Write(file, size, table); err != nil {
		return plan, fmt.Errorf("grow partition %d of %s: %w", index, device, err)
	}
	if plan.Index == 0 {
		return plan, planErr
	}
	for _, part := range table.Partitions {
		if part.Index == index {
			sector := int64(sectorSize)
			return plan, ResizePartition(device, index, int64(part.Start)*sector, int64(part.Size))
		}
	}
	return plan, nil
}
