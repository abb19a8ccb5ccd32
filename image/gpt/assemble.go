package gpt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// Content is what goes into a partition, from its start. When Reader is an
// *os.File its holes are not read.
type Content struct {
	Reader io.ReaderAt
	Size   int64 // in bytes
}

// Assemble makes f a sparse disk image of the layout with the contents by
// partition name. What f held before is lost. Zeros are not written, so that a
// partition without content, or with a sparse one, takes no space. Several
// partitions are copied at a time.
func Assemble(ctx context.Context, f *os.File, l Layout, contents map[string]Content) error {
	for name, c := range contents {
		p, ok := l.Find(name)
		if !ok {
			return fmt.Errorf("assemble disk: content for %q, which is no partition of the layout", name)
		}
		if c.Size > p.Size {
			return fmt.Errorf("assemble disk: %d bytes for partition %s, which has %d; make it larger in the recipe", c.Size, name, p.Size)
		}
	}
	if err := errors.Join(f.Truncate(0), f.Truncate(l.Size)); err != nil {
		return fmt.Errorf("assemble disk: %w", err)
	}
	if err := WriteTable(f, l); err != nil {
		return fmt.Errorf("assemble disk: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for name, c := range contents {
		p, _ := l.Find(name)
		group.Go(func() error {
			if err := copySparse(ctx, io.NewOffsetWriter(f, p.Start), c); err != nil {
				return fmt.Errorf("assemble disk: partition %s: %w", name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

const (
	copyBuffer = 1 << 20
	zeroBlock  = 4096
	seekData   = 3 // lseek's SEEK_DATA of Linux
)

// copySparse copies c without its zero blocks.
func copySparse(ctx context.Context, out io.WriterAt, c Content) error {
	buffer := make([]byte, copyBuffer)
	for at := int64(0); at < c.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := nextData(c, at)
		if err != nil || data >= c.Size {
			return err
		}
		at = data - data%zeroBlock
		part := buffer[:min(copyBuffer, c.Size-at)]
		if n, err := c.Reader.ReadAt(part, at); n < len(part) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read content at byte %d: %w", at+int64(n), err)
		}
		if err := writeNonZero(out, part, at); err != nil {
			return err
		}
		at += int64(len(part))
	}
	return nil
}

// nextData returns the first place from at on that is not in a hole.
func nextData(c Content, at int64) (int64, error) {
	f, ok := c.Reader.(*os.File)
	if !ok {
		return at, nil
	}
	data, err := f.Seek(at, seekData)
	switch {
	case errors.Is(err, syscall.ENXIO): // only a hole follows, or nothing
		info, err := f.Stat()
		if err == nil && info.Size() < c.Size {
			err = fmt.Errorf("read content at byte %d: %w", info.Size(), io.ErrUnexpectedEOF)
		}
		return c.Size, err
	case err != nil: // a file system without holes
		return at, nil
	}
	return data, nil
}

// writeNonZero writes the runs of blocks in part that are not zero.
func writeNonZero(out io.WriterAt, part []byte, at int64) error {
	var zero [zeroBlock]byte
	isZero := func(i int) bool {
		b := part[i:min(len(part), i+zeroBlock)]
		return bytes.Equal(b, zero[:len(b)])
	}
	for i := 0; i < len(part); {
		if isZero(i) {
			i += zeroBlock
			continue
		}
		start := i
		for i < len(part) && !isZero(i) {
			i += zeroBlock
		}
		if _, err := out.WriteAt(part[start:min(i, len(part))], at+int64(start)); err != nil {
			return err
		}
	}
	return nil
}
