package slots

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/partition"
)

// file is a disk whose cached pages can be dropped.
type file struct{ *os.File }

// Uncache drops the pages that are on the disk already.
func (f file) Uncache() { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// Open opens the disk that has the root partition of device node root, such as
// "/dev/vda3". sys and dev are as in package partition. The caller closes
// Disk.File.
func Open(sys, dev, root string) (Disk, error) {
	disks, err := partition.Scan(sys, dev)
	if err != nil {
		return Disk{}, fmt.Errorf("open the disk of %s: %w", root, err)
	}
	for _, d := range disks {
		found := false
		for _, p := range d.Partitions {
			if p.Device == root {
				found = true
			}
		}
		if !found {
			continue
		}
		f, err := os.OpenFile(d.Device, os.O_RDWR, 0)
		if err != nil {
			return Disk{}, fmt.Errorf("open the disk of %s: %w", root, err)
		}
		return Disk{File: file{f}, Size: d.Size, SectorSize: d.SectorSize}, nil
	}
	return Disk{}, fmt.Errorf("open the disk of %s: no disk has that partition", root)
}
