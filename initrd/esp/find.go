package esp

import (
	"errors"
	"fmt"

	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/initrd/partition"
)

// OpenOn opens the partition of a disk that has Coracle's boot entries. Another
// system's may be on the same disk under the same name; that of another disk is
// never taken. loadDriver is as in Open.
func OpenOn(disk partition.Disk, loadDriver func() error) (*FS, error) {
	return find(disk, func(device string) (*FS, error) { return Open(device, loadDriver) })
}

// find takes the first with entries, or the first of all when none has any.
func find(disk partition.Disk, open func(device string) (*FS, error)) (*FS, error) {
	var empty *FS
	var failed error
	for _, part := range disk.Partitions {
		if part.Name != PartitionName {
			continue
		}
		fs, err := open(part.Device)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		fs.Partition = part
		l, err := entries.List(entries.OSDir(fs.Path(entries.Directory)))
		switch {
		case err == nil && len(l.Files) > 0:
			if empty != nil {
				_ = empty.Close() // nothing was written
			}
			return fs, nil
		case empty == nil:
			empty = fs
		default:
			_ = fs.Close()
		}
	}
	if empty != nil {
		return empty, nil
	}
	if failed == nil {
		failed = fmt.Errorf("find the EFI system partition: no partition of disk %s is named %q", disk.Device, PartitionName)
	}
	return nil, failed
}
