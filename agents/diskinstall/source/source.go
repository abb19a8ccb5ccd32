// Package source is what the installer writes: an image in a file or at an
// address, a release of a channel or of a bundle, or the release that the
// machine runs. Each fills a target.Disk but for its partition table, which it
// returns, and can check what the disk then holds.
//
// What is checked: releases of channels and bundles are signed (The Update
// Framework); the running release is read through dm-verity; an image has its
// digest in manifest.json beside it, or as an argument. Of an image without any,
// at least every block of the root is checked against the root hash that its
// boot entry names, so that damage is found, though not forgery.
package source

import (
	"context"

	"github.com/coracle-os/coracle/agents/diskinstall/target"
	"github.com/coracle-os/coracle/image/gpt"
)

// A Source is one release on its way to a disk.
type Source interface {
	// Describe says what it is, in a few words, and opens it.
	Describe(ctx context.Context) (string, error)
	// Fill writes the partitions' content. Nothing has been written to the
	// disk before begin was called, which it does when it knows that the
	// layout fits. progress is called with what is done and the whole, in
	// bytes.
	Fill(ctx context.Context, d *target.Disk, begin func(gpt.Layout) error, progress func(done, whole int64)) (Result, error)
	// Close frees what Describe has opened.
	Close() error
}

// Result is what was written.
type Result struct {
	Layout   gpt.Layout
	BootCode []byte // first bytes of the disk; nil for none
	Version  string
	RootHash string // 64 hexadecimal digits
	// Check reads the disk back; the table is not on it yet.
	Check func() error
	// Note is what the owner should know about how far the source could be
	// verified; "" if it was signed.
	Note string
}
