package storage

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"
)

// makers are the programs that make file systems, with what every call has.
var makers = map[string][]string{
	"ext4": {"/usr/sbin/mkfs.ext4", "-F", "-q"},
	"xfs":  {"/usr/sbin/mkfs.xfs", "-f", "-q"},
	"vfat": {"/usr/sbin/mkfs.vfat"},
	"swap": {"/usr/sbin/mkswap"},
}

func (e *Executor) filesystem(ctx context.Context, f types.Filesystem) (changed bool, err error) {
	if deref(f.Format) == "" {
		return false, nil
	}
	node, err := e.wait(ctx, f.Device)
	if err != nil {
		return false, err
	}
	if *f.Format == "swap" {
		e.kept.Swap = append(e.kept.Swap, f.Device)
	}
	found, err := e.probe(node)
	if err != nil {
		return false, err
	}
	if found.Kind != "" && !isTrue(f.WipeFilesystem) && !e.unfinished(found) {
		if mismatch := differs(found, f); mismatch != nil {
			return false, fmt.Errorf("%w; set wipeFilesystem to true to lose it", mismatch)
		}
		return false, nil
	}
	if err := e.InUse(node); err != nil {
		return false, err
	}
	if found.Kind != "" {
		if err := wipeNode(node); err != nil {
			return false, err
		}
	}
	if *f.Format == "none" {
		return found.Kind != "", nil
	}
	if f, err = identified(f); err != nil {
		return false, err
	}
	maker := makers[*f.Format]
	args := slices.Clone(maker[1:])
	for _, o := range f.Options {
		args = append(args, string(o))
	}
	args = append(args, identity(f)...)
	err = e.making(deref(f.UUID), func() error {
		if err := e.Run(ctx, maker[0], append(args, node)...); err != nil {
			return err
		}
		return syncNode(node)
	})
	if err != nil {
		return false, err
	}
	return true, e.Links()
}

// differs says why what is there is not what the config wants; it is never
// formatted then.
func differs(found Found, f types.Filesystem) error {
	switch {
	case *f.Format != found.Kind:
		return fmt.Errorf("the device holds %s%s, not %s", found.Kind, labelled(found), *f.Format)
	case deref(f.Label) != "" && *f.Label != found.Label:
		return fmt.Errorf("the file system is labelled %q", found.Label)
	case deref(f.UUID) != "" && !strings.EqualFold(*f.UUID, found.UUID):
		return fmt.Errorf("the file system has the UUID %s", found.UUID)
	}
	return nil
}

// syncNode waits until a maker's work is on the disk: not every maker does.
func syncNode(node string) error {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func wipeNode(node string) error {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	return wipe(f, size)
}

// identity is how a maker takes label and UUID.
func identity(f types.Filesystem) (args []string) {
	label, id := deref(f.Label), deref(f.UUID)
	flags := map[string][2]string{"ext4": {"-L", "-U"}, "xfs": {"-L", "-m"}, "vfat": {"-n", "-i"}, "swap": {"-L", "-U"}}[*f.Format]
	switch *f.Format {
	case "xfs":
		if id != "" {
			id = "uuid=" + id
		}
	case "vfat":
		id = strings.ReplaceAll(id, "-", "")
	}
	if label != "" {
		args = append(args, flags[0], label)
	}
	if id != "" {
		args = append(args, flags[1], id)
	}
	return args
}
