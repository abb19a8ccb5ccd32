package install

import (
	"context"
	"io"
	"strings"

	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/initrd/entries"
)

// Fresh puts the release into a slot of a disk that has nothing else: for an
// installer, which has no running slot to copy from and writes the partition
// table itself, later. in.ESP and in.Running are not used. What the slot holds
// already, from a try that was cut off, is not fetched again.
func (in *Install) Fresh(ctx context.Context, slot slots.Slot) error {
	in.pair = slots.Pair{Inactive: slot}
	in.Running = strings.Repeat("0", 64) // no patch is from this root
	if err := in.writeTree(ctx); err != nil {
		return err
	}
	return in.writeBlocks(ctx)
}

// UKI returns the release's UKI, all of it fetched. The caller checks its digest
// (Index.UKISum) once it has read it.
func (in *Install) UKI(ctx context.Context) (io.ReadCloser, error) {
	in.ESP = entries.OSDir("")
	p, err := newPieces(ctx, in, entries.File{})
	if err != nil {
		return nil, err
	}
	return readCloser{p, p.close}, nil
}

type readCloser struct {
	io.Reader
	close func()
}

func (r readCloser) Close() error {
	r.close()
	return nil
}
