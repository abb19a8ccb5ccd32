package provision

import (
	"context"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/ignition/progress"
	"github.com/coracle-os/coracle/rootfs/userdata"
)

// ignition deals with a document that ignition.service left to this program, as
// it had to be fetched: a config goes to the program ignition, and of any other
// document it is noted that there is none.
func (p *Provisioner) ignition(ctx context.Context, source userdata.Source, kind cloudconfig.Kind) error {
	if p.Ignition == nil || source.Name != p.URL || source.Err != nil {
		return nil
	}
	before, _, err := progress.Read(p.Root)
	if err != nil || before.Awaits != p.URL {
		return err
	}
	switch kind {
	case cloudconfig.KindIgnition:
		return p.Ignition(ctx, source.Name, source.Data)
	case cloudconfig.KindUnknown: // what a server says when the document is not there yet
		return nil
	}
	return progress.Progress{Note: "there is no Ignition config"}.Finish(p.Root)
}
