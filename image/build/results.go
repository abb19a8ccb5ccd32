package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coracle-os/coracle/image/debian"
	"github.com/coracle-os/coracle/image/gobuild"
	"github.com/coracle-os/coracle/image/manifest"
	"github.com/coracle-os/coracle/image/recipe"
	"github.com/coracle-os/coracle/image/step"
)

// Steps returns the names of all steps of a recipe's build, for showing progress.
func Steps(r *recipe.Recipe) []string {
	steps := []string{"packages", "kernel"}
	if r.BIOS.Package != "" {
		steps = append(steps, "bios")
	}
	for _, c := range r.Components {
		steps = append(steps, "program-"+c.Name)
	}
	if len(r.Commands.Packages) > 0 {
		steps = append(steps, "program-commands")
	}
	return append(steps, "initrd", "root", "uki", "disk", "qcow2")
}

// stamp says which build the files in the output directory are from.
type stamp struct {
	Key      string
	Files    map[string]fileState
	Manifest manifest.Manifest
}

// fileState tells whether a file was changed since.
type fileState struct {
	Size     int64
	Modified time.Time
}

func stateOf(path string) (fileState, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}, err
	}
	return fileState{info.Size(), info.ModTime().UTC()}, nil
}

// fresh reports whether the output directory has the files of this build.
func (b *builder) fresh(s stamp, key string) bool {
	for name, want := range s.Files {
		if got, err := stateOf(filepath.Join(b.Output, name)); err != nil || got != want {
			return false
		}
	}
	return s.Key == key && len(s.Files) > 0
}

// results writes the files that the build is for, each under a temporary name
// first.
func (b *builder) results(ctx context.Context, packages *packageSet, kernel *kernelResult, programs []program, root *rootResult, uki, bios string) (*manifest.Manifest, error) {
	stampPath := filepath.Join(b.store.Dir, "results.json")
	p := b.Recipe.Partitions
	key := b.key("results", filepath.Base(root.dir), filepath.Base(filepath.Dir(uki)), packages.lock.Boot.SHA256, filepath.Base(bios),
		b.Recipe.Version, b.Recipe.Channel, fmt.Sprint(p), b.sign.id, b.sign.loaderConf, fmt.Sprint(b.names())).Sum()
	var old stamp
	if err := readJSON(stampPath, &old); err == nil && b.fresh(old, key) {
		b.report(step.Event{Name: "disk", State: step.Cached})
		b.report(step.Event{Name: "qcow2", State: step.Cached})
		return &old.Manifest, nil
	}
	sums, err := b.writeResults(ctx, packages, root, uki, bios)
	if err != nil {
		return nil, err
	}
	m, err := b.manifest(packages, kernel, programs, root, sums)
	if err != nil {
		return nil, err
	}
	if err := b.describe(m); err != nil {
		return nil, err
	}
	now := stamp{Key: key, Files: map[string]fileState{}, Manifest: *m}
	for _, name := range append(b.names(), ManifestName, SBOMName) {
		if now.Files[name], err = stateOf(filepath.Join(b.Output, name)); err != nil {
			return nil, err
		}
	}
	return m, writeJSON(stampPath, now)
}

// names are the results that the build is for, beside their descriptions.
func (b *builder) names() []string {
	switch b.Form {
	case Release:
		return []string{UKIName, RootName}
	case Disk:
		return []string{RawName, UKIName, RootName}
	}
	return []string{RawName, QcowName, UKIName, RootName}
}

// writeResults writes the images and returns their digests by name.
func (b *builder) writeResults(ctx context.Context, packages *packageSet, root *rootResult, uki, bios string) (map[string]string, error) {
	paths := map[string]string{UKIName: uki, RootName: root.image}
	for _, name := range []string{RawName, QcowName} {
		paths[name] = filepath.Join(b.Output, "."+name+".new")
		defer os.Remove(paths[name])
	}
	names := b.names()
	if slices.Contains(names, RawName) {
		if err := b.timed(ctx, "disk", func() error { return b.disk(ctx, packages, root, uki, bios, paths[RawName]) }); err != nil {
			return nil, err
		}
	}
	digests := make([]string, len(names))
	group, groupCtx := errgroup.WithContext(ctx)
	for i, name := range names {
		group.Go(func() (err error) {
			if name == QcowName {
				if err := b.timed(groupCtx, "qcow2", func() error { return qcow2(groupCtx, paths[RawName], paths[name]) }); err != nil {
					return err
				}
			}
			digests[i], err = fileDigest(paths[name])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	sums := map[string]string{}
	for i, name := range names {
		place := os.Rename
		if name == UKIName || name == RootName {
			place = linkOrCopy
		}
		if err := place(paths[name], filepath.Join(b.Output, name)); err != nil {
			return nil, err
		}
		sums[name] = digests[i]
	}
	return sums, nil
}

// manifest collects what the image was made of.
func (b *builder) manifest(packages *packageSet, kernel *kernelResult, programs []program, root *rootResult, sums map[string]string) (*manifest.Manifest, error) {
	recipeSum := sha256.Sum256(b.RecipeText)
	m := &manifest.Manifest{
		Version: b.Recipe.Version, Channel: b.Recipe.Channel, RootHash: root.info.RootHash, Kernel: kernel.release,
		Cmdline: b.cmdline(root), Recipe: hex.EncodeToString(recipeSum[:]), Go: b.tools, Root: root.info.Size,
	}
	for _, name := range b.names() {
		state, err := stateOf(filepath.Join(b.Output, name))
		if err != nil {
			return nil, err
		}
		m.Results = append(m.Results, manifest.Result{Name: name, Size: state.Size, SHA256: sums[name]})
	}
	all := slices.Concat([]debian.Package{packages.lock.Kernel, packages.lock.Boot}, packages.lock.biosPackages(b.Recipe.BIOS.Package), root.info.Packages)
	for _, p := range all {
		m.Packages = append(m.Packages, manifest.Package{
			Name: p.Name, Version: p.Version, Architecture: p.Architecture, Suite: p.Suite, Source: p.Source, SHA256: p.SHA256,
		})
	}
	slices.SortFunc(m.Packages, func(a, b manifest.Package) int { return strings.Compare(a.Name+a.Suite, b.Name+b.Suite) })
	for _, p := range programs {
		state, err := stateOf(p.file)
		if err != nil {
			return nil, err
		}
		modules, err := gobuild.Modules(p.file)
		if err != nil {
			return nil, err
		}
		one := manifest.Program{Name: p.name, Path: p.path, Size: state.Size, SHA256: p.sha256}
		for _, module := range modules {
			one.Modules = append(one.Modules, manifest.Module(module))
		}
		m.Programs = append(m.Programs, one)
	}
	return m, nil
}

// describe writes manifest and SBOM.
func (b *builder) describe(m *manifest.Manifest) error {
	text, err := m.JSON()
	if err != nil {
		return err
	}
	bill, err := m.SPDX()
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{ManifestName: text, SBOMName: bill} {
		path := filepath.Join(b.Output, name)
		if err := os.WriteFile(path+".new", content, 0o644); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}
