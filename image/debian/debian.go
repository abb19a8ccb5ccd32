// Package debian gets packages from the Debian archive for the builder.
//
// The suite is the recipe's; the mirror's address, the keyring and a proxy are
// those of the host's own apt configuration, read at run time. The result
// therefore does not depend on the host's release. apt itself does the work,
// in directories of the builder's own (Dir=...), as any user: it checks the
// signature of the index, resolves dependencies and checks every package's
// digest. What was resolved is a value (Resolution) that the caller keeps, so
// that later builds use the same versions and need no network.
//
// Packages are read, never installed: maintainer scripts do not run.
//
// See sources.list(5), apt.conf(5), deb(5).
package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Suite is a name of the recipe for one or more suites of the archive that are
// used together, as trixie with trixie-updates and trixie-security.
type Suite struct {
	Name string   // a suite of the main archive
	With []string // more suites; those ending in -security come from the security archive
}

// Package is one resolved package.
type Package struct {
	Name         string   `json:"name"`
	Version      string   `json:"version"`
	Architecture string   `json:"architecture"`
	Suite        string   `json:"suite"`  // Suite.Name
	Source       string   `json:"source"` // name of the source package
	SHA256       string   `json:"sha256"` // of the .deb file, lower case hex
	Size         int64    `json:"size"`   // of the .deb file, bytes
	Depends      []string `json:"depends,omitempty"`
}

// FileName is the name of the package's file in the cache.
func (p Package) FileName() string {
	return p.Name + "_" + strings.ReplaceAll(p.Version, ":", "%3a") + "_" + p.Architecture + ".deb"
}

// Archive is the Debian archive as the host reaches it.
type Archive struct {
	CacheDir string        // kept between builds, shared by builds of one user
	HostApt  string        // the host's apt configuration; "" means /etc/apt
	MaxAge   time.Duration // an index younger than this is used without asking the mirror
	Now      func() time.Time
	Note     func(format string, args ...any) // told about what went differently than planned; may be nil
}

// lock makes other processes with the same cache wait until unlock.
func (a *Archive) lock() (unlock func(), err error) {
	if err := os.MkdirAll(a.CacheDir, 0o755); err != nil {
		return nil, fmt.Errorf("make package cache: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(a.CacheDir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock package cache: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock package cache %q: %w", a.CacheDir, err)
	}
	return func() { f.Close() }, nil
}

func (a *Archive) note(format string, args ...any) {
	if a.Note != nil {
		a.Note(format, args...)
	}
}

// Fetch returns the path of the package's file in the cache and gets it first
// when it is not there. The file's digest is checked either way.
func (a *Archive) Fetch(ctx context.Context, p Package, suite Suite) (string, error) {
	dir := filepath.Join(a.CacheDir, "packages")
	path := filepath.Join(dir, p.FileName())
	if err := checkFile(path, p); err == nil {
		return path, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		a.note("%v; getting it again", err)
	}
	unlock, err := a.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if checkFile(path, p) == nil { // another build was faster
		return path, nil
	}
	temporary, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	root, err := a.aptRoot(ctx, suite, false)
	if err != nil {
		return "", err
	}
	if _, err := root.run(ctx, temporary, "apt-get", "-q", "download", p.Name+"="+p.Version); err != nil {
		return "", fmt.Errorf("get package %s %s: %w", p.Name, p.Version, err)
	}
	got, err := filepath.Glob(filepath.Join(temporary, "*.deb"))
	if err != nil || len(got) != 1 {
		return "", fmt.Errorf("get package %s %s: apt-get left %d files, want 1", p.Name, p.Version, len(got))
	}
	if err := checkFile(got[0], p); err != nil {
		return "", err
	}
	if err := os.Rename(got[0], path); err != nil {
		return "", err
	}
	return path, nil
}

// Cached reports whether the package's file is in the cache, whole.
func (a *Archive) Cached(p Package) bool {
	info, err := os.Stat(filepath.Join(a.CacheDir, "packages", p.FileName()))
	return err == nil && info.Size() == p.Size
}

func checkFile(path string, p Package) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("read package file: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != p.SHA256 {
		return fmt.Errorf("package file %q has digest %s, the signed index says %s", path, got, p.SHA256)
	}
	return nil
}

// run starts a program and returns its output. An error carries what the
// program said last.
func run(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find %s: %w; install the Debian package that has it (make setup does)", name, err)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append([]string{"LC_ALL=C.UTF-8", "TZ=UTC"}, env...)...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", name, err, lastLines(errOut.String(), 6))
	}
	return out.String(), nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "; ")
}
