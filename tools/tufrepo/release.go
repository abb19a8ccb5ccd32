package tufrepo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/coracle-os/coracle/image/release"
)

// Build is what coracle build made.
type Build struct {
	Version        string
	RootHash       string // lower case hex, as the manifest says it
	Root           io.ReaderAt
	RootSize       int64 // bytes
	UKI            []byte
	Manifest, SBOM []byte
}

// Options of a publication.
type Options struct {
	Channel    string
	Downgrade  bool   // the channel may go back to an older version
	MinVersion string // machines below it take a stepping stone first
	Wave       release.Wave
	Fast       bool // compress less, in a fraction of the time: for releases that are tried and thrown away
}

// Published says what Publish and Promote did.
type Published struct {
	Info    release.Info
	Channel release.Channel
	New     bool     // the version was not in the repository before
	Bases   []string // versions that it has patches from, if New
	// Skipped says why there are no patches from a version that a channel has;
	// machines that run it fetch more.
	Skipped error
}

// Publish puts a build into the repository, unless it is there, and makes it
// the version of a channel. A version that is there with other content is an
// error, and so is one that is older than the channel's.
func (r *Repo) Publish(ctx context.Context, b Build, o Options) (*Published, error) {
	p, err := r.publishBuild(ctx, b, o)
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", b.Version, err)
	}
	return p, nil
}

func (r *Repo) publishBuild(ctx context.Context, b Build, o Options) (*Published, error) {
	if err := release.CheckVersion(b.Version); err != nil {
		return nil, err
	}
	if o.MinVersion != "" {
		if err := release.CheckVersion(o.MinVersion); err != nil {
			return nil, err
		}
	}
	if err := r.checkChannel(o.Channel, b.Version, o.Downgrade); err != nil {
		return nil, err
	}
	if _, err := r.Keys.signers(metadata.TARGETS, roots{r.root}); err != nil {
		return nil, err // before the long work
	}
	info, err := r.info(b.Version)
	if err != nil {
		return nil, err
	}
	isNew := info == nil
	var from bases
	if isNew {
		from = r.bases(b.Version)
		defer from.close()
		if info, err = r.addBuild(ctx, b, o, from.roots); err != nil {
			return nil, err
		}
	} else if err := r.sameBuild(info, b); err != nil {
		return nil, err
	}
	channel, err := r.setChannel(o, info)
	if err != nil {
		return nil, err
	}
	if err := r.publish(change{targets: true}); err != nil {
		return nil, err
	}
	return &Published{Info: *info, Channel: *channel, New: isNew, Bases: from.versions, Skipped: from.skipped}, nil
}

// sameBuild fails when the version is in the repository with other content.
func (r *Repo) sameBuild(info *release.Info, b Build) error {
	uki := r.targets.Signed.Targets[release.Target(b.Version, release.UKIName)]
	sum := sha256.Sum256(b.UKI)
	if info.RootHash != b.RootHash || uki == nil || !slices.Equal(uki.Hashes["sha256"], sum[:]) {
		return fmt.Errorf("the version is published already with other content (root hash %s, this build has %s); machines would never see the difference: build with a new version in the recipe",
			info.RootHash, b.RootHash)
	}
	return nil
}

// addBuild writes the files of a build and names them in the targets.
func (r *Repo) addBuild(ctx context.Context, b Build, o Options, from []release.BaseRoot) (*release.Info, error) {
	blob, x, err := r.writeBlob(ctx, b, from, o.Fast)
	if err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(x.RootHash[:]); got != b.RootHash {
		return nil, fmt.Errorf("the root image has the root hash %s, the manifest says %s; the files are of two builds: build again", got, b.RootHash)
	}
	index, err := x.MarshalBinary()
	if err != nil {
		return nil, err
	}
	info := &release.Info{
		Version: b.Version, RootHash: b.RootHash, DataBlocks: x.DataBlocks, TreeBlocks: x.TreeBlocks(),
		MinVersion: o.MinVersion, Wave: o.Wave,
		Sizes: release.Sizes{
			Root: b.RootSize, Tree: (x.TreeBlocks() + 1) * release.BlockSize, UKI: x.UKISize, Blob: x.BlobSize(), Index: int64(len(index)),
		},
	}
	custom, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	r.targets.Signed.Targets[release.Target(b.Version, release.BlobName)] = blob
	for _, f := range []struct {
		name    string
		content []byte
		custom  []byte
	}{
		{release.UKIName, b.UKI, nil},
		{release.IndexName, index, custom},
		{release.ManifestName, b.Manifest, nil},
		{release.SBOMName, b.SBOM, nil},
	} {
		if err := r.addTarget(release.Target(b.Version, f.name), f.content, f.custom); err != nil {
			return nil, err
		}
	}
	return info, nil
}

// addTarget writes a target and names it in the metadata.
func (r *Repo) addTarget(name string, content, custom []byte) error {
	sum := sha256.Sum256(content)
	if err := r.write(filepath.Join(TargetsDir, hashedName(name, sum[:])), content); err != nil {
		return err
	}
	t := targetOf(name, int64(len(content)), sum[:])
	if custom != nil {
		raw := json.RawMessage(custom)
		t.Custom = &raw
	}
	r.targets.Signed.Targets[name] = t
	return nil
}

func targetOf(name string, length int64, sum []byte) *metadata.TargetFiles {
	t := metadata.TargetFile()
	t.Path, t.Length, t.Hashes = name, length, metadata.Hashes{"sha256": sum}
	return t
}

// hashedName is where a target is with consistent snapshots.
func hashedName(name string, sum []byte) string {
	dir, base := path.Split(name)
	return dir + hex.EncodeToString(sum) + "." + base
}

// writeBlob compresses a build into its place.
func (r *Repo) writeBlob(ctx context.Context, b Build, from []release.BaseRoot, fast bool) (*metadata.TargetFiles, *release.Index, error) {
	name := release.Target(b.Version, release.BlobName)
	dir := filepath.Join(r.Dir, TargetsDir, b.Version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	// What a killed publisher left.
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) > 0 {
		for _, f := range left {
			if err := os.Remove(f); err != nil {
				return nil, nil, err
			}
		}
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return nil, nil, err
	}
	hash := sha256.New()
	uuid := sha256.Sum256([]byte("coracle verity " + b.RootHash))
	x, err := release.Write(ctx, io.MultiWriter(f, hash), release.Source{
		Root: b.Root, RootSize: b.RootSize, UKI: b.UKI, VerityUUID: [16]byte(uuid[:16]), Bases: from, Fast: fast,
	})
	sum := hash.Sum(nil)
	if err == nil && r.beforeWrite != nil {
		err = r.beforeWrite(name)
	}
	if err := moveInto(f, filepath.Join(r.Dir, TargetsDir, hashedName(name, sum)), 0o644, err); err != nil {
		return nil, nil, err
	}
	return targetOf(name, x.BlobSize(), sum), x, nil
}

// Promote makes a version that is in the repository that of another channel:
// only the small file of the channel is new. With from, that channel must have
// the version now; version "" is the one it has.
func (r *Repo) Promote(from, version string, o Options) (*Published, error) {
	p, err := r.promote(from, version, o)
	if err != nil {
		return nil, fmt.Errorf("promote: %w", err)
	}
	return p, nil
}

func (r *Repo) promote(from, version string, o Options) (*Published, error) {
	if from != "" {
		current, err := r.Channel(from)
		switch {
		case err != nil:
			return nil, err
		case current == nil:
			return nil, fmt.Errorf("channel %q has no release", from)
		case version == "":
			version = current.Version
		case version != current.Version:
			return nil, fmt.Errorf("channel %q has %s, not %s; leave -from out to promote a version whatever channel has it", from, current.Version, version)
		}
	}
	info, err := r.info(version)
	if err != nil {
		return nil, err
	}
	if info == nil {
		return nil, fmt.Errorf("version %q is not in the repository; it has %q", version, r.Versions())
	}
	if err := r.checkChannel(o.Channel, version, o.Downgrade); err != nil {
		return nil, err
	}
	channel, err := r.setChannel(o, info)
	if err != nil {
		return nil, err
	}
	if err := r.publish(change{targets: true}); err != nil {
		return nil, err
	}
	return &Published{Info: *info, Channel: *channel}, nil
}

// setChannel writes a channel's file.
func (r *Repo) setChannel(o Options, info *release.Info) (*release.Channel, error) {
	c := &release.Channel{
		Version: info.Version, RootHash: info.RootHash, Downgrade: o.Downgrade, Published: r.expires(0), Wave: o.Wave,
	}
	content, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, err
	}
	content = append(content, '\n')
	if _, err := release.ParseChannel(content); err != nil {
		return nil, err
	}
	return c, r.addTarget(release.ChannelTarget(o.Channel), content, nil)
}

// checkChannel fails when the channel would go back without being told to.
func (r *Repo) checkChannel(channel, version string, downgrade bool) error {
	if err := release.CheckChannel(channel); err != nil {
		return err
	}
	current, err := r.Channel(channel)
	if err != nil || current == nil {
		return err
	}
	if release.CompareVersions(version, current.Version) < 0 && !downgrade {
		return fmt.Errorf("version %s is older than %s, which channel %q has; machines go back only when it is meant: -downgrade", version, current.Version, channel)
	}
	return nil
}

// Channel returns what a channel has, nil if nothing.
func (r *Repo) Channel(channel string) (*release.Channel, error) {
	name := release.ChannelTarget(channel)
	t := r.targets.Signed.Targets[name]
	if t == nil {
		return nil, nil
	}
	content, err := os.ReadFile(r.targetFile(name, t))
	if err == nil {
		err = t.VerifyLengthHashes(content)
	}
	if err != nil {
		return nil, fmt.Errorf("read channel %q: %w", channel, err)
	}
	return release.ParseChannel(content)
}

func (r *Repo) targetFile(name string, t *metadata.TargetFiles) string {
	return filepath.Join(r.Dir, TargetsDir, hashedName(name, t.Hashes["sha256"]))
}

// info is what the metadata say about a version, nil if it is not there.
func (r *Repo) info(version string) (*release.Info, error) {
	t := r.targets.Signed.Targets[release.Target(version, release.IndexName)]
	if t == nil {
		return nil, nil
	}
	if t.Custom == nil {
		return nil, errors.New("the index has no custom metadata; another program wrote this repository")
	}
	return release.ParseInfo(*t.Custom)
}

// Versions are the releases in the repository, the oldest first.
func (r *Repo) Versions() []string {
	var versions []string
	for name := range r.targets.Signed.Targets {
		if version, ok := strings.CutSuffix(name, "/"+release.IndexName); ok {
			versions = append(versions, version)
		}
	}
	slices.SortFunc(versions, release.CompareVersions)
	return versions
}

// Channels are the names of the channels.
func (r *Repo) Channels() []string {
	var channels []string
	for name := range r.targets.Signed.Targets {
		if channel, ok := strings.CutPrefix(name, release.ChannelDir+"/"); ok {
			channels = append(channels, strings.TrimSuffix(channel, ".json"))
		}
	}
	slices.Sort(channels)
	return channels
}
