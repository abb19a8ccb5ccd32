package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/coracle-os/coracle/rootfs/program"
)

const bundleUsage = `Usage: coracle bundle -repo DIR -channel NAME [-o FILE]
Writes the release that a channel has into one file, for update-engine apply on machines
without a network.
`

// cmdBundle writes a release as one file.
func cmdBundle(_ context.Context, args []string, stdio program.Stdio) error {
	f := newRepoFlags("coracle bundle", bundleUsage, stdio)
	channel := f.String("channel", "stable", "`channel` whose release is taken")
	output := f.String("o", "", "`file` to write; without it coracle-CHANNEL.bundle")
	repo, _, err := f.open(args, 0)
	if err != nil {
		return err
	}
	defer repo.Close()
	if *output == "" {
		*output = "coracle-" + filepath.Base(*channel) + ".bundle"
	}
	c, err := repo.BundleFile(*output, *channel)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdio.Out, "%s has %s\n", *output, c.Version)
	return nil
}
