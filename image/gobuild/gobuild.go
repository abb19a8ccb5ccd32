// Package gobuild compiles the Go programs of an image.
//
// The results are reproducible: the same sources and the same Go release give
// the same bytes in whatever folder and at whatever time, and nothing of the
// machine (paths, version control, build ID) is in them. Compiling is done by
// the go command of the host, which also keeps the cache.
//
// Third-party programs stand in modules of their own; a program is therefore
// named by the directory of its module and its import path.
package gobuild

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Program is one program to compile.
type Program struct {
	Name    string   // of the result
	Dir     string   // the module's directory
	Package string   // import path, or ./path below Dir
	Tags    []string // build tags
	LDFlags string   // for the linker, after the ones for reproducible results
	Cgo     bool     // compile C with the host's gcc
	Small   bool     // without inlining, but for the standard library and what compresses
}

// Module is a Go module that went into a program.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum,omitempty"`
}

// Toolchain is the Go release and platform, one line.
func Toolchain(ctx context.Context, dir string) (string, error) {
	out, err := run(ctx, dir, nil, "version")
	return strings.TrimSpace(out), err
}

// Build compiles p into the file out.
func Build(ctx context.Context, p Program, out string) error {
	if _, err := os.Stat(filepath.Join(p.Dir, "go.mod")); err != nil {
		return fmt.Errorf("compile %s: %w; is the component's module right in the recipe?", p.Name, err)
	}
	args := []string{
		"build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-buildmode=exe",
		"-ldflags", strings.TrimSpace("-s -w -buildid= " + p.LDFlags), "-o", out,
	}
	if p.Small { // the last that fits a package counts
		args = append(args, "-gcflags=all=-l", "-gcflags=std=", "-gcflags=github.com/klauspost/compress/...=")
	}
	if len(p.Tags) > 0 {
		args = append(args, "-tags", strings.Join(p.Tags, ","))
	}
	env := []string{"CGO_ENABLED=0"}
	if p.Cgo {
		// The linker's build ID would be a digest of temporary paths.
		env = []string{"CGO_ENABLED=1", "CGO_CFLAGS=-O2", "CGO_LDFLAGS=-Wl,--build-id=none"}
	}
	if _, err := run(ctx, p.Dir, env, append(args, p.Package)...); err != nil {
		return fmt.Errorf("compile %s: %w", p.Name, err)
	}
	return nil
}

// Busybox makes one program of the commands, which are import paths of main
// packages that a module requires (its go.mod names each as a tool): the one in
// dir, which also has the tool that makes it, or one in a directory below. The
// program finds the command to be by the name it is called with.
func Busybox(ctx context.Context, dir, module string, commands []string, out string) error {
	scratch, err := os.MkdirTemp("", "coracle-busybox-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	// makebb itself asks for stripped, trimmed programs without build ID.
	// The tool itself calls the go command.
	env := []string{"CGO_ENABLED=0", "PATH=" + os.Getenv("PATH") + ":/usr/local/go/bin"}
	tool := filepath.Join(scratch, "makebb")
	if _, err := run(ctx, dir, env, "build", "-o", tool, "github.com/u-root/gobusybox/src/cmd/makebb"); err != nil {
		return fmt.Errorf("compile the tool makebb: %w", err)
	}
	args := append([]string{"-o", out, "-gen-dir", filepath.Join(scratch, "src")}, commands...)
	if _, err := start(ctx, tool, filepath.Join(dir, module), env, args...); err != nil {
		return fmt.Errorf("compile one program of %d: %w", len(commands), err)
	}
	return nil
}

// Modules returns what a compiled program was made of, by its own account,
// sorted by path. Modules that are part of the repository have no version and
// are left out.
func Modules(file string) ([]Module, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the modules of %q: %w", file, err)
	}
	var result []Module
	for _, m := range info.Deps {
		for m.Replace != nil {
			m = m.Replace
		}
		if strings.HasPrefix(m.Path, ".") || m.Version == "" || m.Version == "(devel)" {
			continue
		}
		result = append(result, Module{Path: m.Path, Version: m.Version, Sum: m.Sum})
	}
	slices.SortFunc(result, func(a, b Module) int { return strings.Compare(a.Path+"@"+a.Version, b.Path+"@"+b.Version) })
	return slices.Compact(result), nil
}

// SourceDigest returns the digest of all files below dir that can go into a
// program, names included: everything except tests, test data, hidden files and
// what skip says (of paths relative to dir). It is much faster than asking the go command and errs on the side of change.
func SourceDigest(dir string, skip func(path string) bool) (string, error) {
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name := entry.Name()
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata"
		if entry.IsDir() {
			if hidden || skip(relative) {
				return filepath.SkipDir
			}
			return nil
		}
		if hidden || strings.HasSuffix(name, "_test.go") || !entry.Type().IsRegular() || skip(relative) {
			return nil
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		content := sha256.New()
		if _, err := io.Copy(content, file); err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %x\n", filepath.ToSlash(relative), content.Sum(nil))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("digest of the sources: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// run starts the go command with an environment in which only what the user
// needs to reach modules is their own.
func run(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		path = "/usr/local/go/bin/go"
		if _, statErr := os.Stat(path); statErr != nil {
			return "", fmt.Errorf("find the go command: %w; install Go from go.dev/dl", err)
		}
	}
	return start(ctx, path, dir, env, args...)
}

// start runs a program in that environment and returns what it printed.
func start(ctx context.Context, path, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=", "GOWORK=off",
		"GOEXPERIMENT=", "GODEBUG=", "LC_ALL=C.UTF-8")
	cmd.Env = append(cmd.Env, env...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w:\n%s", filepath.Base(path), args[0], err, tail(errOut.String()+out.String(), 4000))
	}
	return out.String(), nil
}

// tail returns the last n bytes of text, from the start of a line.
func tail(text string, n int) string {
	text = strings.TrimSpace(text)
	if len(text) <= n {
		return text
	}
	text = text[len(text)-n:]
	_, text, _ = strings.Cut(text, "\n")
	return text
}
