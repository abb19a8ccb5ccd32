package tufrepo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/coracle-os/coracle/image/release"
)

// Bundle writes the release that a channel has, with the metadata that prove
// it, as one file.
func (r *Repo) Bundle(w io.Writer, channel string) (*release.Channel, error) {
	if err := release.CheckChannel(channel); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	c, err := r.Channel(channel)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if c == nil {
		return nil, fmt.Errorf("bundle: channel %q has no release; channels are %q", channel, r.Channels())
	}
	var names []string
	for n := int64(1); n <= r.RootVersion(); n++ {
		names = append(names, metadataName(n, metadata.ROOT))
	}
	names = append(names, metadataName(0, metadata.TIMESTAMP), metadataName(r.snapshot.Signed.Version, metadata.SNAPSHOT),
		metadataName(r.targets.Signed.Version, metadata.TARGETS))
	for _, target := range []string{
		release.ChannelTarget(channel), release.Target(c.Version, release.ManifestName), release.Target(c.Version, release.SBOMName),
		release.Target(c.Version, release.IndexName), release.Target(c.Version, release.BlobName),
	} {
		t := r.targets.Signed.Targets[target]
		if t == nil {
			return nil, fmt.Errorf("bundle: the repository has no %q", target)
		}
		names = append(names, filepath.Join(TargetsDir, hashedName(target, t.Hashes["sha256"])))
	}
	files := make([]release.BundleFile, 0, len(names))
	defer func() {
		for _, f := range files {
			f.Content.(*os.File).Close()
		}
	}()
	for _, name := range names {
		f, err := os.Open(filepath.Join(r.Dir, name))
		if err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
		info, err := f.Stat()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("bundle: %w", err), f.Close())
		}
		files = append(files, release.BundleFile{Name: filepath.ToSlash(name), Size: info.Size(), Content: f})
	}
	return c, release.WriteBundle(w, files)
}

// BundleFile writes a bundle to a file, which is there as a whole or not at
// all.
func (r *Repo) BundleFile(name, channel string) (*release.Channel, error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	c, err := r.Bundle(f, channel)
	return c, moveInto(f, name, 0o644, err)
}
