package format

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// writeFile opens out, and closes it with fill's error or its own.
func writeFile(out string, fill func(*os.File) error) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	err = fill(f)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// cancelled ends a copy when ctx does.
type cancelled struct {
	ctx context.Context
	io.Reader
}

func (c cancelled) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(b)
}

// writeZstd compresses the image with one thread, so that the machine's number
// of processors does not show in the bytes.
func writeZstd(ctx context.Context, j job) error {
	in, err := os.Open(j.Raw)
	if err != nil {
		return err
	}
	defer in.Close()
	return writeFile(j.out, func(f *os.File) error {
		z, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
		if err != nil {
			return err
		}
		if _, err := io.Copy(z, cancelled{ctx, in}); err != nil {
			z.Close()
			return err
		}
		return z.Close()
	})
}

// gib is what Google's disks are a multiple of.
const gib = 1 << 30

// writeGCE writes disk.raw in a compressed archive of GNU's old format, as
// Google asks for. The disk is filled up to whole GiB; the machine moves the
// second partition table to the end when it grows its state partition.
func writeGCE(ctx context.Context, j job) error {
	in, err := os.Open(j.Raw)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	size := (info.Size() + gib - 1) / gib * gib
	return writeFile(j.out, func(f *os.File) error {
		z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
		if err != nil {
			return err
		}
		t := tar.NewWriter(z)
		if err := t.WriteHeader(&tar.Header{Name: "disk.raw", Mode: 0o644, Size: size, Format: tar.FormatGNU}); err != nil {
			return err
		}
		whole := io.MultiReader(in, io.LimitReader(zeros{}, size-info.Size()))
		if _, err := io.Copy(t, cancelled{ctx, whole}); err != nil {
			return err
		}
		if err := t.Close(); err != nil {
			return err
		}
		return z.Close()
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// member is a file of a package: its text, or the file at Path.
type member struct {
	Name string
	Text []byte
	Path string
}

// pack writes members as a tar archive without times, owners or anything else
// of this machine.
func pack(ctx context.Context, w io.Writer, members []member) error {
	t := tar.NewWriter(w)
	for _, m := range members {
		if err := packOne(ctx, t, m); err != nil {
			return fmt.Errorf("pack %s: %w", m.Name, err)
		}
	}
	return t.Close()
}

func packOne(ctx context.Context, t *tar.Writer, m member) error {
	header := &tar.Header{Name: m.Name, Mode: 0o644, Size: int64(len(m.Text)), Format: tar.FormatUSTAR}
	if m.Path == "" {
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		_, err := t.Write(m.Text)
		return err
	}
	f, err := os.Open(m.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	header.Size = info.Size()
	if err := t.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(t, cancelled{ctx, f})
	return err
}
