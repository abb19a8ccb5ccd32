// Package install performs the writes of an update on a machine's disk and EFI
// system partition: it puts a release together in the inactive slot from what
// the machine has and what it fetches, checks it, and arms it. Of a changed chunk
// it fetches the patch of the running root, and the chunk itself if there is no
// patch or the patch does not fit.
//
// The inactive slot itself is where a download is kept: an interrupted one goes
// on from what is there, whatever it is, because every block is known by its
// digest. So no space of the state partition is needed. Every block is checked
// against the signed root hash's tree before it is written. Left out on
// purpose: deciding what to install and when (package update).
package install

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"

	"github.com/coracle-os/coracle/agents/update"
	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/image/delta"
	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/initrd/entries"
)

// Range fetches a range of the release's blob for which check holds.
type Range func(ctx context.Context, r release.Range, check func([]byte) error) ([]byte, error)

// An Install is one release on its way into the inactive slot.
type Install struct {
	Disk    slots.Disk
	ESP     entries.Dir
	Running string // root hash of the running system
	Version string
	Index   *release.Index
	Range   Range
	Log     *slog.Logger
	// Progress is called with the share of the root that is in place.
	Progress func(done, blocks int64)

	pair slots.Pair
	tree []byte
}

const blockSize = release.BlockSize

// Do performs one write.
func (in *Install) Do(ctx context.Context, w update.Write) error {
	switch w {
	case update.Check:
		return in.check()
	case update.Disarm:
		return in.disarm()
	case update.Invalidate:
		return in.Disk.Invalidate(in.pair.Inactive)
	case update.Tree:
		return in.writeTree(ctx)
	case update.Blocks:
		return in.writeBlocks(ctx)
	case update.Flush:
		if err := in.Disk.File.Sync(); err != nil {
			return fmt.Errorf("flush slot %s: %w", in.pair.Inactive.Letter, err)
		}
		return nil
	case update.ReadBack:
		return in.Disk.Verify(in.pair.Inactive, in.rootHash())
	case update.Identify:
		return in.Disk.Identify(in.pair.Inactive, in.rootHash())
	case update.Arm:
		return in.arm(ctx)
	}
	return fmt.Errorf("install: no write %q", w)
}

func (in *Install) rootHash() string { return hex.EncodeToString(in.Index.RootHash[:]) }

// Slot is the letter of the slot that is written, after Check.
func (in *Install) Slot() string { return in.pair.Inactive.Letter }

// check makes sure that all of it will fit before anything is changed.
func (in *Install) check() (err error) {
	if in.pair, err = in.Disk.Find(in.Running); err != nil {
		return err
	}
	root, tree := in.Index.DataBlocks*blockSize, (in.Index.TreeBlocks()+1)*blockSize
	switch slot := in.pair.Inactive; {
	case root > slot.Root.Size:
		return fmt.Errorf("the root of version %s has %d bytes, slot %s has %d; a larger disk layout is needed: install the machine anew", in.Version, root, slot.Letter, slot.Root.Size)
	case tree > slot.Verity.Size:
		return fmt.Errorf("the hash tree of version %s has %d bytes, slot %s has %d; install the machine anew", in.Version, tree, slot.Letter, slot.Verity.Size)
	}
	l, err := entries.List(in.ESP)
	if err != nil {
		return err
	}
	steps, err := entries.PlanDisarm(l, in.Running)
	if err != nil {
		return err
	}
	for _, s := range steps {
		for _, f := range l.Files {
			if s.Kind == entries.Remove && s.File == f.File {
				l.Free += f.Size
			}
		}
	}
	_, err = entries.PlanArm(remaining(l, in.Running), in.Running, in.Version, in.rootHash(), in.Index.UKISize)
	return err
}

func remaining(l entries.Listing, running string) entries.Listing {
	kept := entries.Listing{Free: l.Free}
	for _, f := range l.Files {
		if f.RootHash == running {
			kept.Files = append(kept.Files, f)
		}
	}
	return kept
}

func (in *Install) disarm() error {
	l, err := entries.List(in.ESP)
	if err != nil {
		return err
	}
	steps, err := entries.PlanDisarm(l, in.Running)
	if err != nil {
		return err
	}
	return entries.Apply(in.ESP, append(entries.PlanClean(l), steps...), nil)
}

// Sources of blocks.
const (
	fromRunning = iota
	fromInactive
)

func (in *Install) writeTree(ctx context.Context) error {
	known := &delta.Installed{}
	running := in.Disk.Section(in.pair.Running.Verity)
	if s, err := verity.ReadSuperblock(running); err == nil && bytes.Equal(s.Salt, in.Index.Salt) {
		hash, err := hex.DecodeString(in.Running)
		if err != nil {
			return fmt.Errorf("running root hash: %w", err)
		}
		if err := known.AddTree(fromRunning, running, release.Sum(hash), s.DataBlocks); err != nil {
			return err
		}
	}
	inactive, err := in.Disk.Digests(in.pair.Inactive.Verity, in.Index.TreeBlocks()+1, in.Index.Salt)
	if err != nil {
		return err
	}
	known.Add(fromInactive, 0, inactive)
	in.tree, err = delta.ReadTree(in.Index, delta.TreeSource{
		Known: known,
		Copy: func(from delta.Place, block []byte) error {
			region := in.pair.Running.Verity
			if from.Source == fromInactive {
				region = in.pair.Inactive.Verity
			}
			_, err := in.Disk.Section(region).ReadAt(block, from.Block*blockSize)
			return err
		},
		Fetch: func(r release.Range, check func([]byte) error) ([]byte, error) { return in.Range(ctx, r, check) },
	})
	if err != nil {
		return err
	}
	return in.Disk.WriteTree(in.pair.Inactive, in.tree)
}

// writeBlocks brings the inactive slot's root to what the tree says.
func (in *Install) writeBlocks(ctx context.Context) error {
	leaves, err := delta.Leaves(bytes.NewReader(in.tree), in.Index.RootHash, in.Index.DataBlocks)
	if err != nil {
		return err
	}
	in.tree = nil
	plan, err := in.plan(leaves)
	if err != nil {
		return err
	}
	b, err := newBlocks(in, leaves, plan.Keep)
	if err != nil {
		return err
	}
	defer b.decoder.Close()
	in.Log.Info("planned", "blocks", in.Index.DataBlocks, "in place", plan.Keep, "moves", len(plan.Moves), "copies", len(plan.Copies), "fetch bytes", plan.FetchBytes())
	return b.carryOut(ctx, plan)
}

func (in *Install) plan(leaves []byte) (*delta.Plan, error) {
	installed := &delta.Installed{}
	running := in.Disk.Section(in.pair.Running.Verity)
	if s, err := verity.ReadSuperblock(running); err == nil && bytes.Equal(s.Salt, in.Index.Salt) {
		hash, err := hex.DecodeString(in.Running)
		if err != nil {
			return nil, fmt.Errorf("running root hash: %w", err)
		}
		have, err := delta.Leaves(running, release.Sum(hash), s.DataBlocks)
		if err != nil {
			return nil, err
		}
		installed.Add(fromRunning, 0, have)
	}
	target, err := in.Disk.Digests(in.pair.Inactive.Root, in.Index.DataBlocks, in.Index.Salt)
	if err != nil {
		return nil, err
	}
	return delta.New(in.Index, leaves, installed, target)
}
