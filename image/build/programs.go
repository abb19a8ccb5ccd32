package build

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/coracle-os/coracle/image/gobuild"
	"github.com/coracle-os/coracle/image/step"
)

// program is a compiled component.
type program struct {
	name   string
	path   string // in the image
	file   string // on the host
	sha256 string
	initrd bool
}

// compilers is how many programs are compiled at a time. The go command uses all
// processors itself; two keep them busy while one of them links.
const compilers = 2

// programs compiles all components and the commands.
func (b *builder) programs(ctx context.Context) ([]program, error) {
	own, err := gobuild.SourceDigest(b.Source, func(path string) bool {
		if _, err := os.Stat(filepath.Join(b.Source, path, "go.mod")); err == nil {
			return true // a module of its own
		}
		return path == "build" || path == "image" || path == "tools" || path == "qemu-tests" ||
			path == "rootfs/base" || strings.HasSuffix(path, ".md")
	})
	if err != nil {
		return nil, err
	}
	results := make([]program, len(b.Recipe.Components), len(b.Recipe.Components)+1)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(compilers)
	for i, c := range b.Recipe.Components {
		group.Go(func() error {
			digest := own
			if c.Module != "" {
				var err error
				digest, err = gobuild.SourceDigest(filepath.Join(b.Source, c.Module), func(string) bool { return false })
				if err != nil {
					return err
				}
			}
			p := gobuild.Program{
				Name: c.Name, Dir: filepath.Join(b.Source, c.Module), Package: c.Package,
				Tags: c.Tags, LDFlags: c.LDFlags, Cgo: c.Cgo, Small: c.Small,
			}
			key := step.NewKey("program 1", b.tools, digest, c.Package, strings.Join(c.Tags, ","), c.LDFlags)
			if c.Cgo {
				key.Add("cgo")
			}
			if c.Small {
				key.Add("small")
			}
			key.Add(c.Packages...)
			results[i] = program{name: c.Name, path: c.Path, initrd: c.Initrd}
			return b.program(ctx, &results[i], key, func(ctx context.Context, out string) error {
				if len(c.Packages) > 0 {
					return gobuild.Busybox(ctx, b.Source, c.Module, c.Packages, out)
				}
				return gobuild.Build(ctx, p, out)
			})
		})
	}
	commands := program{name: "commands", path: b.Recipe.Commands.Path}
	if len(b.Recipe.Commands.Packages) > 0 {
		group.Go(func() error {
			sum, err := fileDigest(filepath.Join(b.Source, "go.sum"))
			if err != nil {
				return err
			}
			list := b.Recipe.Commands.Packages
			key := step.NewKey("commands 1", b.tools, sum).Add(list...)
			return b.program(ctx, &commands, key, func(ctx context.Context, out string) error {
				return gobuild.Busybox(ctx, b.Source, "", list, out)
			})
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if commands.file != "" {
		results = append(results, commands)
	}
	return results, nil
}

// program compiles one program, unless that was done before, and completes p.
func (b *builder) program(ctx context.Context, p *program, key *step.Key, compile func(context.Context, string) error) error {
	dir, err := b.store.Run(ctx, "program-"+p.name, key, func(ctx context.Context, dir string) error {
		return compile(ctx, filepath.Join(dir, p.name))
	})
	if err != nil {
		return err
	}
	p.file = filepath.Join(dir, p.name)
	p.sha256, err = fileDigest(p.file)
	return err
}

// commandNames returns the names of the commands of the recipe.
func (b *builder) commandNames() []string {
	var names []string
	for _, command := range b.Recipe.Commands.Packages {
		names = append(names, path.Base(command))
	}
	return names
}
