package tufrepo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/coracle-os/coracle/image/release"
)

// bases are the roots that the channels have, which is what machines run when
// the next version comes. The blob of that version gets patches from them.
type bases struct {
	roots    []release.BaseRoot
	versions []string
	files    []*os.File // unpacked roots, without a name
	skipped  error
}

func (b *bases) close() {
	for _, f := range b.files {
		f.Close()
	}
}

// bases unpacks the roots of what the channels have, besides one version. What
// cannot be read, such as a blob of an older format, is left out: patches only
// save bytes.
func (r *Repo) bases(but string) bases {
	var b bases
	for _, name := range r.Channels() {
		c, err := r.Channel(name)
		if err != nil {
			b.skipped = errors.Join(b.skipped, err)
			continue
		}
		if c.Version == but || slices.Contains(b.versions, c.Version) || len(b.roots) == release.MaxBases {
			continue
		}
		f, x, err := r.unpackRoot(c.Version)
		if err != nil {
			b.skipped = errors.Join(b.skipped, fmt.Errorf("unpack version %s: %w", c.Version, err))
			continue
		}
		b.files, b.versions = append(b.files, f), append(b.versions, c.Version)
		b.roots = append(b.roots, release.BaseRoot{RootHash: x.RootHash, Root: f, Size: x.DataBlocks * release.BlockSize})
	}
	return b
}

// unpackRoot unpacks a version's root into a file that has no name.
func (r *Repo) unpackRoot(version string) (*os.File, *release.Index, error) {
	name := release.Target(version, release.IndexName)
	t, blobTarget := r.targets.Signed.Targets[name], r.targets.Signed.Targets[release.Target(version, release.BlobName)]
	if t == nil || blobTarget == nil {
		return nil, nil, errors.New("it is not in the repository")
	}
	content, err := os.ReadFile(r.targetFile(name, t))
	if err == nil {
		err = t.VerifyLengthHashes(content)
	}
	if err != nil {
		return nil, nil, err
	}
	x, err := release.ParseIndex(content)
	if err != nil {
		return nil, nil, err
	}
	blob, err := os.Open(r.targetFile(release.Target(version, release.BlobName), blobTarget))
	if err != nil {
		return nil, nil, err
	}
	defer blob.Close()
	f, err := os.CreateTemp(r.Dir, ".new-*")
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(os.Remove(f.Name()), unpackChunks(f, x, blob)); err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, x, nil
}

func unpackChunks(w io.Writer, x *release.Index, blob io.ReaderAt) error {
	d, err := release.NewDecoder()
	if err != nil {
		return err
	}
	defer d.Close()
	for _, c := range x.Root {
		content := make([]byte, c.Size)
		if err := d.ReadBlob(content, c, blob); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	return nil
}
