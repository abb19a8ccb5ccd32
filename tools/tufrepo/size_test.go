package tufrepo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	goerofs "github.com/erofs/go-erofs"
	"github.com/klauspost/compress/zstd"

	"github.com/coracle-os/coracle/image/build"
	"github.com/coracle-os/coracle/image/manifest"
	"github.com/coracle-os/coracle/image/recipe"
)

// top is the top of the sources.
const top = "../.."

// BenchmarkUpdateSize builds the image and changed ones with the builder,
// publishes them and updates a machine from the first to each: what goes over
// the wire, with all metadata, when (a) only os-release changed, (b) one agent
// changed (etcd's, in coracled), (c) one third-party program changed (runc, by
// one version), and (d) when nothing is there yet. Figures with "of-program"
// are parts of the changed program's own compressed size; those with "whole"
// are of a machine that no patches are for.
func BenchmarkUpdateSize(b *testing.B) {
	for b.Loop() {
		measureUpdates(b)
	}
}

func measureUpdates(b *testing.B) {
	source := b.TempDir() // once, because people work while this runs
	for _, part := range []string{"image", "initrd", "rootfs", "agents", "tools", "go.mod", "go.sum"} {
		if out, err := exec.Command("cp", "-a", filepath.Join(top, part), source).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	base := buildVariant(b, source, "base", nil)
	p := newPlace(b, 1, 1)
	p.publish(b, base, Options{Channel: "base"})
	s := serve(b, p.dir)
	cost := func(next Build, channel string, from *slot) (*slot, int64) {
		if channel != "base" {
			p.publish(b, next, Options{Channel: channel})
		}
		c, err := connect(b, s, p.rootFile(b, 1), b.TempDir(), p.clock.now())
		if err != nil {
			b.Fatal(err)
		}
		s.bytes.Store(0)
		got := c.update(b, channel, from)
		return got, s.bytes.Load()
	}
	running, whole := cost(base, "base", nil)
	report := func(name string, n int64) {
		b.ReportMetric(float64(n), name+"-bytes")
		b.ReportMetric(100*float64(n)/float64(whole), name+"-%-of-full")
	}
	report("d-all", whole)
	for _, v := range []struct {
		name, program string
		change        func(dir string) error
	}{
		{"a-os-release", "", nil},
		{"b-agent", "usr/lib/coracle/coracled", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "agents/kv/changed.go"), []byte(`package kv

import "os"

func init() {
	if os.Getenv("CORACLE_CHANGED") != "" {
		println("a changed agent")
	}
}
`), 0o644)
		}},
		{"c-third-party", "usr/bin/runc", func(dir string) error {
			cmd := exec.Command("go", "get", "github.com/opencontainers/runc@v1.5.1")
			cmd.Dir = filepath.Join(dir, "rootfs/runc")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}},
	} {
		next := buildVariant(b, source, v.name, v.change)
		for _, whole := range []bool{false, true} {
			name := v.name
			running.noPatches = whole
			if whole {
				name += "-whole"
			}
			_, n := cost(next, v.name, running)
			report(name, n)
			if v.program != "" {
				b.ReportMetric(float64(n)/float64(compressedSize(b, next, v.program)), name+"-of-program")
			}
		}
	}
}

var versionLine = regexp.MustCompile(`(?m)^version: (.*)$`)

// buildVariant builds the image from a changed copy of the sources in original,
// with all that is kept of the last build. With a name other than base its version is
// another too.
func buildVariant(b *testing.B, original, name string, change func(dir string) error) Build {
	b.Helper()
	dir, source := b.TempDir(), b.TempDir()
	command := func(args ...string) {
		b.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	command("cp", "-a", original+"/.", source)
	// Links save a gigabyte of copying; only whole directories are replaced.
	command("cp", "-al", filepath.Join(top, "build", "cache"), dir)
	kept, err := os.ReadDir(filepath.Join(dir, "cache"))
	if err != nil {
		b.Fatalf("%v; run make image", err)
	}
	for _, e := range kept {
		if !e.IsDir() {
			command("cp", "--remove-destination", filepath.Join(top, "build", "cache", e.Name()), filepath.Join(dir, "cache"))
		}
	}
	if change != nil {
		if err := change(source); err != nil {
			b.Fatal(err)
		}
	}
	text := recipe.Default()
	version := string(versionLine.FindSubmatch(text)[1])
	if name != "base" {
		version += ".1." + fmt.Sprint(slices.Index([]string{"", "a", "b", "c"}, name[:1]))
		text = versionLine.ReplaceAll(text, []byte("version: "+version))
	}
	file := filepath.Join(source, "recipe.yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		b.Fatal(err)
	}
	r, err := recipe.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		b.Fatal(err)
	}
	if _, err := build.Run(b.Context(), build.Options{
		Recipe: r, RecipeText: text, RecipeDir: source, Source: source, Output: dir, Form: build.Release, Cache: filepath.Join(cache, "coracle"), Now: time.Now,
	}); err != nil {
		b.Fatal(err)
	}
	result := readBuilt(b, dir, version)
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
	return result
}

func readBuilt(b *testing.B, dir, version string) Build {
	b.Helper()
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		return content
	}
	var m manifest.Manifest
	text := read(build.ManifestName)
	if err := json.Unmarshal(text, &m); err != nil {
		b.Fatal(err)
	}
	if m.Version != strings.Trim(version, `"`) {
		b.Fatalf("built version %q, want %s", m.Version, version)
	}
	root := read(build.RootName)
	return Build{
		Version: m.Version, RootHash: m.RootHash, Root: bytes.NewReader(root), RootSize: int64(len(root)),
		UKI: read(build.UKIName), Manifest: text, SBOM: read(build.SBOMName),
	}
}

// compressedSize is what zstd makes of a program of a root as one file.
func compressedSize(b *testing.B, in Build, path string) int64 {
	b.Helper()
	root, err := goerofs.Open(in.Root)
	if err != nil {
		b.Fatal(err)
	}
	content, err := fs.ReadFile(root, path)
	if err != nil {
		b.Fatal(err)
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		b.Fatal(err)
	}
	return int64(len(encoder.EncodeAll(content, nil)))
}
