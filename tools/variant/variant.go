// Package variant builds releases that follow the default image: the next
// version, or one that is broken in a way that a machine must survive. It is
// for the demonstration of updates, for the tests of them in QEMU, and for
// measurements; a publisher writes a recipe of his own.
//
// A variant is the default recipe with changes, built by package build beside
// the image, whose unchanged steps are used. Left out on purpose: publishing,
// which is package tufrepo's.
package variant

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/image/build"
	"github.com/coracle-os/coracle/image/recipe"
)

// initPath is what stage 1 starts in a root.
const initPath = "usr/lib/coracle/init"

// A Variant is a release to be built.
type Variant struct {
	Version string
	Change  func(*recipe.Recipe) // nil: only the version is another
	Disk    bool                 // the disk too, not only what is published
}

// Next is the image under another version.
func Next(version string) Variant { return Variant{Version: version} }

// Unhealthy is a release that runs, and whose own check of its health fails.
func Unhealthy(version string) Variant {
	return Variant{Version: version, Change: func(r *recipe.Recipe) {
		r.Files = append(r.Files, recipe.File{Path: "usr/lib/coracle/health.d/broken.yaml",
			Content: "deadline: 5s\nchecks:\n  - command: [/usr/bin/false]\n"})
	}}
}

// Empty is a release whose root verifies and holds nothing.
func Empty(version string) Variant {
	return Variant{Version: version, Change: func(r *recipe.Recipe) { bare(r) }}
}

// Hang is a release whose PID 1 starts and never does anything: it waits for a
// line that nobody types, which leaves the processor to others.
func Hang(version string) Variant {
	return Variant{Version: version, Change: func(r *recipe.Recipe) {
		bare(r, recipe.File{Path: initPath, Mode: 0o755, Content: "#!/usr/bin/bash\nexec 2>&-\nwhile :; do read -r _ < /dev/console; done\n"})
		r.Packages = []recipe.Package{{Name: "bash", Files: []string{"usr/bin/bash"}}}
	}}
}

// Panic is a release whose kernel finds nothing to start.
func Panic(version string) Variant {
	return Variant{Version: version, Change: func(r *recipe.Recipe) {
		bare(r)
		r.Kernel.Arguments = append(r.Kernel.Arguments, "rdinit=/nothing")
	}}
}

// bare leaves of a recipe what boots into stage 1, and these files.
func bare(r *recipe.Recipe, files ...recipe.File) {
	for _, c := range r.Components {
		if c.Initrd {
			r.Components = []recipe.Component{c}
			break
		}
	}
	r.Packages, r.Programs, r.Base, r.Units = nil, nil, nil, nil
	r.Commands = recipe.Commands{}
	r.Files = files
}

// Build builds the variant into the directory output. source is the top of the
// sources; like is the directory of the image, whose steps are used where they
// are the same.
func (v Variant) Build(ctx context.Context, source, like, output string) error {
	r, err := recipe.Parse(recipe.Default())
	if err != nil {
		return fmt.Errorf("build variant %s: %w", v.Version, err)
	}
	r.Version = v.Version
	if v.Change != nil {
		v.Change(r)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("build variant %s: %w", v.Version, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("build variant %s: %w", v.Version, err)
	}
	form := build.Release
	if v.Disk {
		form = build.Disk
	}
	_, err = build.Run(ctx, build.Options{
		Recipe: r, RecipeText: text, RecipeDir: source, Source: source, Output: output, Like: like, Form: form,
		Cache: filepath.Join(cache, "coracle"), Now: time.Now,
	})
	if err != nil {
		return fmt.Errorf("build variant %s: %w", v.Version, err)
	}
	return nil
}
