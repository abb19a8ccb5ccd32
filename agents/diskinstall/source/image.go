package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/coracle-os/coracle/agents/diskinstall/target"
	"github.com/coracle-os/coracle/agents/update/fetch"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/inspect"
	"github.com/coracle-os/coracle/image/manifest"
)

// Image is a raw image, plain or compressed with zstd, in a file or at an
// address.
type Image struct {
	Name   string // path or http(s) address
	Digest string // SHA-256 of the raw image or of the file, hexadecimal; "" to look for manifest.json

	in     io.ReadCloser
	origin string // of the digest
	size   int64  // of what is read; -1 when not known
}

// rawName is the image in manifest.json.
const rawName = "coracle.raw"

// Errors of images.
var (
	ErrDigest   = errors.New("the image does not have the digest that it should have; nothing on the disk can be started")
	ErrNotImage = errors.New("it is no disk image of Coracle")
)

// IsURL is true for a web address.
func IsURL(name string) bool {
	u, err := url.Parse(name)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https")
}

// Describe opens the image and finds its digest.
func (s *Image) Describe(ctx context.Context) (string, error) {
	var err error
	if s.in, s.size, err = open(ctx, s.Name); err != nil {
		return "", fmt.Errorf("open image: %w", err)
	}
	s.origin = "as given"
	if s.Digest == "" {
		s.Digest = s.fromManifest(ctx)
		s.origin = "by manifest.json beside it"
	}
	return "image " + s.Name, nil
}

// Close closes the image.
func (s *Image) Close() error {
	if s.in == nil {
		return nil
	}
	return s.in.Close()
}

// open opens a file or an address.
func open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if !IsURL(name) {
		f, err := os.Open(name)
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, 0, err
		}
		return f, info.Size(), nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return nil, 0, err
	}
	answer, err := fetch.NewClient().Do(request)
	if err != nil {
		return nil, 0, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, 0, fmt.Errorf("%s: the server answers %s", name, answer.Status)
	}
	return answer.Body, answer.ContentLength, nil
}

// fromManifest reads the digest from the manifest beside the image; "" if there
// is none.
func (s *Image) fromManifest(ctx context.Context) string {
	name := path.Join(path.Dir(s.Name), "manifest.json")
	if u, err := url.Parse(s.Name); err == nil && IsURL(s.Name) {
		name = u.JoinPath("..", "manifest.json").String()
	}
	in, _, err := open(ctx, name)
	if err != nil {
		return ""
	}
	defer in.Close()
	var m manifest.Manifest
	if json.NewDecoder(io.LimitReader(in, 16<<20)).Decode(&m) != nil {
		return ""
	}
	for _, r := range m.Results {
		if r.Name == rawName && strings.HasPrefix(path.Base(s.Name), rawName) {
			return r.SHA256
		}
	}
	return ""
}

// counter counts what is read, and hashes it.
type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}

var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// Fill writes the image as it comes, all but its first MiB, with the table.
func (s *Image) Fill(ctx context.Context, d *target.Disk, begin func(gpt.Layout) error, progress func(done, whole int64)) (Result, error) {
	file, raw := sha256.New(), sha256.New()
	in := &counter{Reader: io.TeeReader(s.in, file)}
	var content io.Reader = in
	magic := make([]byte, len(zstdMagic))
	if _, err := io.ReadFull(in, magic); err != nil {
		return Result{}, fmt.Errorf("read image: %w: %w", ErrNotImage, err)
	}
	content = io.MultiReader(bytes.NewReader(magic), in)
	if bytes.Equal(magic, zstdMagic) {
		decoder, err := zstd.NewReader(content, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return Result{}, err
		}
		defer decoder.Close()
		content = decoder
	}
	content = io.TeeReader(content, raw)
	head := make([]byte, gpt.Alignment)
	if _, err := io.ReadFull(content, head); err != nil {
		return Result{}, fmt.Errorf("read image: %w: %w", ErrNotImage, err)
	}
	layout, size, err := headLayout(head)
	if err != nil {
		return Result{}, err
	}
	if err := begin(layout); err != nil {
		return Result{}, err
	}
	// What follows the last partition is the second table: it is read for the
	// digest, and written anew at the disk's own end.
	report := func(int64) { progress(in.n, s.size) }
	if err := d.Write(ctx, gpt.Alignment, content, size-2*gpt.Alignment, report); err != nil {
		return Result{}, err
	}
	tail, err := io.ReadAll(io.LimitReader(content, gpt.Alignment+1))
	if err == nil && len(tail) != gpt.Alignment {
		err = fmt.Errorf("%w: it does not end where its partition table says", ErrNotImage)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, in) // what follows a compressed stream
	}
	if err != nil {
		return Result{}, fmt.Errorf("read image: %w", err)
	}
	note, err := s.judge(hex.EncodeToString(raw.Sum(nil)), hex.EncodeToString(file.Sum(nil)))
	if err != nil {
		return Result{}, err
	}
	return imageResult(d, layout, head, tail, size, note)
}

// judge compares the digests, that of the raw image and that of the file.
func (s *Image) judge(raw, file string) (note string, err error) {
	switch {
	case s.Digest == "":
		return "no digest was given for the image: it is whole, but nobody vouches for it (-sha256)", nil
	case strings.EqualFold(s.Digest, raw) || strings.EqualFold(s.Digest, file):
		return "", nil
	}
	return "", fmt.Errorf("%w: %s, %s %s", ErrDigest, raw, s.origin, s.Digest)
}

// headLayout reads the layout from the first MiB of an image, and the image's
// size.
func headLayout(head []byte) (gpt.Layout, int64, error) {
	if string(head[gpt.SectorSize:][:8]) != "EFI PART" {
		return gpt.Layout{}, 0, fmt.Errorf("read image: %w: it has no partition table", ErrNotImage)
	}
	// The header has the sector of the second table, which is the last.
	size := int64(0)
	for i := range 8 {
		size |= int64(head[gpt.SectorSize+32+i]) << (8 * i)
	}
	if size < 4*gpt.Alignment/gpt.SectorSize || size >= gpt.MaxSize/gpt.SectorSize {
		return gpt.Layout{}, 0, fmt.Errorf("read image: %w: its partition table is damaged", ErrNotImage)
	}
	size = (size + 1) * gpt.SectorSize
	layout, err := gpt.Read(spliced{head: head, size: size}, size)
	if err != nil {
		return gpt.Layout{}, 0, fmt.Errorf("read image: %w: %w", ErrNotImage, err)
	}
	if layout.FromBackup || size%gpt.Alignment != 0 {
		return gpt.Layout{}, 0, fmt.Errorf("read image: %w: its partition table is damaged", ErrNotImage)
	}
	return layout, size, nil
}

// spliced is an image whose ends are in memory and whose middle is on a disk.
type spliced struct {
	head, tail []byte
	middle     io.ReaderAt // nil reads as zeros
	size       int64
}

func (s spliced) ReadAt(b []byte, at int64) (n int, err error) {
	for n < len(b) && at < s.size {
		var m int
		switch tail := s.size - int64(len(s.tail)); {
		case at < int64(len(s.head)):
			m = copy(b[n:], s.head[at:])
		case at >= tail && len(s.tail) > 0:
			m = copy(b[n:], s.tail[at-tail:])
		default:
			m = int(min(int64(len(b)-n), tail-at))
			if s.middle == nil {
				clear(b[n : n+m])
			} else if _, err := s.middle.ReadAt(b[n:n+m], at); err != nil {
				return n, err
			}
		}
		n += m
		at += int64(m)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// imageResult looks at the image where it is now, on the disk.
func imageResult(d *target.Disk, layout gpt.Layout, head, tail []byte, size int64, note string) (Result, error) {
	written := spliced{head: head, tail: tail, middle: d.File, size: size}
	img, err := inspect.Open(written, size)
	if err != nil {
		return Result{}, fmt.Errorf("read image: %w: %w", ErrNotImage, err)
	}
	if len(img.UKIs) == 0 {
		return Result{}, fmt.Errorf("read image: %w: it has no boot entry", ErrNotImage)
	}
	return Result{
		Layout: layout, BootCode: head[:440], Version: img.UKIs[0].Version, RootHash: img.UKIs[0].RootHash,
		Check: func() error {
			img, err := inspect.Open(written, size)
			if err == nil {
				err = img.Verify()
			}
			return err
		},
		Note: note,
	}, nil
}
