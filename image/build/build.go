// Package build makes an image out of a recipe: it is the place where the
// packages of image/ are put together, and has no format of its own.
//
// The work is a handful of steps (see package step), each under the digest of
// its inputs, so a build with nothing changed does nothing:
//
//	packages   resolve and fetch Debian packages
//	kernel     kernel image and the selected modules
//	bios       GRUB for legacy BIOS
//	program-*  one per component, compiled
//	initrd     stage 1 and its modules
//	root       root tree -> EROFS -> hash tree -> root hash
//	uki        stub, kernel, initrd, command line
//	disk       ESP, oem, state, GPT -> coracle.raw -> coracle.qcow2, manifest
//
// It needs no root rights, no loop devices and no mounts. The same sources,
// packages and Go release give the same bytes, wherever and whenever.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coracle-os/coracle/image/gobuild"
	"github.com/coracle-os/coracle/image/manifest"
	"github.com/coracle-os/coracle/image/recipe"
	"github.com/coracle-os/coracle/image/step"
)

// Options are the surroundings of a build.
type Options struct {
	Recipe     *recipe.Recipe
	RecipeText []byte // as it was read, for the manifest
	RecipeDir  string // where Source of files and units is looked up
	Source     string // top of the repository
	Output     string // directory of the results; is made when missing
	Cache      string // directory of Debian packages, shared by builds of one user
	Like       string // Output of another build, whose steps serve where they are the same; "" for none
	Form       Form   // which of the results are made
	Update     bool   // look for newer packages even if the recipe is unchanged
	Now        func() time.Time
	Report     func(step.Event) // called from several goroutines at once
}

// A Form says what a build is for: it leaves out what that does not need.
type Form int

// The forms of a build.
const (
	Image   Form = iota // everything
	Disk                // no QcowName
	Release             // no disk: only what machines fetch
)

// Names of the results in Options.Output.
const (
	RawName      = "coracle.raw"
	QcowName     = "coracle.qcow2"
	UKIName      = "coracle.efi"
	RootName     = "root.erofs"
	ManifestName = "manifest.json"
	SBOMName     = "sbom.spdx.json"
)

// builder is one build while it runs.
type builder struct {
	Options
	store *step.Store
	code  string // digest of the builder's own sources, part of most keys
	tools string // the Go release
	sign  signing
}

// Run builds the image and returns what it was made of.
func Run(ctx context.Context, o Options) (*manifest.Manifest, error) {
	b := &builder{Options: o, store: &step.Store{Dir: filepath.Join(o.Output, "cache"), Now: o.Now, Report: o.Report}}
	if o.Like != "" {
		b.store.Like = filepath.Join(o.Like, "cache")
	}
	if err := os.MkdirAll(b.Output, 0o755); err != nil {
		return nil, fmt.Errorf("make output directory: %w", err)
	}
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	var packages *packageSet
	var kernel *kernelResult
	bios := "" // directory with GRUB
	var programs []program
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		if packages, err = b.packages(groupCtx); err != nil {
			return err
		}
		if kernel, err = b.kernel(groupCtx, packages); err != nil {
			return err
		}
		bios, err = b.bios(groupCtx, packages)
		return err
	})
	group.Go(func() (err error) {
		programs, err = b.programs(groupCtx)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var initrd string
	var root *rootResult
	group, groupCtx = errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		initrd, err = b.initrd(groupCtx, kernel, programs)
		return err
	})
	group.Go(func() (err error) {
		root, err = b.root(groupCtx, packages, kernel, programs, bios)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	uki, err := b.uki(ctx, packages, kernel, initrd, root)
	if err != nil {
		return nil, err
	}
	return b.results(ctx, packages, kernel, programs, root, uki, bios)
}

// prepare finds out what the builder itself is.
func (b *builder) prepare(ctx context.Context) error {
	var err error
	if b.tools, err = gobuild.Toolchain(ctx, b.Source); err != nil {
		return err
	}
	code, err := gobuild.SourceDigest(filepath.Join(b.Source, "image"), func(string) bool { return false })
	if err != nil {
		return err
	}
	// Libraries write the formats too.
	modules, err := fileDigest(filepath.Join(b.Source, "go.sum"))
	if err != nil {
		return err
	}
	b.code = step.NewKey(code, modules, b.tools).Sum()
	return b.readSigning()
}

// key starts the key of a step of this builder.
func (b *builder) key(parts ...string) *step.Key { return step.NewKey(b.code).Add(parts...) }

// osRelease is /usr/lib/os-release of the root and section .osrel of the UKI.
func (b *builder) osRelease() string {
	r := b.Recipe
	return fmt.Sprintf("NAME=\"Coracle\"\nID=coracle\nVERSION=%q\nVERSION_ID=%s\nPRETTY_NAME=\"Coracle %s (%s)\"\n"+
		"CORACLE_CHANNEL=%s\nDEFAULT_HOSTNAME=coracle\n", r.Version, r.Version, r.Version, r.Channel, r.Channel)
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read %q: %w", path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
