package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/backend"

	"github.com/coracle-os/coracle/agents/diskinstall/target"
	"github.com/coracle-os/coracle/agents/update/fetch"
	"github.com/coracle-os/coracle/agents/update/install"
	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/image/uki"
)

// Release is a signed release of a repository.
type Release struct {
	Mirrors []fetch.Mirror
	Channel string
	Version string // "" for what the channel has
	Trust   []byte // root metadata
	Loader  string // file with systemd-boot
	Dir     string // where metadata are kept meanwhile
	Now     func() time.Time
	Log     *slog.Logger

	parts  parts
	client *fetch.Client
	found  *fetch.Release
	index  *release.Index
}

// Describe checks the signatures and reads what the release is made of.
func (s *Release) Describe(ctx context.Context) (string, error) {
	var err error
	if s.parts.loader, err = os.ReadFile(s.Loader); err != nil {
		return "", fmt.Errorf("a release has no boot loader for an empty disk: %w; on Debian, install systemd-boot-efi (257 or later), or use an image (-f)", err)
	}
	s.client = fetch.New(fetch.Options{Mirrors: s.Mirrors, Root: s.Trust, Dir: s.Dir, Now: s.Now, Log: s.Log})
	if s.found, err = s.client.Check(ctx, s.Channel); err != nil {
		return "", err
	}
	if s.Version != "" && s.Version != s.found.Info.Version {
		if s.found, err = s.client.Version(s.found, s.Version); err != nil {
			return "", fmt.Errorf("version %s: %w", s.Version, err)
		}
	}
	if s.index, err = s.client.Index(s.found); err != nil {
		return "", err
	}
	s.parts.version, s.parts.rootHash = s.found.Info.Version, s.found.Info.RootHash
	s.parts.rootSize = s.index.DataBlocks * release.BlockSize
	in := s.install()
	if s.parts.uki, err = readUKI(ctx, in); err != nil {
		return "", err
	}
	s.parts.fill = func(ctx context.Context, d *target.Disk, l gpt.Layout, done func(int64)) error {
		in := s.install()
		at := int64(0)
		in.Progress = func(blocks, _ int64) {
			done(blocks*release.BlockSize - at)
			at = blocks * release.BlockSize
		}
		in.Disk = slots.Disk{File: writable{d.File}, Size: d.Size, SectorSize: gpt.SectorSize}
		return in.Fresh(ctx, slots.Slot{Letter: "A", Root: region(l, gpt.RootA), Verity: region(l, gpt.RootAVerity)})
	}
	return fmt.Sprintf("release %s of channel %s", s.parts.version, s.Channel), nil
}

func (s *Release) install() *install.Install {
	return &install.Install{
		Version: s.found.Info.Version, Index: s.index, Log: s.Log,
		Range: func(ctx context.Context, want release.Range, check func([]byte) error) ([]byte, error) {
			return s.client.Range(ctx, s.found, want, check)
		},
		Progress: func(done, blocks int64) {},
	}
}

func region(l gpt.Layout, name string) slots.Region {
	p, _ := l.Find(name)
	return slots.Region{Name: name, Start: p.Start, Size: p.Size}
}

func readUKI(ctx context.Context, in *install.Install) ([]byte, error) {
	r, err := in.UKI(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(content) != in.Index.UKISum {
		return nil, fmt.Errorf("boot entry of version %s: %w", in.Version, release.ErrDamaged)
	}
	return content, checkUKI(content, hex.EncodeToString(in.Index.RootHash[:]))
}

// checkUKI makes sure that a boot entry starts the root that goes with it.
func checkUKI(content []byte, rootHash string) error {
	image, err := uki.Read(strings.NewReader(string(content)))
	if err != nil {
		return fmt.Errorf("boot entry: %w", err)
	}
	line, err := image.Text(".cmdline")
	if err != nil {
		return fmt.Errorf("boot entry: %w", err)
	}
	if !strings.Contains(line+" ", "roothash="+rootHash+" ") {
		return fmt.Errorf("the boot entry does not start root %s: the files do not belong together", rootHash)
	}
	return nil
}

// Fill assembles the disk.
func (s *Release) Fill(ctx context.Context, d *target.Disk, begin func(gpt.Layout) error, progress func(done, whole int64)) (Result, error) {
	return s.parts.assemble(ctx, d, begin, progress)
}

// Close does nothing: connections end by themselves.
func (s *Release) Close() error { return nil }

// writable is what package slots wants of a disk; only its offsets are used.
type writable struct{ target.File }

var errNoStream = errors.New("the disk is not a stream")

func (writable) Stat() (os.FileInfo, error)     { return nil, errNoStream }
func (writable) Read([]byte) (int, error)       { return 0, errNoStream }
func (writable) Seek(int64, int) (int64, error) { return 0, errNoStream }
func (writable) Close() error                   { return nil }

var _ backend.WritableFile = writable{}
