package format

import (
	"context"
	"os"

	"github.com/coracle-os/coracle/image/iso"
	"github.com/coracle-os/coracle/image/live"
	"github.com/coracle-os/coracle/image/pxe"
)

// writeISO writes a live system on a medium.
func writeISO(ctx context.Context, j job) error {
	return withParts(j.Raw, func(p *live.Parts) error { return iso.Write(ctx, p, j.out, j.dir) })
}

// writePXE writes the files of a network boot into a directory.
func writePXE(_ context.Context, j job) error {
	return withParts(j.Raw, func(p *live.Parts) error { return pxe.Write(p, j.out) })
}

func withParts(raw string, use func(*live.Parts) error) error {
	f, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := live.Open(f, info.Size())
	if err != nil {
		return err
	}
	return use(p)
}
