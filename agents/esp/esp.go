// Package esp finds and opens the boot entries of the running machine, for the
// update engine and the health gate. What an opened partition is, and what the
// entries are, is said in packages esp and entries of initrd, which stage 1 uses
// too.
package esp

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/initrd/esp"
	"github.com/coracle-os/coracle/rootfs/early"
)

// Entries calls f with the directory of the boot entries, on the disk that
// rootDevice, such as "/dev/vda3", is on. What f did is on the disk afterwards.
func Entries(rootDevice string, f func(entries.Dir) error) error {
	name := early.FindPartition("/sys", esp.PartitionName, rootDevice)
	if name == "" {
		return fmt.Errorf("find the EFI system partition: no partition is named %q on this machine", esp.PartitionName)
	}
	fs, err := esp.Open(filepath.Join("/dev", name), loadDriver)
	if err != nil {
		return err
	}
	return errors.Join(f(entries.OSDir(fs.Path(entries.Directory))), fs.Close())
}

func loadDriver() error {
	if out, err := exec.Command("modprobe", "vfat").CombinedOutput(); err != nil {
		return fmt.Errorf("modprobe vfat: %w: %s", err, out)
	}
	return nil
}
