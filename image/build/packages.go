package build

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/image/debian"
	"github.com/coracle-os/coracle/image/recipe"
	"github.com/coracle-os/coracle/image/step"
	"github.com/coracle-os/coracle/image/tree"
)

// indexAge is how long an index of the archive is good for a new resolution.
const indexAge = 12 * time.Hour

// packageSet is the resolved packages and their files in the cache.
type packageSet struct {
	lock  packageLock
	paths map[string]string // by package name and suite
}

// packageLock is what was resolved. It is kept beside the image, so that the
// next build uses the same packages without asking anybody.
type packageLock struct {
	Request string           // digest of what was asked for
	Kernel  debian.Package   // with the kernel and its modules
	Boot    debian.Package   // with loader and stub
	BIOS    []debian.Package // GRUB, and what its tools need to run
	Root    []debian.Package // named by the recipe, and all that they depend on
}

func (l packageLock) all() []debian.Package {
	return slices.Concat([]debian.Package{l.Kernel, l.Boot}, l.BIOS, l.Root)
}

// read reads the lock in a file, and reports whether it is of this request.
func (l *packageLock) read(file, request string) bool {
	text, err := os.ReadFile(file)
	return err == nil && json.Unmarshal(text, l) == nil && l.Request == request
}

func id(p debian.Package) string { return p.Suite + "/" + p.Name }

// packages resolves the recipe's packages and gets them into the cache.
func (b *builder) packages(ctx context.Context) (*packageSet, error) {
	archive := &debian.Archive{
		CacheDir: b.Cache, MaxAge: indexAge, Now: b.Now,
		Note: func(format string, args ...any) { b.store.Note("packages", format, args...) },
	}
	set := &packageSet{paths: map[string]string{}}
	lockPath := filepath.Join(b.store.Dir, "packages.json")
	request := b.packageRequest()
	known := !b.Update && (set.lock.read(lockPath, request) ||
		b.store.Like != "" && set.lock.read(filepath.Join(b.store.Like, "packages.json"), request))
	get := func() error {
		for _, p := range set.lock.all() {
			path, err := archive.Fetch(ctx, p, b.suite(p.Suite))
			if err != nil {
				return err
			}
			set.paths[id(p)] = path
		}
		return nil
	}
	if known && !slices.ContainsFunc(set.lock.all(), func(p debian.Package) bool { return !archive.Cached(p) }) {
		start := b.Now()
		if err := get(); err == nil {
			b.report(step.Event{Name: "packages", State: step.Cached, Elapsed: b.Now().Sub(start)})
			return set, nil
		}
	}
	return set, b.timed(ctx, "packages", func() error {
		if known {
			// Packages are gone from the cache; the mirror may have the same ones still.
			err := get()
			if err == nil {
				return nil
			}
			b.store.Note("packages", "cannot get the same packages as last time, looking for newer ones: %v", err)
		}
		if err := b.resolve(ctx, archive, set); err != nil {
			return err
		}
		set.lock.Request = request
		if err := get(); err != nil {
			return err
		}
		return writeJSON(lockPath, set.lock)
	})
}

// timed reports a piece of work that has no result in the store.
func (b *builder) timed(ctx context.Context, name string, work func() error) error {
	start := b.Now()
	b.report(step.Event{Name: name, State: step.Started})
	if err := work(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b.report(step.Event{Name: name, State: step.Failed, Elapsed: b.Now().Sub(start), Err: err})
		return fmt.Errorf("%s: %w", name, err)
	}
	b.report(step.Event{Name: name, State: step.Done, Elapsed: b.Now().Sub(start)})
	return nil
}

func (b *builder) report(e step.Event) {
	if b.Report != nil {
		b.Report(e)
	}
}

// suite returns the suite of the recipe; "" is the first one.
func (b *builder) suite(name string) debian.Suite {
	for _, s := range b.Recipe.Suites {
		if s.Name == name || name == "" {
			return debian.Suite{Name: s.Name, With: s.With}
		}
	}
	return debian.Suite{Name: name}
}

// packageRequest is a digest of all that the recipe says about packages.
func (b *builder) packageRequest() string {
	r := b.Recipe
	key := step.NewKey("packages 2", r.Kernel.Package, r.Kernel.Suite, r.Boot.Package, r.Boot.Suite, r.BIOS.Package, r.BIOS.Suite)
	for _, s := range r.Suites {
		key.Add(s.Name, strings.Join(s.With, " "))
	}
	for _, p := range r.Packages {
		key.Add(p.Name, p.Suite)
	}
	return key.Sum()
}

func (b *builder) resolve(ctx context.Context, archive *debian.Archive, set *packageSet) error {
	r := b.Recipe
	kernel, err := archive.Resolve(ctx, debian.Request{Suite: b.suite(r.Kernel.Suite), Names: []string{r.Kernel.Package}}, b.Update)
	if err != nil {
		return err
	}
	set.lock.Kernel = kernel[0]
	// A metapackage holds nothing and depends on the newest kernel of its kind.
	for _, name := range kernel[0].Depends {
		if strings.HasPrefix(name, "linux-image-") {
			real, err := archive.Resolve(ctx, debian.Request{Suite: b.suite(r.Kernel.Suite), Names: []string{name}}, false)
			if err != nil {
				return err
			}
			set.lock.Kernel = real[0]
		}
	}
	boot, err := archive.Resolve(ctx, debian.Request{Suite: b.suite(r.Boot.Suite), Names: []string{r.Boot.Package}}, b.Update)
	if err != nil {
		return err
	}
	set.lock.Boot = boot[0]
	set.lock.BIOS, set.lock.Root = nil, nil
	if r.BIOS.Package != "" {
		set.lock.BIOS, err = archive.Resolve(ctx, debian.Request{Suite: b.suite(r.BIOS.Suite), Names: []string{r.BIOS.Package}, Closure: true}, false)
		if err != nil {
			return err
		}
	}
	for _, suite := range r.Suites {
		var names []string
		for _, p := range r.Packages {
			if b.suite(p.Suite).Name == suite.Name && !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
		packages, err := archive.Resolve(ctx, debian.Request{Suite: b.suite(suite.Name), Names: names, Closure: true}, false)
		if err != nil {
			return err
		}
		set.lock.Root = append(set.lock.Root, packages...)
	}
	return nil
}

// read returns the files of a package.
func (s *packageSet) read(ctx context.Context, p debian.Package) (tree.Tree, error) {
	return debian.Read(ctx, s.paths[id(p)])
}

// match reports whether a path is one that the recipe wants of a package.
func match(p recipe.Package, name string) bool {
	return slices.ContainsFunc(p.Files, func(pattern string) bool { return matchOne(pattern, name) })
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
