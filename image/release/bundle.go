package release

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
)

// A bundle is a part of a repository in one file, for machines without a
// network: a POSIX tar with the metadata, the channel and the files of one
// version under their names in the repository, and the blob last. Nothing in it
// is signed besides what the repository signs.

const (
	bundleMagic    = "coracle-bundle"
	maxBundleFiles = 1024
)

// A BundleFile is one file to put into a bundle.
type BundleFile struct {
	Name    string // in the repository, such as "metadata/timestamp.json"
	Size    int64  // in bytes
	Content io.Reader
}

// WriteBundle writes a bundle of these files in this order. The same files give
// the same bytes.
func WriteBundle(w io.Writer, files []BundleFile) error {
	t := tar.NewWriter(w)
	head := fmt.Sprintf("format 1, files %d\n", len(files))
	files = append([]BundleFile{{Name: bundleMagic, Content: strings.NewReader(head), Size: int64(len(head))}}, files...)
	for _, f := range files {
		if err := checkBundleName(f.Name); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Size: f.Size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
		if n, err := io.Copy(t, f.Content); err != nil || n != f.Size {
			return fmt.Errorf("write bundle: %s: %d bytes of %d: %w", f.Name, n, f.Size, errors.Join(err, io.ErrUnexpectedEOF))
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// A Bundle is a bundle that is read. It has the files of a repository.
type Bundle struct {
	r     io.ReaderAt
	files map[string]Range
}

// OpenBundle reads the names in a bundle of this size. It does not read the
// files; a bundle that ends too early is an error.
func OpenBundle(r io.ReaderAt, size int64) (*Bundle, error) {
	b := &Bundle{r: r, files: map[string]Range{}}
	section := io.NewSectionReader(r, 0, size)
	t := tar.NewReader(section)
	for i := 0; ; i++ {
		head, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("open bundle: %w; is it a whole bundle? copy it again", err)
		}
		// tar.Reader reads headers only, in blocks: here it is at the content.
		at, err := section.Seek(0, io.SeekCurrent)
		switch {
		case err != nil:
			return nil, fmt.Errorf("open bundle: %w", err)
		case i == 0 && head.Name != bundleMagic:
			return nil, errors.New("open bundle: not a bundle; make one with `coracle bundle`")
		case i > maxBundleFiles:
			return nil, fmt.Errorf("open bundle: more than %d files", maxBundleFiles)
		case head.Typeflag != tar.TypeReg:
			return nil, fmt.Errorf("open bundle: %q is no regular file", head.Name)
		case head.Size > size-at:
			return nil, fmt.Errorf("open bundle: %q is cut short; copy the bundle again", head.Name)
		}
		if err := checkBundleName(head.Name); err != nil {
			return nil, fmt.Errorf("open bundle: %w", err)
		}
		if _, ok := b.files[head.Name]; ok {
			return nil, fmt.Errorf("open bundle: %q is in it twice", head.Name)
		}
		b.files[head.Name] = Range{at, head.Size}
	}
	if err := b.checkCount(); err != nil {
		return nil, err
	}
	return b, nil
}

// checkCount finds a bundle that ends between two files, which is no error of
// a tar.
func (b *Bundle) checkCount() error {
	text, err := io.ReadAll(io.NewSectionReader(b.r, b.files[bundleMagic].Offset, min(64, b.files[bundleMagic].Length)))
	if err != nil {
		return fmt.Errorf("open bundle: %w", err)
	}
	var format, files int
	if _, err := fmt.Sscanf(string(text), "format %d, files %d\n", &format, &files); err != nil || format != 1 {
		return fmt.Errorf("open bundle: it says %q, want format 1; it is empty or of a later version", text)
	}
	if files != len(b.files)-1 {
		return fmt.Errorf("open bundle: %d of %d files; copy the bundle again", len(b.files)-1, files)
	}
	return nil
}

// Open returns a file of the repository; the error for one that is not there
// wraps ErrNotInBundle.
func (b *Bundle) Open(name string) (*io.SectionReader, error) {
	f, ok := b.files[name]
	if !ok || name == bundleMagic {
		return nil, fmt.Errorf("bundle: %q: %w", name, ErrNotInBundle)
	}
	return io.NewSectionReader(b.r, f.Offset, f.Length), nil
}

// Names are the files in the bundle, sorted.
func (b *Bundle) Names() []string {
	var names []string
	for name := range b.files {
		if name != bundleMagic {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// ErrNotInBundle says that a bundle does not have a file.
var ErrNotInBundle = errors.New("not in the bundle")

func checkBundleName(name string) error {
	if name == "" || len(name) > 255 || path.IsAbs(name) || path.Clean(name) != name || strings.HasPrefix(name, "..") {
		return fmt.Errorf("file name %q: want a clean relative path", name)
	}
	return nil
}
