package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/agents/diskinstall/target"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/livename"
	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/initrd/bootinfo"
)

// Running is the release that a live system runs.
type Running struct {
	BootInfo  string // bootinfo.Path
	OSRelease string // /usr/lib/os-release
	Root      string // /dev/mapper/root: what is read there has been verified

	parts parts
	files []io.Closer
}

// ErrNotLive says that the machine does not run a live system.
var ErrNotLive = errors.New("this machine does not run a live system of Coracle, so there is nothing to install but what -f or -C names")

// Describe finds the files of the running release.
func (s *Running) Describe(context.Context) (string, error) {
	info, err := bootinfo.Read(s.BootInfo)
	if err != nil || info.Live == "" {
		return "", ErrNotLive
	}
	if info.BootFiles == "" {
		return "", fmt.Errorf("the live system came without %s and %s; start it with those, or name a release with -f or -C", livename.UKI, livename.Loader)
	}
	s.parts.rootHash = info.RootHash
	if s.parts.version, err = osVersion(s.OSRelease); err != nil {
		return "", err
	}
	if s.parts.uki, err = os.ReadFile(filepath.Join(info.BootFiles, livename.UKI)); err != nil {
		return "", fmt.Errorf("read the boot entry: %w", err)
	}
	if s.parts.loader, err = os.ReadFile(filepath.Join(info.BootFiles, livename.Loader)); err != nil {
		return "", fmt.Errorf("read the boot loader: %w", err)
	}
	if err := checkUKI(s.parts.uki, info.RootHash); err != nil {
		return "", err
	}
	root, err := s.open(s.Root)
	if err != nil {
		return "", err
	}
	hashes, err := s.open(info.VerityDevice)
	if err != nil {
		return "", err
	}
	superblock, err := verity.ReadSuperblock(hashes)
	if err != nil {
		return "", err
	}
	s.parts.rootSize = superblock.DataBlocks * verity.BlockSize
	s.parts.fill = func(ctx context.Context, d *target.Disk, l gpt.Layout, done func(int64)) error {
		a, _ := l.Find(gpt.RootA)
		b, _ := l.Find(gpt.RootAVerity)
		size := s.parts.rootSize
		if err := d.Write(ctx, a.Start, io.NewSectionReader(root, 0, size), size, done); err != nil {
			return fmt.Errorf("root: %w", err)
		}
		size = verity.TreeSize(size)
		if err := d.Write(ctx, b.Start, io.NewSectionReader(hashes, 0, size), size, func(int64) {}); err != nil {
			return fmt.Errorf("hash tree: %w", err)
		}
		return nil
	}
	return "the running release " + s.parts.version, nil
}

func (s *Running) open(name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the running release: %w", err)
	}
	s.files = append(s.files, f)
	return f, nil
}

// Fill assembles the disk.
func (s *Running) Fill(ctx context.Context, d *target.Disk, begin func(gpt.Layout) error, progress func(done, whole int64)) (Result, error) {
	return s.parts.assemble(ctx, d, begin, progress)
}

// Close closes the files.
func (s *Running) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func osVersion(name string) (string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read version: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VERSION_ID="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`), nil
		}
	}
	return "", fmt.Errorf("read version: %s has no VERSION_ID", name)
}
