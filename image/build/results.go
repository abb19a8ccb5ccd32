package build

import (
	"context"

	"github.com/coracle-os/coracle/image/manifest"
	"github.com/coracle-os/coracle/image/recipe"
)

// Steps returns the names of all steps of a recipe's build, for showing progress.
func Steps(r *recipe.Recipe) []string {
	steps := []string{"packages", "kernel"}
	for _, c := range r.Components {
		steps = append(steps, "program-"+c.Name)
	}
	if len(r.Commands.Packages) > 0 {
		steps = append(steps, "program-commands")
	}
	return append(steps, "initrd", "root", "uki", "disk", "qcow2")
}

func (b *builder) results(ctx context.Context, packages *packageSet, kernel *kernelResult, programs []program, root *rootResult, uki string) (*manifest.Manifest, error) {
	m := &manifest.Manifest{Version: b.Recipe.Version, Channel: b.Recipe.Channel, Kernel: kernel.release, RootHash: root.info.RootHash, Root: root.info.Size}
	return m, nil
}
