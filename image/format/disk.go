package format

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// grownSize is the least size in bytes of the disks that nobody enlarges before
// the first boot: those within a package. A machine's state partition grows to
// its disk's end by itself.
const grownSize = 16 << 30

func qemuImg(ctx context.Context, kind, options, raw, out string, more ...string) error {
	args := append([]string{"convert", "-q", "-f", "raw", "-O", kind}, more...)
	if options != "" {
		args = append(args, "-o", options)
	}
	text, err := exec.CommandContext(ctx, "qemu-img", append(args, raw, out)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, strings.TrimSpace(string(text)))
	}
	return nil
}

// copyRaw copies what is not zero.
func copyRaw(ctx context.Context, j job) error {
	return qemuImg(ctx, "raw", "", j.Raw, j.out)
}

// grown makes a sparse copy of the image in j.dir, of grownSize at least.
func (j job) grown(ctx context.Context) (path string, size int64, err error) {
	path = filepath.Join(j.dir, "grown.raw")
	if err := qemuImg(ctx, "raw", "", j.Raw, path); err != nil {
		return "", 0, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", 0, err
	}
	if size = info.Size(); size >= grownSize {
		return path, size, nil
	}
	return path, grownSize, os.Truncate(path, grownSize)
}

// writeQcow2 compresses with zstd, which QEMU reads from 5.1 on.
func writeQcow2(ctx context.Context, j job) error {
	return qemuImg(ctx, "qcow2", "compat=1.1,cluster_size=65536,compression_type=zstd", j.Raw, j.out, "-c")
}

func writeVDI(ctx context.Context, j job) error {
	if err := qemuImg(ctx, "vdi", "", j.Raw, j.out); err != nil {
		return err
	}
	return j.stamp(j.out, stampVDI)
}

// writeVHD writes a disk of fixed size whose size is exactly the image's, whole
// MiB, as Azure asks for.
func writeVHD(ctx context.Context, j job) error {
	if err := qemuImg(ctx, "vpc", "subformat=fixed,force_size=on", j.Raw, j.out); err != nil {
		return err
	}
	return j.stamp(j.out, stampVHD)
}

func writeVMDK(ctx context.Context, j job) error {
	return j.vmdk(ctx, j.Raw, j.out)
}

// vmdk writes a stream-optimised disk, the form within packages.
func (j job) vmdk(ctx context.Context, raw, out string) error {
	if err := qemuImg(ctx, "vmdk", "subformat=streamOptimized,adapter_type=lsilogic,compat6=on", raw, out); err != nil {
		return err
	}
	return j.stamp(out, stampVMDK)
}
