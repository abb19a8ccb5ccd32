// Package fetch reads a signed repository from mirrors that are not trusted, for
// the update engine: which release a channel has, and the bytes of it.
//
// The repository is one of The Update Framework (TUF 1.0), read by go-tuf with
// metadata that this machine keeps: rollback, freeze and mix-and-match attacks
// end there. A mirror that is down, stale or lying costs a try of the next one;
// only when none is left is there an error, which names what each of them did.
// Ranges of a release's blob are fetched with HTTP range requests; a broken
// transfer goes on at the byte where it broke.
//
// Left out on purpose: delegations, and downloads in parallel (an update is not
// in a hurry, and memory is bounded).
package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
	"golang.org/x/time/rate"

	"github.com/coracle-os/coracle/image/release"
)

const scheme = "repository:"

// Directories of a repository, below each mirror's address.
const (
	metadataDir = "metadata"
	targetsDir  = "targets"
)

// A Client reads one repository. It is for one goroutine.
type Client struct {
	mirrors  []Mirror
	root     []byte // the root metadata that the machine came with
	dir      string // of the trusted metadata
	now      func() time.Time
	limit    *rate.Limiter
	log      *slog.Logger
	received atomic.Int64
	suspect  map[string]error // mirrors that gave wrong bytes
}

// Options are what a Client needs.
type Options struct {
	Mirrors []Mirror
	Root    []byte           // root metadata that are trusted from the start
	Dir     string           // where trusted metadata are kept; made if need be
	Now     func() time.Time // the machine's clock
	Rate    int              // bytes a second; 0 is no limit
	Log     *slog.Logger
}

// New returns a client.
func New(o Options) *Client {
	c := &Client{mirrors: o.Mirrors, root: o.Root, dir: o.Dir, now: o.Now, log: o.Log, suspect: map[string]error{}}
	if o.Rate > 0 {
		c.limit = rate.NewLimiter(rate.Limit(o.Rate), max(o.Rate/4, 32<<10))
	}
	return c
}

// Received is the number of bytes fetched so far, metadata too.
func (c *Client) Received() int64 { return c.received.Load() }

// A Release is what a channel has, as it was signed.
type Release struct {
	Channel release.Channel
	Info    release.Info
	index   *metadata.TargetFiles
	blob    *metadata.TargetFiles
	updater *updater.Updater
}

// Errors of Check, besides those of mirrors.
var (
	ErrExpired  = errors.New("the signed metadata have expired")
	ErrUnsigned = errors.New("the metadata are not signed by the keys that this machine trusts")
	ErrReplayed = errors.New("the metadata are older than those seen before")
	ErrDiffers  = errors.New("files do not belong together")
)

// Check reads the metadata from the first mirror that has good ones, and what
// they say about the channel.
func (c *Client) Check(ctx context.Context, channel string) (*Release, error) {
	if err := release.CheckChannel(channel); err != nil {
		return nil, fmt.Errorf("check for updates: %w", err)
	}
	var all []error
	for _, m := range c.mirrors {
		r, err := c.check(ctx, m, channel)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		all = append(all, fmt.Errorf("mirror %s: %w", m.Name(), c.explain(err)))
		c.log.Warn("mirror not usable", "mirror", m.Name(), "error", err)
	}
	return nil, fmt.Errorf("check for updates: %w", errors.Join(all...))
}

// explain puts our own error before go-tuf's.
func (c *Client) explain(err error) error {
	var expired *metadata.ErrExpiredMetadata
	var unsigned *metadata.ErrUnsignedMetadata
	var version *metadata.ErrBadVersionNumber
	var length *metadata.ErrLengthOrHashMismatch
	switch {
	case errors.As(err, &expired):
		return fmt.Errorf("%w (the clock here says %s; if that is wrong set it, else the publisher must sign anew): %w", ErrExpired, c.now().UTC().Format(time.RFC3339), err)
	case errors.As(err, &unsigned):
		return fmt.Errorf("%w: %w", ErrUnsigned, err)
	case errors.As(err, &version):
		return fmt.Errorf("%w: %w", ErrReplayed, err)
	case errors.As(err, &length):
		return fmt.Errorf("%w: %w", ErrDiffers, err)
	}
	return err
}

func (c *Client) check(ctx context.Context, m Mirror, channel string) (*Release, error) {
	root, err := c.trusted()
	if err != nil {
		return nil, err
	}
	u, err := updater.New(&config.UpdaterConfig{
		MaxRootRotations: 256, MaxDelegations: 1,
		RootMaxLength: 512 << 10, TimestampMaxLength: 16 << 10, SnapshotMaxLength: 1 << 20, TargetsMaxLength: 4 << 20,
		Fetcher: tufFetcher{ctx, c, m}, LocalTrustedRoot: root,
		LocalMetadataDir: c.dir, LocalTargetsDir: c.dir,
		RemoteMetadataURL: scheme + metadataDir, RemoteTargetsURL: scheme + targetsDir, PrefixTargetsWithHash: true,
	})
	if err != nil {
		return nil, fmt.Errorf("read trusted root: %w", err)
	}
	u.UnsafeSetRefTime(c.now().UTC())
	if err := u.Refresh(); err != nil {
		return nil, err
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	r := &Release{updater: u}
	return r, c.read(r, channel)
}

// flush makes the trusted metadata outlast a power cut, which go-tuf does not:
// what was seen once must not be forgotten.
func (c *Client) flush() error {
	for _, name := range []string{metadata.ROOT, metadata.TIMESTAMP, metadata.SNAPSHOT, metadata.TARGETS} {
		f, err := os.Open(filepath.Join(c.dir, name+".json"))
		if err != nil {
			return fmt.Errorf("keep trusted metadata: %w", err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("keep trusted metadata: %w", err)
		}
	}
	return nil
}

// read reads the channel and the release that it names.
func (c *Client) read(r *Release, channel string) error {
	name := release.ChannelTarget(channel)
	target, err := r.updater.GetTargetInfo(name)
	if err != nil {
		return fmt.Errorf("channel %q: %w; choose another channel", channel, err)
	}
	content, err := c.small(r, target)
	if err != nil {
		return fmt.Errorf("channel %q: %w", channel, err)
	}
	ch, err := release.ParseChannel(content)
	if err != nil {
		return fmt.Errorf("channel %q: %w", channel, err)
	}
	r.Channel = *ch
	if r.index, err = r.updater.GetTargetInfo(release.Target(ch.Version, release.IndexName)); err != nil {
		return fmt.Errorf("release %s: %w", ch.Version, err)
	}
	if r.blob, err = r.updater.GetTargetInfo(release.Target(ch.Version, release.BlobName)); err != nil {
		return fmt.Errorf("release %s: %w", ch.Version, err)
	}
	if r.index.Custom == nil {
		return fmt.Errorf("release %s: the signed metadata do not describe it", ch.Version)
	}
	info, err := release.ParseInfo(*r.index.Custom)
	if err != nil {
		return fmt.Errorf("release %s: %w", ch.Version, err)
	}
	if info.Version != ch.Version || info.RootHash != ch.RootHash {
		return fmt.Errorf("%w: channel %q names version %s with root hash %s, the release is version %s with %s", ErrDiffers, channel, ch.Version, ch.RootHash, info.Version, info.RootHash)
	}
	r.Info = *info
	return nil
}

func (c *Client) small(r *Release, target *metadata.TargetFiles) ([]byte, error) {
	if target.Length > release.MaxIndexSize {
		return nil, fmt.Errorf("%s has %d bytes, at most %d", target.Path, target.Length, release.MaxIndexSize)
	}
	var all []error
	for _, m := range c.order() {
		data, err := (tufFetcher{context.Background(), c, m}).DownloadFile(scheme+remoteName(target), target.Length, 0)
		if err == nil {
			err = target.VerifyLengthHashes(data)
		}
		if err == nil {
			return data, nil
		}
		all = append(all, fmt.Errorf("mirror %s: %w", m.Name(), c.explain(err)))
	}
	return nil, errors.Join(all...)
}

// Index reads the index of the release.
func (c *Client) Index(r *Release) (*release.Index, error) {
	b, err := c.small(r, r.index)
	if err != nil {
		return nil, fmt.Errorf("fetch index of release %s: %w", r.Info.Version, err)
	}
	x, err := release.ParseIndex(b)
	if err != nil {
		return nil, fmt.Errorf("release %s: %w", r.Info.Version, err)
	}
	if hex.EncodeToString(x.RootHash[:]) != r.Info.RootHash || x.DataBlocks != r.Info.DataBlocks || x.BlobSize() != r.blob.Length {
		return nil, fmt.Errorf("release %s: index: %w: it is of root hash %x, the signed one is %s", r.Info.Version, ErrDiffers, x.RootHash, r.Info.RootHash)
	}
	return x, nil
}

// remoteName is where a target is, with consistent snapshots.
func remoteName(t *metadata.TargetFiles) string {
	dir, base := path.Split(t.Path)
	return path.Join(targetsDir, dir, t.Hashes["sha256"].String()+"."+base)
}

// trusted returns the newest root metadata that descend from those that the
// machine came with. When these are exchanged, what was learnt from the others
// no longer counts; the rest of the metadata stays for go-tuf to judge.
func (c *Client) trusted() ([]byte, error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep trusted metadata: %w", err)
	}
	sum := sha256.Sum256(c.root)
	want := hex.EncodeToString(sum[:])
	anchor, kept := filepath.Join(c.dir, "anchor"), filepath.Join(c.dir, metadata.ROOT+".json")
	have, err := os.ReadFile(anchor)
	if err == nil && string(have) == want {
		if root, err := os.ReadFile(kept); err == nil {
			if _, err := metadata.Root().FromBytes(root); err == nil {
				return root, nil
			}
		}
		return c.root, nil
	}
	if err := os.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("keep trusted metadata: %w", err)
	}
	if err := os.WriteFile(anchor, []byte(want), 0o600); err != nil {
		return nil, fmt.Errorf("keep trusted metadata: %w", err)
	}
	return c.root, nil
}

// Version returns another release of the same metadata, a stepping stone, which
// stands in for the one of the channel.
func (c *Client) Version(r *Release, version string) (*Release, error) {
	step := &Release{Channel: r.Channel, updater: r.updater}
	step.Channel.Version = version
	var err error
	if step.index, err = r.updater.GetTargetInfo(release.Target(version, release.IndexName)); err != nil {
		return nil, fmt.Errorf("stepping stone %s: %w", version, err)
	}
	if step.blob, err = r.updater.GetTargetInfo(release.Target(version, release.BlobName)); err != nil {
		return nil, fmt.Errorf("stepping stone %s: %w", version, err)
	}
	if step.index.Custom == nil {
		return nil, fmt.Errorf("stepping stone %s: the signed metadata do not describe it", version)
	}
	info, err := release.ParseInfo(*step.index.Custom)
	if err != nil {
		return nil, fmt.Errorf("stepping stone %s: %w", version, err)
	}
	step.Info = *info
	step.Channel.RootHash = info.RootHash
	return step, nil
}
